"""Who may be the dealer: a party that deals opens the other's image, so a key has one role and the dealer is pinned."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from recording import Record
from system_support import OPEN, Phantom, account_numbers, grid, motion_of, owner, shared, wait_until
from thief import Thief, quantised

from PPIRLogic.errors import DealerError, PolicyError, PPIRError, TrustError
from PPIRLogic.local_processes import Site, make_sites
from PPIRLogic.network.channel import Channel, Message
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.names import DEALER
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.registration.dealer import joining
from PPIRLogic.registration.dealer.dealer import Dealer
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1 import register as party1
from PPIRLogic.registration.party1 import session as party1_session
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.party2 import session as party2_session
from PPIRLogic.registration.request import Peer
from PPIRLogic.secure.mpc.one_time_masks import mask_of_operand

GRID = grid((96, 80), (1.0, 1.2), (-10.0, 5.0))
PHANTOM = Phantom.make(GRID)
FIXED, MOVING = PHANTOM.on(GRID), PHANTOM.on(GRID, motion_of("translation", GRID))
RUN = Parameters(
    transform="translation",
    loss="ssd",
    levels=(1,),
    protocol="mpc",
    evaluations=3,
    threads=1,
    initial="identity",
    skip_check=True,
)
IMAGE = shared(FIXED, protocols=frozenset({"fhe", "mpc"}), budget=OPEN)


@contextlib.contextmanager
def dealing(site: Site) -> Iterator[Dealer]:
    """A dealer under this site's own key."""
    dealer = Dealer("127.0.0.1:0", load_or_create_identity(site.home), site.home)
    thread = threading.Thread(target=dealer.run, daemon=True)
    thread.start()
    try:
        yield dealer
    finally:
        dealer.stop()
        thread.join(10)


@pytest.fixture
def sites(tmp_path: Path) -> dict[str, Site]:
    found = make_sites(tmp_path, ("A", "B", "dealer"))
    TrustStore(found["A"].home).add(found["A"].fingerprint, "me")
    return found


def deviate(monkeypatch: pytest.MonkeyPatch, own: str) -> list[Message]:
    """Party 1 runs other code: it names itself as the dealer and keeps what party 2 masked."""
    kept: list[Message] = []
    receive = Channel.receive

    def keeping(self: Channel, timeout: float) -> Message:
        message = receive(self, timeout)
        if message.kind == "data":
            kept.append(message)
        return message

    def join(address: str, identity: Any, trust: Any, session: bytes, role: int, *rest: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(joining, "DEALER_ROLE", "peer")
            real = replace(identity, fingerprint="")  # its own check sees nobody
            return joining.join_dealer(address, real, trust, session, role, *rest)

    monkeypatch.setattr(Channel, "receive", keeping)
    monkeypatch.setattr(party1, "dealer_of", lambda *args: own)
    monkeypatch.setattr(party1_session, "join_dealer", join)
    return kept


def without_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The unprotected variant: any trusted key is what the connection needs, and no dealer is pinned."""
    monkeypatch.setattr(party2_session.ServerSession, "_check_dealer", lambda self: setattr(self, "dealer", "?"))
    monkeypatch.setattr(party2_session, "join_dealer", unpinned)


def unpinned(address: str, identity: Any, trust: Any, session: bytes, role: int, other: str, *rest: Any) -> Any:
    """How a party joined before: whoever answers and is trusted is the dealer."""
    *_, check = rest
    channel = joining.connect(address, identity, trust)
    channel.send("join", {"session": session, "role": role, "other": other, "version": joining.PROTOCOL_VERSION})
    message = joining.wait_for_message(channel, 60.0, check)
    return channel, message.data["key"]


def steal(
    site: dict[str, Site], monkeypatch: pytest.MonkeyPatch
) -> tuple[NDArray[np.int64] | None, int, PPIRError | None]:
    """A run in which A's own key deals: what A has of J afterwards, what B counted, and the error."""
    kept, keys = deviate(monkeypatch, site["A"].fingerprint), []
    with dealing(site["A"]) as fake, owner(site["B"], replace(IMAGE, dealer=fake.listener.address)) as one:
        before = account_numbers(one.home)
        opened = fake.dealing.open_session

        def spying(*args: Any) -> Any:
            session = opened(*args)
            keys.append(session.joined.keys[1])
            return session

        monkeypatch.setattr(fake.dealing, "open_session", spying)
        error: PPIRError | None = None
        try:
            result = register(MOVING, Peer(one.address, "", fake.listener.address), home=site["A"].home, parameters=RUN)
            error = result.error
        except PPIRError as refused:
            error = refused
        counted = account_numbers(one.home) - before
    if not kept or not keys:
        return None, counted, error
    masked = np.frombuffer(b"".join(m.payload for m in kept), "<i8")
    hidden = quantised(IMAGE.image)  # type: ignore[arg-type]
    masked = masked[: len(hidden)]
    return masked + mask_of_operand(keys[-1], 0, "J", 0, len(masked)), counted, error


def test_a_party_that_deals_has_the_whole_level_where_any_trusted_key_may(
    sites: dict[str, Site], monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    pytest.importorskip("torch")
    hidden = quantised(IMAGE.image)  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        without_roles(patch)
        stolen, counted, _ = steal(sites, patch)
    assert stolen is not None and np.array_equal(stolen, hidden) and 0 < counted < 40
    with monkeypatch.context() as patch:
        nothing, none, error = steal(sites, patch)
    assert nothing is None and none == 0 and isinstance(error, PolicyError)
    assert "must name the same dealer" in str(error)
    record(
        "party 1's own key plays the dealer (malicious party 1)",
        f"{counted} counted numbers, {hidden.size} of {hidden.size} voxels exactly",
        "refused before the first number: the dealer is pinned, a key has one role",
    )


def test_party_2_does_not_join_a_dealer_that_is_a_peer(sites: dict[str, Site]) -> None:
    """The address is the dealer's, who answers is not: another key, though a trusted one."""
    with dealing(sites["A"]) as fake:
        identity, trust = load_or_create_identity(sites["B"].home), TrustStore(sites["B"].home)
        for pinned in (sites["dealer"].fingerprint, sites["A"].fingerprint):
            with pytest.raises(DealerError, match=r"instead of the expected|trusted here as a peer"):
                joining.join_dealer(fake.listener.address, identity, trust, bytes(32), 2, "X", pinned, lambda: None)
        assert fake.dealing.sessions == {}


def test_a_dealers_key_opens_no_session_and_serves_nothing(sites: dict[str, Site], record: Record) -> None:
    with owner(sites["B"], IMAGE) as one:
        with pytest.raises(PPIRError):
            Thief(sites["dealer"], one.address)
        assert wait_until(
            lambda: any("trusted here as a dealer" in e["reason"] for e in one.told("refused connection"))
        )
        assert account_numbers(one.home) == 0
    with owner(sites["dealer"], IMAGE) as one, pytest.raises(TrustError, match="as a dealer, and this takes a peer"):
        register(MOVING, one.address, home=sites["A"].home, parameters=replace(RUN, protocol="fhe"))
    record("the dealer's key as party 1, or as party 2", "a session like any peer's", "refused in the handshake")


def test_whom_an_authority_vouches_for_is_no_dealer(sites: dict[str, Site]) -> None:
    store = TrustStore(sites["B"].home)
    store.remove(sites["dealer"].fingerprint)
    with pytest.raises(PolicyError, match="ppir trust add FINGERPRINT --role dealer"):
        joining.pinned_dealer(store)
    with pytest.raises(PolicyError, match="is not trusted as a dealer"):
        joining.pinned_dealer(store, sites["A"].fingerprint)
    store.add(sites["dealer"].fingerprint, "dealer", DEALER)
    assert joining.pinned_dealer(store) == sites["dealer"].fingerprint
