"""What a relay, or a caller behind one, could do without what this project does against it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recording import Record
from relay_support import Pretending, relay_here, relayed_sites, waiting
from system_support import SOON, call, wait_until

from PPIRLogic.errors import PeerError, PPIRError, TrustError
from PPIRLogic.network.channel import Quotas
from PPIRLogic.network.channel.peer_certificate import CertificateCheck
from PPIRLogic.network.identity import fingerprint_of_certificate
from PPIRLogic.network.trust import TrustStore

SECRET = b"sums of the moving image " * 40


def believes(check: CertificateCheck, certificate: Any) -> bool:
    """The unprotected variant: whoever shows a certificate is taken for whom one called."""
    check.fingerprint, check.name, check.accepted = fingerprint_of_certificate(certificate), "B", True
    return True


def test_a_relay_in_the_place_of_the_site_that_is_called(
    tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = relayed_sites(tmp_path)
    with relay_here(sites["R"], kind=Pretending) as relay, waiting(sites["B"], relay.address) as (listener, _):
        assert isinstance(relay.relay, Pretending)
        with monkeypatch.context() as without:
            without.setattr(CertificateCheck, "_decide", believes)
            channel = call(sites["A"], listener.address)
            channel.send("word", {}, SECRET)
            assert wait_until(lambda: relay.relay.heard == SECRET)
            channel.close()
        relay.relay.heard.clear()
        with pytest.raises(TrustError, match="instead of the expected"):
            call(sites["A"], listener.address)
        assert not relay.relay.heard
    record(
        "a relay answers in the place of the site that is called",
        "taken for it; reads what party 1 says",
        "refused: the fingerprint is not that of the site; nothing was said",
    )


def test_a_caller_that_floods_a_room_keeps_out_nobody_else(tmp_path: Path, record: Record) -> None:
    """All callers of a relay come from one address: by that, one of them would use up what is there for all."""
    sites, found = relayed_sites(tmp_path, "C"), {}
    TrustStore(sites["B"].home).remove("C")  # the relay lets it call; the site does not know it
    few: dict[str, Any] = {"greetings": 3, "greeting_seconds": 60.0}
    for name, more in (("unprotected", {"key": lambda host: ""}), ("ours", {})):
        with (
            relay_here(sites["R"]) as relay,
            waiting(sites["B"], relay.address, quotas=Quotas(**few, **more)) as (listener, heard),
        ):
            for _ in range(5):
                with pytest.raises((TrustError, PeerError)):
                    call(sites["C"], listener.address)
            assert wait_until(lambda heard=heard: any("too many handshakes" in text for text in heard))  # type: ignore[misc]
            try:
                with call(sites["A"], listener.address):
                    theirs = listener.accept(SOON)
                    found[name] = theirs is not None
                if theirs is not None:
                    theirs.close()
            except PPIRError:
                found[name] = False
    assert found == {"unprotected": False, "ours": True}
    record(
        "a caller of a relay floods the room of a site; another one calls through the same relay",
        "hung up on: both have the relay's address",
        "gets in: counted by fingerprint",
    )
