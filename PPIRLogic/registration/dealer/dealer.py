"""The dealer of the mpc protocol: correlated randomness for two parties, and nothing else.

It holds one channel per party and a key per party and session. It learns sizes, levels and evaluations; it never
sees an image, a masked value or a share of a result. Run it at a third site: a dealer that colludes with either
party, or shares its storage or logs, opens everything.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PPIRLogic.errors import DealerError, ProtocolError
from PPIRLogic.network.channel import MAX_HEADER, Channel, Message
from PPIRLogic.network.identity import Identity
from PPIRLogic.network.messages import DEALER, PROTOCOL_VERSION, Fields, check_version
from PPIRLogic.network.quota import in_seconds
from PPIRLogic.network.service import Event, Method, Service, UnrecordedAudit
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.registration.dealer.joining import JOIN_TIMEOUT
from PPIRLogic.registration.dealer.orders import CcOrder, Order, parts_of, read_order
from PPIRLogic.secure.mpc.triple_products import Factored
from PPIRLogic.secure.prg import new_key

MAX_SESSIONS = 16
JOINS_OF_A_PEER = MAX_SESSIONS // 2
IDLE_TIMEOUT = 3600.0
LARGE = 2**22  # samples of an order
ORDER_TIMEOUT = 300.0  # seconds for one order; nobody waits longer for its answer


@dataclass
class Joined:
    """Two parties that named the same session and each other."""

    keys: tuple[bytes, bytes]
    channels: dict[int, Channel] = field(default_factory=dict)
    peers: dict[int, tuple[str, str]] = field(default_factory=dict)  # role → (own, other's) fingerprint
    until: float = field(default_factory=lambda: time.monotonic() + JOIN_TIMEOUT)  # by the first of them
    complete: threading.Event = field(default_factory=threading.Event)


class Dealing(Method):
    """Dealing as the method of a service: two connections that name the same session, one for each party."""

    opens = "join"
    error = DealerError
    stopped = "The dealer was stopped."
    failed = "The dealer failed on an internal error; its log has the time of it."
    patience = JOIN_TIMEOUT
    max_payload = MAX_HEADER

    def __init__(self, audit: UnrecordedAudit, joins_of_peer: int = JOINS_OF_A_PEER) -> None:
        """joins_of_peer: connections in a session, or waiting for the other party, of one peer at once."""
        self.audit = audit
        self._joins_of_peer = joins_of_peer
        self.at_work = threading.Lock()  # on a large order
        self.sessions: dict[bytes, Joined] = {}
        self.stopping = threading.Event()
        self._names: dict[Channel, bytes] = {}
        self._lock = threading.Lock()

    def offers(self, peer: str) -> None:
        """Nothing: a dealer is named by the two parties."""

    def open_session(self, channel: Channel, message: Message) -> DealerSession:
        """The party's connection joins its session; DealerError unless the two name each other."""
        f = Fields(message.data, self.opens)
        check_version(message.data, self.opens, DEALER, "the site that calls it")
        name, role, other = f.raw("session", 32), f.integer("role", 1, 2), f.text("other", 64)
        with self._lock:
            session = self._join(channel, name, role, other)
        self.audit.tell("joined", session=name.hex()[:16], party=role)
        return DealerSession(self, channel, session, role, name)

    def _join(self, channel: Channel, name: bytes, role: int, other: str) -> Joined:
        session, own = self.sessions.get(name), (channel.peer_fingerprint, other)
        if session is None and len(self.sessions) >= MAX_SESSIONS:
            raise DealerError(f"This dealer serves as many sessions as it can; try again {in_seconds(JOIN_TIMEOUT)}.")
        if session is not None and role in session.channels:
            raise DealerError("This party joined the session already.")
        if session is not None and session.peers and own[::-1] not in session.peers.values():
            raise DealerError("The two parties of this session do not name each other.")
        peer = channel.peer_fingerprint
        # one that has said goodbye is on its way out
        if sum(c.peer_fingerprint == peer and not c.interrupted for c in self._names) >= self._joins_of_peer:
            raise DealerError(
                f"This dealer serves {self._joins_of_peer} sessions of this site, the most that one may have there; try"
                f" again {in_seconds(JOIN_TIMEOUT)}."
            )
        if session is None:
            session = self.sessions[name] = Joined((new_key(), new_key()))
        session.channels[role], session.peers[role] = channel, own
        self._names[channel] = name
        if len(session.channels) == 2:
            session.complete.set()
        return session

    def describe(self, channel: Channel) -> dict[str, Any]:
        return {"session": self._names.get(channel, b"").hex()[:16]}

    def left(self, channel: Channel) -> None:
        """A session ends for both parties when one has left."""
        with self._lock:
            session = self.sessions.pop(self._names.pop(channel, b""), None)
        if session is not None:
            for other in session.channels.values():
                other.close("error", {"error": "DealerError", "text": "The other party left the session."})

    def stop(self) -> None:
        self.stopping.set()


class DealerSession:
    """One party's connection (a `Session` of the service)."""

    returns = False

    def __init__(self, dealing: Dealing, channel: Channel, joined: Joined, role: int, name: bytes) -> None:
        self._dealing, self.channel, self.joined, self._role = dealing, channel, joined, role
        self.key, self.peer = f"{name.hex()}/{role}", channel.peer_fingerprint

    def wait(self, before: int) -> None:
        """There is a place for every session that `open_session` lets in."""

    def check(self) -> None:
        if self._dealing.stopping.is_set():
            raise DealerError(Dealing.stopped)

    check_again = end = close = lambda self: None

    def begin(self) -> None:
        """Wait for the other party, then give this one its key."""
        while not self.joined.complete.wait(0.2):
            self.check()
            if self.channel.interrupted or time.monotonic() > self.joined.until:
                raise DealerError("The other party did not join this session at the dealer in time.")
        self.channel.send("joined", {"key": self.joined.keys[self._role - 1], "version": PROTOCOL_VERSION})

    def run(self) -> None:
        if self._role == 1:
            self.deal()
        else:
            while not self.channel.interrupted and not self._dealing.stopping.is_set():
                time.sleep(0.2)

    def _while_wanted(self) -> Callable[[], None]:
        """A check that ends the work on an order nobody waits for any more."""
        deadline = time.monotonic() + ORDER_TIMEOUT

        def check() -> None:
            self.check()
            if self.channel.interrupted or time.monotonic() > deadline:
                raise DealerError("The party that gave an order is gone, or the order is too large.")

        return check

    def deal(self) -> None:
        """Answer party 1's orders with correlations to party 2; every (level, evaluation) once."""
        used: set[tuple[int, int, str]] = set()
        while not self._dealing.stopping.is_set():
            message = self.channel.receive(IDLE_TIMEOUT)
            if message.kind in ("bye", "error"):
                return
            order = read_order(message.data)
            name = (order.level, order.evaluation, order.round)
            if name in used:
                raise ProtocolError("This evaluation's randomness was dealt already; it is never dealt twice.")
            used.add(name)
            self._answer(order)

    def _answer(self, order: Order | Factored | CcOrder) -> None:
        with self._place_for(order):
            numbers = order.correlation(*self.joined.keys, self._while_wanted()).astype("<i8", copy=False)
        for where, part in parts_of(order, numbers):
            self.joined.channels[2].send("correlation", where, part.data)

    @contextmanager
    def _place_for(self, order: Order | Factored | CcOrder) -> Iterator[None]:
        """An order of a hundred bytes may take gigabytes to answer, so large ones are worked on one by one."""
        if order.samples < LARGE:
            yield
            return
        check = self._while_wanted()
        while not self._dealing.at_work.acquire(timeout=0.2):
            check()
        try:
            yield
        finally:
            self._dealing.at_work.release()


class Dealer(Service):
    """The service of a dealer. Listens until `stop`.

    Errors: PeerError (port in use).
    """

    def __init__(self, address: str, identity: Identity, home: Path, on_event: Event = lambda event: None) -> None:
        audit = UnrecordedAudit(on_event)
        self.dealing = Dealing(audit)
        super().__init__(
            address, identity, TrustStore(home), [self.dealing], audit, max_sessions=2 * MAX_SESSIONS, queue=0,
            sessions_of_peer=2 * MAX_SESSIONS,
        )  # fmt: skip
