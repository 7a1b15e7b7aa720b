"""The default protocol: encrypted products between two parties (see `bfv` for the scheme and what it hides).

Per level: party 2 sends its public key and each operand, encrypted, about 15 bytes per voxel. Per evaluation:
61 kB up and 8 bytes down per number, whatever the size of the image. Which chunks party 1 uses stays unknown
to party 2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from PPIRLogic.errors import ProtocolError
from PPIRLogic.peer.channel import MAX_PAYLOAD
from PPIRLogic.secure import bfv
from PPIRLogic.secure.base import (
    CHUNK,
    GROUP,
    Columns,
    ColumnSource,
    FixedSide,
    LevelInfo,
    Link,
    PrivateProduct,
    Term,
    numbers_of,
    over_groups,
    packing,
)
from PPIRLogic.secure.exact import check_exact
from PPIRLogic.secure.ring import LANES

BITS = 46


class FheProduct(PrivateProduct):
    name = "fhe"
    bits_per_number = BITS

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._operands: dict[str, bfv.Operand] = {}
        self._level: LevelInfo | None = None
        self._evaluator: bfv.Evaluator | None = None

    def open_level(self, level: LevelInfo, first: bytes) -> None:
        self._level = level
        self._operands.clear()  # the former level's ciphertexts are of no more use
        keys = self.link.receive("key")
        second = keys.data.get("second")
        if not isinstance(second, bytes) or len(second) != 32:
            raise ProtocolError("The key of a level came without its seed.")
        seed = bfv.joint_seed(self.link.session, level.index, first, second)
        self._evaluator = bfv.Evaluator(seed, keys.payload)
        for info in level.operands:
            self._operands[info.name] = self._receive_operand(level, info.name, seed)

    def _receive_operand(self, level: LevelInfo, name: str, seed: bytes) -> bfv.Operand:
        operand = bfv.Operand(len(level.active))
        slot = {int(c): i for i, c in enumerate(level.active)}
        for first in range(0, level.chunks, LANES):
            self.link.check()
            count = min(LANES, level.chunks - first)
            message = self.link.receive("data")
            if len(message.payload) != count * bfv.CHUNK_BYTES:
                raise ProtocolError("The encrypted fixed image has a length that does not fit its level.")
            view = memoryview(message.payload)
            for lane in range(count):
                at = slot.get(first + lane)
                if at is not None:
                    part = view[lane * bfv.CHUNK_BYTES : (lane + 1) * bfv.CHUNK_BYTES]
                    operand.fill(seed, name, first + lane, at, part)
        return operand

    def evaluate(
        self, source: ColumnSource, terms: Sequence[Term], evaluation: int, announce: Callable[[], None]
    ) -> list[int]:
        assert self._evaluator is not None
        totals = self._accumulate(source, terms)
        assert self._level is not None
        check_exact(source, terms, self._level)
        message, pads = self._evaluator.blind(totals, packing(terms))
        announce()
        step = MAX_PAYLOAD // bfv.answer_bytes(packing(terms)) * bfv.answer_bytes(packing(terms))
        for start in range(0, len(message), step):
            self.link.channel.send("request", {}, memoryview(message)[start : start + step])
        reply = self.link.receive("answer").payload
        if len(reply) != 8 * numbers_of(terms):
            raise ProtocolError(f"Expected {numbers_of(terms)} numbers from the peer, got {len(reply) / 8:g}.")
        opened = np.frombuffer(reply, "<u8").astype(np.uint64)
        if (opened >= bfv.PLAIN_MODULUS).any():
            raise ProtocolError("The peer's answer holds a number out of range.")
        return bfv.Evaluator.unblind(opened, pads)

    def _accumulate(self, source: ColumnSource, terms: Sequence[Term]) -> Any:
        workers = max(1, min(self.link.threads, source.groups))
        accumulators = [bfv.Accumulator(len(terms)) for _ in range(workers)]

        def work(group: int, worker: int, block: Columns) -> None:
            for i, term in enumerate(terms):
                if block[term.column].any():
                    accumulators[worker].add(block, term.column, self._operands[term.operand].data[group], i)

        over_groups(source, self.link, work)
        for other in accumulators[1:]:
            accumulators[0].merge(other)
        return accumulators[0].total


class FheFixed(FixedSide):
    name = "fhe"
    bits_per_number = BITS

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._keys: bfv.KeyHolder | None = None
        self._request = b""
        self._shape = (0, 1)

    def open_level(self, level: LevelInfo, operands: Mapping[str, Columns], first: bytes, second: bytes) -> None:
        self._keys = bfv.KeyHolder(bfv.joint_seed(self.link.session, level.index, first, second))
        self.link.channel.send("key", {"second": second}, self._keys.public_key().data)
        for info in level.operands:
            values = operands[info.name]
            for start in range(0, len(values), GROUP):
                self.link.check()
                packed = self._keys.encrypt(values[start : start + GROUP], info.name, start // CHUNK)
                self.link.channel.send("data", {"operand": info.name, "start": start}, packed.data)

    def receive(self, header: Mapping[str, Any], terms: Sequence[Term]) -> bytes:
        self._shape = (len(terms), packing(terms))
        parts, missing = [], len(terms) * bfv.answer_bytes(packing(terms))
        while missing > 0:
            part = self.link.receive("request").payload
            if not 0 < len(part) <= missing:
                raise ProtocolError("A request whose length does not fit its terms.")
            parts.append(bytes(part))
            missing -= len(part)
        self._request = b"".join(parts)
        return hashlib.sha256(self._request).digest()

    def answer(self) -> None:
        assert self._keys is not None
        opened = self._keys.open(self._request, *self._shape)
        self.link.channel.send("answer", {}, opened.astype("<u8").data)
