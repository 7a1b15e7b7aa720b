"""A service: listens for other sites, one thread a connection, and hands every session to its method.

It knows a method only by what it offers to a peer and by the sessions that it makes; nothing here depends on what
those do. A method is named by the kind of the message that opens its sessions:

    peer                     service                          method
    info                →    asks every method                offers(peer)
    <opens> {…}         →    open_session, a place, run       Session: begin, run, close, end
    bye                 →    closes the connection
"""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from PPIRLogic.errors import BusyError, OutputError, PeerError, PPIRError, ProtocolError
from PPIRLogic.network.channel import MAX_HEADER, MAX_PAYLOAD, Channel, Listener, Message, Quotas
from PPIRLogic.network.identity import Identity
from PPIRLogic.network.messages import PROTOCOL_VERSION, send_error
from PPIRLogic.network.quota import RateLimit, in_seconds, network_of
from PPIRLogic.network.session_queue import SessionQueue
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.progress import CancelToken

TAKE_OVER = 20.0  # seconds for a former connection of the same session to end
INFOS, INFO_SECONDS = 60, 1.0  # questions of a peer for the offers at once, and then one every so many seconds
LINES_OF_NETWORK, LINES = (10, 30.0), (100, 60.0)  # of refused callers at once, and then one every so many seconds
TIDY_SECONDS = 60.0  # between looks at what has expired
Event = Callable[[dict[str, Any]], None]


class Session(Protocol):
    """One session of a method, made from the message that opens it, before it has a place.

    key: its name; a later connection with the same key takes it over. returns: it goes on for one that began already,
    and waits before all others.
    """

    key: str
    peer: str
    returns: bool

    def wait(self, before: int) -> None:
        """Hears that so many are before it."""

    def check(self) -> None:
        """Raises to give up waiting."""

    def check_again(self) -> None:
        """Raises if it cannot go on, now that the former connection of its key has ended."""

    def begin(self) -> None:
        """There is a place: grant the session, or raise."""

    def run(self) -> None:
        """Until the peer has finished."""

    def close(self) -> None:
        """Frees what it held; called in any case, before its place is given back."""

    def end(self) -> None:
        """After a `run` that ended in order, when the place is free again."""


class Method(ABC):
    """What one method of this site offers to others over a service.

    opens: the kind of the message that opens a session. Within one service no two methods have the same.
    """

    opens: str
    error: type[PPIRError] = PeerError
    stopped = "This site stopped serving."
    failed = "The other side failed on an internal error; its log has the time of it."
    max_payload = MAX_PAYLOAD  # bytes that a message of a session may carry
    patience = 600.0  # seconds from a peer's call to the message that opens its session, whatever it asks meanwhile

    @abstractmethod
    def offers(self, peer: str) -> dict[str, Any] | None:
        """What this peer may use, by name, for the answer to 'info'; None: this method answers no 'info'."""

    @abstractmethod
    def open_session(self, channel: Channel, message: Message) -> Session:
        """A session from the message that opens it; raises what can be refused before there is a place."""

    def describe(self, channel: Channel) -> dict[str, Any]:
        """What the log says of a connection that ended."""
        return {"peer": channel.peer_fingerprint, "peer_name": channel.peer_name}

    def left(self, channel: Channel) -> None:
        """Hears of every connection that is over."""

    def tidy(self) -> None:
        """Called once a minute: strike off what has expired."""

    def stop(self) -> None:
        """The service stops: its sessions are about to be ended."""

    def close(self) -> None:
        """The service was stopped."""


class Audit(Protocol):
    """Where a service writes what happens: maps without any content."""

    def log(self, event: str, **details: Any) -> None:
        """Put on record, then tell the owner."""

    def tell(self, event: str, **details: Any) -> None:
        """Tell the owner only."""


class UnrecordedAudit:
    """An `Audit` that keeps no record."""

    def __init__(self, on_event: Event) -> None:
        self._on_event = on_event

    def tell(self, event: str, **details: Any) -> None:
        self._on_event({"time": round(time.time(), 3), "event": event, **details})

    log = tell


class Refusals:
    """The lines of callers that did not get in: of one network, and of all together, so many; the others are counted in
    a later line. So no crowd fills the disk.
    """

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._of_network, self._of_all = RateLimit(*LINES_OF_NETWORK), RateLimit(*LINES)
        self._left_out = 0
        self._lock = threading.Lock()

    def log(self, address: str, reason: str) -> None:
        network = network_of(address.rpartition(":")[0].strip("[]"))
        with self._lock:
            if self._of_network.take(network) or self._of_all.take(""):
                self._left_out += 1
                return
        more = self._take_left_out()
        self._audit.log("refused connection", address=address, reason=f"{reason} (and {more} more)" if more else reason)

    def tidy(self) -> None:
        """A line for those left out at last, as soon as there may be one."""
        if self._left_out and not self._of_all.take(""):
            self._audit.log("refused connection", address="", reason=f"{self._take_left_out()} more callers")

    def _take_left_out(self) -> int:
        with self._lock:
            more, self._left_out = self._left_out, 0
        return more


class Service:
    """Listens until `stop`. A fault ends its session only.

    address: 'host:port' (port 0: any free one), or '@host:port': wait at the relay there.
    max_sessions: at once, of all methods; sessions_of_peer: of one peer
    (0: all but one of these, one at least); queue: how many more may wait. details: what the event 'listening' says
    besides the address. quotas: what one caller may have of the listener.
    Errors: PeerError (port in use), and what the audit raises.
    """

    def __init__(
        self,
        address: str,
        identity: Identity,
        trust: TrustStore,
        methods: Sequence[Method],
        audit: Audit,
        *,
        max_sessions: int = 3,
        queue: int = 8,
        sessions_of_peer: int = 0,
        details: dict[str, Any] | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        self.methods = {method.opens: method for method in methods}
        if len(self.methods) != len(methods):
            raise ValueError("Two methods of one service open their sessions with the same message.")
        self._first = methods[0]
        self.audit = audit
        self._queue = SessionQueue(max_sessions, queue, sessions_of_peer)
        self._infos = RateLimit(INFOS, INFO_SECONDS)
        self._refusals = Refusals(audit)
        self._running: dict[str, tuple[Channel, threading.Event]] = {}  # by a session's key
        self._channels: set[Channel] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        with contextlib.ExitStack() as undo:
            for method in methods:
                undo.callback(method.close)
            # before it has a place, a peer has nothing to say that takes room
            self.listener = Listener(
                address, identity, trust, on_refused=self._refusals.log, quotas=quotas, max_payload=MAX_HEADER,
                on_relay=self._tell_of_relay,
            )  # fmt: skip
            undo.callback(self.listener.close)
            self.audit.log("listening", address=self.listener.address, **(details or {}))
            undo.pop_all()

    def _tidy(self) -> None:
        for method in self.methods.values():
            with contextlib.suppress(PPIRError, OSError):  # a full disk ends no service
                method.tidy()
        with contextlib.suppress(PPIRError):
            self._refusals.tidy()

    def run(self) -> None:
        tidied = time.monotonic()
        while not self._stopping.is_set():
            channel = self.listener.accept(0.5)
            if time.monotonic() - tidied > TIDY_SECONDS:
                tidied = time.monotonic()
                self._tidy()
            if channel is not None:
                threading.Thread(target=self.serve_connection, args=(channel,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening and end every session; the other sides are told."""
        self._stopping.set()
        for method in self.methods.values():
            method.stop()
        self.listener.close()
        with self._lock:
            channels = list(self._channels)
        for channel in channels:
            send_error(channel, self._first.error(self._first.stopped))
        try:
            self.audit.log("stopped")
        finally:
            for method in self.methods.values():
                method.close()

    def serve_connection(self, channel: Channel) -> None:
        """One connection from its first message to its end."""
        method = self._first
        until = time.monotonic() + max(m.patience for m in self.methods.values())
        with self._lock:
            self._channels.add(channel)
        try:
            while not self._stopping.is_set():
                message = channel.receive(max(0.0, until - time.monotonic()))
                if message.kind in self.methods:
                    method = self.methods[message.kind]
                    self._session(method, channel, message)
                    return
                if message.kind == "bye":
                    return
                self._tell_offers(channel, message)
        except PPIRError as error:
            self._log_end("session ended", f"{type(error).__name__}: {error}", method.describe(channel))
            send_error(channel, error)
        except Exception as error:  # a bug must not take other sessions down, nor tell the peer more than that
            self._log_end("session failed", type(error).__name__, method.describe(channel))
            send_error(channel, method.error(method.failed))
            if not isinstance(error, (MemoryError, OSError)):
                raise
        finally:
            with self._lock:
                self._channels.discard(channel)
            method.left(channel)
            channel.close()
            # the parts of a session refer to each other in rings: its keys and operands go now, not at some time
            gc.collect()

    def _tell_of_relay(self, text: str) -> None:
        with contextlib.suppress(PPIRError):  # a full disk ends no service
            self.audit.log("relay", text=text)

    def _tell_offers(self, channel: Channel, message: Message) -> None:
        offers = [method.offers(channel.peer_fingerprint) for method in self.methods.values()]
        if message.kind != "info" or all(offer is None for offer in offers):
            raise ProtocolError(f"'{message.kind}' came before a session was opened.")
        peer = channel.peer_fingerprint
        if wait := self._infos.take(peer):
            raise BusyError(f"This site has asked for the offers too often; ask again {in_seconds(wait)}.")
        self.audit.log("info", peer=peer, peer_name=channel.peer_name)
        answer: dict[str, Any] = {"version": PROTOCOL_VERSION}
        for offer in offers:
            answer |= offer or {}
        channel.send("info", answer)

    def _log_end(self, event: str, reason: str, peer: dict[str, Any]) -> None:
        """A full disk must not keep the end of a session from the people who look at the screen."""
        try:
            self.audit.log(event, reason=reason, **peer)
        except OutputError as error:
            self.audit.tell(event, reason=f"{reason} ({error})", **peer)

    def _session(self, method: Method, channel: Channel, message: Message) -> None:
        session = method.open_session(channel, message)
        ended = threading.Event()
        try:
            self._take_over(session, channel, ended)
            self._queue.take(session.peer, session.wait, session.check, session.returns)
            try:
                channel.accept_payloads(method.max_payload)
                session.begin()
                session.run()
            finally:
                session.close()
                self._queue.give_back(session.peer)
            session.end()
        finally:
            ended.set()
            with self._lock:
                if self._running.get(session.key, (None, ended))[1] is ended:
                    self._running.pop(session.key, None)

    def _take_over(self, session: Session, channel: Channel, ended: threading.Event) -> None:
        """Note what runs; the former connection of a session that goes on is ended first, with all that it counts."""
        with self._lock:
            former = self._running.get(session.key)
            self._running[session.key] = (channel, ended)
        if former is not None:
            former[0].close()
            if not former[1].wait(TAKE_OVER):
                raise BusyError("The former connection of this session is still at work; try again soon.")
            session.check_again()


class Running(Protocol):
    """What `run_until` runs."""

    def run(self) -> None:
        """Until `stop`."""

    def stop(self) -> None: ...


def run_until(service: Running, cancel: CancelToken) -> None:
    """Run a service until it is cancelled; blocks."""
    thread = threading.Thread(target=service.run, daemon=True)
    thread.start()
    try:
        while not cancel.wait(0.2):
            pass
    finally:
        service.stop()
        thread.join(5)
