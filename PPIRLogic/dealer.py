"""The dealer of the mpc protocol: correlated randomness for two parties, and nothing else.

It holds one channel per party and a key per party and session. It learns sizes, levels and evaluations; it never
sees an image, a masked value or a share of a result. Run it at a third site: a dealer that colludes with either
party, or shares its storage or logs, opens everything.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import DealerError, PPIRError, ProtocolError
from PPIRLogic.losses.cc import FORCE_BITS, SUM_BITS
from PPIRLogic.peer.channel import MAX_PAYLOAD, Channel, Listener, connect
from PPIRLogic.peer.identity import Identity
from PPIRLogic.peer.messages import (
    DEALER,
    PARTY_1,
    PARTY_2,
    PROTOCOL_VERSION,
    Fields,
    check_version,
    error_from,
    send_error,
    wait_for_message,
)
from PPIRLogic.peer.trust import TrustStore
from PPIRLogic.secure.base import CHUNK, GROUP, Term, group_size, numbers_of
from PPIRLogic.secure.cc_masks import MOST_SAMPLES, ROUNDS, correlation
from PPIRLogic.secure.cc_shares import SLAB
from PPIRLogic.secure.factors import Factored
from PPIRLogic.secure.knots import KnotMap
from PPIRLogic.secure.masks import mask_of_columns, mask_of_operand, share_of_product
from PPIRLogic.secure.prg import KEY_BYTES, new_key
from PPIRLogic.secure.sums import products

MAX_SESSIONS = 8
PART = MAX_PAYLOAD // 8  # numbers in one message
MAX_COLUMNS = 256
MAX_OUTPUTS = 64
JOIN_TIMEOUT = 60.0
IDLE_TIMEOUT = 3600.0
ORDER_TIMEOUT = 300.0  # seconds for one order; nobody waits longer for its answer
Event = Callable[[dict[str, Any]], None]


@dataclass
class _Session:
    """Two parties that named the same session and each other."""

    keys: tuple[bytes, bytes]
    channels: dict[int, Channel] = field(default_factory=dict)
    peers: dict[int, tuple[str, str]] = field(default_factory=dict)  # role → (own, other's) fingerprint
    complete: threading.Event = field(default_factory=threading.Event)


class Dealer:
    """Serves sessions until `stop`. One thread per party; a fault ends its session only."""

    def __init__(self, address: str, identity: Identity, home: Path, on_event: Event = lambda event: None) -> None:
        self._on_event = on_event
        self.listener = Listener(address, identity, TrustStore(home), on_refused=self._refused)
        self._sessions: dict[bytes, _Session] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._tell("listening", address=self.listener.address)

    def _tell(self, event: str, **details: Any) -> None:
        self._on_event({"time": round(time.time(), 3), "event": event, **details})

    def _refused(self, address: str, reason: str) -> None:
        self._tell("refused connection", address=address, reason=reason)

    def run(self) -> None:
        while not self._stopping.is_set():
            channel = self.listener.accept(0.5)
            if channel is not None:
                threading.Thread(target=self._serve, args=(channel,), daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()
        self.listener.close()
        with self._lock:
            for session in self._sessions.values():
                for channel in session.channels.values():
                    channel.close("error", {"error": "DealerError", "text": "The dealer was stopped."})

    def _serve(self, channel: Channel) -> None:
        session_id = b""
        try:
            session_id, role, session = self._join(channel)
            self._await_other(channel, session)
            channel.send("joined", {"key": session.keys[role - 1], "version": PROTOCOL_VERSION})
            if role == 1:
                self._deal(channel, session)
            else:
                while not channel.interrupted and not self._stopping.is_set():
                    time.sleep(0.2)
        except PPIRError as error:
            self._tell("session ended", session=session_id.hex()[:16], reason=f"{type(error).__name__}: {error}")
            send_error(channel, error)
        except Exception as error:  # a bug must not take other sessions down, nor tell the peer more than that
            self._tell("session failed", session=session_id.hex()[:16], reason=type(error).__name__)
            send_error(channel, DealerError("The dealer failed on an internal error; its log has the time of it."))
        finally:
            self._leave(session_id)
            channel.close()

    def _await_other(self, channel: Channel, session: _Session) -> None:
        deadline = time.monotonic() + JOIN_TIMEOUT
        while not session.complete.wait(0.2):
            self._check()
            if channel.interrupted or time.monotonic() > deadline:
                raise DealerError("The other party did not join this session at the dealer in time.")

    def _join(self, channel: Channel) -> tuple[bytes, int, _Session]:
        message = channel.receive(JOIN_TIMEOUT)
        f = Fields(message.data, "join")
        if message.kind != "join":
            raise ProtocolError(f"Expected 'join', got '{message.kind}'.")
        check_version(message.data, "join", DEALER, "the site that calls it")
        name, role, other = f.raw("session", 32), f.integer("role", 1, 2), f.text("other", 64)
        with self._lock:
            session = self._sessions.get(name)
            if session is None:
                if len(self._sessions) >= MAX_SESSIONS:
                    raise DealerError("This dealer serves as many sessions as it can; try again later.")
                session = self._sessions[name] = _Session((new_key(), new_key()))
            if role in session.channels:
                raise DealerError("This party joined the session already.")
            own = (channel.peer_fingerprint, other)
            if session.peers and own[::-1] not in session.peers.values():
                raise DealerError("The two parties of this session do not name each other.")
            session.channels[role], session.peers[role] = channel, own
            if len(session.channels) == 2:
                session.complete.set()
        self._tell("joined", session=name.hex()[:16], party=role)
        return name, role, session

    def _leave(self, name: bytes) -> None:
        with self._lock:
            session = self._sessions.pop(name, None)
        if session is not None:
            for channel in session.channels.values():
                channel.close("error", {"error": "DealerError", "text": "The other party left the session."})

    def _check(self) -> None:
        if self._stopping.is_set():
            raise DealerError("The dealer was stopped.")

    def _while_wanted(self, channel: Channel) -> Callable[[], None]:
        """A check that ends the work on an order nobody waits for any more."""
        deadline = time.monotonic() + ORDER_TIMEOUT

        def check() -> None:
            self._check()
            if channel.interrupted or time.monotonic() > deadline:
                raise DealerError("The party that gave an order is gone, or the order is too large.")

        return check

    def _deal(self, channel: Channel, session: _Session) -> None:
        """Answer party 1's orders with correlations to party 2; every (level, evaluation) once."""
        used: set[tuple[int, int, str]] = set()
        while not self._stopping.is_set():
            message = channel.receive(IDLE_TIMEOUT)
            if message.kind in ("bye", "error"):
                return
            order = read_order(message.data)
            name = (order.level, order.evaluation, order.round)
            if name in used:
                raise ProtocolError("This evaluation's randomness was dealt already; it is never dealt twice.")
            used.add(name)
            numbers = order.correlation(*session.keys, self._while_wanted(channel)).astype("<i8", copy=False)
            for where, part in parts_of(order, numbers):
                session.channels[2].send("correlation", where, part.data)


@dataclass(frozen=True)
class Order:
    """One evaluation's shape: all the dealer is told."""

    level: int
    evaluation: int
    samples: int
    columns: int
    terms: tuple[tuple[int, str], ...]
    outputs: int = 1
    knots: KnotMap | None = None
    round: ClassVar[str] = ""

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Order:
        f = Fields(data, "order")
        columns = f.integer("columns", 1, MAX_COLUMNS)
        terms = []
        for item in f.items("terms", 4 * MAX_COLUMNS):
            if not (isinstance(item, (list, tuple)) and len(item) == 2):
                raise ProtocolError("Field 'terms' of 'order' must hold pairs.")
            pair = Fields({"column": item[0], "operand": item[1]}, "order")
            terms.append((pair.integer("column", 0, columns - 1), pair.text("operand", 16)))
        if not terms:
            raise ProtocolError("Field 'terms' of 'order' is empty.")
        where = f.integer("level", 0, 64), f.integer("evaluation", 0, 10**6)
        samples = f.integer("samples", 1, 2**31)
        if rows := data.get("knots"):
            knots = _knot_map(rows, samples)
            if len(terms) > len(knots.axes):
                raise ProtocolError("An order by knot has one term per axis at most.")
            return cls(*where, samples, columns, tuple(terms), knots=knots)
        outputs = f.integer("outputs", 1, MAX_OUTPUTS)
        if outputs & (outputs - 1) or (outputs > 1 and samples % CHUNK):
            raise ProtocolError("Field 'outputs' of 'order' must be a power of two, over whole chunks.")
        return cls(*where, samples, columns, tuple(terms), outputs)

    def correlation(
        self, first_key: bytes, second_key: bytes, check: Callable[[], None] = lambda: None
    ) -> NDArray[np.int64]:
        """c2 = a·b − c1 for every number, (numbers,) int64 modulo 2^64. `check` may raise between blocks."""
        if self.knots is not None:
            return self._by_knot(self.knots, first_key, second_key, check)
        terms = [Term(column, operand, "", self.outputs) for column, operand in self.terms]
        total = -share_of_product(first_key, self.level, self.evaluation, numbers_of(terms))
        for group in range(-(-self.samples // GROUP)):
            check()
            count = group_size(self.samples, group)
            a = mask_of_columns(first_key, self.level, self.evaluation, group, self.columns, count // self.outputs)
            b = {o: mask_of_operand(second_key, self.level, o, group, count) for o in {t[1] for t in self.terms}}
            total += products(a, b, terms)
        return total

    def _by_knot(
        self, knots: KnotMap, first_key: bytes, second_key: bytes, check: Callable[[], None]
    ) -> NDArray[np.int64]:
        """The same where a and b meet voxel by voxel, and a public map makes the numbers."""
        values = np.zeros((len(self.terms), self.samples), np.int64)
        for group in range(-(-self.samples // GROUP)):
            check()
            count = group_size(self.samples, group)
            a = mask_of_columns(first_key, self.level, self.evaluation, group, self.columns, count)
            for i, (column, operand) in enumerate(self.terms):
                b = mask_of_operand(second_key, self.level, operand, group, count)
                np.multiply(a[column], b, out=values[i, group * GROUP : group * GROUP + count])
        total = np.concatenate([knots.sums(v) for v in values])
        return total - share_of_product(first_key, self.level, self.evaluation, len(total))


@dataclass(frozen=True)
class CcOrder:
    """One round of an evaluation of a symmetric registration (`secure.cc_shares`): its size is all that is told."""

    level: int
    evaluation: int
    samples: int
    round: str
    knots: KnotMap | None = None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CcOrder:
        f = Fields(data, "order")
        stage = f.text("cc", 16)
        if stage not in ROUNDS:
            raise ProtocolError(f"Field 'cc' of 'order' must be one of {', '.join(ROUNDS)}.")
        where = f.integer("level", 0, 64), f.integer("evaluation", 0, 10**6)
        samples = f.integer("samples", 1, MOST_SAMPLES)
        if stage != "force":
            return cls(*where, samples, stage)
        knots = _knot_map(data.get("knots"), samples)
        return cls(*where, samples, stage, replace(knots, room=SUM_BITS - FORCE_BITS))

    def correlation(
        self, first_key: bytes, second_key: bytes, check: Callable[[], None] = lambda: None
    ) -> NDArray[np.int64]:
        """For party 2, modulo 2^64. `check` may raise between masks."""
        keys = first_key, second_key
        return correlation(self.round, keys, self.level, self.evaluation, self.samples, self.knots, check)


def read_order(data: dict[str, Any]) -> Order | Factored | CcOrder:
    """From the network; ProtocolError unless every field is in range."""
    if "cc" in data:
        return CcOrder.from_dict(data)
    return Factored.from_dict(data) if "vectors" in data else Order.from_dict(data)


def parts_of(
    order: Order | Factored | CcOrder, numbers: NDArray[np.int64]
) -> Iterator[tuple[dict[str, Any], NDArray[np.int64]]]:
    """The messages that carry a correlation."""
    where: dict[str, Any] = {"level": order.level, "evaluation": order.evaluation}
    if isinstance(order, CcOrder):
        for first in range(0, len(numbers), SLAB):
            yield {**where, "cc": order.round, "first": first}, numbers[first : first + SLAB]
        return
    for first in range(0, len(numbers), PART):
        yield where, numbers[first : first + PART]


def _knot_map(rows: Any, samples: int) -> KnotMap:
    knots = KnotMap.from_wire(rows)
    if len(knots.samples) != samples:
        raise ProtocolError("The grid of a B-spline does not fit the samples of an order.")
    return knots


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
