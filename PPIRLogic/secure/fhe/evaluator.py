"""Party 1's half of the encrypted product: accumulate, re-randomise, pad."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numba import uint32, uint64
from numpy.typing import NDArray

from PPIRLogic.compiled import compiled
from PPIRLogic.errors import ProtocolError
from PPIRLogic.secure.fhe import ring
from PPIRLogic.secure.fhe.bfv import (
    CHUNK_BYTES,
    COEFFICIENT_BYTES,
    GROUP,
    PRIME_ARRAY,
    floor_modulo_t,
    new_pads,
    positions,
    uniform_polynomial,
)
from PPIRLogic.secure.fhe.parameters import KEPT, PLAIN_MODULUS, PRIMES
from PPIRLogic.secure.fhe.ring import DEGREE, Residues, checked_residues, crt
from PPIRLogic.secure.layout import LANES
from PPIRLogic.secure.prg import secret_stream


@compiled
def _interleave(part: Any, lane: int, out: Any) -> None:
    for j in range(part.size):
        out[j * 8 + lane] = part[j]


class Operand:
    """Party 1's copy of one encrypted fixed operand: groups of eight chunks, (groups, copies + 1, primes, n·8).

    Of every chunk: c0 under each of the secrets, then the c1 that they share.
    """

    def __init__(self, chunks: int, copies: int = 1) -> None:
        self.chunks = chunks
        self.data = np.zeros((-(-chunks // LANES), copies + 1, len(PRIMES), GROUP), np.uint32)

    def fill(self, seed: bytes, operand: str, chunk: int, slot: int, packed: bytes | memoryview, copy: int = 0) -> None:
        """Take one chunk's packed c0 from the wire (checked) into `slot`; its c1 is expanded from the seed."""
        if len(packed) != CHUNK_BYTES or not 0 <= slot < self.chunks:
            raise ProtocolError("The encrypted fixed image has a length that does not fit its level.")
        c0 = checked_residues(ring.unpack30(packed).reshape(len(PRIMES), DEGREE), PRIMES)
        group, lane = divmod(slot, LANES)
        self._put(c0, group, lane, copy)
        if copy == 0:
            self._put(uniform_polynomial(seed, operand, chunk), group, lane, -1)

    def _put(self, polynomial: Residues, group: int, lane: int, part: int) -> None:
        for i in range(len(PRIMES)):
            _interleave(polynomial[i], lane, self.data[group, part, i])


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


_LAST = PRIMES[KEPT]  # the prime that the modulus switch drops
_LAST_INVERSES = np.array([pow(_LAST, -1, p) for p in PRIMES[:KEPT]], np.uint32)
_LAST_QUOTIENTS = np.array([(int(w) << 32) // p for w, p in zip(_LAST_INVERSES, PRIMES, strict=False)], np.uint32)


@compiled
def _switch(c: Any, primes: Any, inverses: Any, quotients: Any, out: Any) -> None:
    """out (3, m) = round(c / p3) = (c − r) / p3 modulo the first three primes, for residues c (4, m).

    r is the residue modulo p3, around 0. quotients: floor(inverse·2^32 / p), so that no product needs a division.
    """
    last = np.int32(primes[3])
    half = np.int32(last >> 1)
    for i in range(3):
        p, w, quotient = primes[i], inverses[i], uint64(quotients[i])
        for j in range(c.shape[1]):
            r = np.int32(c[3, j])
            above = np.int32(np.int32(half - r) >> np.int32(31))
            r = np.int32(r - np.int32(last & above))
            d = uint32(uint32(c[i, j] + p) - uint32(r))  # in (0, 2^32)
            h = uint32(uint32(d * w) - uint32(uint32((uint64(d) * quotient) >> uint64(32)) * p))
            out[i, j] = min(h, uint32(h - p))


def switch_modulus(c: Residues) -> Residues:
    """round(c·Q'/Q): residues (4, m) to those modulo the kept primes, (3, m)."""
    out = np.empty((KEPT, c.shape[1]), np.uint32)
    _switch(c, PRIME_ARRAY, _LAST_INVERSES, _LAST_QUOTIENTS, out)
    return out


class Accumulator:
    """Sums of products for `count` results, one per worker thread; `add` releases the interpreter lock.

    total: (count, copies + 1, primes, n) in the transform domain.
    """

    def __init__(self, count: int, copies: int = 1) -> None:
        self.total = np.zeros((count, copies + 1, len(PRIMES), DEGREE), np.uint64)

    def add(self, block: NDArray[np.int32], column: int, group: Residues, result: int) -> None:
        """Add Σ over the group of block[column]·operand to `result`; block int32 (columns, 8·n)."""
        _accumulate(block, column, group, self.total[result], PRIME_ARRAY, *_twiddles())

    def merge(self, other: Accumulator) -> None:
        self.total = ring.sum_below(self.total + other.total, PRIME_ARRAY.astype(np.uint64)[:, None])


@lru_cache(maxsize=1)
def _twiddles() -> tuple[Residues, Residues]:
    return (
        np.stack([ring.tables(p).forward for p in PRIMES]),
        np.stack([ring.tables(p).forward_quotient for p in PRIMES]),
    )


class Evaluator:
    """Party 1's side of one level: blinds accumulated products and takes the pads off the answers."""

    def __init__(self, seed: bytes, *public_keys: bytes | bytearray | memoryview) -> None:
        """public_keys: one for each of party 2's secrets."""
        parts = []
        for key in public_keys:
            if len(key) != CHUNK_BYTES:
                raise ProtocolError(f"The public key takes {CHUNK_BYTES} bytes, not {len(key)}.")
            parts.append(checked_residues(ring.unpack30(key).reshape(len(PRIMES), DEGREE), PRIMES))
        self._public = np.stack([*parts, uniform_polynomial(seed, "public")]).astype(np.uint64)
        self._random = secret_stream()

    def public(self, copy: int = 0) -> NDArray[np.uint64]:
        """Party 2's public key under one secret, (2, primes, n) in the transform domain."""
        return self._public[[copy, -1]]

    def blind(self, totals: NDArray[np.uint64], outputs: int = 1) -> tuple[bytes, list[int]]:
        """Totals (count, copies + 1, primes, n) to what travels, and the one-time pads kept here, `hide`'s order."""
        pads = new_pads(len(totals) * (totals.shape[1] - 1) * outputs)
        return self.hide(totals, pads, outputs), pads

    def hide(self, totals: NDArray[np.uint64], pads: Sequence[int], outputs: int = 1) -> bytes:
        """Of every total its c1 and, of each copy, `outputs` coefficients with these pads: by total, copy, output."""
        parts: list[bytes] = []
        left = iter(pads)
        for start in range(0, len(totals), LANES):
            lanes = self._rerandomised(totals[start : start + LANES])
            for lane in range(min(LANES, len(totals) - start)):
                parts.append(ring.pack30(switch_modulus(np.ascontiguousarray(lanes[-1, :, :, lane]))).tobytes())
                for c0 in lanes[:-1]:
                    at = positions(outputs)
                    parts.append(_padded_coefficients(c0[:, at, lane], [next(left) for _ in at]))
        return b"".join(parts)

    def _rerandomised(self, totals: NDArray[np.uint64]) -> Residues:
        """Add pk·u + e per result, back to coefficients: (copies + 1, primes, n, lanes)."""
        copies = totals.shape[1]
        out = np.zeros((copies, len(PRIMES), DEGREE, LANES), np.uint32)
        u = np.empty(GROUP, np.int8)
        if ring.ternary(self._random.bytes(GROUP + GROUP // 64 + 4096), u) < 0:  # probability below 2^-300
            raise ProtocolError("Too few random bytes; start the run again.")
        errors = np.empty((copies, GROUP), np.int8)
        for part in range(copies):
            ring.centred_binomial(self._random.words(GROUP, np.uint64), errors[part])
        for i, prime in enumerate(PRIMES):
            table = ring.tables(prime)
            u_hat = _transformed(u, prime).astype(np.uint64)
            for part in range(copies):
                x = u_hat * self._public[part, i][:, None] + _transformed(errors[part], prime)
                x[:, : len(totals)] += totals[:, part, i].T
                flat = ring.modulo(x, prime).astype(np.uint32).reshape(-1)
                ring.inverse(flat, table.inverse, table.inverse_quotient, prime, table.degree_inverse)
                out[part, i] = flat.reshape(DEGREE, LANES)
        return out

    @staticmethod
    def unblind(opened: NDArray[np.uint64], pads: Sequence[int]) -> list[int]:
        """The exact signed results, of what party 2 opened and the pads modulo Q' of the same numbers."""
        half = PLAIN_MODULUS // 2
        return [
            (int(o) - floor_modulo_t(pad) + half) % PLAIN_MODULUS - half for o, pad in zip(opened, pads, strict=True)
        ]


def _transformed(small: NDArray[np.int8], prime: int) -> Residues:
    """Eight small polynomials (n·8,) to the transform domain as (n, 8)."""
    table = ring.tables(prime)
    x = np.empty(small.size, np.uint32)
    ring.lift(small, prime, x)
    ring.forward(x, table.forward, table.forward_quotient, prime)
    return x.reshape(DEGREE, LANES)


def _padded_coefficients(residues: Residues, pads: Sequence[int]) -> bytes:
    """The coefficients that carry results, (primes, m), rounded to the kept primes, plus their pads modulo Q'.

    The pads go on prime by prime: Python's integers, whose time depends on them, see only what travels.
    """
    primes = np.array(PRIMES[:KEPT], np.uint32)[:, None]
    parts = np.array([[pad % p for pad in pads] for p in PRIMES[:KEPT]], np.uint32)
    padded = ring.sum_below(switch_modulus(residues) + parts, primes)
    return b"".join(crt(value, PRIMES[:KEPT]).to_bytes(COEFFICIENT_BYTES, "little") for value in padded.T.tolist())
