"""Calling another site, and what a failed call means to the person who made it."""

from __future__ import annotations

import socket
import time

from PPIRLogic.errors import InputError, PeerError, PPIRError, TrustError
from PPIRLogic.network.channel.addresses import parse_address, spell_address
from PPIRLogic.network.channel.channel import Channel
from PPIRLogic.network.channel.handshake import introduce, make_engine
from PPIRLogic.network.channel.peer_certificate import CertificateCheck
from PPIRLogic.network.channel.timed_socket import ConnectionEnded, Wire
from PPIRLogic.network.channel.tls import Tls
from PPIRLogic.network.identity import Identity, clean_text
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
    heartbeat: float = 1.0,
    dead_after: float = 10.0,
) -> Channel:
    """Connect to the site that listens at `address`, all within `timeout` seconds.

    With `expected_fingerprint` the server must show exactly that one (and be trusted, too); `expected_name` is
    compared with the names in a certificate that is trusted only through an authority. `role`: what the server must be
    trusted as.

    Raises InputError (address or fingerprint), PeerError (nobody there, no TLS, no answer), TrustError (either
    side does not trust the other), IdentityError (own certificate), ProtocolError or VersionError (no ppir).
    """
    host, port = parse_address(address)
    if not port:
        raise InputError(f"{clean_text(address)!r} cannot be called: port 0 is nobody's. Give the port of the service.")
    where = spell_address(host, port)
    certificate_check = CertificateCheck(trust, expected_fingerprint, expected_name, role)
    engine = make_engine(identity, trust, certificate_check)
    engine.set_connect_state()
    deadline = time.monotonic() + timeout
    wire = Wire(_dial(host, port, deadline, timeout), dead_after)
    wire.deadline = deadline
    link = Tls(wire, engine)
    shaken = False
    try:
        link.handshake()
        shaken = True
        return introduce(
            link, certificate_check, identity, where, server=False, heartbeat=heartbeat, dead_after=dead_after
        )
    except BaseException as error:
        link.abandon()
        link.close()
        if isinstance(error, ConnectionEnded):
            raise _explain_call(error, certificate_check, identity, where, timeout, shaken) from None
        if isinstance(error, PPIRError):
            raise type(error)(f"{where}: {error}") from None
        raise


def _dial(host: str, port: int, deadline: float, timeout: float) -> socket.socket:
    where = spell_address(host, port)
    try:
        candidates = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise PeerError(f"the computer {host!r} is not known: check the spelling of {where} and the network") from None
    silence = f"does not answer within {timeout:g} seconds"
    problem = silence
    for family, kind, protocol, _, target in candidates:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(remaining)
            sock.connect(target)
        except TimeoutError:
            sock.close()
            problem = silence
        except OSError as error:
            sock.close()
            refused = isinstance(error, ConnectionRefusedError)
            reason = "nothing listens on that port" if refused else error.strerror or "network error"
            problem = f"cannot be reached: {reason}"
        else:
            return sock
    raise PeerError(f"{where} {problem}; is `ppir serve` running there, and does a firewall allow TCP port {port}?")


def _explain_call(
    ended: ConnectionEnded,
    certificate_check: CertificateCheck,
    identity: Identity,
    where: str,
    timeout: float,
    shaken: bool,
) -> PPIRError:
    """What a failed call means to the person who made it."""
    read_out = (
        f"read your fingerprint {identity.fingerprint} to the people there, so that they can run "
        f"`ppir trust add {identity.fingerprint}`"
    )
    if certificate_check.refusal:
        return TrustError(f"{where}: {certificate_check.refusal}")
    if ended.why == "not-tls":
        return PeerError(f"{where} answers, but not with TLS: is that the port of `ppir serve`?")
    if ended.why == "late":
        return PeerError(
            f"{where} accepts the connection but does not answer within {timeout:g} seconds: is `ppir serve` running "
            "there, and is it busy?"
        )
    if ended.why == "tls":
        return _explain_alert(ended.detail, where, read_out)
    if shaken:
        return PeerError(
            f"{where} ended the connection before it greeted: perhaps it does not trust this site ({read_out}), or it "
            "was just stopped"
        )
    return PeerError(f"{where} hung up during the TLS handshake: it may be busy or being stopped; try again soon")


def _explain_alert(reason: str, where: str, read_out: str) -> PPIRError:
    if "alert" in reason and "expired" in reason:
        return TrustError(
            f"{where} takes this site's certificate for expired: compare the clocks, or run `ppir identity --renew`"
        )
    # 'internal error' is what the library sends when `judge` refuses a chain in which it found no fault.
    if "alert" in reason and any(word in reason for word in ("certificate", "unknown ca", "denied", "internal error")):
        return TrustError(f"{where}: the peer does not trust this site: {read_out}")
    if "protocol" in reason or "version" in reason:
        return PeerError(f"{where} does not speak TLS 1.3 ({reason}): is that the port of `ppir serve`?")
    return PeerError(f"{where}: the TLS handshake failed ({reason}): is that the port of `ppir serve`?")
