"""A party's way to the dealer."""

from __future__ import annotations

from collections.abc import Callable

from PPIRLogic.errors import DealerError, PolicyError, PPIRError
from PPIRLogic.network.channel import Channel, connect
from PPIRLogic.network.identity import Identity, normalise_fingerprint
from PPIRLogic.network.messages import (
    DEALER,
    PARTY_1,
    PARTY_2,
    PROTOCOL_VERSION,
    Fields,
    check_version,
    error_from,
    wait_for_message,
)
from PPIRLogic.network.names import DEALER as DEALER_ROLE
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.secure.prg import KEY_BYTES

JOIN_TIMEOUT = 60.0


def pinned_dealer(trust: TrustStore, fingerprint: str = "") -> str:
    """The one dealer that this site takes randomness from: the one that was named, else the only trusted one.

    PolicyError, with the command to run, unless it is trusted as a dealer: a party that deals opens the other's image.
    """
    dealers = [peer for peer in trust.peers() if peer.role == DEALER_ROLE]
    if fingerprint:
        wanted = normalise_fingerprint(fingerprint)
        if wanted not in (peer.fingerprint for peer in dealers):
            raise PolicyError(
                f"The dealer {wanted} is not trusted as a dealer here. Compare its fingerprint by telephone, then run"
                f" `ppir trust add {wanted} --role dealer --name Dealer`."
            )
        return wanted
    if len(dealers) != 1:
        names = ", ".join(f"{peer.name} {peer.fingerprint}" for peer in dealers) or "none"
        raise PolicyError(
            f"mpc needs one dealer that is known by its fingerprint; trusted as a dealer here: {names}. Run `ppir trust"
            " add FINGERPRINT --role dealer --name Dealer`, or name one with --dealer-fingerprint; or use the protocol"
            " fhe, which needs none."
        )
    return dealers[0].fingerprint


def join_dealer(
    address: str,
    identity: Identity,
    trust: TrustStore,
    session: bytes,
    role: int,
    other: str,
    fingerprint: str,
    check: Callable[[], None],
) -> tuple[Channel, bytes]:
    """Connect to the dealer as party `role` and wait for the other one. Returns the channel and this party's key.

    fingerprint: the pinned dealer's. `check` runs while it waits: it raises if the run was cancelled or the other party
    gave up.
    """
    if fingerprint in ("", identity.fingerprint, other):
        raise DealerError("The dealer must be pinned by its fingerprint, and be neither of the two parties.")
    try:
        channel = connect(
            address, identity, trust, expected_fingerprint=fingerprint, role=DEALER_ROLE, service="ppir dealer"
        )
    except PPIRError as error:
        raise DealerError(f"The dealer at {address} cannot be used: {error}") from error
    channel.send("join", {"session": session, "role": role, "other": other, "version": PROTOCOL_VERSION})
    try:
        message = wait_for_message(channel, JOIN_TIMEOUT, check)
        if message.kind != "joined":
            raise DealerError(f"The dealer at {address} did not let this site join: {error_from(message)}")
        check_version(message.data, "joined", PARTY_1 if role == 1 else PARTY_2, DEALER)
        return channel, Fields(message.data, "joined").raw("key", KEY_BYTES)
    except BaseException:
        channel.close()
        raise
