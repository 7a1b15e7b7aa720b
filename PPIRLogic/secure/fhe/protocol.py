"""The default protocol: encrypted products between two parties, checked before they are released (see `bfv`).

Per level party 2 makes two secrets under one public polynomial and draws α, uniform in [1, t), t prime. It sends every
fixed value v as Enc₁(v) and Enc₂(α·v), about 30 bytes per voxel. Two further chunks hold 0, 0 under the first secret
and α, α·2^23 under the second, so that party 1 can add α·r₁ to what is opened under the second, by two digits of r₁.

Per evaluation and number party 1 draws R₁, R₂ uniform modulo Q', r = floor(t·R/Q'), and sends one c1 and two
coefficients, 92 kB whatever the size of the image. Party 2 opens x = v + r₁ and y = α·(v + r₁) + r₂. So y − α·x = r₂,
which only party 1 knows, if party 1 made an honest request; a test of equality (`equality`) shows it, and then party 2
releases the x's. If the test fails it destroys its keys and α. Which chunks party 1 uses stays unknown to party 2.

What this holds and what it rests on is in Docs/privacy/verified.md. Sums per control point are in
`control_point_sums`.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import ProtocolError, VerificationError
from PPIRLogic.network.channel import MAX_PAYLOAD
from PPIRLogic.secure.exact_range import check_exact, check_possible
from PPIRLogic.secure.fhe import bfv, ring
from PPIRLogic.secure.fhe.control_point_sums import SEED_BYTES, ControlPointFixed, ControlPointProduct
from PPIRLogic.secure.fhe.equality import PARTY_1, PARTY_2, SHARE_BYTES, TAG_BYTES, EqualityTest, context_of
from PPIRLogic.secure.fhe.evaluator import Accumulator, Evaluator, Operand
from PPIRLogic.secure.fhe.key_holder import KeyHolder, multiples, open_answers
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
COPIES = 2  # secrets, and ciphertexts of every chunk
PAD = "pad"
DIGIT_BITS = 23
DIGITS = 2  # of 23 bits: 46
Secrets = NDArray[np.uint64]  # numbers that both parties hold if the request was honest


def pad_values() -> NDArray[np.int64]:
    """The two chunks that follow the operands, before α: 1 and 2^23, each followed by zeros."""
    values = np.zeros(DIGITS * CHUNK, np.int64)
    values[::CHUNK] = 1 << DIGIT_BITS * np.arange(DIGITS)
    return values


def pad_block(pads: Sequence[int]) -> Columns:
    """Party 1's column over the pads' chunks, (1, GROUP): its product carries `pads` where the numbers are."""
    block = np.zeros((1, GROUP), np.int32)
    for digit in range(DIGITS):
        for at, pad in zip(bfv.positions(len(pads)), pads, strict=True):
            block[0, digit * CHUNK + CHUNK - 1 - at] = pad >> DIGIT_BITS * digit & ((1 << DIGIT_BITS) - 1)
    return block


def pad_noise(outputs: int) -> float:
    """Bound (8σ) of the noise that the digits of the pads of one answer bring with them."""
    digits = DIGITS * outputs
    return 2.0**DIGIT_BITS * (26 * math.sqrt(digits) + digits / 2)


class FheProduct(PrivateProduct):
    name = "fhe"
    bits_per_number = BITS

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
        if len(keys.payload) != COPIES * bfv.CHUNK_BYTES:
            raise ProtocolError(f"The public keys take {COPIES * bfv.CHUNK_BYTES} bytes, not {len(keys.payload)}.")
        self._seed = bfv.joint_seed(self.link.session, level.index, first, second)
        view = memoryview(keys.payload)
        self._evaluator = Evaluator(self._seed, view[: bfv.CHUNK_BYTES], view[bfv.CHUNK_BYTES :])
        for info in level.operands:
            self._operands[info.name] = self._receive_operand(info.name, level.chunks, level.active)
        self._operands[PAD] = self._receive_operand(PAD, DIGITS, np.arange(DIGITS))
        self._control_points = None
        if level.control_points is not None:
            self._control_points = ControlPointProduct(
                self.link, level, self._evaluator, lambda name, n, k: self._receive_operand(name, n, np.arange(n), k)
            )

    def _receive_operand(self, name: str, chunks: int, active: NDArray[np.int64], copies: int = COPIES) -> Operand:
        operand = Operand(len(active), copies)
        slot = {int(c): i for i, c in enumerate(active)}
        for first, copy in product(range(0, chunks, LANES), range(copies)):
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
                    operand.fill(self._seed, name, first + lane, at, part, copy)
        return operand

    def evaluate(
        self, source: ColumnSource, terms: Sequence[Term], evaluation: int, announce: Callable[[], None]
    ) -> list[int]:
        if are_per_control_point(terms):
            assert self._control_points is not None
            return self._control_points.evaluate(source, terms, announce, self._released)
        totals = self._accumulate(source, terms)
        assert self._level is not None
        level, outputs = self._level, packing(terms)
        check_exact(source, terms, level, pad_noise(outputs))
        message, pads = self._blind(totals, outputs)
        announce()
        step = MAX_PAYLOAD // bfv.answer_bytes(outputs, COPIES) * bfv.answer_bytes(outputs, COPIES)
        for start in range(0, len(message), step):
            self.link.channel.send("request", {}, memoryview(message)[start : start + step])

        def read(answer: NDArray[np.uint64]) -> list[int]:
            if (answer >= PLAIN_MODULUS).any():
                raise ProtocolError("The peer's answer holds a number out of range.")
            values = Evaluator.unblind(answer, pads[0])
            check_possible(values, source, terms, level)
            return values

        secret = np.array([bfv.floor_modulo_t(pad) for pad in pads[1]], np.uint64)
        return self._released(hashlib.sha256(message).digest(), secret, numbers_of(terms), read)

    def _blind(self, totals: NDArray[np.uint64], outputs: int) -> tuple[bytes, tuple[list[int], list[int]]]:
        """What travels, and the pads kept here: R₁ and R₂ of every number; totals (terms, 3, primes, n)."""
        assert self._evaluator is not None
        count = len(totals) * outputs
        first, second = bfv.new_pads(count), bfv.new_pads(count)
        padded = Accumulator(len(totals), COPIES)
        pads: list[int] = []
        for i in range(len(totals)):
            own = slice(i * outputs, (i + 1) * outputs)
            digits = [bfv.floor_modulo_t(pad) for pad in first[own]]
            padded.add(pad_block(digits), [0], self._operands[PAD].data[0], [i])
            pads += [*first[own], *second[own]]
        both = ring.sum_below(padded.total + totals, bfv.PRIME_ARRAY.astype(np.uint64)[:, None])
        return self._evaluator.hide(both, pads, outputs), (first, second)

    def _released(
        self, request: bytes, secret: Secrets, numbers: int, read: Callable[[NDArray[np.uint64]], list[int]]
    ) -> list[int]:
        """What `read` makes of party 2's numbers, which it releases if it finds `secret` too; request: its hash.

        An answer that `read` finds impossible, or none, leaves the test on record as unfinished.
        """
        assert self._level is not None
        test = EqualityTest(PARTY_1, context_of(self.link.session, self._level.index, request), secret)
        test.meet(self.link.receive("test").payload)
        with self.testing():
            self.link.channel.send("test", {}, test.share + test.tag())
            if not test.confirms(self.link.receive("test").payload):
                raise VerificationError
            reply = self.link.receive("answer").payload
            if len(reply) != 8 * numbers:
                raise ProtocolError(f"Expected {numbers} numbers from the peer, got {len(reply) / 8:g}.")
            return read(np.frombuffer(reply, "<u8").astype(np.uint64))

    def _accumulate(self, source: ColumnSource, terms: Sequence[Term]) -> Any:
        workers = max(1, min(self.link.threads, source.groups))
        accumulators = [Accumulator(len(terms), COPIES) for _ in range(workers)]

        by_operand = {
            operand: [i for i, term in enumerate(terms) if term.operand == operand]
            for operand in dict.fromkeys(term.operand for term in terms)
        }

        def work(group: int, worker: int, block: Columns) -> None:
            for (
                operand,
                results,
            ) in by_operand.items():  # columns of zeros, too: the time it takes must not tell of them
                columns = [terms[i].column for i in results]
                accumulators[worker].add(block, columns, self._operands[operand].data[group], results)

        over_groups(source, self.link, work)
        for other in accumulators[1:]:
            accumulators[0].merge(other)
        return accumulators[0].total


class FheFixed(FixedSide):
    name = "fhe"
    bits_per_number = BITS

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._keys: tuple[KeyHolder, ...] = ()
        self._factor = 0  # α
        self._level = 0
        self._request = self._digest = b""
        self._shape = (0, 1)
        self._control_points: ControlPointFixed | None = None
        self._sums: NDArray[np.uint64] | None = None  # per control point, of the request received last

    def open_level(self, level: LevelInfo, operands: Mapping[str, Columns], first: bytes, second: bytes) -> None:
        seed, self._level = bfv.joint_seed(self.link.session, level.index, first, second), level.index
        self._keys = tuple(KeyHolder(seed) for _ in range(COPIES))
        self._factor = 1 + secrets.randbelow(PLAIN_MODULUS - 1)
        self.link.channel.send("key", {"second": second}, b"".join(k.public_key().tobytes() for k in self._keys))
        for info in level.operands:
            self._send_operand(info.name, operands[info.name], operands[info.name])
        self._send_operand(PAD, 0 * pad_values(), pad_values())
        self._control_points = None
        if level.control_points is not None:
            self._control_points = ControlPointFixed(self.link, level, self._keys)
            self._control_points.send({o: operands[o.name] for o in level.operands if o.per_control_point})

    def _send_operand(self, name: str, values: NDArray[Any], multiplied: NDArray[Any]) -> None:
        """`values` under the first secret; α times `multiplied` under the second."""
        for start, copy in product(range(0, len(values), GROUP), range(COPIES)):
            self.link.check()
            at = slice(start, start + GROUP)
            part = multiples(multiplied[at], self._factor) if copy else values[at]
            packed = self._keys[copy].encrypt(part, name, start // CHUNK)
            self.link.channel.send("data", {"operand": name, "start": start}, packed.data)

    def receive(self, header: Mapping[str, Any], terms: Sequence[Term]) -> bytes:
        self._sums = None
        if are_per_control_point(terms):
            if self._control_points is None:
                raise VerificationError
            self._digest, self._sums = self._control_points.receive(terms)
            return self._digest
        self._shape = (len(terms), packing(terms))
        parts, missing = [], len(terms) * bfv.answer_bytes(packing(terms), COPIES)
        while missing > 0:
            part = self.link.receive("request").payload
            if not 0 < len(part) <= missing:
                raise ProtocolError("A request whose length does not fit its terms.")
            parts.append(bytes(part))
            missing -= len(part)
        self._request = b"".join(parts)
        self._digest = hashlib.sha256(self._request).digest()
        return self._digest

    def answer(self) -> None:
        if self._sums is None:
            self._release(*self._opened())
            return
        assert self._control_points is not None
        self._digest, secret = self._control_points.challenge()
        self._release(self._sums, secret)

    def _opened(self) -> tuple[NDArray[np.uint64], Secrets]:
        """The padded numbers of the request received last, and what party 1 must hold, too: y − α·x of each."""
        if not self._keys:
            raise VerificationError
        opened = open_answers(self._keys, self._request, *self._shape).astype(np.int64)
        x, y = opened[:, 0].reshape(-1), opened[:, 1].reshape(-1)
        return x.astype(np.uint64), ring.modulo(y - multiples(x, self._factor), PLAIN_MODULUS).astype(np.uint64)

    def _release(self, numbers: NDArray[np.uint64], secret: Secrets) -> None:
        """Send the numbers if party 1 shows that it holds `secret`; VerificationError, and all keys gone, if not."""
        test = EqualityTest(PARTY_2, context_of(self.link.session, self._level, self._digest), secret)
        self.link.channel.send("test", {}, test.share)
        theirs = self.link.receive("test").payload
        if len(theirs) != SHARE_BYTES + TAG_BYTES:
            raise ProtocolError("A message of an equality test with a wrong length.")
        test.meet(theirs[:SHARE_BYTES])
        with self.testing():
            if not test.confirms(theirs[SHARE_BYTES:]):
                self._forget()
                raise VerificationError
        self.link.channel.send("test", {}, test.tag())
        self.link.channel.send("answer", {}, numbers.astype("<u8").data)

    def _forget(self) -> None:
        """Destroy the level's keys and factor: nothing can be opened any more."""
        for keys in self._keys:
            keys.forget()
        if self._control_points is not None:
            self._control_points.forget()
        self._sums = None
        self._keys, self._factor, self._control_points = (), 0, None


PROTOCOL = Protocol(
    "fhe", FheProduct, FheFixed, FheFixed.bits_per_number, permitted_by_default=True, per_control_point=True,
    control_point_bits=SLOT_BITS, test_bytes=SEED_BYTES + SHARE_BYTES + TAG_BYTES,
    words="The fixed image reached this site encrypted only, and this site's values reached the other side hidden as"
    " well; every answer was checked by the other side before it was released (protocol fhe, homomorphic encryption,"
    " no third party).",
)  # fmt: skip
