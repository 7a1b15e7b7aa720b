"""Sums of products of three under mpc: R_k = Σ_x S_k(x)·Σ_t U(x,t)·B(x,t), with B party 2's and U, S party 1's.

Two products of shares, nothing opened between them. F = B − b is with party 1 since the level opened.

1. Party 1 sends U − u and S − a. With the dealer's c2(x) = Σ_t u·b − c1(x), g1(x) = Σ_t U·F + c1(x) at party 1 and
   g2(x) = Σ_t (U − u)·b + c2(x) at party 2 are shares of g(x) = Σ_t U·B.
2. Party 2 sends g2 − h, uniform to party 1 as h is. With the dealer's e2 = Σ_x a·h − e1, Σ_x S·(g1 + g2 − h) + e1 at
   party 1 and Σ_x (S − a)·h + e2 at party 2 are shares of R. Party 2's alone travels, to party 1.

Per control point, the second product is left per sample, and each party applies the public map to its share.

u, a, c1, e1 come from party 1's key, b and h from party 2's; all but b belong to one (level, evaluation) and are never
used again. Per sample travel 8·(T + m) bytes up and 8 down, and 8 from the dealer to party 2 (m times that, per control
point); half of it where the ring of 32 bits holds the sums (`integer_sums.ring_bytes`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from PPIRLogic.arrays import Ring
from PPIRLogic.errors import ProtocolError
from PPIRLogic.network.messages import Fields
from PPIRLogic.secure.integer_sums import from_ring, over_vectors, ring_dot, to_ring
from PPIRLogic.secure.layout import CHUNK, GROUP, group_size
from PPIRLogic.secure.mpc.one_time_masks import mask_of_columns, mask_of_operand, share_of_product
from PPIRLogic.secure.prg import Stream
from PPIRLogic.secure.product import FactorSource, Link, PublicMap, Term

MAX_VECTORS = 64
MAX_FACTORS = 64  # columns S of one request
MAX_ENTRIES = 2**28


@dataclass(frozen=True)
class Factored:
    """The shape of one such request: all that the dealer is told."""

    level: int
    evaluation: int
    samples: int  # entries of the operand: T for every sample
    vectors: int  # T
    columns: int  # m
    operand: str
    by_sample: bool = False
    round: ClassVar[str] = ""

    @classmethod
    def of(cls, terms: Sequence[Term], samples: int, level: int, evaluation: int) -> Factored:
        """ProtocolError unless the terms are alike but for their columns, which are 0, 1, …"""
        first = terms[0]
        alike = {(t.operand, t.vectors, t.per_control_point) for t in terms}
        if len(alike) != 1 or [t.column for t in terms] != list(range(len(terms))):
            raise ProtocolError("The terms of one request with factors must be alike, one for every column.")
        return cls(level, evaluation, samples, first.vectors, len(terms), first.operand, first.per_control_point)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Factored:
        """From the network; ProtocolError unless every field is in range."""
        f = Fields(data, "order")
        out = cls(
            f.integer("level", 0, 64), f.integer("evaluation", 0, 10**6), f.integer("samples", 1, MAX_ENTRIES),
            f.integer("vectors", 2, MAX_VECTORS), f.integer("columns", 1, MAX_FACTORS), f.text("operand", 16),
            f.flag("by_sample"),
        )  # fmt: skip
        if out.vectors & (out.vectors - 1) or out.samples % CHUNK:
            raise ProtocolError("Field 'vectors' of 'order' must be a power of two, over whole chunks.")
        if out.by_sample and out.columns * out.points > MAX_ENTRIES:
            raise ProtocolError(f"An order of more than {MAX_ENTRIES} numbers is not dealt.")
        return out

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)

    @property
    def points(self) -> int:
        """Samples proper."""
        return self.samples // self.vectors

    @property
    def groups(self) -> range:
        return range(-(-self.samples // GROUP))

    def entries(self, group: int) -> slice:
        return slice(group * GROUP, group * GROUP + group_size(self.samples, group))

    def part(self, group: int) -> slice:
        """The group's samples."""
        at = self.entries(group)
        return slice(at.start // self.vectors, at.stop // self.vectors)

    def correlation(self, first_key: bytes, second_key: bytes, check: Callable[[], None] = lambda: None) -> Ring:
        """The dealer's c2 and e2, (points + columns,), by sample (points + columns·points,). `check` may raise."""
        mine, theirs = FirstMasks(first_key, self), SecondMasks(second_key, self)
        inner = np.empty(self.points, np.int64)
        outer = np.zeros((self.columns, self.points if self.by_sample else 1), np.int64)
        for group in self.groups:
            check()
            at = self.part(group)
            inner[at] = over_vectors(mine.inner(group) * theirs.operand(group), self.vectors) - mine.inner_share(group)
            a, h = mine.outer(group), theirs.inner(group)
            if self.by_sample:
                outer[:, at] = a * h - mine.outer_shares(group)
            else:
                outer[:, 0] += [ring_dot(row, h) for row in a]
        if not self.by_sample:
            outer[:, 0] -= mine.sum_shares()
        return np.concatenate([inner, outer.reshape(-1)])


class _Masks:
    def __init__(self, key: bytes, shape: Factored) -> None:
        self._key, self._shape = key, shape

    def _draw(self, label: str, group: int, *size: int) -> Ring:
        count = int(np.prod(size))
        stream = Stream(self._key, label, self._shape.level, self._shape.evaluation, group)
        return stream.int64(count).reshape(size)

    def _points(self, group: int) -> int:
        return group_size(self._shape.samples, group) // self._shape.vectors


class FirstMasks(_Masks):
    """What party 1's key gives for one request."""

    def inner(self, group: int) -> Ring:
        """u: (entries,)."""
        return self._draw("u", group, group_size(self._shape.samples, group))

    def outer(self, group: int) -> Ring:
        """a: (columns, points)."""
        shape = self._shape
        return mask_of_columns(self._key, shape.level, shape.evaluation, group, shape.columns, self._points(group))

    def inner_share(self, group: int) -> Ring:
        """c1: (points,)."""
        return self._draw("c1", group, self._points(group))

    def outer_shares(self, group: int) -> Ring:
        """e1 by sample: (columns, points)."""
        return self._draw("e1", group, self._shape.columns, self._points(group))

    def sum_shares(self) -> Ring:
        """e1: (columns,)."""
        return share_of_product(self._key, self._shape.level, self._shape.evaluation, self._shape.columns)


class SecondMasks(_Masks):
    """What party 2's key gives for one request."""

    def operand(self, group: int) -> Ring:
        """b: (entries,), of the level."""
        count = group_size(self._shape.samples, group)
        return mask_of_operand(self._key, self._shape.level, self._shape.operand, group, count)

    def inner(self, group: int) -> Ring:
        """h: (points,)."""
        return self._draw("h", group, self._points(group))


def first_share(
    shape: Factored, source: FactorSource, masked: Ring, link: Link, control_points: PublicMap | None, width: int
) -> Ring:
    """Party 1's side: sends the masked factors, takes in the masked g; its share of the numbers.

    masked: F (entries, or more). width: bytes of an element of the ring on the wire.
    """
    masks = FirstMasks(link.dealer_key, shape)
    g, outer = np.empty(shape.points, np.int64), np.empty((shape.columns, shape.points), np.int64)
    for group in shape.groups:
        link.check()
        at = shape.part(group)
        u, s = source.factors(group)
        outer[:, at] = s
        g[at] = over_vectors(u * masked[shape.entries(group)], shape.vectors) + masks.inner_share(group)
        sent = np.concatenate([u - masks.inner(group), (s - masks.outer(group)).reshape(-1)])
        link.channel.send("request", {"group": group}, to_ring(sent, width).data)
    for group in shape.groups:
        message, at = link.receive("data"), shape.part(group)
        if message.data != {"group": group} or len(message.payload) != width * (at.stop - at.start):
            raise ProtocolError("A masked sum whose length does not fit its level.")
        g[at] += from_ring(message.payload, width)
    if not shape.by_sample:
        return np.array([ring_dot(row, g) for row in outer], np.int64) + masks.sum_shares()
    assert control_points is not None
    shares = np.concatenate([masks.outer_shares(group) for group in shape.groups], axis=1)
    return np.concatenate([control_points.sums(row) for row in outer * g + shares])


def second_share(
    shape: Factored,
    key: bytes,
    link: Link,
    correlation: Callable[[int], Ring],
    control_points: PublicMap | None,
    width: int,
) -> tuple[Ring, bytes]:
    """Party 2's side: its share of the numbers, and the hash of the request.

    correlation(count): the dealer's numbers, once they are there.
    """
    masks = SecondMasks(key, shape)
    g, outer = np.empty(shape.points, np.int64), np.empty((shape.columns, shape.points), np.int64)
    digests: list[bytes] = []
    for group, payload in _requests(shape, link, width):
        values, at = from_ring(payload, width), shape.part(group)
        u = values[: group_size(shape.samples, group)]
        outer[:, at] = values[u.size :].reshape(shape.columns, -1)
        g[at] = over_vectors(u * masks.operand(group), shape.vectors)
        digests.append(hashlib.sha256(payload).digest())
    dealt = correlation(shape.points + shape.columns * (shape.points if shape.by_sample else 1))
    g += dealt[: shape.points]
    h = np.concatenate([masks.inner(group) for group in shape.groups])
    for group in shape.groups:
        at = shape.part(group)
        link.channel.send("data", {"group": group}, to_ring(g[at] - h[at], width).data)
    rest = dealt[shape.points :]
    if not shape.by_sample:
        share = np.array([ring_dot(row, h) for row in outer], np.int64) + rest
    else:
        assert control_points is not None
        share = np.concatenate([control_points.sums(row) for row in outer * h + rest.reshape(outer.shape)])
    return share, hashlib.sha256(b"".join(digests)).digest()


def _requests(shape: Factored, link: Link, width: int) -> Iterator[tuple[int, bytes]]:
    """The masked factors, group by group in order; ProtocolError for anything else."""
    for group in shape.groups:
        message, at = link.receive("request"), shape.part(group)
        due = group_size(shape.samples, group) + shape.columns * (at.stop - at.start)
        if message.data != {"group": group} or len(message.payload) != width * due:
            raise ProtocolError("Masked factors whose length does not fit their level.")
        yield group, bytes(message.payload)
