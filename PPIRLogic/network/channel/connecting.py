"""Calling another site, at its own address or where it waits at a relay."""

from __future__ import annotations

import time

from PPIRLogic.errors import InputError, TrustError
from PPIRLogic.network.channel.addresses import parse_address, spell_address, split_route
from PPIRLogic.network.channel.calling import Call
from PPIRLogic.network.channel.channel import Channel
from PPIRLogic.network.channel.dialling import dial
from PPIRLogic.network.channel.relayed import call_through_relay
from PPIRLogic.network.channel.timed_socket import Wire
from PPIRLogic.network.identity import Identity, clean_text, normalise_fingerprint
from PPIRLogic.network.names import PEER
from PPIRLogic.network.trust import TrustStore


def connect(
    address: str,
    identity: Identity,
    trust: TrustStore,
    *,
    timeout: float = 10.0,
    expected_fingerprint: str | None = None,
    expected_name: str | None = None,
    role: str = PEER,
    service: str = "ppir serve",
    heartbeat: float = 1.0,
    dead_after: float = 10.0,
) -> Channel:
    """Connect to the site that listens at `address`, all within `timeout` seconds.

    address: 'host:port', or 'FINGERPRINT@host:port' for the site of that fingerprint that waits at a relay, which has
    `timeout` seconds of its own; the encryption is that of the two sites all the same. With `expected_fingerprint` the
    server must show exactly that one (and be trusted, too); `expected_name` is compared with the names in a certificate
    that is trusted only through an authority. `role`: what the server must be trusted as. `service`: the command that
    the other side is to run, for messages.

    Raises InputError (address or fingerprint), PeerError (nobody there, no TLS, no answer), TrustError (either
    side does not trust the other), IdentityError (own certificate), ProtocolError or VersionError (no ppir), BusyError
    (the relay has no room).
    """
    site, at = split_route(address)
    host, port = parse_address(at)
    if not port:
        raise InputError(f"{clean_text(at)!r} cannot be called: port 0 is nobody's. Give the port of the service.")
    if site and expected_fingerprint and normalise_fingerprint(expected_fingerprint) != site:
        raise TrustError(f"{at}: the site {site} is called there, and {expected_fingerprint} is expected: name one.")
    call = Call(
        identity, trust, timeout, site or expected_fingerprint, expected_name, role, service, heartbeat, dead_after
    )
    where = spell_address(host, port)

    def reach() -> Wire:
        deadline = time.monotonic() + timeout
        if site:
            wire = call_through_relay(site, where, identity, trust, timeout)
            deadline = time.monotonic() + timeout
        else:
            wire = Wire(dial(host, port, deadline, timeout, service), dead_after)
        wire.patience, wire.deadline = dead_after, deadline
        return wire

    return call.over(reach, f"{site} through the relay {where}" if site else where)
