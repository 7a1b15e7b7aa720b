"""A service knows its methods by what they offer: a second one plugs in beside registration."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from PPIRLogic.errors import BusyError, PPIRError, ProtocolError
from PPIRLogic.network.channel import Channel, Message, connect
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.messages import Fields, error_from
from PPIRLogic.network.service import Method, Service, UnrecordedAudit
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.registration.party2.server import Server


class Echo(Method):
    """A toy method: adds numbers, one session a sum."""

    opens = "echo"

    def __init__(self) -> None:
        self.left_by: list[str] = []
        self.hold = threading.Event()
        self.hold.set()

    def offers(self, peer: str) -> dict[str, Any]:
        return {"echoes": [{"name": "sum"}]}

    def open_session(self, channel: Channel, message: Message) -> EchoSession:
        return EchoSession(self, channel, Fields(message.data, "echo").items("numbers", 8))

    def left(self, channel: Channel) -> None:
        self.left_by.append(channel.peer_fingerprint)


class EchoSession:
    returns = False

    def __init__(self, method: Echo, channel: Channel, numbers: list[int]) -> None:
        self._method, self._channel, self._numbers = method, channel, numbers
        self.key, self.peer = f"echo {id(self)}", channel.peer_fingerprint

    def wait(self, before: int) -> None:
        self._channel.send("waiting", {"before": before})

    def check(self) -> None:
        self._channel.check()

    check_again = begin = close = end = lambda self: None

    def run(self) -> None:
        assert self._method.hold.wait(10)
        if self._numbers == [13]:
            raise RuntimeError("a bug of this method")
        self._channel.send("echo", {"sum": sum(self._numbers)})


class Place:
    def __init__(self, folder: Path, **options: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self.echo = Echo()
        self._caller, self._home = load_or_create_identity(folder / "caller"), folder / "caller"
        here = load_or_create_identity(folder / "here")
        TrustStore(folder / "here").add(self._caller.fingerprint, "caller")
        TrustStore(folder / "caller").add(here.fingerprint, "here")
        self.service = Server(
            "127.0.0.1:0", here, folder / "here", [], on_event=self.events.append, methods=[self.echo], **options
        )
        threading.Thread(target=self.service.run, daemon=True).start()

    def call(self, kind: str, **data: Any) -> Channel:
        channel = connect(str(self.service.listener.address), self._caller, TrustStore(self._home))
        channel.send(kind, data)
        return channel


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    one = Place(tmp_path)
    yield one
    one.service.stop()


def failure(channel: Channel) -> PPIRError:
    return error_from(channel.receive(5))


def test_both_methods_say_what_they_offer(place: Place) -> None:
    told = place.call("info").receive(5).data
    assert told["images"] == [] and told["points"] == [] and told["echoes"] == [{"name": "sum"}]


def test_a_session_of_the_second_method_runs(place: Place) -> None:
    assert place.call("echo", numbers=[1, 2, 3]).receive(5).data == {"sum": 6}


def test_what_no_method_opens_is_refused(place: Place) -> None:
    refused = failure(place.call("dance"))
    assert isinstance(refused, ProtocolError) and "'dance' came before a session was opened" in str(refused)


def test_a_malformed_opening_ends_that_connection_alone(place: Place) -> None:
    assert isinstance(failure(place.call("echo", numbers="three")), ProtocolError)
    assert place.call("echo", numbers=[4]).receive(5).data == {"sum": 4}
    assert [e["event"] for e in place.events if "reason" in e] == ["session ended"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_tells_the_peer_nothing_and_spares_the_others(place: Place) -> None:
    said = str(failure(place.call("echo", numbers=[13])))
    assert "internal error" in said and "bug" not in said
    assert place.call("echo", numbers=[5]).receive(5).data == {"sum": 5}


def test_sessions_of_all_methods_share_the_places(tmp_path: Path) -> None:
    place = Place(tmp_path, max_sessions=1, queue=1)
    place.echo.hold.clear()
    first, second = place.call("echo", numbers=[1]), place.call("echo", numbers=[2])
    assert second.receive(5).kind == "waiting"
    assert isinstance(failure(place.call("echo", numbers=[3])), BusyError)
    place.echo.hold.set()
    assert first.receive(5).data == {"sum": 1}
    answer = second.receive(5)
    while answer.kind == "waiting":
        answer = second.receive(5)
    assert answer.data == {"sum": 2}
    place.service.stop()


def test_a_stopped_service_tells_its_callers(place: Place) -> None:
    place.echo.hold.clear()
    waiting = place.call("echo", numbers=[1])
    while not place.service._running:
        pass
    place.service.stop()
    assert "stopped sharing" in str(failure(waiting))
    place.echo.hold.set()


def test_questions_do_not_prolong_the_time_to_open_a_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It counts from the first call, whatever a peer asks meanwhile."""
    monkeypatch.setattr(Method, "patience", 0.8)
    place = Place(tmp_path)
    channel, began = place.call("info"), time.monotonic()
    with pytest.raises(PPIRError):
        while time.monotonic() - began < 10:
            channel.receive(5)
            time.sleep(0.1)
            channel.send("info")
    assert time.monotonic() - began < 5
    place.service.stop()


def test_two_methods_with_one_opening_are_refused(tmp_path: Path) -> None:
    identity = load_or_create_identity(tmp_path)
    with pytest.raises(ValueError, match="same message"):
        Service("127.0.0.1:0", identity, TrustStore(tmp_path), [Echo(), Echo()], UnrecordedAudit(lambda event: None))
