"""Two sites that meet at a relay: who gets in, what the relay can see and do, and what a lost relay does."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from relay_support import (
    ConnectProxy,
    Flipping,
    Pretending,
    RelayHere,
    free_port,
    pair_of_files,
    relay_here,
    relayed_sites,
    waiting,
)
from system_support import SOON, call, last_words, owner, shared, wait_until

from PPIRLogic.errors import BusyError, InputError, PeerError, RefusedError, TrustError, VersionError
from PPIRLogic.images.reading import read_volume
from PPIRLogic.local_processes import Site
from PPIRLogic.network.channel import Channel, Listener, Quotas, connect, dialling, relayed
from PPIRLogic.network.channel.calling import Call
from PPIRLogic.network.channel.dialling import dial
from PPIRLogic.network.channel.timed_socket import Wire
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.names import DEALER, RELAY
from PPIRLogic.network.relay import BUFFER, Relay, RelayLimits
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.registration.dealer.dealer import Dealer
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.request import Peer

SECRET = b"a word that only the two sites may read " * 100


@pytest.fixture
def sites(tmp_path: Path) -> dict[str, Site]:
    return relayed_sites(tmp_path, "C")


@pytest.fixture
def relay(sites: dict[str, Site]) -> Iterator[RelayHere]:
    with relay_here(sites["R"]) as one:
        yield one


def pair(listener: Listener, site: Site) -> tuple[Channel, Channel]:
    mine = call(site, listener.address)
    theirs = listener.accept(SOON)
    assert theirs is not None
    return mine, theirs


def line_to(relay: str, site: Site) -> Channel:
    """A line to the relay on which a site may say whatever it likes."""
    host, port = relay.split(":")

    def reach() -> Wire:
        deadline = time.monotonic() + SOON
        wire = Wire(dial(host, int(port), deadline, SOON, ""), SOON)
        wire.deadline = deadline
        return wire

    return Call(
        load_or_create_identity(site.home), TrustStore(site.home), role=RELAY, service="ppir relay", start=False
    ).over(reach, relay)


# ------------------------------------------------------------------------------------------------- two sites


def test_what_two_sites_say_stays_between_them(sites: dict[str, Site]) -> None:
    """Both know each other by fingerprint; the relay sees bytes among which the words are not."""
    passed = bytearray()

    class Listening(Relay):
        def _pass_on(self, meeting: Any, one: Wire, two: Wire) -> None:
            for wire in (one, two):
                write = wire.write

                def keep(*parts: memoryview, write: Any = write) -> None:
                    passed.extend(b"".join(bytes(p) for p in parts))
                    write(*parts)

                wire.write = keep  # type: ignore[method-assign]
            super()._pass_on(meeting, one, two)

    with relay_here(sites["R"], kind=Listening) as relay, waiting(sites["B"], relay.address) as (listener, heard):
        mine, theirs = pair(listener, sites["A"])
        assert (mine.peer_fingerprint, theirs.peer_fingerprint) == (sites["B"].fingerprint, sites["A"].fingerprint)
        assert mine.address == f"{sites['B'].fingerprint} through the relay {relay.address}"
        mine.send("word", {"n": 1}, SECRET)
        assert theirs.receive(SOON).payload == SECRET
        theirs.send("word", {"n": 2}, SECRET)
        assert mine.receive(SOON).payload == SECRET
        mine.close()
        assert last_words(theirs).args
        theirs.close()
        assert wait_until(lambda: relay.told("line ended"))
        assert len(passed) > 2 * len(SECRET) and SECRET[:20] not in passed
        assert heard == []
        (joined,), (ended,) = relay.told("joined"), relay.told("line ended")
        assert (joined["site"], joined["other"]) == (sites["A"].fingerprint, sites["B"].fingerprint)
        assert ended["bytes_of_caller"] + ended["bytes_of_other"] == len(passed)
        assert set(ended) == {
            "time", "event", "site", "site_name", "other", "seconds", "bytes_of_caller", "bytes_of_other",
        }  # fmt: skip


def test_many_callers_meet_at_once(sites: dict[str, Site], relay: RelayHere) -> None:
    with waiting(sites["B"], relay.address) as (listener, _):
        mine = [call(sites[name], listener.address) for name in "ACACAC"]
        theirs = [listener.accept(SOON) for _ in mine]
        assert sorted(t.peer_name for t in theirs if t) == list("AAACCC")
        for channel in [*mine, *filter(None, theirs)]:
            channel.close()


def test_a_line_that_nobody_reads_holds_the_sender_back(sites: dict[str, Site], relay: RelayHere) -> None:
    """The relay takes no more than it can pass on: what it holds is bounded, whatever a site sends."""
    with waiting(sites["B"], relay.address, dead_after=SOON) as (listener, _):
        mine, theirs = pair(listener, sites["A"])

        def flood() -> None:
            with contextlib.suppress(PeerError):
                for _ in range(40):
                    mine.send("much", {}, bytes(8 * 2**20))

        thread = threading.Thread(target=flood, daemon=True)
        thread.start()
        assert wait_until(lambda: relay.relay._joined)
        ((one, two),) = relay.relay._joined.values()
        last = -1
        while last != one.received:  # until nothing moves any more
            last = one.received
            time.sleep(1.0)
        assert one.received - two.sent <= BUFFER + 16 * 1024, "the handshakes with the relay, which differ, aside"
        assert mine.bytes_sent < 40 * 8 * 2**20
        theirs.close()
        mine.close()
        thread.join(SOON)


def test_both_sites_through_an_http_proxy(
    sites: dict[str, Site], relay: RelayHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All three calls of the relay ask the proxy for their way, and nothing else goes anywhere."""
    monkeypatch.setattr(dialling, "is_this_computer", lambda host: False)  # which is never called through a proxy
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with ConnectProxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
        monkeypatch.setenv("https_proxy", f"http://{proxy.address}")
        with waiting(sites["B"], relay.address) as (listener, _):
            mine, theirs = pair(listener, sites["A"])
            mine.send("word", {}, SECRET)
            assert theirs.receive(SOON).payload == SECRET
            mine.close()
            theirs.close()
        assert proxy.asked == [relay.address] * 3


def test_a_dealer_waits_at_a_relay_too(tmp_path: Path) -> None:
    """The relay knows it as one that may use it; the parties know it as a dealer, and as nothing else."""
    sites = relayed_sites(tmp_path, "dealer")
    TrustStore(sites["R"].home).add(sites["dealer"].fingerprint, "dealer")
    identity, trust = load_or_create_identity(sites["A"].home), TrustStore(sites["A"].home)
    with relay_here(sites["R"]) as relay:
        events: list[dict[str, Any]] = []
        dealer = Dealer(
            f"@{relay.address}", load_or_create_identity(sites["dealer"].home), sites["dealer"].home, events.append
        )
        thread = threading.Thread(target=dealer.run, daemon=True)
        thread.start()
        address = events[0]["address"]
        assert address == f"{sites['dealer'].fingerprint}@{relay.address}"
        with connect(address, identity, trust, expected_fingerprint=sites["dealer"].fingerprint, role=DEALER) as mine:
            assert mine.peer_fingerprint == sites["dealer"].fingerprint
        with pytest.raises(TrustError, match="trusted here as a dealer"):
            call(sites["A"], address)
        dealer.stop()
        thread.join(SOON)


# ------------------------------------------------------------------------------------------------- who may


def test_a_stranger_is_refused_by_the_relay(sites: dict[str, Site], relay: RelayHere, tmp_path: Path) -> None:
    stranger = Site(tmp_path / "S", load_or_create_identity(tmp_path / "S", "S").fingerprint)
    TrustStore(stranger.home).add(sites["B"].fingerprint, "B")
    with pytest.raises(TrustError, match="ppir trust add --role relay"):  # the stranger does not know the relay
        call(stranger, f"{sites['B'].fingerprint}@{relay.address}")
    TrustStore(stranger.home).add(sites["R"].fingerprint, "R", RELAY)
    with waiting(sites["B"], relay.address) as (listener, heard):
        with pytest.raises(TrustError, match=stranger.fingerprint):
            call(stranger, listener.address)
        with pytest.raises(TrustError):
            waiting(stranger, relay.address).__enter__()
        assert heard == []
    assert any(stranger.fingerprint in e["reason"] for e in relay.told("refused connection"))


def test_allow_narrows_who_may_use_it(sites: dict[str, Site]) -> None:
    allowed = (sites["A"].fingerprint, sites["B"].fingerprint)
    with relay_here(sites["R"], allowed=allowed) as relay, waiting(sites["B"], relay.address) as (listener, _):
        for channel in pair(listener, sites["A"]):
            channel.close()
        with pytest.raises(TrustError, match="is not for this site: read your fingerprint"):
            call(sites["C"], listener.address)


def test_an_unknown_room_is_said(sites: dict[str, Site], relay: RelayHere) -> None:
    with pytest.raises(PeerError, match=f"{sites['B'].fingerprint} does not wait at the relay {relay.address}: is"):
        call(sites["A"], f"{sites['B'].fingerprint}@{relay.address}")


def test_a_fingerprint_has_one_room(sites: dict[str, Site], relay: RelayHere) -> None:
    with waiting(sites["B"], relay.address) as (listener, _):
        with pytest.raises(RefusedError, match=r"waits at the relay .* already"):
            waiting(sites["B"], relay.address).__enter__()
        for channel in pair(listener, sites["A"]):
            channel.close()


def test_whom_the_site_does_not_trust_is_refused_by_the_site(sites: dict[str, Site], relay: RelayHere) -> None:
    """That a relay lets somebody use it says nothing to the sites."""
    TrustStore(sites["B"].home).remove("C")
    with waiting(sites["B"], relay.address) as (listener, heard):
        with pytest.raises(TrustError, match="does not trust this site"):
            call(sites["C"], listener.address)
        assert wait_until(lambda: heard)
        assert heard[0].startswith(f"{sites['C'].fingerprint} through the relay")


def test_who_floods_a_room_is_counted_by_fingerprint(sites: dict[str, Site], relay: RelayHere) -> None:
    """All callers of a relay come from one address; only the one that fails too often is turned away."""
    TrustStore(sites["B"].home).remove("C")
    quotas = Quotas(greetings=2, greeting_seconds=60.0)
    with waiting(sites["B"], relay.address, quotas=quotas) as (listener, heard):
        for _ in range(4):
            with pytest.raises((TrustError, PeerError)):
                call(sites["C"], listener.address)
        assert wait_until(lambda: any("too many handshakes" in text for text in heard))
        for channel in pair(listener, sites["A"]):
            channel.close()


def test_one_whom_the_relay_trusts_no_more_loses_its_line(sites: dict[str, Site], relay: RelayHere) -> None:
    with waiting(sites["B"], relay.address) as (listener, _):
        mine, theirs = pair(listener, sites["A"])
        TrustStore(sites["R"].home).remove("A")
        assert wait_until(lambda: mine.interrupted and theirs.interrupted)
        mine.close()
        theirs.close()


# ------------------------------------------------------------------------------------------------- quotas


def test_lines_are_bounded_by_caller_and_by_room(sites: dict[str, Site]) -> None:
    limits = RelayLimits(of_caller=1, of_room=2)
    with relay_here(sites["R"], limits) as relay, waiting(sites["B"], relay.address) as (listener, _):
        held = list(pair(listener, sites["A"]))
        with pytest.raises(BusyError, match="no line left"):
            call(sites["A"], listener.address)
        held += pair(listener, sites["C"])
        for channel in held:
            channel.close()
        assert wait_until(lambda: len(relay.told("line ended")) == 2)
        for channel in pair(listener, sites["A"]):
            channel.close()


def test_a_line_has_its_time(sites: dict[str, Site]) -> None:
    limits = RelayLimits(hours=1 / 3600)
    with relay_here(sites["R"], limits) as relay, waiting(sites["B"], relay.address) as (listener, _):
        mine, theirs = pair(listener, sites["A"])
        assert wait_until(lambda: mine.interrupted and theirs.interrupted)
        mine.close()
        theirs.close()


# ------------------------------------------------------------------------------------------------- what it hears


def test_words_that_no_relay_knows(sites: dict[str, Site], relay: RelayHere) -> None:
    """Each ends its line only; a token that another one was given, or nobody, takes no caller."""
    for kind, data in (
        ("register", {"version": 1}),
        ("call", {"version": 1}),
        ("call", {"version": 1, "site": "B"}),
        ("call", {"version": "1", "site": sites["B"].fingerprint}),
        ("take", {"version": 1, "token": b"short"}),
        ("take", {"version": 1, "token": "x" * 16}),
    ):
        before = len(relay.told("line ended"))
        channel = line_to(relay.address, sites["C"])
        channel.tell(kind, data)
        assert wait_until(lambda before=before: len(relay.told("line ended")) == before + 1), kind  # type: ignore[misc]
        channel.close()
    for kind, data, why in (
        ("take", {"version": 1, "token": bytes(16)}, "no answer"),
        ("open", {"version": 2}, "version"),
        ("call", {"version": 1, "site": sites["C"].fingerprint}, "not here"),
    ):
        channel = line_to(relay.address, sites["C"])
        channel.tell(kind, data)
        assert channel.hear(SOON).data["why"] == why
        channel.close()
    with waiting(sites["B"], relay.address) as (listener, _):
        for channel in pair(listener, sites["A"]):
            channel.close()


def test_only_the_site_that_is_called_takes_its_caller(sites: dict[str, Site], relay: RelayHere) -> None:
    """Somebody else with the token of a call gets nothing; the site itself still does."""
    room = line_to(relay.address, sites["B"])
    room.tell("open", {"version": 1})
    assert room.hear(SOON).kind == "opened"
    room.start()
    failed: list[BaseException] = []

    def dials() -> None:
        try:
            call(sites["A"], f"{sites['B'].fingerprint}@{relay.address}").close()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=dials, daemon=True)
    thread.start()
    token = room.receive(SOON).data["token"]
    thief = line_to(relay.address, sites["C"])
    thief.tell("take", {"version": 1, "token": token})
    assert thief.hear(SOON).data["why"] == "no answer"
    thief.close()
    taker = line_to(relay.address, sites["B"])
    taker.tell("take", {"version": 1, "token": token})
    assert taker.hear(SOON).kind == "joined"
    taker.close()  # and leaves
    room.close()
    thread.join(SOON)
    assert isinstance(failed[0], PeerError)


def test_a_release_that_does_not_fit_says_so(
    sites: dict[str, Site], relay: RelayHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relayed, "RELAY_VERSION", 2)
    with pytest.raises(VersionError, match="update the older"):
        waiting(sites["B"], relay.address).__enter__()


# ------------------------------------------------------------------------------------------- a relay that does wrong


def test_a_relay_can_take_no_role(sites: dict[str, Site]) -> None:
    """One that answers in the place of the site that was called has no key that counts, whatever it is trusted as."""

    with relay_here(sites["R"], kind=Pretending) as relay, waiting(sites["B"], relay.address) as (listener, _):
        for role_here in (RELAY, "peer"):
            TrustStore(sites["A"].home).add(sites["R"].fingerprint, "R", role_here)
            with pytest.raises(TrustError, match=r"instead of the expected|trusted here as a peer"):
                call(sites["A"], listener.address)
    # nor is what is trusted as a relay a peer or a dealer, to either side
    TrustStore(sites["A"].home).add(sites["R"].fingerprint, "R", RELAY)
    plain = Listener("127.0.0.1:0", load_or_create_identity(sites["R"].home), TrustStore(sites["R"].home))
    with plain:
        for role in ("peer", DEALER):
            with pytest.raises(TrustError, match="trusted here as a relay, and this takes a"):
                call(sites["A"], plain.address, role)
    heard: list[str] = []
    identity = load_or_create_identity(sites["B"].home)
    with Listener("127.0.0.1:0", identity, TrustStore(sites["B"].home), on_refused=lambda w, r: heard.append(r)) as own:
        with pytest.raises(TrustError):
            call(sites["R"], own.address)
        assert wait_until(lambda: heard)
        assert "as a relay, and this takes a peer" in heard[0]


def test_a_relay_that_changes_a_bit_ends_the_run(sites: dict[str, Site], tmp_path: Path) -> None:
    """Nothing that was changed is taken for a message: the run fails, in words, and there is no result."""
    fixed, moving = pair_of_files(tmp_path)
    image = shared(read_volume(fixed))
    parameters = Parameters(transform="rigid", loss="ssd", levels=(2,), evaluations=4, threads=1)
    with (
        relay_here(sites["R"], kind=Flipping) as relay,
        owner(sites["B"], image, address=f"@{relay.address}", threads=1) as one,
    ):
        with pytest.raises(PeerError, match=r"damaged on the way|was lost"):
            register(read_volume(moving), Peer(one.address), parameters=parameters, home=sites["A"].home, reconnect=2.0)
        assert wait_until(lambda: one.told("session ended"))
        assert "damaged on the way" in one.told("session ended")[0]["reason"]
        assert relay.relay.flipped >= 1 and not one.told("session finished")


# ------------------------------------------------------------------------------------------------- a relay that is lost


def test_a_site_returns_to_its_room_by_itself(sites: dict[str, Site]) -> None:
    """The relay stops and starts again: the site dials it anew, and says so."""
    port = free_port()

    class AtPort(Relay):
        def __init__(self, address: str, *arguments: Any, **options: Any) -> None:
            super().__init__(f"127.0.0.1:{port}", *arguments, **options)

    with contextlib.ExitStack() as later:
        with relay_here(sites["R"], kind=AtPort) as relay:
            listener, heard = later.enter_context(waiting(sites["B"], relay.address))
            for channel in pair(listener, sites["A"]):
                channel.close()
        assert wait_until(lambda: any("was lost; it is dialled again" in text for text in heard))
        with pytest.raises(PeerError):
            call(sites["A"], listener.address)
        with relay_here(sites["R"], kind=AtPort):
            assert wait_until(lambda: any(text.endswith("again") and "waiting at" in text for text in heard), 40.0)
            for channel in pair(listener, sites["A"]):
                channel.close()


def test_a_relay_that_is_not_there_is_said_at_the_start(sites: dict[str, Site]) -> None:
    with pytest.raises(PeerError, match="is `ppir relay` running there"):
        waiting(sites["B"], f"127.0.0.1:{free_port()}").__enter__()
    with pytest.raises(InputError, match="cannot wait at another relay"), relay_here(sites["R"]) as relay:
        Relay(f"@{relay.address}", load_or_create_identity(sites["R"].home), TrustStore(sites["R"].home), relay)  # type: ignore[arg-type]


def test_one_expectation_at_a_time(sites: dict[str, Site], relay: RelayHere) -> None:
    """A caller that is to meet one fingerprint and names the room of another is not let through."""
    identity, trust = load_or_create_identity(sites["A"].home), TrustStore(sites["A"].home)
    with waiting(sites["B"], relay.address) as (listener, _), pytest.raises(TrustError, match="name one"):
        connect(listener.address, identity, trust, expected_fingerprint=sites["C"].fingerprint)
