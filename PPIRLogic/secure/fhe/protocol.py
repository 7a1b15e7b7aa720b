"""The default protocol: encrypted products between two parties (see `bfv` for the scheme and what it hides).

Per level: party 2 sends its public key and each operand, encrypted, about 15 bytes per voxel. Per evaluation:
61 kB up and 8 bytes down per number, whatever the size of the image. Which chunks party 1 uses stays unknown
to party 2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import ProtocolError
from PPIRLogic.network.channel import MAX_PAYLOAD
from PPIRLogic.secure.exact_range import check_exact, check_possible
from PPIRLogic.secure.fhe import bfv
from PPIRLogic.secure.fhe.control_point_sums import ControlPointFixed, ControlPointProduct
from PPIRLogic.secure.fhe.evaluator import Accumulator, Evaluator, Operand
from PPIRLogic.secure.fhe.key_holder import KeyHolder
from PPIRLogic.secure.fhe.parameters import PLAIN_MODULUS
from PPIRLogic.secure.fhe.slots import SLOT_BITS
from PPIRLogic.secure.layout import CHUNK, GROUP, LANES
from PPIRLogic.secure.product import (
    Columns,
    ColumnSource,
    FixedSide,
    LevelInfo,
    Link,
    PrivateProduct,
    Term,
    are_per_control_point,
    numbers_of,
    over_groups,
    packing,
)
from PPIRLogic.secure.protocol import Protocol

BITS = 46


def label(operand: str, copy: int) -> str:
    """Under which name the public polynomials of an operand's ciphertexts are drawn."""
    return f"{operand}, copy {copy}" if copy else operand


class FheProduct(PrivateProduct):
    name = "fhe"
    bits_per_number = BITS
    copies = 1  # ciphertexts of every chunk, and answers to every term

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._operands: dict[str, Operand] = {}
        self._level: LevelInfo | None = None
        self._evaluator: Evaluator | None = None
        self._seed = b""
        self._control_points: ControlPointProduct | None = None

    def open_level(self, level: LevelInfo, first: bytes) -> None:
        self._level = level
        self._operands.clear()  # the former level's ciphertexts are of no more use
        keys = self.link.receive("key")
        second = keys.data.get("second")
        if not isinstance(second, bytes) or len(second) != 32:
            raise ProtocolError("The key of a level came without its seed.")
        self._seed = bfv.joint_seed(self.link.session, level.index, first, second)
        self._evaluator = Evaluator(self._seed, keys.payload)
        for info in level.operands:
            self._operands[info.name] = self._receive_operand(info.name, level.chunks, level.active)
        self._control_points = None
        if level.control_points is not None:
            self._control_points = ControlPointProduct(
                self.link, level, self._evaluator, lambda name, n: self._receive_operand(name, n, np.arange(n))
            )

    def _receive_operand(self, name: str, chunks: int, active: NDArray[np.int64]) -> Operand:
        operand = Operand(len(active), self.copies)
        slot = {int(c): i for i, c in enumerate(active)}
        for first, copy in product(range(0, chunks, LANES), range(self.copies)):
            self.link.check()
            count = min(LANES, chunks - first)
            message = self.link.receive("data")
            if len(message.payload) != count * bfv.CHUNK_BYTES:
                raise ProtocolError("The encrypted fixed image has a length that does not fit its level.")
            view = memoryview(message.payload)
            for lane in range(count):
                at = slot.get(first + lane)
                if at is not None:
                    part = view[lane * bfv.CHUNK_BYTES : (lane + 1) * bfv.CHUNK_BYTES]
                    operand.fill(self._seed, label(name, copy), first + lane, at, part, copy)
        return operand

    def evaluate(
        self, source: ColumnSource, terms: Sequence[Term], evaluation: int, announce: Callable[[], None]
    ) -> list[int]:
        if are_per_control_point(terms):
            assert self._control_points is not None
            return self._control_points.evaluate(source, terms, announce)
        totals = self._accumulate(source, terms)
        assert self._level is not None
        check_exact(source, terms, self._level, self._pad_noise(packing(terms)))
        message, pads = self._blind(totals, packing(terms))
        announce()
        step = MAX_PAYLOAD // bfv.answer_bytes(packing(terms)) * bfv.answer_bytes(packing(terms))
        for start in range(0, len(message), step):
            self.link.channel.send("request", {}, memoryview(message)[start : start + step])
        reply = self.link.receive("answer").payload
        if len(reply) != 8 * numbers_of(terms):
            raise ProtocolError(f"Expected {numbers_of(terms)} numbers from the peer, got {len(reply) / 8:g}.")
        opened = np.frombuffer(reply, "<u8").astype(np.uint64)
        if (opened >= PLAIN_MODULUS).any():
            raise ProtocolError("The peer's answer holds a number out of range.")
        values = Evaluator.unblind(opened, pads)
        check_possible(values, source, terms, self._level)
        return values

    def _pad_noise(self, outputs: int) -> float:
        """Bound of the noise that the pads of one answer bring with them."""
        return 0.0

    def _blind(self, totals: NDArray[np.uint64], outputs: int) -> tuple[bytes, list[int]]:
        """What travels, and the pads kept here; totals (terms, 2·copies, primes, n)."""
        assert self._evaluator is not None
        return self._evaluator.blind(totals, outputs)

    def _accumulate(self, source: ColumnSource, terms: Sequence[Term]) -> Any:
        workers = max(1, min(self.link.threads, source.groups))
        accumulators = [Accumulator(len(terms), self.copies) for _ in range(workers)]

        def work(group: int, worker: int, block: Columns) -> None:
            for i, term in enumerate(terms):  # columns of zeros, too: the time it takes must not tell of them
                accumulators[worker].add(block, term.column, self._operands[term.operand].data[group], i)

        over_groups(source, self.link, work)
        for other in accumulators[1:]:
            accumulators[0].merge(other)
        return accumulators[0].total


class FheFixed(FixedSide):
    name = "fhe"
    bits_per_number = BITS
    copies = FheProduct.copies

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._keys: KeyHolder | None = None
        self._request = b""
        self._shape = (0, 1)
        self._control_points: ControlPointFixed | None = None
        self._sums: NDArray[np.uint64] | None = None  # by knot, of the request received last

    def open_level(self, level: LevelInfo, operands: Mapping[str, Columns], first: bytes, second: bytes) -> None:
        self._keys = KeyHolder(bfv.joint_seed(self.link.session, level.index, first, second))
        self.link.channel.send("key", {"second": second}, self._keys.public_key().data)
        for info in level.operands:
            self._send_operand(info.name, operands[info.name])
        self._control_points = (
            ControlPointFixed(self.link, level, self._keys) if level.control_points is not None else None
        )
        for info in level.operands:
            if info.per_control_point and self._control_points is not None:
                self._control_points.send(info, operands[info.name])

    def _send_operand(self, name: str, values: Columns) -> None:
        assert self._keys is not None
        for start, copy in product(range(0, len(values), GROUP), range(self.copies)):
            self.link.check()
            part = self._values(values[start : start + GROUP], copy)
            packed = self._keys.encrypt(part, label(name, copy), start // CHUNK)
            self.link.channel.send("data", {"operand": name, "start": start}, packed.data)

    def _values(self, values: Columns, copy: int) -> NDArray[Any]:
        """What this copy of the values holds."""
        return values

    def receive(self, header: Mapping[str, Any], terms: Sequence[Term]) -> bytes:
        self._sums = None
        if are_per_control_point(terms):
            assert self._control_points is not None
            digest, self._sums = self._control_points.receive(terms)
            return digest
        self._shape = (len(terms), packing(terms))
        parts, missing = [], len(terms) * self.copies * bfv.answer_bytes(packing(terms))
        while missing > 0:
            part = self.link.receive("request").payload
            if not 0 < len(part) <= missing:
                raise ProtocolError("A request whose length does not fit its terms.")
            parts.append(bytes(part))
            missing -= len(part)
        self._request = b"".join(parts)
        return hashlib.sha256(self._request).digest()

    def answer(self) -> None:
        self.link.channel.send("answer", {}, self._opened().astype("<u8").data)

    def _opened(self) -> NDArray[np.uint64]:
        """The numbers of the request received last, still padded."""
        assert self._keys is not None
        if self._sums is not None:
            return self._sums
        return self._keys.open(self._request, *self._shape)


PROTOCOL = Protocol(
    "fhe", FheProduct, FheFixed, FheFixed.bits_per_number, permitted_by_default=True, per_control_point=True,
    control_point_bits=SLOT_BITS,
    words="The fixed image reached this site encrypted only, and this site's values reached the other side hidden as"
    " well (protocol fhe, homomorphic encryption, no third party).",
)  # fmt: skip
