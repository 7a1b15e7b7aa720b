"""The encrypted product without its protections, for the attacks to succeed on: what `fhe` was up to version 2.

Up to protocol version 2 a number travelled with a pad modulo t and a uniform flood of ±Q/4t, and party 2 opened
whatever came. The flood covers half of a step Q/t, so a party 2 that moves phases sees through it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.secure.fhe import evaluator, ring
from PPIRLogic.secure.fhe.evaluator import switch_modulus
from PPIRLogic.secure.fhe.parameters import KEPT, PLAIN_MODULUS, PRIMES, Q_KEPT, Q
from PPIRLogic.secure.fhe.ring import DEGREE, crt
from PPIRLogic.secure.fhe.slots import SLOT_MODULI, SlotMultiplier, _by_chunk, _by_lane, slots_to_polynomials

Array = NDArray[Any]
FLOOD = Q // (4 * PLAIN_MODULUS)


def flooded(residues: Array, pad: int) -> bytes:
    """One coefficient with a pad modulo t, here round(t·pad/Q'), and a flood, then switched to the kept primes."""
    plain = pad * PLAIN_MODULUS // Q_KEPT
    value = crt([int(r) for r in residues], PRIMES)
    value = (value + (Q * plain + PLAIN_MODULUS // 2) // PLAIN_MODULUS + secrets.randbelow(2 * FLOOD) - FLOOD) % Q
    return ((value * Q_KEPT + Q // 2) // Q % Q_KEPT).to_bytes(12, "little")


@contextmanager
def _instead(coefficient: Callable[[Array, int], bytes]) -> Iterator[None]:
    def coefficients(residues: Array, pads: Sequence[int]) -> bytes:
        return b"".join(coefficient(column, pad) for column, pad in zip(residues.T, pads, strict=True))

    saved = evaluator._padded_coefficients
    evaluator._padded_coefficients = coefficients  # type: ignore[assignment]
    try:
        yield
    finally:
        evaluator._padded_coefficients = saved


def with_floods() -> Any:
    """Here party 1 hides its numbers by pads modulo t and floods, as it did up to version 2."""
    return _instead(flooded)


def with_pads_alone() -> Any:
    """Here by pads modulo t alone: the noise lies open."""

    def bare(residues: Array, pad: int) -> bytes:
        plain = pad * PLAIN_MODULUS // Q_KEPT
        value = crt([int(r) for r in residues], PRIMES) + (Q * plain + PLAIN_MODULUS // 2) // PLAIN_MODULUS
        return ((value * Q_KEPT + Q // 2) // Q % Q_KEPT).to_bytes(12, "little")

    return _instead(bare)


def flooded_slots(multiplier: SlotMultiplier, column: Array, operand: Array, channel: int) -> bytes:
    """A product of slots with a pad modulo t and a flood of half a step on every coefficient."""
    t = SLOT_MODULI[channel]
    c = multiplier._products([(slots_to_polynomials(_by_lane(column), t), operand)])
    pad = multiplier.uniform_polynomial(t).astype(object)
    flood = np.array([secrets.randbelow(Q // (2 * t)) - Q // (4 * t) for _ in range(pad.size)], object)
    added = Q * pad // t + flood
    for i, prime in enumerate(PRIMES):
        c[0, i] = ((c[0, i].astype(np.int64) + (added % prime).astype(np.int64)) % prime).astype(np.uint32)
    parts = [[_by_chunk(residues) for residues in switch_modulus(part)] for part in c]
    return ring.pack30(np.array(parts, np.uint32)).tobytes()


def crafted(first: int, constant: int, digits: int, copies: int = 1) -> bytes:
    """A ciphertext of no product: `digits` coefficients of the key from `first` on, to the base 3, plus a constant."""
    c1 = np.zeros((KEPT, DEGREE), np.uint32)
    for j in range(min(digits, DEGREE - first)):
        c1[:, DEGREE - 1 - first - j] = [scaled(3**j) % p for p in PRIMES[:KEPT]]
    middle = (scaled(constant) + Q_KEPT // (2 * PLAIN_MODULUS)) % Q_KEPT  # of a step, so that floors are safe
    return ring.pack30(c1).tobytes() + copies * middle.to_bytes(12, "little")


def scaled(value: int) -> int:
    """The coefficient that stands for a plain value, modulo Q'."""
    return (2 * Q_KEPT * value + PLAIN_MODULUS) // (2 * PLAIN_MODULUS) % Q_KEPT
