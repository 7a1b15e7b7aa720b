"""Products voxel by voxel under encryption: BFV with one value per slot, for sums over public maps (B-splines).

Party 2 encrypts n fixed values as the slots of a polynomial, once per level. Party 1 multiplies with the slots of its
own column, adds a one-time pad per slot, and returns the whole ciphertext; party 2 decrypts n uniform numbers, applies
the public map (`knots`) to them and returns the sums; party 1 takes the map of its pads off. Party 2 learns nothing,
party 1 the sums alone, and the cost does not depend on how many there are.

Ring, primes and keys are those of `bfv` (n = 8192, Q of four 30-bit primes). The plaintext is taken modulo three
20-bit primes t ≡ 1 mod 2n, whose product exceeds 2^59: the sums are exact up to ±2^58. Per ciphertext:

- the pad is uniform over the polynomials modulo t, so uniform in every slot;
- a fresh encryption of zero under party 2's public key re-randomises c1;
- Q is switched to one prime p0, D = Q/p0. c0 is rounded stochastically and gets a uniform h in [−256, 256): together
  a uniform flood of width 512·D = 2^99 on every coefficient, in exact arithmetic. What depends on the column before it
  is e·m, at most 21·n·t/2 < 2^36.4 in the worst case (errors are at most 21, |m| ≤ t/2), the rounding of Q·v/t, at
  most n·t/4, the encryption of zero and one unit of the pad: below 2^37. Every coefficient is hidden to a statistical
  distance of 2^-62, all 2.3 million voxels, three axes and three primes of a large image together to 2^-37. Of sums
  of up to 64 products (the bins of mutual information) it is 2^-56, of 2^20 samples together 2^-32;
- decryption errs if the flood (≤ 257), and the rounding of c1 times the secret (variance ≤ n/18, bounded terms: beyond
  255 with probability below 2^-70 by Bernstein's inequality) exceed p0/2t ≥ 519.

A multiply-and-open of this form is for parties that follow the protocol, as all of `bfv` is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numba import uint32
from numpy.typing import NDArray

from PPIRLogic.arrays import Words
from PPIRLogic.compiled import compiled
from PPIRLogic.errors import ProtocolError
from PPIRLogic.secure.fhe import ring
from PPIRLogic.secure.fhe.bfv import GROUP
from PPIRLogic.secure.fhe.evaluator import Evaluator
from PPIRLogic.secure.fhe.key_holder import KeyHolder
from PPIRLogic.secure.fhe.parameters import PRIMES, Q
from PPIRLogic.secure.fhe.ring import DEGREE, checked_residues
from PPIRLogic.secure.layout import LANES
from PPIRLogic.secure.prg import secret_stream

SLOT_MODULI = (1032193, 786433, 737281)
RANGE = math.prod(SLOT_MODULI)  # exact for sums of magnitude below RANGE / 2
SLOT_BITS = 60
_KEPT = PRIMES[0]
_FLOOD = 256  # units of D on each side; a power of two
_PART_BYTES = DEGREE * 15 // 4
PRODUCT_BYTES = 2 * _PART_BYTES  # what travels per chunk, column and modulus
_P = np.array(PRIMES, np.int64)


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
    table = ring.tables(modulus)
    x = np.empty(GROUP, np.uint32)
    ring.lift(values, modulus, x)
    ring.inverse(x, table.inverse, table.inverse_quotient, modulus, table.degree_inverse)
    out = x.astype(np.int32)
    out -= modulus * (out > modulus // 2).astype(np.int32)  # in a time that does not depend on how many are
    return out


def polynomials_to_slots(coefficients: Words, modulus: int) -> Words:
    """Residues modulo t, coefficient-major, to slot values in [0, t), coefficient-major."""
    table = ring.tables(modulus)
    x = coefficients.copy()
    ring.forward(x, table.forward, table.forward_quotient, modulus)
    return x


def encrypt_slots(
    keys: KeyHolder, values: NDArray[np.int32], operand: str, channel: int, first_chunk: int
) -> NDArray[np.uint8]:
    """Up to eight chunks of fixed values to their packed c0, for one of the moduli."""
    padded = np.zeros(GROUP, np.int32)
    padded[: values.size] = values
    polynomials = _by_chunk(slots_to_polynomials(_by_lane(padded), SLOT_MODULI[channel]))
    chunks = -(-values.size // DEGREE)
    return keys.encrypt_polynomials(polynomials, SLOT_MODULI[channel], slot_name(operand, channel), first_chunk, chunks)


# ------------------------------------------------------------------------------------ party 1


@compiled
def _add_pad(c: Any, pad: Any, quotient: Any, remainder: int, t: int, primes: Any) -> None:
    """c (4, n·8) += round(Q·pad/t) modulo each prime; quotient (4,): floor(Q/t) mod p; remainder: Q mod t."""
    for j in range(pad.size):
        v = np.int64(pad[j])
        small = (remainder * v + t // 2) // t
        for i in range(primes.size):
            c[i, j] = uint32((np.int64(c[i, j]) + quotient[i] * v + small) % primes[i])


@compiled
def _divide(c: Any, digits: Any, shift: Any, primes: Any, inverses: Any, out: Any) -> None:
    """out (n·8,) = floor((c + l) / D) + shift mod p0, D = p1·p2·p3, l < D given by its mixed-radix digits (3, …).

    inverses: p1⁻¹ mod p2, p1⁻¹ mod p3, p2⁻¹ mod p3, D⁻¹ mod p0.
    """
    p0, p1, p2, p3 = primes[0], primes[1], primes[2], primes[3]
    for j in range(out.size):
        a1 = np.int64(c[1, j])
        a2 = (np.int64(c[2, j]) - a1) % p2 * inverses[0] % p2
        a3 = (np.int64(c[3, j]) - a1) % p3 * inverses[1] % p3
        a3 = (a3 - a2) % p3 * inverses[2] % p3
        below = (a1 + (p1 % p0) * a2 + (p1 * p2 % p0) * a3 % p0) % p0
        carry = a1 + np.int64(digits[0, j]) >= p1
        carry = a2 + np.int64(digits[1, j]) + carry >= p2
        carry = a3 + np.int64(digits[2, j]) + carry >= p3
        q = (np.int64(c[0, j]) - below) % p0 * inverses[3] % p0
        out[j] = uint32((q + carry + np.int64(shift[j])) % p0)


@compiled
def _accumulate(m: Any, c: Any, prime: int, out: Any) -> None:
    """out (n·8,) += m·c mod p, in the transform domain."""
    p, inverse = np.int64(prime), 1.0 / prime
    for k in range(out.size):
        _, r = ring.divided(np.int64(out[k]) + np.int64(m[k]) * np.int64(c[k]), p, inverse)
        out[k] = uint32(r)


@compiled
def _accumulate_key(u: Any, public: Any, prime: int, out: Any) -> None:
    """out (n·8,) += u·public mod p, in the transform domain; public (n,) is the same for all lanes."""
    p = np.uint64(prime)
    for i in range(public.size):
        for lane in range(8):
            k = i * 8 + lane
            out[k] = uint32((np.uint64(out[k]) + np.uint64(u[k]) * np.uint64(public[i])) % p)


def _transform(small: NDArray[np.int32], prime: int, out: Words) -> None:
    """A small polynomial, coefficient-major, to its transform modulo p."""
    table = ring.tables(prime)
    ring.lift(small, prime, out)
    ring.forward(out, table.forward, table.forward_quotient, prime)


@compiled
def _add_small(x: Any, e: Any, prime: int) -> None:
    for j in range(x.size):
        x[j] = uint32((np.int64(x[j]) + np.int64(e[j])) % prime)


_INVERSES = np.array(
    [
        pow(PRIMES[1], -1, PRIMES[2]),
        pow(PRIMES[1], -1, PRIMES[3]),
        pow(PRIMES[2], -1, PRIMES[3]),
        pow(Q // _KEPT, -1, _KEPT),
    ],
    np.int64,
)


def _half_digits() -> Words:
    """D // 2 in mixed radix: rounds to the nearest."""
    rest, digits = (Q // _KEPT) // 2, []
    for prime in PRIMES[1:]:
        rest, digit = divmod(rest, prime)
        digits.append(digit)
    return np.repeat(np.array(digits, np.uint32)[:, None], GROUP, axis=1)


class SlotMultiplier:
    """Party 1's side of one level; one per worker thread."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._public = evaluator.public
        self._random = secret_stream()
        self._half, self._still = _half_digits(), np.zeros(GROUP, np.int16)

    def multiply(
        self, pairs: Iterable[tuple[NDArray[np.int32], Words]], channel: int, chunks: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The sum of columns of a group, (8·n,) chunk after chunk, times encrypted slots (2, primes, n·8).

        Returns what travels for the first `chunks` chunks, and the pads in [0, t), (8·n,), chunk after chunk.
        """
        t = SLOT_MODULI[channel]
        c = self._products((slots_to_polynomials(_by_lane(column), t), operand) for column, operand in pairs)
        pad = self.uniform_polynomial(t)
        quotients = np.array([Q // t % p for p in PRIMES], np.int64)
        _add_pad(c[0], pad, quotients, Q % t, t, _P)
        digits = np.stack([self.uniform_polynomial(p) for p in PRIMES[1:]])
        shift = (self._random.words(GROUP, np.uint16) & np.uint16(2 * _FLOOD - 1)).astype(np.int16) - _FLOOD
        parts = np.empty((2, GROUP), np.uint32)
        _divide(c[0], digits, shift, _P, _INVERSES, parts[0])
        _divide(c[1], self._half, self._still, _P, _INVERSES, parts[1])
        message = np.stack([_by_chunk(part)[: chunks * DEGREE] for part in parts])
        return ring.pack30(message), _by_chunk(polynomials_to_slots(pad, t)).astype(np.int64)

    def _products(self, pairs: Iterable[tuple[NDArray[np.int32], Words]]) -> Words:
        """Σ m·operand + a fresh encryption of zero: coefficients (2, primes, n·8)."""
        out, m_hat = np.zeros((2, len(PRIMES), GROUP), np.uint32), np.empty(GROUP, np.uint32)
        for m, operand in pairs:
            for i, prime in enumerate(PRIMES):
                _transform(m, prime, m_hat)
                for part in range(2):
                    _accumulate(m_hat, operand[part, i], prime, out[part, i])
        self._add_zero(out)
        return out

    def _add_zero(self, out: Words) -> None:
        """Add an encryption of zero to transforms, and leave coefficients."""
        u = np.empty(GROUP, np.int8)
        if ring.ternary(self._random.bytes(GROUP + GROUP // 64 + 4096), u) < 0:  # probability below 2^-300
            raise ProtocolError("Too few random bytes; start the run again.")
        errors = np.empty((2, GROUP), np.int8)
        for part in range(2):
            ring.centred_binomial(self._random.words(GROUP, np.uint64), errors[part])
        signed, u_hat = u.astype(np.int32), np.empty(GROUP, np.uint32)
        for i, prime in enumerate(PRIMES):
            table = ring.tables(prime)
            _transform(signed, prime, u_hat)
            for part in range(2):
                x = out[part, i]
                _accumulate_key(u_hat, self._public[part, i], prime, x)
                ring.inverse(x, table.inverse, table.inverse_quotient, prime, table.degree_inverse)
                _add_small(x, errors[part], prime)

    def uniform_polynomial(self, below: int) -> Words:
        """Uniform residues (n·8,), by rejection."""
        out = np.empty(GROUP, np.uint32)
        bits = 30 - (below - 1).bit_length()
        words = self._random.words(GROUP * 2 ** (30 - bits) // below + 4096) & np.uint32(0x3FFFFFFF)
        if ring.uniform_below(words >> np.uint32(bits), uint32(below), out) < 0:  # probability below 2^-300
            raise ProtocolError("Too few random words; start the run again.")
        return out


def combine_moduli(sums: NDArray[np.int64]) -> list[int]:
    """Signed integers from their residues modulo the three primes, (3, count)."""
    first, second, third = SLOT_MODULI
    a = sums[0] % first
    b = (sums[1] - a) % second * pow(first, -1, second) % second
    c = ((sums[2] - a) % third * pow(first, -1, third) - b) % third * pow(second, -1, third) % third
    top = first * second
    values = a + first * b + top * c  # below 2^60
    return np.where(values > RANGE // 2, values - RANGE, values).tolist()


# ------------------------------------------------------------------------------------ party 2


@compiled
def _decode(c0: Any, x: Any, prime: int, t: int, out: Any) -> None:
    """out = round((c0 + x)·t / p) mod t."""
    for j in range(out.size):
        phase = (np.int64(c0[j]) + np.int64(x[j])) % prime
        out[j] = uint32((phase * t + prime // 2) // prime % t)


@compiled
def _times(x: Any, secret: Any, prime: int) -> None:
    p = np.uint64(prime)
    for i in range(secret.size):
        for lane in range(8):
            x[i * 8 + lane] = uint32(np.uint64(x[i * 8 + lane]) * np.uint64(secret[i]) % p)


def open_slots(keys: KeyHolder, message: bytes | bytearray, channel: int, chunks: int) -> NDArray[np.int64]:
    """The padded slot values in [0, t) of `chunks` chunks, (chunks·n,); ProtocolError if malformed."""
    if len(message) != chunks * PRODUCT_BYTES:
        raise ProtocolError(f"{chunks} encrypted products take {chunks * PRODUCT_BYTES} bytes, not {len(message)}.")
    t, table = SLOT_MODULI[channel], ring.tables(_KEPT)
    received = checked_residues(ring.unpack30(message).reshape(2, 1, chunks * DEGREE), (_KEPT,))[:, 0]
    parts = np.zeros((2, GROUP), np.uint32)
    parts[:, : chunks * DEGREE] = received
    x = _by_lane(parts[1])
    ring.forward(x, table.forward, table.forward_quotient, _KEPT)
    _times(x, keys.secret_hat, _KEPT)
    ring.inverse(x, table.inverse, table.inverse_quotient, _KEPT, table.degree_inverse)
    out = np.empty(GROUP, np.uint32)
    _decode(_by_lane(parts[0]), x, _KEPT, t, out)
    return _by_chunk(polynomials_to_slots(out, t))[: chunks * DEGREE].astype(np.int64)
