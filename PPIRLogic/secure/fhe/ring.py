"""Arithmetic of the ring Z_Q[X]/(X^n + 1) in residue form: number-theoretic transforms and packing.

n = 8192 and Q is the product of four 30-bit primes, so that a butterfly fits 32-bit lanes and eight
polynomials are transformed side by side (`LANES`, one vector register). The order of the transformed
coefficients and the choice of root (the smallest primitive 2n-th root of unity) are those of Microsoft SEAL,
so keys made there can be used here as they are; a test compares both.

Shapes: a batch of eight polynomials is uint32 (n * 8,), coefficient-major: element i*8 + lane.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy import uint32, uint64
from numpy.typing import NDArray

from PPIRLogic.arrays import Words
from PPIRLogic.compiled import compiled
from PPIRLogic.errors import ProtocolError
from PPIRLogic.secure.layout import CHUNK, LANES

Residues = NDArray[np.uint32]

DEGREE = CHUNK  # n: a chunk is one polynomial
PRIME_BITS = 30


class TwiddleTables:
    """Twiddle factors of one prime in bit-reversed order, with Shoup quotients floor(w·2^32 / p)."""

    def __init__(self, prime: int, degree: int = DEGREE) -> None:
        root = _smallest_root(prime, degree)
        order = _bit_reversed(degree)
        self.prime = prime
        self.forward, self.forward_quotient = _powers(root, prime, order)
        self.inverse, self.inverse_quotient = _powers(pow(root, -1, prime), prime, order)
        share = pow(degree, -1, prime)  # kept in the place of the root's power 0, which no stage uses
        self.inverse[0], self.inverse_quotient[0] = share, (share << 32) // prime
        self.negative_inverse = -pow(prime, -1, 2**32) % 2**32


@lru_cache(maxsize=16)
def tables(prime: int, degree: int = DEGREE) -> TwiddleTables:
    """The tables of `prime` (≡ 1 mod 2n, below 2^30), made once."""
    return TwiddleTables(prime, degree)


def _smallest_root(prime: int, degree: int) -> int:
    exponent = (prime - 1) // (2 * degree)
    root = next(r for g in range(2, 10_000) if pow(r := pow(g, exponent, prime), degree, prime) == prime - 1)
    odd = _first_powers(root * root % prime, prime, degree) * np.uint64(root) % np.uint64(prime)
    return int(odd.min())  # the primitive roots are the odd powers


def _first_powers(base: int, prime: int, count: int) -> NDArray[np.uint64]:
    """base^0, base^1, … modulo a prime below 2^32; count: a power of two."""
    powers = np.ones(count, np.uint64)
    known = 1
    while known < count:
        powers[known : 2 * known] = powers[:known] * np.uint64(pow(base, known, prime)) % np.uint64(prime)
        known *= 2
    return powers


def _bit_reversed(count: int) -> NDArray[np.int64]:
    """0 … count − 1 with their bits in reversed order; count: a power of two."""
    order = np.zeros(1, np.int64)
    while order.size < count:
        order = np.concatenate([2 * order, 2 * order + 1])
    return order


def _powers(root: int, prime: int, order: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    values = _first_powers(root, prime, len(order))[order]
    return values.astype(np.uint32), ((values << np.uint64(32)) // np.uint64(prime)).astype(np.uint32)


# --------------------------------------------------------------------------------------- transforms


def forward(x: Residues, prime: int) -> None:
    """In place: eight polynomials (residues < 4p) to the transform domain, residues < p."""
    from PPIRLogic.secure.fhe import transform_kernels

    table = tables(prime, x.size // LANES)
    transform_kernels.forward(x, table.forward, table.forward_quotient, uint32(prime))


def inverse(x: Residues, prime: int) -> None:
    """In place: eight polynomials (residues < p) back to coefficients, residues < p."""
    from PPIRLogic.secure.fhe import transform_kernels

    table = tables(prime, x.size // LANES)
    transform_kernels.inverse(x, table.inverse, table.inverse_quotient, uint32(prime))


@compiled
def lift(values: Any, prime: Any, out: Any) -> None:
    """Signed integers, |v| < p < 2^31, to residues."""
    p = np.int32(prime)
    for i in range(values.size):
        v = np.int32(values[i])
        out[i] = uint32(v + (p & (v >> np.int32(31))))


@compiled
def divided(a: Any, t: Any, inverse: Any) -> Any:
    """floor(a / t) and the rest, for |a| < 2^63, |a| / t < 2^50, t > 0 and inverse = 1 / t.

    The same steps for every a: a division or a branch would take a time that depends on the image.
    """
    q = np.int64(np.floor(np.float64(a) * inverse))  # off by one at most; rounded towards 0 it could be by two
    r = a - q * t
    below = r >> 63
    q, r = q + below, r + (t & below)
    above = (t - 1 - r) >> 63
    return q - above, r - (t & above)


@compiled
def reduce(values: Any, prime: int, out: Any) -> None:
    """Signed 64-bit integers, |v| < 2^63 and |v| / prime < 2^50, to residues; both (n,)."""
    inverse = 1.0 / prime
    for i in range(values.size):
        _, out[i] = divided(values[i], prime, inverse)


def modulo(values: NDArray[Any], modulus: int) -> NDArray[np.int64]:
    """Integers, |v| < 2^63, of any shape to [0, modulus). NumPy's own % divides: its time depends on the values."""
    out = np.empty(values.size, np.int64)
    reduce(np.ascontiguousarray(values, np.int64).reshape(-1), modulus, out)
    return out.reshape(values.shape)


def sum_below(values: NDArray[Any], primes: Any) -> NDArray[Any]:
    """Unsigned values below 2p, such as sums of two residues, to those below p: of v and v − p the smaller."""
    out: NDArray[Any] = np.minimum(values, values - primes)
    return out


@compiled
def shoup_quotients(values: Any, prime: Any, out: Any) -> None:
    """floor(w·2^32 / p) of residues w (n,), with which a product by w needs no division."""
    p, inverse = np.int64(prime), 1.0 / prime
    for i in range(values.size):
        q, _ = divided(np.int64(values[i]) << 32, p, inverse)
        out[i] = uint32(q)


# ------------------------------------------------------------------------------------------ sampling


@compiled
def uniform_below(words: Any, prime: Any, out: Any) -> int:
    """Uniform residues by rejection of words as long as the prime; returns how many were used, or −1 if too few."""
    j = 0
    mask = uint32(1)
    while mask < prime:
        mask = uint32(2 * mask + 1)
    for i in range(out.size):
        while True:
            if j >= words.size:
                return -1
            w = words[j] & mask
            j += 1
            if w < prime:
                out[i] = w
                break
    return j


@compiled
def centred_binomial(words: Any, out: Any) -> None:
    """Errors of standard deviation 3.24 (21 − 21 bits, SEAL's own choice) from 64-bit words; out int8."""
    for i in range(out.size):
        out[i] = np.int8(_ones(words[i] & uint64(0x1FFFFF))) - np.int8(
            _ones((words[i] >> uint64(21)) & uint64(0x1FFFFF))
        )


@compiled
def _ones(x: Any) -> Any:
    """How many bits of a 64-bit word are set."""
    x = x - ((x >> uint64(1)) & uint64(0x5555555555555555))
    x = (x & uint64(0x3333333333333333)) + ((x >> uint64(2)) & uint64(0x3333333333333333))
    x = (x + (x >> uint64(4))) & uint64(0x0F0F0F0F0F0F0F0F)
    return (x * uint64(0x0101010101010101)) >> uint64(56)


@compiled
def ternary(random: Any, out: Any) -> int:
    """Uniform in {−1, 0, 1} by rejection of bytes; returns −1 if `random` was too short."""
    j = 0
    for i in range(out.size):
        while True:
            if j >= random.size:
                return -1
            b = random[j]
            j += 1
            if b < 255:
                out[i] = np.int8(b % 3) - np.int8(1)
                break
    return j


# ------------------------------------------------------------------------------------------- packing


@compiled
def _pack(values: Any, out: Any) -> None:
    for i in range(values.size // 4):
        a, b = uint64(values[4 * i]), uint64(values[4 * i + 1])
        c, d = uint64(values[4 * i + 2]), uint64(values[4 * i + 3])
        low = a | (b << uint64(30)) | (c << uint64(60))
        high = (c >> uint64(4)) | (d << uint64(26))
        for k in range(8):
            out[15 * i + k] = (low >> uint64(8 * k)) & uint64(255)
        for k in range(7):
            out[15 * i + 8 + k] = (high >> uint64(8 * k)) & uint64(255)


@compiled
def _unpack(data: Any, out: Any) -> None:
    for i in range(out.size // 4):
        low = uint64(0)
        high = uint64(0)
        for k in range(8):
            low |= uint64(data[15 * i + k]) << uint64(8 * k)
        for k in range(7):
            high |= uint64(data[15 * i + 8 + k]) << uint64(8 * k)
        mask = uint64(0x3FFFFFFF)
        out[4 * i] = low & mask
        out[4 * i + 1] = (low >> uint64(30)) & mask
        out[4 * i + 2] = ((low >> uint64(60)) | (high << uint64(4))) & mask
        out[4 * i + 3] = (high >> uint64(26)) & mask


def pack30(values: Words) -> NDArray[np.uint8]:
    """uint32 values below 2^30, count divisible by 4, to 15 bytes per four."""
    out = np.empty(values.size // 4 * 15, np.uint8)
    _pack(values.reshape(-1), out)
    return out


def unpack30(data: Any) -> Words:
    """The inverse of `pack30`; the caller checks the residues against their primes."""
    raw = np.frombuffer(data, np.uint8)
    out = np.empty(raw.size // 15 * 4, np.uint32)
    _unpack(raw, out)
    return out


def crt(residues: list[int], primes: tuple[int, ...]) -> int:
    value, modulus = residues[0], primes[0]
    for r, p in zip(residues[1:], primes[1:], strict=True):
        value += modulus * ((r - value) * pow(modulus, -1, p) % p)
        modulus *= p
    return value


def checked_residues(values: Residues, primes: tuple[int, ...]) -> Residues:
    """`values` (..., primes, n) from the wire, or ProtocolError if one is not below its prime."""
    if (values.max(axis=-1) >= np.array(primes, np.uint32)).any():
        raise ProtocolError("A polynomial from the peer holds a residue out of range.")
    return values
