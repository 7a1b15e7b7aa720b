"""Products voxel by voxel under encryption: BFV with one value per slot, for sums over public maps (B-splines).

Party 2 encrypts n fixed values as the slots of a polynomial, once per level. Party 1 multiplies with the slots of its
own column, adds a one-time pad to every coefficient, and returns the whole ciphertext; party 2 decrypts n uniform
numbers, applies the public map to them and returns the sums; party 1 takes the map of its pads off. Party 2 learns
nothing, party 1 the sums alone, and the cost does not depend on how many there are.

Ring, primes and keys are those of `bfv` (n = 8192, Q of four 30-bit primes). The plaintext is taken modulo two 29-bit
primes t ≡ 1 mod 2n, whose product is 2^57.998: the sums are exact up to ±2^56.998. Per ciphertext:

- a fresh encryption of zero under party 2's public key re-randomises c1: one sample of ring learning with errors;
- Q is switched to Q' of three primes (2^90), and every coefficient of c0 gets a pad R uniform modulo Q'. What travels
  is uniform, whatever keys and ciphertexts party 2 made: no noise and no phase is left beside the pad;
- party 2 computes floor(t·phase/Q') of every coefficient, party 1 knows floor(t·R/Q'): the difference is the product,
  off by one where the noise carries. The noise is E·m, at most 21·n·t/2 + n·t/4 + 21·(2n + 1) and in the mean far less,
  divided by the dropped prime, and the rounding of c1 times the secret; a step is Q'/t = 2^61.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy import uint32
from numpy.typing import NDArray

from PPIRLogic.arrays import Words
from PPIRLogic.compiled import compiled
from PPIRLogic.errors import ProtocolError
from PPIRLogic.secure.fhe import ring
from PPIRLogic.secure.fhe.bfv import C1_BYTES, GROUP
from PPIRLogic.secure.fhe.evaluator import Evaluator, add_zero, switch_modulus, transformed
from PPIRLogic.secure.fhe.key_holder import KeyHolder
from PPIRLogic.secure.fhe.parameters import KEPT, PRIMES
from PPIRLogic.secure.fhe.ring import DEGREE, checked_residues
from PPIRLogic.secure.layout import LANES
from PPIRLogic.secure.prg import Stream, secret_stream

SLOT_MODULI = (536690689, 536641537)
RANGE = math.prod(SLOT_MODULI)  # exact for sums of magnitude below RANGE / 2
SLOT_BITS = 58
ALPHA = "alpha"  # the label of the ciphertext of α
Pair = Sequence[Words]  # c0 and c1
PRODUCT_BYTES = 2 * C1_BYTES  # what travels per chunk, column and modulus


def slot_name(operand: str, channel: int) -> str:
    """The label of an operand's ciphertexts for one of the moduli; enters the seed of their c1."""
    return f"{operand}/slots/{channel}"


def _by_lane(chunks: NDArray[Any]) -> NDArray[Any]:
    """Chunk after chunk (8·n,) to coefficient-major."""
    return np.ascontiguousarray(chunks.reshape(LANES, DEGREE).T).reshape(-1)


def _by_chunk(lanes: NDArray[Any]) -> NDArray[Any]:
    """Coefficient-major (n·8,) to chunk after chunk."""
    return np.ascontiguousarray(lanes.reshape(DEGREE, LANES).T).reshape(-1)


def reduced(column: NDArray[np.int32], channel: int) -> NDArray[np.int32]:
    """A column as residues of one of the moduli."""
    out = np.empty(column.size, np.uint32)
    ring.reduce(column.astype(np.int64), SLOT_MODULI[channel], out)
    return out.view(np.int32)


def slots_to_polynomials(values: NDArray[np.int32], modulus: int) -> NDArray[np.int32]:
    """Eight chunks of slot values, |v| < t, coefficient-major, to centred coefficients, coefficient-major."""
    x = np.empty(GROUP, np.uint32)
    ring.lift(values, modulus, x)
    ring.inverse(x, modulus)
    out = x.astype(np.int32)
    out -= modulus * (out > modulus // 2).astype(np.int32)  # in a time that does not depend on how many are
    return out


def polynomials_to_slots(coefficients: Words, modulus: int) -> Words:
    """Residues modulo t, coefficient-major, to slot values in [0, t), coefficient-major."""
    x = coefficients.copy()
    ring.forward(x, modulus)
    return x


def encrypt_slots(
    keys: KeyHolder, values: NDArray[np.int32], operand: str, channel: int, first_chunk: int, factor: int = 1
) -> NDArray[np.uint8]:
    """Up to eight chunks of fixed values, times a factor modulo t, to their packed c0, for one of the moduli."""
    padded, t = np.zeros(GROUP, np.int32), SLOT_MODULI[channel]
    padded[: values.size] = values
    polynomials = slots_to_polynomials(_by_lane(padded), t)
    if factor != 1:
        _multiples(polynomials.copy(), np.full(LANES, factor, np.uint32), t, polynomials)
    chunks = -(-values.size // DEGREE)
    name = slot_name(operand, channel)
    return keys.encrypt_polynomials(_by_chunk(polynomials), t, name, first_chunk, chunks)


def encrypt_factor(keys: KeyHolder, factor: int, channel: int) -> NDArray[np.uint8]:
    """α as a constant polynomial to its packed c0: so party 1 can add α times a pad that it alone knows."""
    polynomial = np.zeros(GROUP, np.int64)
    polynomial[0] = factor
    return keys.encrypt_polynomials(polynomial, SLOT_MODULI[channel], slot_name(ALPHA, channel), 0, 1)


# ------------------------------------------------------------------------------------ party 1


@compiled
def _floors(residues: Any, primes: Any, inverses: Any, t: int, out: Any) -> None:
    """out (m,) = floor(t·v/Q') of v in [0, Q') given by its residues modulo three primes (3, m); t < 2^30.

    By mixed radix: v = a1 + p1·a2 + p1·p2·a3, and floors nest. inverses: p1⁻¹ mod p2, p1⁻¹ mod p3, p2⁻¹ mod p3.
    The same steps for every v, as `ring.divided` takes.
    """
    p1, p2, p3 = primes[0], primes[1], primes[2]
    i1, i2, i3 = 1.0 / p1, 1.0 / p2, 1.0 / p3
    for j in range(out.size):
        a1 = np.int64(residues[0, j])
        _, a2 = ring.divided((np.int64(residues[1, j]) - a1) * inverses[0], p2, i2)
        _, a3 = ring.divided((np.int64(residues[2, j]) - a1) * inverses[1], p3, i3)
        _, a3 = ring.divided((a3 - a2) * inverses[2], p3, i3)
        q, _ = ring.divided(a1 * t, p1, i1)
        q, _ = ring.divided(a2 * t + q, p2, i2)
        q, _ = ring.divided(a3 * t + q, p3, i3)
        out[j] = uint32(q)


_KEPT_PRIMES = np.array(PRIMES[:KEPT], np.int64)
_MIXED_RADIX = np.array(
    [pow(PRIMES[0], -1, PRIMES[1]), pow(PRIMES[0], -1, PRIMES[2]), pow(PRIMES[1], -1, PRIMES[2])], np.int64
)


def floors(residues: Words, modulus: int) -> Words:
    """floor(t·v/Q') for v modulo the kept primes, (3, m); (m,)."""
    out = np.empty(residues.shape[1], np.uint32)
    _floors(residues, _KEPT_PRIMES, _MIXED_RADIX, modulus, out)
    return out


@compiled
def _accumulate(m: Any, c: Any, prime: int, out: Any) -> None:
    """out (n·8,) += m·c mod p, in the transform domain."""
    p, inverse = np.int64(prime), 1.0 / prime
    for k in range(out.size):
        _, r = ring.divided(np.int64(out[k]) + np.int64(m[k]) * np.int64(c[k]), p, inverse)
        out[k] = uint32(r)


@compiled
def _multiples(m: Any, factors: Any, t: int, out: Any) -> None:
    """out (n·8,) = factor of the lane times m modulo t, centred; |m|, factors below t < 2^30."""
    inverse = 1.0 / t
    for i in range(m.size // 8):
        for lane in range(8):
            _, r = ring.divided(np.int64(m[i * 8 + lane]) * np.int64(factors[lane]), t, inverse)
            out[i * 8 + lane] = np.int32(r - (t & ((t // 2 - r) >> 63)))


def challenges(seed: bytes, channel: int, count: int) -> Words:
    """One factor for each of `count` products, uniform modulo t, from party 2's seed: both sides derive them."""
    out, t = np.empty(count, np.uint32), SLOT_MODULI[channel]
    words = Stream(seed, "challenge", channel).words(count + count // 64 + 4096)
    if ring.uniform_below(words, uint32(t), out) < 0:  # probability below 2^-300
        raise ProtocolError("Too few random words; start the run again.")
    return out


def combined(slots: NDArray[Any], factors: Words, modulus: int) -> NDArray[np.int64]:
    """Σ factor·slots modulo t over chunks: (chunks, n) below t and (chunks,), to (n,)."""
    total = np.zeros(DEGREE, np.int64)
    for values, factor in zip(slots, factors, strict=True):
        total = ring.modulo(total + values.astype(np.int64) * int(factor), modulus)
    return total


class SlotMultiplier:
    """Party 1's side of one level under one of party 2's secrets, the `copy`th; one per worker thread."""

    def __init__(self, evaluator: Evaluator, copy: int = 0) -> None:
        self._public = evaluator.public(copy)
        self._random = secret_stream()

    def multiply(
        self, pairs: Iterable[tuple[NDArray[np.int32], Pair]], channel: int, chunks: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The sum of columns of a group, (8·n,) chunk after chunk, times encrypted slots, c0 and c1 (primes, n·8).

        Returns what travels for the first `chunks` chunks, and the pads in [0, t), (8·n,), chunk after chunk.
        """
        t = SLOT_MODULI[channel]
        products = self._products((slots_to_polynomials(_by_lane(column), t), operand) for column, operand in pairs)
        return self._padded(products, t, chunks)

    def _padded(self, c: Words, t: int, chunks: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Re-randomised sums (2, primes, n·8) to what travels, and the pads as slots."""
        pads = np.stack([self.uniform_polynomial(p) for p in PRIMES[:KEPT]])
        c0, c1 = switch_modulus(c[0]), switch_modulus(c[1])
        c0 = ring.sum_below(c0 + pads, _KEPT_PRIMES.astype(np.uint32)[:, None])
        message = np.stack([[_by_chunk(residues)[: chunks * DEGREE] for residues in part] for part in (c0, c1)])
        return ring.pack30(message), _by_chunk(polynomials_to_slots(floors(pads, t), t)).astype(np.int64)

    def checked(
        self, total: Words, pads: NDArray[np.int64], alpha: Pair, channel: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """A request's one ciphertext that is opened to be compared, for one of the moduli, and the pad r₂ of its slots.

        total: `Combination.total`, Σ χ·m·Enc₂(αJ) of all products, (2, primes, n·8). pads: Σ χ·r₁, slots (n,).
        alpha: Enc₂(α), in the first lane.
        """
        t, own = SLOT_MODULI[channel], np.zeros((2, len(PRIMES), GROUP), np.uint32)
        lanes = np.zeros(GROUP, np.int32)
        lanes[::LANES] = pads
        m = slots_to_polynomials(lanes, t)
        for i, prime in enumerate(PRIMES):
            m_hat = transformed(m, prime)
            for part in range(2):
                _accumulate(m_hat, alpha[part][i], prime, own[part, i])
                sums = total[part, i].reshape(DEGREE, LANES).sum(axis=1, dtype=np.uint64)
                own[part, i, ::LANES] = ring.modulo(own[part, i, ::LANES] + sums, prime)
        add_zero(own, self._public, self._random)
        message, r2 = self._padded(own, t, 1)
        return message, r2[:DEGREE]

    def _products(self, pairs: Iterable[tuple[NDArray[np.int32], Pair]]) -> Words:
        """Σ m·operand + a fresh encryption of zero: coefficients (2, primes, n·8)."""
        out = np.zeros((2, len(PRIMES), GROUP), np.uint32)
        for m, operand in pairs:
            for i, prime in enumerate(PRIMES):
                m_hat = transformed(m, prime)
                for part in range(2):
                    _accumulate(m_hat, operand[part][i], prime, out[part, i])
        add_zero(out, self._public, self._random)
        return out

    def uniform_polynomial(self, below: int) -> Words:
        """Uniform residues (n·8,), by rejection."""
        out = np.empty(GROUP, np.uint32)
        bits = 30 - (below - 1).bit_length()
        words = self._random.words(GROUP * 2 ** (30 - bits) // below + 4096) & np.uint32(0x3FFFFFFF)
        if ring.uniform_below(words >> np.uint32(bits), uint32(below), out) < 0:  # probability below 2^-300
            raise ProtocolError("Too few random words; start the run again.")
        return out


class Combination:
    """Σ χ·m·Enc₂(αJ) over the products of a request, for one of the moduli; one per worker thread."""

    def __init__(self, channel: int) -> None:
        self._modulus = SLOT_MODULI[channel]
        self.total = np.zeros((2, len(PRIMES), GROUP), np.uint32)

    def add(self, column: NDArray[np.int32], factors: Words, operand: Pair) -> None:
        """A column of a group, residues (8·n,) chunk after chunk, and χ of its eight chunks."""
        m = slots_to_polynomials(_by_lane(column), self._modulus)
        scaled = np.empty(GROUP, np.int32)
        _multiples(m, factors, self._modulus, scaled)
        for i, prime in enumerate(PRIMES):
            m_hat = transformed(scaled, prime)
            for part in range(2):
                _accumulate(m_hat, operand[part][i], prime, self.total[part, i])

    def merge(self, other: Combination) -> None:
        self.total = ring.sum_below(self.total + other.total, np.array(PRIMES, np.uint32)[:, None])


def combine_moduli(sums: NDArray[np.int64]) -> list[int]:
    """Signed integers from their residues modulo the two primes, (2, count)."""
    first, second = SLOT_MODULI
    a = ring.modulo(sums[0], first)
    values = a + first * ring.modulo(ring.modulo(sums[1] - a, second) * pow(first, -1, second), second)  # below 2^58
    return (values - RANGE * (values > RANGE // 2)).tolist()


# ------------------------------------------------------------------------------------ party 2


@compiled
def _times(x: Any, secret: Any, prime: int) -> None:
    p, inverse = np.int64(prime), 1.0 / prime
    for i in range(secret.size):
        for lane in range(8):
            _, r = ring.divided(np.int64(x[i * 8 + lane]) * np.int64(secret[i]), p, inverse)
            x[i * 8 + lane] = uint32(r)


def phases(keys: KeyHolder, message: bytes | bytearray, chunks: int) -> Words:
    """What the key holder sees of `chunks` products, modulo the kept primes, (3, n·8); ProtocolError if malformed."""
    if len(message) != chunks * PRODUCT_BYTES:
        raise ProtocolError(f"{chunks} encrypted products take {chunks * PRODUCT_BYTES} bytes, not {len(message)}.")
    received = checked_residues(ring.unpack30(message).reshape(2, KEPT, chunks * DEGREE), PRIMES[:KEPT])
    out, part = np.empty((KEPT, GROUP), np.uint32), np.zeros(GROUP, np.uint32)
    for i, prime in enumerate(PRIMES[:KEPT]):
        part[: chunks * DEGREE] = received[1, i]
        x = _by_lane(part)
        ring.forward(x, prime)
        _times(x, keys.secret_hat[i], prime)
        ring.inverse(x, prime)
        part[: chunks * DEGREE] = received[0, i]
        out[i] = ring.sum_below(x + _by_lane(part), np.uint32(prime))
    return out


def open_slots(keys: KeyHolder, message: bytes | bytearray, channel: int, chunks: int) -> NDArray[np.int64]:
    """The padded slot values in [0, t) of `chunks` chunks, (chunks·n,); ProtocolError if malformed."""
    t = SLOT_MODULI[channel]
    values = polynomials_to_slots(floors(phases(keys, message, chunks), t), t)
    return _by_chunk(values)[: chunks * DEGREE].astype(np.int64)
