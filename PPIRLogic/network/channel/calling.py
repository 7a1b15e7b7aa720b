"""The caller's end of a handshake over a wire, and what a failed call means to the person who made it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PPIRLogic.errors import PeerError, PPIRError, TrustError
from PPIRLogic.network.channel.channel import Channel
from PPIRLogic.network.channel.handshake import introduce, make_engine
from PPIRLogic.network.channel.peer_certificate import CertificateCheck
from PPIRLogic.network.channel.timed_socket import ConnectionEnded, Wire
from PPIRLogic.network.channel.tls import Tls
from PPIRLogic.network.identity import Identity
from PPIRLogic.network.names import PEER
from PPIRLogic.network.trust import TrustStore


@dataclass(frozen=True)
class Call:
    """Whom a site calls, and as what.

    role: what the other side must be trusted as. service: the command that it is to run, for messages. start: whether
    the channel runs at once.
    """

    identity: Identity
    trust: TrustStore
    timeout: float = 10.0
    expected_fingerprint: str | None = None
    expected_name: str | None = None
    role: str = PEER
    service: str = "ppir serve"
    heartbeat: float = 1.0
    dead_after: float = 10.0
    start: bool = True

    def over(self, reach: Callable[[], Wire], where: str) -> Channel:
        """A channel over the wire that `reach` gives, which has a deadline. `where`: what it leads to, for messages."""
        check = CertificateCheck(self.trust, self.expected_fingerprint, self.expected_name, self.role)
        engine = make_engine(self.identity, self.trust, check)
        engine.set_connect_state()
        link = Tls(reach(), engine)
        shaken = False
        try:
            link.handshake()
            shaken = True
            return introduce(
                link, check, self.identity, where, server=False, heartbeat=self.heartbeat, dead_after=self.dead_after,
                start=self.start,
            )  # fmt: skip
        except BaseException as error:
            link.abandon()
            link.close()
            if isinstance(error, ConnectionEnded):
                args = check, self.identity, where, self.timeout, shaken, self.service
                raise _explain_call(error, *args) from None
            if isinstance(error, PPIRError):
                raise type(error)(f"{where}: {error}") from None
            raise


def _explain_call(
    ended: ConnectionEnded,
    certificate_check: CertificateCheck,
    identity: Identity,
    where: str,
    timeout: float,
    shaken: bool,
    service: str,
) -> PPIRError:
    """What a failed call means to the person who made it."""
    read_out = (
        f"read your fingerprint {identity.fingerprint} to the people there, so that they can run "
        f"`ppir trust add {identity.fingerprint}`"
    )
    if certificate_check.refusal:
        return TrustError(f"{where}: {certificate_check.refusal}")
    if ended.why == "not-tls":
        return PeerError(f"{where} answers, but not with TLS: is that the port of `{service}`?")
    if ended.why == "late":
        return PeerError(
            f"{where} accepts the connection but does not answer within {timeout:g} seconds: is `{service}` running "
            "there, and is it busy?"
        )
    if ended.why == "tls":
        return _explain_alert(ended.detail, where, read_out, service)
    if shaken:
        return PeerError(
            f"{where} ended the connection before it greeted: perhaps it does not trust this site ({read_out}), or it "
            "was just stopped"
        )
    return PeerError(f"{where} hung up during the TLS handshake: it may be busy or being stopped; try again soon")


def _explain_alert(reason: str, where: str, read_out: str, service: str) -> PPIRError:
    if "alert" in reason and "expired" in reason:
        return TrustError(
            f"{where} takes this site's certificate for expired: compare the clocks, or run `ppir identity --renew`"
        )
    # 'internal error' is what the library sends when `judge` refuses a chain in which it found no fault.
    if "alert" in reason and any(word in reason for word in ("certificate", "unknown ca", "denied", "internal error")):
        return TrustError(f"{where}: the peer does not trust this site: {read_out}")
    if "protocol" in reason or "version" in reason:
        return PeerError(f"{where} does not speak TLS 1.3 ({reason}): is that the port of `{service}`?")
    return PeerError(f"{where}: the TLS handshake failed ({reason}): is that the port of `{service}`?")
