"""The unprotected protocol: party 2 sends its quantised image. For comparison only, never by default.

It runs over the same network path and on the same integers as the protected ones, so the optimiser takes
bit for bit the same path: the yardstick for all others. Both sides must allow it by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import ProtocolError
from PPIRLogic.secure.exact_range import check_exact
from PPIRLogic.secure.integer_sums import over_vectors, products, sample_part
from PPIRLogic.secure.layout import CHUNK, GROUP, LANES, group_size
from PPIRLogic.secure.product import (
    Columns,
    ColumnSource,
    FactorSource,
    FixedSide,
    LevelInfo,
    Link,
    PrivateProduct,
    PublicMap,
    Term,
    are_per_control_point,
    is_factored,
    numbers_of,
    over_groups,
    packing,
)
from PPIRLogic.secure.protocol import Protocol


class ClearProduct(PrivateProduct):
    name = "clear"
    bits_per_number = 64

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._operands: dict[str, Columns] = {}
        self._level: LevelInfo | None = None

    def open_level(self, level: LevelInfo, first: bytes) -> None:
        self._operands.clear()
        self._level = level
        slot = {int(c): i for i, c in enumerate(level.active)}
        for info in level.operands:
            packed = np.zeros(-(-len(level.active) // LANES) * GROUP, np.int32)
            for group in range(-(-level.samples // GROUP)):
                count = min(GROUP, level.samples - group * GROUP)
                message = self.link.receive("data")
                if len(message.payload) != 4 * count:
                    raise ProtocolError("The fixed image has a length that does not fit its level.")
                values = np.frombuffer(message.payload, "<i4")
                if np.abs(values, dtype=np.int64).max(initial=0) > info.bound:
                    raise ProtocolError("The fixed image holds values out of range.")
                for lane in range(-(-count // CHUNK)):
                    at = slot.get(group * LANES + lane)
                    if at is not None:
                        part = values[lane * CHUNK : (lane + 1) * CHUNK]
                        packed[at * CHUNK : at * CHUNK + len(part)] = part
            self._operands[info.name] = packed

    def evaluate(
        self, source: ColumnSource, terms: Sequence[Term], evaluation: int, announce: Callable[[], None]
    ) -> list[int]:
        if are_per_control_point(terms):
            return self._per_control_point(source, terms, announce)
        sums = np.zeros((source.groups, numbers_of(terms)), np.int64)
        outputs = packing(terms)

        def work(group: int, worker: int, block: Columns) -> None:
            fixed = {n: v[group * GROUP : (group + 1) * GROUP] for n, v in self._operands.items()}
            sums[group] = products(sample_part(block, outputs), fixed, terms)

        over_groups(source, self.link, work)
        assert self._level is not None
        check_exact(source, terms, self._level)
        return self._reported(sums.sum(axis=0), announce)

    def _per_control_point(
        self, source: ColumnSource, terms: Sequence[Term], announce: Callable[[], None]
    ) -> list[int]:
        level = self._level
        assert level is not None and level.control_points is not None
        if is_factored(terms):
            return self._by_sample(level.control_points, cast(FactorSource, source), terms, announce)
        values = np.zeros((len(terms), level.samples), np.int64)

        def work(group: int, worker: int, block: Columns) -> None:
            at = slice(group * GROUP, group * GROUP + group_size(level.samples, group))
            for i, term in enumerate(terms):
                part = self._operands[term.operand][at]
                np.multiply(block[term.column, : len(part)], part, out=values[i, at], dtype=np.int64)

        over_groups(source, self.link, work)
        return self._reported(np.concatenate([level.control_points.sums(v) for v in values]), announce)

    def _by_sample(
        self, control_points: PublicMap, source: FactorSource, terms: Sequence[Term], announce: Callable[[], None]
    ) -> list[int]:
        """By knot, of products of three."""
        fixed, parts = self._operands[terms[0].operand], []
        for group in range(source.groups):
            self.link.check()
            u, s = source.factors(group)
            parts.append(s * over_vectors(u * fixed[group * GROUP : group * GROUP + u.size], terms[0].vectors))
        values = np.concatenate(parts, axis=1)
        return self._reported(np.concatenate([control_points.sums(values[t.column]) for t in terms]), announce)

    def _reported(self, sums: NDArray[np.int64], announce: Callable[[], None]) -> list[int]:
        """The sums, after party 2 was told of them."""
        announce()
        self.link.channel.send("request", {"hash": hashlib.sha256(sums.tobytes()).digest()})
        self.link.receive("answer")  # party 2 has counted
        return [int(v) for v in sums]


class ClearFixed(FixedSide):
    name = "clear"
    bits_per_number = 64

    def open_level(self, level: LevelInfo, operands: Mapping[str, Columns], first: bytes, second: bytes) -> None:
        for info in level.operands:
            values = operands[info.name]
            for start in range(0, len(values), GROUP):
                self.link.check()
                part = np.ascontiguousarray(values[start : start + GROUP], "<i4")
                self.link.channel.send("data", {"operand": info.name, "start": start}, part.data)

    def receive(self, header: Mapping[str, Any], terms: Sequence[Term]) -> bytes:
        digest = self.link.receive("request").data.get("hash")
        if not isinstance(digest, bytes) or len(digest) != 32:
            raise ProtocolError("A request without its hash.")
        return digest

    def answer(self) -> None:
        self.link.channel.send("answer")


PROTOCOL = Protocol(
    "clear", ClearProduct, ClearFixed, ClearFixed.bits_per_number, counted=False, per_control_point=True,
    words="The unprotected protocol clear was used: the other side sent the fixed image itself. Nothing of it was"
    " private from this site at the levels below.",
)  # fmt: skip
