"""Listening for other sites."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakSet

from PPIRLogic.errors import BusyError, PPIRError
from PPIRLogic.network.channel.channel import Channel
from PPIRLogic.network.channel.frames import MAX_PAYLOAD
from PPIRLogic.network.channel.handshake import introduce, make_engine
from PPIRLogic.network.channel.peer_certificate import CertificateCheck
from PPIRLogic.network.channel.sources import open_source
from PPIRLogic.network.channel.timed_socket import ConnectionEnded, Wire
from PPIRLogic.network.channel.tls import Tls
from PPIRLogic.network.identity import Identity
from PPIRLogic.network.quota import RateLimit, in_seconds, network_of
from PPIRLogic.network.trust import TrustStore

_SLOW = 2.0  # seconds after which a handshake may lose its place to another caller
_REPORTS, _REPORT_SECONDS = 30, 10.0
_AGAIN = 10.0  # seconds after which a peer with all of its connections is told to try again


@dataclass(frozen=True)
class Quotas:
    """What one caller may have of a listener. A caller counts by `key` of its host until it has shown who it is, then
    by its fingerprint.

    handshakes: in progress. greetings, greeting_seconds: handshakes that fail or are left, at once, and then one every
    so many seconds; one that gets in does not count, unless its peer calls more often than calls, call_seconds say in
    the same way. connections: of a peer.
    """

    handshakes: int = 32
    greetings: int = 64
    greeting_seconds: float = 0.125
    calls: int = 200
    call_seconds: float = 0.2
    connections: int = 16
    key: Callable[[str], str] = network_of


class Listener:
    """Waits for callers at an address ('@host:port': at a relay) and hands over those that are trusted.

    Handshakes run in threads of their own, at most `max_pending` at a time and each within `handshake_timeout`
    seconds; together with the open channels there are at most `max_connections`. What one caller may have of these is
    in `quotas`. A caller beyond its own, or beyond all, takes the place of one that has said nothing or has been at it
    for seconds: of its own network in the first case, in the second of the network that holds most. If there is none
    it is hung up on. Both are counted in `turned_away`. `on_refused(remote address, reason)` hears of those who did not
    get in, but not of more than 30 in 10 seconds (then of how many there were); it is called from several threads.
    """

    def __init__(
        self,
        address: str,
        identity: Identity,
        trust: TrustStore,
        *,
        on_refused: Callable[[str, str], None] | None = None,
        max_pending: int = 64,
        max_connections: int = 128,
        handshake_timeout: float = 10.0,
        heartbeat: float = 1.0,
        dead_after: float = 10.0,
        quotas: Quotas | None = None,
        max_payload: int = MAX_PAYLOAD,
        start: bool = True,
        on_relay: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`max_payload`: bytes that a message may carry until `Channel.accept_payloads` says otherwise. `start`:
        whether channels run when they are handed over. `on_relay` hears, in words, of the line to a relay.
        """
        self._max_payload, self._start = max_payload, start
        self._quotas = quotas = quotas or Quotas()
        self._greetings = RateLimit(quotas.greetings, quotas.greeting_seconds)
        self._calls = RateLimit(quotas.calls, quotas.call_seconds)
        self._identity = identity
        self._trust = trust
        self._on_refused = on_refused
        self._max_pending = max_pending
        self._max_connections = max_connections
        self._handshake_timeout = handshake_timeout
        self._heartbeat = heartbeat
        self._dead_after = dead_after
        self.turned_away = 0
        self._source = open_source(address, identity, trust, on_relay)
        self.address = self._source.address
        self.port = int(self.address.rpartition(":")[2])
        self._state = threading.Condition()  # guards everything below
        self._closed = False
        self._pending: dict[threading.Thread, Wire] = {}
        self._open = 0  # sockets that are not closed yet, pending ones included
        self._ready: deque[Channel] = deque()
        self._entering: Counter[str] = Counter()  # peers that have shown who they are
        self._inside: dict[str, WeakSet[Channel]] = {}  # and their channels
        self._window, self._reported, self._unreported = 0.0, 0, 0  # of reports
        self._thread = threading.Thread(target=self._listen, name="ppir-listener", daemon=True)
        self._thread.start()

    def accept(self, timeout: float) -> Channel | None:
        """The next caller that got in; None if there is none within `timeout` seconds or the listener is closed."""
        with self._state:
            self._state.wait_for(lambda: self._ready or self._closed, timeout)
            return self._ready.popleft() if self._ready and not self._closed else None

    def close(self) -> None:
        """Listen no longer and hang up on those who wait; channels already handed over stay open."""
        with self._state:
            self._closed = True
            self._state.notify_all()
            pending, waiting = dict(self._pending), list(self._ready)
            self._ready.clear()
        for wire in pending.values():
            wire.stop()
        for channel in waiting:
            channel.close()
        for thread in (self._thread, *pending):
            if thread is not threading.current_thread():
                thread.join(2.0)
        self._source.close()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self) -> None:
        while not self._closed:
            caller = self._source.accept()
            if caller is None:
                continue
            wire, where, host = caller
            wire.patience, wire.caller = self._handshake_timeout, self._quotas.key(host)
            problem = self._admit(wire, where)
            if problem:
                wire.close()
                self.turned_away += 1
                self._report(where, problem)

    def _admit(self, wire: Wire, where: str) -> str:
        """Start the handshake in a thread; returns why not, '' if it was started."""
        network = wire.caller
        thread = threading.Thread(target=self._receive_caller, args=(wire, where), name="ppir-handshake", daemon=True)
        with self._state:
            if self._closed:
                return "this site is being stopped"
            if wait := self._greetings.wait(network):
                return _too_many_greetings(wait)
            own = sum(other.caller == network for other in self._pending.values())
            if own >= self._quotas.handshakes and not self._make_room(network):
                return f"{own} callers from its network are already in their handshakes"
            if len(self._pending) >= self._max_pending and not self._make_room(self._busiest(own), crowd=True):
                return f"{self._max_pending} callers are already in their handshakes"
            if self._open >= self._max_connections:
                return f"{self._max_connections} connections are already open"
            self._pending[thread] = wire
            self._open += 1
            thread.start()
        return ""

    def _busiest(self, own: int) -> str:
        """The network that has most handshakes, if these are more than a newcomer's own; else any ('')."""
        network, most = Counter(wire.caller for wire in self._pending.values()).most_common(1)[0]
        return network if most > own + 1 else ""

    def _make_room(self, network: str, crowd: bool = False) -> bool:
        """Give up the silent caller of a network ('': of any) that came first, or one at it for seconds; where the
        network crowds others out, else any.

        Whoever means it speaks at once, so a crowd that only holds places keeps nobody out. Called with the lock.
        """
        latest = time.monotonic() + self._handshake_timeout - _SLOW
        held = [(t, wire) for t, wire in self._pending.items() if network in ("", wire.caller)]
        silent = (t for t, wire in held if wire.received == 0)
        slow = (t for t, wire in held if wire.deadline is not None and wire.deadline < latest)
        any_of_a_crowd = (t for t, _ in held if crowd and network)
        thread = next(silent, None) or next(slow, None) or next(any_of_a_crowd, None)
        if thread is None:
            return False
        self._pending.pop(thread).stop()
        self._open -= 1
        self.turned_away += 1
        return True

    def _receive_caller(self, wire: Wire, where: str) -> None:
        channel, reason = None, ""
        try:
            channel, reason = self._shake_hands(wire, where)
        except Exception as bug:  # one caller must not be able to end the service
            reason = f"the handshake failed inside this program ({type(bug).__name__})"
        if channel is None:
            wire.close()
        with self._state:
            crowded_out = self._pending.pop(threading.current_thread(), None) is None
            if channel is None:
                self._open -= 0 if crowded_out else 1
            elif not self._closed:
                self._ready.append(channel)
                channel = None
            self._state.notify_all()
        if channel is not None:
            channel.close()  # the listener was closed meanwhile
        if reason:
            crowded = crowded_out and not self._closed
            self._report(where, "it held a place without using it while others waited" if crowded else reason)

    def _shake_hands(self, wire: Wire, where: str) -> tuple[Channel | None, str]:
        """A channel, or None and why not."""
        wire.deadline = time.monotonic() + self._handshake_timeout
        link: Tls | None = None
        certificate_check = CertificateCheck(self._trust, None, None)
        try:
            wire.wait_for_bytes()  # before any work is done for the caller
            if wait := self._greetings.take(wire.caller):
                return None, _too_many_greetings(wait)
            engine = make_engine(self._identity, self._trust, certificate_check)
            engine.set_accept_state()
            link = Tls(wire, engine)
            link.handshake()
            wire.patience = self._dead_after
            channel, reason = self._let_in(link, certificate_check, where)
            if channel is not None and not self._calls.take(channel.peer_fingerprint):
                self._greetings.give_back(wire.caller)
            return channel, reason
        except ConnectionEnded as ended:
            reason = _explain_caller(ended, certificate_check, self._handshake_timeout)
        except PPIRError as error:
            reason = str(error)
        if link is not None:
            link.abandon()
        return None, "" if self._is_own_call(certificate_check, where) else reason

    def _is_own_call(self, certificate_check: CertificateCheck, where: str) -> bool:
        """Whether this machine asked with this site's own certificate, as a health check does: that gets no further
        than the handshake, and would fill the log."""
        host = where.rpartition(":")[0].strip("[]")
        here = host.startswith("127.") or host in ("::1", self.address.rpartition(":")[0].strip("[]"))
        return here and certificate_check.fingerprint == self._identity.fingerprint

    def _let_in(self, link: Tls, certificate_check: CertificateCheck, where: str) -> tuple[Channel | None, str]:
        """A channel for a caller that has shown who it is, or None and why not, which it is told."""
        peer, most = certificate_check.fingerprint, self._quotas.connections
        with self._state:
            # one that has said goodbye is on its way out and does not count
            live = [c for c in self._inside.get(peer, ()) if not c.interrupted]
            self._inside[peer] = WeakSet(live)
            has_room = len(live) + self._entering[peer] < most
            self._entering[peer] += has_room
        try:
            channel = introduce(
                link, certificate_check, self._identity, where, server=True,
                on_end=self._one_less if has_room else None, max_payload=self._max_payload,
                heartbeat=self._heartbeat, dead_after=self._dead_after, start=self._start or not has_room,
            )  # fmt: skip
            if has_room:
                with self._state:
                    self._inside[peer].add(channel)
                return channel, ""
        finally:
            with self._state:
                self._entering[peer] -= has_room
        text = (
            f"{most} connections of this site are open there already, the most that one site may have: close one, or"
            f" try again {in_seconds(_AGAIN)}"
        )
        channel.close("error", {"error": BusyError.__name__, "text": text})
        return None, f"{most} connections of {certificate_check.known_as} ({peer}) are already open"

    def _one_less(self) -> None:
        with self._state:
            self._open -= 1

    def _report(self, where: str, reason: str) -> None:
        with self._state:
            now = time.monotonic()
            if now - self._window > _REPORT_SECONDS:
                self._window, self._reported = now, 0
            self._reported += 1
            if self._reported > _REPORTS:  # a crowd must not keep the owner's program busy with lines
                self._unreported += 1
                return
            if self._unreported:
                reason += f" (and {self._unreported} more callers since the line before)"
                self._unreported = 0
        if self._on_refused is not None:
            with contextlib.suppress(Exception):  # a log that cannot be written must not end the service
                self._on_refused(where, reason)


def _too_many_greetings(wait: float) -> str:
    return f"too many handshakes from its network failed; the next is possible {in_seconds(wait)}"


def _explain_caller(ended: ConnectionEnded, certificate_check: CertificateCheck, timeout: float) -> str:
    """Why a caller did not get in, as one line for the listener's log."""
    if certificate_check.refusal:
        return certificate_check.refusal
    if ended.why == "late":
        return f"it did not finish the handshake within {timeout:g} seconds"
    if ended.why == "not-tls":
        return "it does not speak TLS"
    if ended.why == "tls":
        if "did not return a certificate" in ended.detail:
            return "it showed no certificate"
        if "protocol" in ended.detail or "version" in ended.detail:
            return f"it does not offer TLS 1.3 ({ended.detail})"
        if "alert" in ended.detail:
            return f"it ended the handshake, most likely because it does not trust this site ({ended.detail})"
        return f"the TLS handshake failed ({ended.detail})"
    if ended.why == "stopped":
        return "this site is being stopped"
    return "it hung up during the handshake"
