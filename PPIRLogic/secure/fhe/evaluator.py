"""Party 1's half of the encrypted product: accumulate, re-randomise, pad."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numba import uint32
from numpy.typing import NDArray

from PPIRLogic.compiled import compiled
from PPIRLogic.errors import ProtocolError
from PPIRLogic.secure.fhe import ring
from PPIRLogic.secure.fhe.bfv import CHUNK_BYTES, GROUP, PRIME_ARRAY, new_pads, positions, uniform_polynomial
from PPIRLogic.secure.fhe.parameters import FLOOD, KEPT, PLAIN_MODULUS, PRIMES, Q_KEPT, Q
from PPIRLogic.secure.fhe.ring import DEGREE, Residues, checked_residues, crt
from PPIRLogic.secure.layout import LANES
from PPIRLogic.secure.prg import secret_stream


@compiled
def _interleave(part: Any, lane: int, out: Any) -> None:
    for j in range(part.size):
        out[j * 8 + lane] = part[j]


class Operand:
    """Party 1's copy of one encrypted fixed operand: groups of eight chunks, (groups, 2·copies, primes, n·8).

    With two copies every chunk is there twice, under two ciphertexts (`fhe_verified`).
    """

    def __init__(self, chunks: int, copies: int = 1) -> None:
        self.chunks = chunks
        self.data = np.zeros((-(-chunks // LANES), 2 * copies, len(PRIMES), GROUP), np.uint32)

    def fill(self, seed: bytes, operand: str, chunk: int, slot: int, packed: bytes | memoryview, copy: int = 0) -> None:
        """Take one chunk's packed c0 from the wire (checked) into `slot` and expand its c1 from the seed."""
        if len(packed) != CHUNK_BYTES or not 0 <= slot < self.chunks:
            raise ProtocolError("The encrypted fixed image has a length that does not fit its level.")
        c0 = checked_residues(ring.unpack30(packed).reshape(len(PRIMES), DEGREE), PRIMES)
        c1 = uniform_polynomial(seed, operand, chunk)
        group, lane = divmod(slot, LANES)
        for i in range(len(PRIMES)):
            _interleave(c0[i], lane, self.data[group, 2 * copy, i])
            _interleave(c1[i], lane, self.data[group, 2 * copy + 1, i])


@compiled
def _accumulate(block: Any, column: int, group: Any, total: Any, primes: Any, twiddle: Any, quotient: Any) -> None:
    x = np.empty(block.shape[1], np.uint32)
    signed = np.empty(block.shape[1], np.int32)
    ring.reverse_chunks(block[column], signed)
    for i in range(primes.size):
        ring.lift(signed, primes[i], x)
        ring.forward(x, twiddle[i], quotient[i], primes[i])
        for part in range(group.shape[0]):
            ring.multiply_accumulate(x, group[part, i], total[part, i], primes[i])


@compiled
def _switch_modulus(c: Any, primes: Any, p2_inverse: int, out: Any) -> None:
    """out = round(c / (p2·p3)) mod p0, p1 for residues c (4, n): the remainder by CRT, subtracted, divided out."""
    p0, p1, p2, p3 = np.int64(primes[0]), np.int64(primes[1]), np.int64(primes[2]), np.int64(primes[3])
    dropped = p2 * p3
    inverse0 = _power(dropped % p0, p0 - 2, p0)
    inverse1 = _power(dropped % p1, p1 - 2, p1)
    for j in range(c.shape[1]):
        r2, r3 = np.int64(c[2, j]), np.int64(c[3, j])
        r = r2 + p2 * (((r3 - r2) % p3) * p2_inverse % p3)
        if r > dropped // 2:
            r -= dropped
        out[0, j] = uint32((np.int64(c[0, j]) - r) % p0 * inverse0 % p0)
        out[1, j] = uint32((np.int64(c[1, j]) - r) % p1 * inverse1 % p1)


@compiled
def _power(base: Any, exponent: Any, modulus: Any) -> Any:
    result = np.int64(1)
    while exponent > 0:
        if exponent & 1:
            result = result * base % modulus
        base = base * base % modulus
        exponent >>= 1
    return result


class Accumulator:
    """Sums of products for `count` results, one per worker thread; `add` releases the interpreter lock.

    total: (count, 2·copies, primes, n) in the transform domain.
    """

    def __init__(self, count: int, copies: int = 1) -> None:
        self.total = np.zeros((count, 2 * copies, len(PRIMES), DEGREE), np.uint64)

    def add(self, block: NDArray[np.int32], column: int, group: Residues, result: int) -> None:
        """Add Σ over the group of block[column]·operand to `result`; block int32 (columns, 8·n)."""
        _accumulate(block, column, group, self.total[result], PRIME_ARRAY, *_twiddles())

    def merge(self, other: Accumulator) -> None:
        self.total = (self.total + other.total) % PRIME_ARRAY.astype(np.uint64)[:, None]


@lru_cache(maxsize=1)
def _twiddles() -> tuple[Residues, Residues]:
    return (
        np.stack([ring.tables(p).forward for p in PRIMES]),
        np.stack([ring.tables(p).forward_quotient for p in PRIMES]),
    )


class Evaluator:
    """Party 1's side of one level: blinds accumulated products and takes the pads off the answers."""

    def __init__(self, seed: bytes, public_key: bytes | bytearray | memoryview) -> None:
        if len(public_key) != CHUNK_BYTES:
            raise ProtocolError(f"The public key takes {CHUNK_BYTES} bytes, not {len(public_key)}.")
        pk0 = checked_residues(ring.unpack30(public_key).reshape(len(PRIMES), DEGREE), PRIMES)
        self._public = np.stack([pk0, uniform_polynomial(seed, "public")]).astype(np.uint64)
        self._random = secret_stream()

    @property
    def public(self) -> NDArray[np.uint64]:
        """Party 2's public key, (2, primes, n) in the transform domain."""
        return self._public

    def blind(self, totals: NDArray[np.uint64], outputs: int = 1) -> tuple[bytes, list[int]]:
        """Totals (count, 2, primes, n) in the transform domain to what travels, and the one-time pads kept here.

        Of every total `outputs` coefficients are sent, each with a pad and a flood of its own.
        """
        pads = new_pads(len(totals) * outputs)
        return self.hide(totals, pads, outputs), pads

    def hide(self, totals: NDArray[np.uint64], pads: Sequence[int], outputs: int = 1) -> bytes:
        """`blind` with these pads, in the order of the numbers; zeros only for totals that carry their pads already."""
        parts: list[bytes] = []
        left = iter(pads)
        for start in range(0, len(totals), LANES):
            lanes = self._rerandomised(totals[start : start + LANES])
            for lane in range(min(LANES, len(totals) - start)):
                parts.append(self._switched_c1(lanes[1, :, :, lane]))
                parts += [_padded_coefficient(lanes[0, :, at, lane], next(left)) for at in positions(outputs)]
        return b"".join(parts)

    def _rerandomised(self, totals: NDArray[np.uint64]) -> Residues:
        """Add pk·u + e per result, back to coefficients: (2, primes, n, lanes)."""
        out = np.zeros((2, len(PRIMES), DEGREE, LANES), np.uint32)
        u = np.empty(GROUP, np.int8)
        if ring.ternary(self._random.bytes(GROUP + GROUP // 64 + 4096), u) < 0:  # probability below 2^-300
            raise ProtocolError("Too few random bytes; start the run again.")
        errors = np.empty((2, GROUP), np.int8)
        for part in range(2):
            ring.centred_binomial(self._random.words(GROUP, np.uint64), errors[part])
        for i, prime in enumerate(PRIMES):
            table = ring.tables(prime)
            u_hat = _transformed(u, prime).astype(np.uint64)
            for part in range(2):
                x = u_hat * self._public[part, i][:, None] + _transformed(errors[part], prime)
                x[:, : len(totals)] += totals[:, part, i].T
                flat = (x % prime).astype(np.uint32).reshape(-1)
                ring.inverse(flat, table.inverse, table.inverse_quotient, prime, table.degree_inverse)
                out[part, i] = flat.reshape(DEGREE, LANES)
        return out

    @staticmethod
    def _switched_c1(c1: Residues) -> bytes:
        out = np.empty((KEPT, DEGREE), np.uint32)
        _switch_modulus(np.ascontiguousarray(c1), PRIME_ARRAY, pow(PRIMES[2], -1, PRIMES[3]), out)
        return ring.pack30(out).tobytes()

    @staticmethod
    def unblind(opened: NDArray[np.uint64], pads: list[int]) -> list[int]:
        """The exact signed results."""
        half = PLAIN_MODULUS // 2
        return [(int(o) - pad + half) % PLAIN_MODULUS - half for o, pad in zip(opened, pads, strict=True)]


def _transformed(small: NDArray[np.int8], prime: int) -> Residues:
    """Eight small polynomials (n·8,) to the transform domain as (n, 8)."""
    table = ring.tables(prime)
    x = np.where(small < 0, small.astype(np.int64) + prime, small).astype(np.uint32)
    ring.forward(x, table.forward, table.forward_quotient, prime)
    return x.reshape(DEGREE, LANES)


def _padded_coefficient(residues: Residues, pad: int) -> bytes:
    """Pad modulo t and flood on the one coefficient that carries the result, then switched to the kept primes."""
    value = crt([int(r) for r in residues], PRIMES)
    value = (value + (Q * pad + PLAIN_MODULUS // 2) // PLAIN_MODULUS + secrets.randbelow(2 * FLOOD) - FLOOD) % Q
    return ((value * Q_KEPT + Q // 2) // Q % Q_KEPT).to_bytes(8, "little")
