"""Who may take part in a dealer's session."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from PPIRLogic.errors import DealerError, VersionError
from PPIRLogic.network.channel import Channel, memory_pair
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.messages import PROTOCOL_VERSION, error_from
from PPIRLogic.registration.dealer.dealer import Dealer
from PPIRLogic.registration.dealer.orders import Order

NAME = b"n" * 32


class Waiting:
    """A dealer, and parties that come to it over channels in memory."""

    def __init__(self, home: Path) -> None:
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.dealer = Dealer("127.0.0.1:0", load_or_create_identity(home), home, self.events.put)
        assert self.events.get()["event"] == "listening"
        self.sessions = self.dealer.dealing.sessions
        self._channels: list[Channel] = []
        self._threads: list[threading.Thread] = []

    def comes(self, who: str, role: int, other: str, name: bytes = NAME, version: int = PROTOCOL_VERSION) -> Channel:
        """A party with this fingerprint, which names the other one's."""
        here, there = memory_pair(who, "dealer")
        there.peer_fingerprint = who
        self._channels += [here, there]
        self._threads.append(threading.Thread(target=self.dealer.serve_connection, args=(there,), daemon=True))
        self._threads[-1].start()
        here.send("join", {"session": name, "role": role, "other": other, "version": version})
        return here

    def is_waiting(self) -> None:
        assert self.events.get(timeout=5)["event"] == "joined"

    def close(self) -> None:
        self.dealer.stop()
        for channel in self._channels:
            channel.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Waiting]:
    one = Waiting(tmp_path)
    yield one
    one.close()


def is_refused(channel: Channel, text: str) -> None:
    error = error_from(channel.receive(5))
    assert isinstance(error, DealerError) and text in str(error)


@pytest.mark.parametrize(
    ("who", "role", "other", "text"),
    [
        ("C", 2, "A", "do not name each other"),  # A named B
        ("B", 2, "C", "do not name each other"),
        ("C", 2, "D", "do not name each other"),
        ("A", 2, "A", "do not name each other"),
        ("C", 1, "B", "joined the session already"),
    ],
)
def test_who_does_not_belong_to_a_session_takes_no_place_in_it(
    waiting: Waiting, who: str, role: int, other: str, text: str
) -> None:
    first = waiting.comes("A", 1, "B")
    waiting.is_waiting()
    is_refused(waiting.comes(who, role, other), text)
    session = waiting.sessions[NAME]
    assert list(session.channels) == list(session.peers) == [1] and not session.complete.is_set()
    assert waiting.events.get(timeout=5)["event"] == "session ended"  # the stranger's own
    second = waiting.comes("B", 2, "A")  # the place is still there for whom A named
    keys = [channel.receive(5).data["key"] for channel in (first, second)]
    assert [len(k) for k in keys] == [32, 32] and keys[0] != keys[1]
    first.send("order", {"level": 0, "evaluation": 0, "samples": 3, "columns": 1, "outputs": 1, "terms": [[0, "J"]]})
    dealt = second.receive(5)
    order = Order(0, 0, 3, 1, ((0, "J"),))
    assert dealt.kind == "correlation" and np.frombuffer(dealt.payload, "<i8") == order.correlation(*keys)


def test_a_party_of_an_older_build_is_told_to_update(waiting: Waiting) -> None:
    error = error_from(waiting.comes("A", 1, "B", version=1).receive(5))
    assert isinstance(error, VersionError) and "Update PPIRExtension at the site that calls it" in str(error)
    assert waiting.sessions == {}


def test_the_order_in_which_two_parties_come_does_not_matter(waiting: Waiting) -> None:
    second = waiting.comes("B", 2, "A")
    waiting.is_waiting()
    first = waiting.comes("A", 1, "B")
    assert [channel.receive(5).kind for channel in (first, second)] == ["joined", "joined"]


def test_a_session_ends_for_both_and_its_place_becomes_free(waiting: Waiting) -> None:
    first, second = waiting.comes("A", 1, "B"), waiting.comes("B", 2, "A")
    assert [channel.receive(5).kind for channel in (first, second)] == ["joined", "joined"]
    first.close()
    is_refused(second, "The other party left the session")
    end = time.monotonic() + 5
    while waiting.sessions and time.monotonic() < end:
        time.sleep(0.01)
    assert not waiting.sessions
