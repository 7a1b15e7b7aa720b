"""The one private primitive, and what a protocol is.

Party 2 holds fixed operands (integer vectors over the samples of a level, such as J). Party 1 holds columns S
(integers, new at every evaluation). For a list of terms (column c, operand v) party 1 learns Σ_x S_c(x)·v(x) and
nothing else moves. Every loss is written against this; a protocol is one class on each side:

    PrivateProduct   party 1: open_level, evaluate
    FixedSide        party 2: open_level, receive (a request, whole), answer (after it was counted)

All values are exact integers, so every protocol gives the same numbers and the optimiser the same path.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.disclosure.ledger import Receipt
from PPIRLogic.errors import DealerError, PPIRError, ProtocolError
from PPIRLogic.network.channel import Channel, Message
from PPIRLogic.network.messages import error_from, wait_for_message
from PPIRLogic.secure.layout import CHUNK, GROUP

Columns = NDArray[np.int32]


@dataclass(frozen=True)
class Term:
    """What to open: Σ_x column·operand, or `outputs` of them at once. `kind` names it in the ledger.

    With outputs = T > 1 (a power of two) the operand holds T fixed vectors, laid out chunk by chunk: CHUNK / T
    samples of the first, of the second, …; one column over the samples is multiplied with each of them: T numbers.
    With outputs = 1 over such an operand, the column runs over its flattened entries.

    A term per control point opens Σ_x B_k(x)·column(x)·operand(x) for the `outputs` control points k of the level.

    With vectors = T > 1 the column is a product, U(x,t)·S(x), of U over the flattened entries of an operand of T
    vectors, the same for all terms of a request, and S over the samples: opened is Σ_x S(x)·Σ_t U(x,t)·operand_t(x).

    largest: what no |entry| of the column exceeds; public. 0 where it is not known.
    """

    column: int
    operand: str
    kind: str
    outputs: int = 1
    per_control_point: bool = False
    vectors: int = 1
    largest: int = 0
    revealed_to_both: bool = False  # party 2 learns as many numbers


@dataclass(frozen=True)
class OperandInfo:
    """A fixed operand as both sides know it: its name and the largest magnitude it can have."""

    name: str
    bound: int
    per_control_point: bool = False  # terms per control point may name it
    vectors: int = 1  # that it holds


class PublicMap(Protocol):
    """A public linear map from one value per sample to the numbers that are opened, such as Σ_x B_k(x)·value(x).

    The protocols know no more of it; `registration.control_points` has the one of B-splines.
    """

    @property
    def count(self) -> int:
        """How many numbers it makes."""

    @property
    def largest(self) -> int:
        """The largest sum of its weights over the samples, in integers."""

    def sums(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Integers per sample (N,) to the numbers (count,), modulo 2^64."""

    def to_wire(self) -> list[list[int]]:
        """Whole numbers that say all of it, for a dealer."""


@dataclass(frozen=True)
class LevelInfo:
    """What both parties know of an open level. `active` are the chunks party 1 uses; party 2 is not told.

    samples: length of every operand, the flattened one where operands hold several vectors.
    """

    index: int
    samples: int
    operands: tuple[OperandInfo, ...]
    active: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    control_points: PublicMap | None = None

    @property
    def chunks(self) -> int:
        return -(-self.samples // CHUNK)

    def bound(self, operand: str) -> int:
        return next(o.bound for o in self.operands if o.name == operand)


def numbers_of(terms: Sequence[Term]) -> int:
    """How many numbers a request for these terms opens."""
    return sum(t.outputs for t in terms)


def are_per_control_point(terms: Sequence[Term]) -> bool:
    """Whether these are terms per control point; ProtocolError unless all are or none is."""
    kinds = {t.per_control_point for t in terms}
    if len(kinds) != 1:
        raise ProtocolError("The terms of one request must be all per control point, or none.")
    return kinds.pop()


def is_factored(terms: Sequence[Term]) -> bool:
    """Whether these are terms with factors; ProtocolError unless all are or none is."""
    kinds = {t.vectors > 1 for t in terms}
    if len(kinds) != 1:
        raise ProtocolError("The terms of one request must all have factors, or none.")
    return kinds.pop()


def packing(terms: Sequence[Term]) -> int:
    """The outputs per term of a request, the same for all its terms; ProtocolError otherwise."""
    kinds = {t.outputs for t in terms}
    if len(kinds) != 1:
        raise ProtocolError("The terms of one request must open equally many numbers each.")
    return kinds.pop()


class ColumnSource(Protocol):
    """Where a product gets S from, group by group, so that S is never held whole."""

    columns: int
    groups: int

    def prepare(self, workers: int) -> None: ...

    def block(self, group: int, worker: int, out: Columns) -> None:
        """Fill out (columns, GROUP) with the quantised columns of the group's eight active chunks.

        For terms with T outputs a chunk holds CHUNK / T samples, at its end; the rest of it is zero.
        """

    def finish(self) -> None: ...

    def absolute_sums(self) -> NDArray[np.int64]:
        """Σ|S| per column, after `finish`."""

    def norms(self) -> NDArray[np.float64]:
        """‖S‖₂ per column, after `finish`."""

    def column_scales(self) -> NDArray[np.float64]:
        """Integers per real unit, per column. Party 1's own; they never travel."""


class FactorSource(ColumnSource, Protocol):
    """Columns that are products, U(x,t)·S_k(x), for terms with factors; `block` gives the products."""

    def factors(self, group: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """U (entries,) of a group, in the layout of the operand, and S (columns, samples) of its samples."""


@dataclass
class Link:
    """What a protocol needs of the session around it."""

    channel: Channel
    session: bytes
    threads: int
    check: Callable[[], None]  # raises if the run was cancelled or the peer is gone
    timeout: float = 120.0
    dealer: Channel | None = None
    dealer_key: bytes = b""
    until: float | None = None  # time.monotonic() by which what is being received must be whole

    def through(self, channel: Any) -> Link:
        """The same link with a guarded channel in place of its own."""
        return replace(self, channel=channel)

    def check_channel(self) -> None:
        """Raise if the peer or the dealer said goodbye or is gone."""
        if self.channel.closing_message is not None:
            raise_if_error(self.channel.closing_message)
        self.channel.check()
        if self.dealer is not None:
            try:
                if self.dealer.closing_message is not None:
                    raise_if_error(self.dealer.closing_message)
                self.dealer.check()
            except PPIRError as error:
                raise DealerError(f"The dealer ended the session or was lost: {error}") from error

    def receive(self, kind: str) -> Message:
        """The next message, which must be of this kind; notices a cancel while it waits."""
        left = self.timeout if self.until is None else min(self.timeout, max(0.0, self.until - time.monotonic()))
        message = wait_for_message(self.channel, left, self.check)
        if message.kind != kind:
            raise_if_error(message)
            raise ProtocolError(f"Expected a message '{kind}' from {self.channel.peer_name}, got '{message.kind}'.")
        return message

    def order(self, order: dict[str, Any]) -> None:
        """Ask the dealer for a correlation. DealerError where there is none, or it is lost."""
        if self.dealer is None:
            raise DealerError("The mpc protocol needs a dealer. Give its address with --dealer HOST:PORT.")
        try:
            self.dealer.send("order", order)
        except PPIRError as error:
            raise DealerError(f"The dealer was lost: {error}") from error

    def dealt(self, where: Mapping[str, Any], count: int) -> NDArray[np.int64]:
        """The next part of what the dealer sends for an order, so many numbers. DealerError for anything else."""
        assert self.dealer is not None
        try:
            message = wait_for_message(self.dealer, self.timeout, self.check)
        except PPIRError as error:
            if self.dealer.interrupted and not isinstance(error, DealerError):
                raise DealerError(f"The dealer was lost: {error}") from error
            raise
        if message.kind != "correlation" or message.data != where or len(message.payload) != 8 * count:
            due = ", ".join(f"{name} {value}" for name, value in where.items())
            raise DealerError(
                f"The dealer sent '{message.kind}' where the correlation of {due} was due. Check that both parties name"
                " the same dealer, and start again."
            )
        return np.frombuffer(message.payload, "<i8")


def raise_if_error(message: Message) -> None:
    """Turn a peer's 'error' or 'bye' into the exception it stands for."""
    if message.kind in ("error", "bye"):
        raise error_from(message)


Give = Callable[[Sequence[Term]], Receipt]
Testing = Callable[[], AbstractContextManager[None]]


class PrivateProduct(ABC):
    """Party 1's side of a protocol."""

    name: str
    bits_per_number: int

    records_what_it_reveals = False  # True: what party 2 learns is put on record by `Give`, before it is sent

    def __init__(self, link: Link) -> None:
        self.link = link
        self.testing: Testing = nullcontext

    def test_through(self, testing: Testing) -> None:
        """What of a test depends on this side's secrets happens within `testing()`, which puts it on record first."""
        self.testing = testing

    def reveal_through(self, give: Give) -> None:
        """`give` records what party 2 learns of party 1's image; protocols that tell it nothing have no use for it."""

    @abstractmethod
    def open_level(self, level: LevelInfo, first: bytes) -> None:
        """Receive party 2's protected operands of this level; `first` is our part of the level's seed."""

    @abstractmethod
    def evaluate(
        self, source: ColumnSource, terms: Sequence[Term], evaluation: int, announce: Callable[[], None]
    ) -> list[int]:
        """The exact sums, term by term, each term's outputs in order.

        `announce` is called right before the first byte of the request is sent.

        FixedPointError, before that, if a sum could leave the protocol's exact range.
        """


class FixedSide(ABC):
    """Party 2's side of a protocol."""

    name: str
    bits_per_number: int

    def __init__(self, link: Link) -> None:
        self.link = link
        self.testing: Testing = nullcontext

    def test_through(self, testing: Testing) -> None:
        """What of a test depends on this side's secrets happens within `testing()`, which puts it on record first."""
        self.testing = testing

    def move_image(self, half_of: Callable[[Any], Any]) -> None:
        """Where both images move: `half_of` makes the half of a level that is open from the half of the one before."""

    @abstractmethod
    def open_level(self, level: LevelInfo, operands: Mapping[str, Columns], first: bytes, second: bytes) -> None:
        """Protect and send the operands; `first`, `second` are the parties' contributions to the level's seed."""

    @abstractmethod
    def receive(self, header: Mapping[str, Any], terms: Sequence[Term]) -> bytes:
        """Take in one whole request; returns its hash. Nothing leaves yet."""

    @abstractmethod
    def answer(self) -> None:
        """Send the answer to the request received last. Called only after it was counted and synced.

        Called again (an identical request came twice) it opens the same numbers. VerificationError where the protocol
        checks a request first, and this one fails.
        """


def over_groups(source: ColumnSource, link: Link, work: Callable[[int, int, Columns], None]) -> None:
    """Run work(group, worker, block) over all groups of the source on the link's threads.

    Sums are of exact integers, so the order in which threads finish does not matter.
    """
    workers = max(1, min(link.threads, source.groups))
    source.prepare(workers)

    def run(worker: int) -> None:
        block = np.empty((source.columns, GROUP), np.int32)
        for group in range(worker, source.groups, workers):
            link.check()
            source.block(group, worker, block)
            work(group, worker, block)

    if workers == 1:
        run(0)
    else:
        with ThreadPoolExecutor(workers) as pool:
            for future in [pool.submit(run, w) for w in range(workers)]:
                future.result()
    source.finish()
