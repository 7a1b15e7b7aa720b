"""Verified products: `fhe` in which a party 1 that deviates gets no decryptions, at the price of twice the work.

Per level party 2 draws α, uniform in [1, t), t prime, beside its key, and sends every fixed value v twice: encrypted,
and α·v encrypted. Two further chunks hold 1 and 2^23, so that party 1 can add a pad of 46 bits as two digits to both
(a constant it could only add to one). Per number party 1 returns the sum and its α-multiple; party 2 opens
both and answers only if every second number of the request is α times the first. If one is not, it destroys key and
α and says nothing but that; the server records it, and three failures block the peer until a person lifts it.

Guarantee for the image against a malicious party 1, under ring learning with errors and the assumption that all it can
make of ciphertexts are linear combinations of them (Docs/privacy/fhe_verified.md): what it learns are the counted
numbers, each a linear function of the image modulo t of its choice, except with probability 2/t < 2^-44 per number;
and whether a guess of its own was right, which ends the level's key if it was wrong.
What party 1 gives for it: a malicious party 2 that encrypts something else than α·v reads one more number per answer.
This is not security against malicious parties.

Noise: the pad brings Σ m_k·e_k, at most 26·2^23·√2 (8σ), and its rounding at most 2^23, far below the 2^33 that the
flood hides; `check_exact` counts both.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import PolicyError, VerificationError
from PPIRLogic.secure.fhe import bfv
from PPIRLogic.secure.fhe.evaluator import Accumulator
from PPIRLogic.secure.fhe.key_holder import multiples
from PPIRLogic.secure.fhe.parameters import PLAIN_MODULUS
from PPIRLogic.secure.fhe.protocol import FheFixed, FheProduct
from PPIRLogic.secure.layout import CHUNK, GROUP
from PPIRLogic.secure.product import Columns, LevelInfo, Link
from PPIRLogic.secure.protocol import Protocol

PAD = "pad"
DIGIT_BITS = 23
DIGITS = 2  # of 23 bits: 46


def pad_values() -> Columns:
    """The two chunks that follow the operands: 1 and 2^23, each followed by zeros."""
    values = np.zeros(DIGITS * CHUNK, np.int32)
    values[::CHUNK] = 1 << DIGIT_BITS * np.arange(DIGITS)
    return values


def pad_block(pads: list[int]) -> Columns:
    """Party 1's column over the pads' chunks, (1, GROUP): its product carries `pads` where the numbers are."""
    block = np.zeros((1, GROUP), np.int32)
    for digit in range(DIGITS):
        for at, pad in zip(bfv.positions(len(pads)), pads, strict=True):
            block[0, digit * CHUNK + CHUNK - 1 - at] = pad >> DIGIT_BITS * digit & ((1 << DIGIT_BITS) - 1)
    return block


class VerifiedProduct(FheProduct):
    name = "fhe_verified"
    copies = 2

    def open_level(self, level: LevelInfo, first: bytes) -> None:
        super().open_level(level, first)
        self._operands[PAD] = self._receive_operand(PAD, DIGITS, np.arange(DIGITS))

    def _pad_noise(self, outputs: int) -> float:
        digits = DIGITS * outputs
        return 2.0**DIGIT_BITS * (26 * math.sqrt(digits) + digits / 2)

    def _blind(self, totals: NDArray[np.uint64], outputs: int) -> tuple[bytes, list[int]]:
        assert self._evaluator is not None
        pads = bfv.new_pads(len(totals) * outputs)
        padded = Accumulator(len(totals), self.copies)
        for i in range(len(totals)):
            padded.add(pad_block(pads[i * outputs : (i + 1) * outputs]), 0, self._operands[PAD].data[0], i)
        padded.total += totals
        both = padded.total.reshape(self.copies * len(totals), 2, *totals.shape[2:])
        return self._evaluator.hide(both, [0] * (self.copies * len(pads)), outputs), pads


class VerifiedFixed(FheFixed):
    name = "fhe_verified"
    copies = VerifiedProduct.copies

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._factor = 0  # α

    def open_level(self, level: LevelInfo, operands: Mapping[str, Columns], first: bytes, second: bytes) -> None:
        if level.control_points is not None:
            raise PolicyError("B-splines are not offered under fhe_verified.")
        self._factor = 1 + secrets.randbelow(PLAIN_MODULUS - 1)
        super().open_level(level, operands, first, second)
        self._send_operand(PAD, pad_values())

    def _values(self, values: Columns, copy: int) -> NDArray[np.int64]:
        return multiples(values, self._factor if copy else 1)

    def _opened(self) -> NDArray[np.uint64]:
        if self._keys is None:
            raise VerificationError
        terms, outputs = self._shape
        pairs = self._keys.open(self._request, self.copies * terms, outputs).reshape(terms, self.copies, outputs)
        expected = multiples(pairs[:, 0].reshape(-1).astype(np.int64), self._factor)
        if not np.array_equal(expected, pairs[:, 1].reshape(-1).astype(np.int64)):
            self._keys.forget()
            self._keys, self._factor = None, 0
            raise VerificationError
        return pairs[:, 0].reshape(-1)


PROTOCOL = Protocol(
    "fhe_verified", VerifiedProduct, VerifiedFixed, VerifiedFixed.bits_per_number, permitted_by_default=True,
    words="The fixed image reached this site encrypted only, and this site's values reached the other side hidden as"
    " well; every answer was checked by the other side before it was opened (protocol fhe_verified, homomorphic"
    " encryption, no third party).",
)  # fmt: skip
