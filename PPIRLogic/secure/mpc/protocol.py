"""Secret sharing with a dealer: additive shares modulo 2^64, the fixed operand opened (masked) once per level.

Party 2 publishes F = V − b once per level, party 1 sends E = S − a at every evaluation, and the dealer, who sees
neither, gives correlated randomness: party 1 expands a and c1 from K0, party 2 expands b from K1 and receives
c2 = a·b − c1. Then z1 = S·F + c1 at party 1 and z2 = E·b + c2 at party 2 are shares of S·V; z2 alone travels,
to party 1. Every a and c1 belongs to one (level, evaluation) and is never used again; every b to one level.

Per evaluation: 8 bytes per sample and column up, 8 bytes per number down; 4 where the ring of 32 bits holds the sums
(`sums.ring_bytes`). Terms with factors go through `factors`. The dealer learns who takes part
(fingerprints, session), sizes, levels, evaluations and the operands' names. It must be run by neither hospital and
collude with nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from PPIRLogic.arrays import Ring
from PPIRLogic.errors import ProtocolError
from PPIRLogic.network.channel import MAX_PAYLOAD, Message
from PPIRLogic.network.messages import Fields
from PPIRLogic.secure.integer_sums import from_ring, products, ring_bytes, sample_part, signed, to_ring
from PPIRLogic.secure.layout import GROUP, group_size
from PPIRLogic.secure.mpc.crypten import load_crypten, open_to_party_1
from PPIRLogic.secure.mpc.one_time_masks import mask_of_columns, mask_of_operand, share_of_product
from PPIRLogic.secure.mpc.triple_products import Factored, first_share, second_share
from PPIRLogic.secure.product import (
    Columns,
    ColumnSource,
    FactorSource,
    FixedSide,
    LevelInfo,
    Link,
    PrivateProduct,
    Term,
    are_per_control_point,
    is_factored,
    numbers_of,
    over_groups,
    packing,
)
from PPIRLogic.secure.protocol import Protocol

BITS = 64


def _columns(terms: Sequence[Term]) -> int:
    """How many columns a request for these terms needs."""
    return max(t.column for t in terms) + 1


def sent_columns(terms: Sequence[Term]) -> int:
    """How many masked columns a request sends: all up to the last one needed, or one per term by knot."""
    return len(terms) if are_per_control_point(terms) else _columns(terms)


def _take_part(message: Message, known: list[Ring], columns: int, samples: int, width: int) -> bool:
    """Take some more columns of a masked block; True once it is whole."""
    there = sum(len(part) for part in known)
    due = min(columns_per_message(samples), columns - there)
    if message.data.get("first") != there or len(message.payload) != width * samples * due:
        raise ProtocolError("A masked block whose length does not fit its level.")
    known.append(from_ring(message.payload, width).reshape(-1, samples))
    return there + due == columns


def _low(share: Ring, width: int) -> Ring:
    """What of a share may travel: no bit above the ring's, where the masks cancel no longer."""
    return share if width == 8 else share & 0xFFFFFFFF


def columns_per_message(samples: int) -> int:
    """How many masked columns of so many samples travel in one message."""
    return max(1, MAX_PAYLOAD // (8 * samples))


class MpcProduct(PrivateProduct):
    name = "mpc"
    bits_per_number = BITS

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        load_crypten()
        self._masked: dict[str, Ring] = {}
        self._level: LevelInfo | None = None
        self._used: set[tuple[int, int]] = set()

    def open_level(self, level: LevelInfo, first: bytes) -> None:
        if level.active.size != level.chunks:
            raise ProtocolError("Under mpc every chunk of the level takes part; choose the samples before the level.")
        self._level = level
        self._masked.clear()
        for info in level.operands:
            masked = np.zeros(-(-level.samples // GROUP) * GROUP, np.int64)
            for group in range(-(-level.samples // GROUP)):
                count = group_size(level.samples, group)
                payload = self.link.receive("data").payload
                if len(payload) != 8 * count:
                    raise ProtocolError("The masked fixed image has a length that does not fit its level.")
                masked[group * GROUP : group * GROUP + count] = np.frombuffer(payload, "<i8")
            self._masked[info.name] = masked

    def evaluate(
        self, source: ColumnSource, terms: Sequence[Term], evaluation: int, announce: Callable[[], None]
    ) -> list[int]:
        level = self._level
        assert level is not None
        if (level.index, evaluation) in self._used:
            raise ProtocolError("The masks of this evaluation were used already; they are never used twice.")
        self._used.add((level.index, evaluation))
        announce()
        if is_factored(terms):
            share = self._factored(level, cast(FactorSource, source), terms, evaluation)
        else:
            self.link.order(self._order_of(level, terms, evaluation))
            per_control_point = are_per_control_point(terms)
            share = (self._per_control_point if per_control_point else self._summed)(level, source, terms, evaluation)
            share = share + share_of_product(self.link.dealer_key, level.index, evaluation, len(share))
        opened = open_to_party_1(share, self.link, rank=0)
        assert opened is not None
        return [int(v) for v in signed(opened, ring_bytes(terms, level))]

    def _factored(self, level: LevelInfo, source: FactorSource, terms: Sequence[Term], evaluation: int) -> Ring:
        source.prepare(1)
        shape = Factored.of(terms, level.samples, level.index, evaluation)
        self.link.order(shape.to_dict())
        masked = self._masked[shape.operand]
        return first_share(shape, source, masked, self.link, level.control_points, ring_bytes(terms, level))

    def _summed(self, level: LevelInfo, source: ColumnSource, terms: Sequence[Term], evaluation: int) -> Ring:
        outputs, numbers = packing(terms), numbers_of(terms)
        share, width = np.zeros((source.groups, numbers), np.int64), ring_bytes(terms, level)

        def work(group: int, worker: int, block: Columns) -> None:
            count = group_size(level.samples, group)
            own = sample_part(block[: _columns(terms), :count], outputs)
            self._send_masked(own, level, evaluation, group, width)
            fixed = {n: v[group * GROUP : group * GROUP + count] for n, v in self._masked.items()}
            share[group] = products(own, fixed, terms)

        over_groups(source, self.link, work)
        return share.sum(axis=0)

    def _per_control_point(
        self, level: LevelInfo, source: ColumnSource, terms: Sequence[Term], evaluation: int
    ) -> Ring:
        assert level.control_points is not None
        values = np.zeros((len(terms), level.samples), np.int64)

        def work(group: int, worker: int, block: Columns) -> None:
            at = slice(group * GROUP, group * GROUP + group_size(level.samples, group))
            own = np.stack([block[t.column, : at.stop - at.start] for t in terms])
            self._send_masked(own, level, evaluation, group)
            for i, term in enumerate(terms):
                np.multiply(own[i], self._masked[term.operand][at], out=values[i, at], dtype=np.int64)

        over_groups(source, self.link, work)
        return np.concatenate([level.control_points.sums(v) for v in values])

    def _send_masked(self, own: Columns, level: LevelInfo, evaluation: int, group: int, width: int = 8) -> None:
        """E = own − a for one group of samples."""
        mask = mask_of_columns(self.link.dealer_key, level.index, evaluation, group, *own.shape)
        step = columns_per_message(own.shape[1])
        for first in range(0, len(own), step):
            masked = own[first : first + step] - mask[first : first + step]
            self.link.channel.send("request", {"group": group, "first": first}, to_ring(masked, width).data)

    @staticmethod
    def _order_of(level: LevelInfo, terms: Sequence[Term], evaluation: int) -> dict[str, Any]:
        order: dict[str, Any] = {
            "level": level.index,
            "evaluation": evaluation,
            "samples": level.samples,
            "columns": sent_columns(terms),
            "terms": [[i if are_per_control_point(terms) else t.column, t.operand] for i, t in enumerate(terms)],
            "outputs": packing(terms),
        }
        if are_per_control_point(terms) and level.control_points is not None:
            order["knots"] = level.control_points.to_wire()
        return order


class MpcFixed(FixedSide):
    name = "mpc"
    bits_per_number = BITS

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        load_crypten()
        self._level: LevelInfo | None = None
        self._opened: set[int] = set()
        self._used: set[tuple[int, int]] = set()
        self._share: Ring = np.empty(0, np.int64)

    def open_level(self, level: LevelInfo, operands: Mapping[str, Columns], first: bytes, second: bytes) -> None:
        if level.index in self._opened:
            raise ProtocolError("The masks of this level were used already; they are never used twice.")
        self._opened.add(level.index)
        self._level = level
        for info in level.operands:
            values = operands[info.name]
            for group in range(-(-level.samples // GROUP)):
                self.link.check()
                count = group_size(level.samples, group)
                mask = self._mask(info.name, group, count)
                masked = values[group * GROUP : group * GROUP + count] - mask
                self.link.channel.send("data", {"operand": info.name}, masked.data)

    def _mask(self, operand: str, group: int, count: int) -> Ring:
        assert self._level is not None
        return mask_of_operand(self.link.dealer_key, self._level.index, operand, group, count)

    def receive(self, header: Mapping[str, Any], terms: Sequence[Term]) -> bytes:
        level = self._level
        assert level is not None
        if is_factored(terms):
            return self._receive_factors(level, header, terms)
        width = ring_bytes(terms, level)
        groups, outputs = -(-level.samples // GROUP), 1 if are_per_control_point(terms) else packing(terms)
        parts: dict[int, list[Ring]] = {}
        digests: dict[int, bytes] = {}
        share = np.zeros(numbers_of(terms), np.int64)
        values = np.zeros((len(terms), level.samples if are_per_control_point(terms) else 0), np.int64)
        while len(digests) < groups:
            message = self.link.receive("request")
            group = message.data.get("group")
            if not isinstance(group, int) or not 0 <= group < groups or group in digests:
                raise ProtocolError("A masked block with a wrong number.")
            count = group_size(level.samples, group)
            known = parts.setdefault(group, [])
            if not _take_part(message, known, sent_columns(terms), count // outputs, width):
                continue
            block = np.concatenate(parts.pop(group))
            masks = {t.operand: self._mask(t.operand, group, count) for t in terms}
            if are_per_control_point(terms):
                at = slice(group * GROUP, group * GROUP + count)
                for i, term in enumerate(terms):
                    np.multiply(block[i], masks[term.operand], out=values[i, at])
            else:
                share += products(block, masks, terms)
            digests[group] = hashlib.sha256(block.tobytes()).digest()
        if are_per_control_point(terms):
            assert level.control_points is not None
            share = np.concatenate([level.control_points.sums(v) for v in values])
        self._share = _low(share + self._correlation(header, len(share)), width)
        return hashlib.sha256(b"".join(digests[g] for g in sorted(digests))).digest()

    def _receive_factors(self, level: LevelInfo, header: Mapping[str, Any], terms: Sequence[Term]) -> bytes:
        """As `receive`; the masked g travels to party 1 on the way, under a mask that is used once."""
        evaluation = Fields(header, "evaluate").integer("evaluation", 0, 10**6)
        if (level.index, evaluation) in self._used:
            raise ProtocolError("The masks of this evaluation were used already; they are never used twice.")
        self._used.add((level.index, evaluation))
        shape = Factored.of(terms, level.samples, level.index, evaluation)
        width = ring_bytes(terms, level)
        share, digest = second_share(
            shape,
            self.link.dealer_key,
            self.link,
            lambda count: self._correlation(header, count),
            level.control_points,
            width,
        )
        self._share = _low(share, width)
        return digest

    def _correlation(self, header: Mapping[str, Any], count: int) -> Ring:
        """What the dealer sends for this evaluation, so many numbers in as many messages as that takes."""
        assert self._level is not None
        where = {"level": self._level.index, "evaluation": header.get("evaluation")}
        parts: list[Ring] = []
        while (missing := count - sum(part.size for part in parts)) > 0:
            parts.append(self.link.dealt(where, min(missing, MAX_PAYLOAD // 8)))
        return np.concatenate(parts)

    def answer(self) -> None:
        """Open towards party 1 through CrypTen: party 2's share is what travels."""
        open_to_party_1(self._share, self.link, rank=1)


WORDS = (
    "The two sites worked on random shares of their images (protocol mpc, with a dealer). This holds as long as the"
    " dealer works together with neither side; it learned the sizes and the number of evaluations."
)
PROTOCOL = Protocol(
    "mpc", MpcProduct, MpcFixed, MpcFixed.bits_per_number, WORDS, permitted_by_default=True, dealer=True,
    per_control_point=True, reveals_sampling=True, masks_sums=True,
)  # fmt: skip
