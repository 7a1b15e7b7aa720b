"""A party's way to the dealer."""

from __future__ import annotations

from collections.abc import Callable

from PPIRLogic.errors import DealerError, PPIRError
from PPIRLogic.network.channel import Channel, connect
from PPIRLogic.network.identity import Identity
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
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.secure.prg import KEY_BYTES

JOIN_TIMEOUT = 60.0


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

    `check` runs while it waits: it raises if the run was cancelled or the other party gave up.
    """
    try:
        channel = connect(address, identity, trust, expected_fingerprint=fingerprint or None)
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
