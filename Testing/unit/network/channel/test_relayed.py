"""What a person reads where a relay says no: a known word, in this program's own sentences, or that it is unknown."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from PPIRLogic.errors import BusyError, PeerError, PPIRError, ProtocolError, RefusedError, TrustError, VersionError
from PPIRLogic.network.channel import Message
from PPIRLogic.network.channel.relayed import expect
from PPIRLogic.network.identity import Identity

ME = Identity("me", Path("key"), Path("certificate"), "MYFP", datetime.now(UTC))


@pytest.mark.parametrize(
    ("data", "kind", "said"),
    [
        ({"why": "not here"}, PeerError, "is `ppir serve --relay r:1` running there"),
        ({"why": "no answer"}, PeerError, "did not come to the call within 8 seconds"),
        ({"why": "not allowed"}, TrustError, "read your fingerprint MYFP to its operator"),
        ({"why": "busy"}, BusyError, "no line left"),
        ({"error": "BusyError", "text": "\x1b[31mfrom a listener"}, BusyError, "no line left"),
        ({"why": "open already"}, RefusedError, "in another process"),
        ({"why": "version"}, VersionError, "update the older"),
        ({"why": "\x1b[31mred"}, RefusedError, "does not know"),
        ({"why": ["x"]}, RefusedError, "does not know"),
        ({}, RefusedError, "does not know"),
    ],
    ids=["not here", "no answer", "not allowed", "busy", "listener", "open", "version", "unknown", "list", "nothing"],
)
def test_a_refusal_in_words(data: dict[str, object], kind: type[PPIRError], said: str) -> None:
    with pytest.raises(kind, match=said) as refused:
        expect("joined", Message("error", data), "r:1", ME, "SITE")
    assert type(refused.value) is kind and str(refused.value).isprintable()


def test_another_word_than_the_one_that_is_due() -> None:
    expect("joined", Message("joined"), "r:1", ME, "SITE")
    with pytest.raises(ProtocolError, match="said 'opened' where 'joined' was due"):
        expect("joined", Message("opened"), "r:1", ME, "SITE")
