"""Party 1's half of the encrypted product: accumulate, re-randomise, pad."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy import uint32, uint64
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
from PPIRLogic.secure.prg import Stream, secret_stream


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
def _times_power(x: Any, primes: Any, powers: Any, out: Any) -> None:
    """out = x·2^32 mod p, for x (count, primes, n) of 64 bits; powers: 2^32 mod p."""
    for k in range(x.shape[0]):
        for i in range(primes.size):
            p, inverse = np.int64(primes[i]), 1.0 / primes[i]
            for j in range(x.shape[2]):
                _, r = ring.divided(np.int64(x[k, i, j]), p, inverse)
                _, r = ring.divided(r * powers[i], p, inverse)
                out[k, i, j] = r


_POWERS = np.array([2**32 % p for p in PRIMES], np.int64)


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
    """Sums of products for `count` results, one per worker thread; `add` releases the interpreter lock."""

    _AT_ONCE = 16  # columns whose turned form is held, 256 KiB each

    def __init__(self, count: int, copies: int = 1) -> None:
        self._sums = np.zeros((count, copies + 1, len(PRIMES), DEGREE), np.uint64)  # over 2^32, not reduced
        self._turned = np.empty((min(count, self._AT_ONCE), GROUP), np.int32)
        self._room = np.empty(GROUP, np.uint32)

    def add(self, block: NDArray[np.int32], columns: Sequence[int], group: Residues, results: Sequence[int]) -> None:
        """Add Σ over the group of block[column]·operand to each result; block int32 (columns, 8·n), below 2^30."""
        from PPIRLogic.secure.fhe.transform_kernels import accumulate

        for start in range(0, len(columns), self._AT_ONCE):
            part = slice(start, start + self._AT_ONCE)
            accumulate(
                block, np.array(columns[part]), group, self._sums, np.array(results[part]), PRIME_ARRAY, *_twiddles(),
                self._turned, self._room
            )  # fmt: skip

    def merge(self, other: Accumulator) -> None:
        self._sums += other._sums  # each add is below 2^32: 2^31 of them fit

    @property
    def total(self) -> NDArray[np.uint64]:
        """(count, copies + 1, primes, n) in the transform domain, residues below p."""
        count = self._sums.shape[0] * self._sums.shape[1]
        out = np.empty_like(self._sums)
        shape = (count, len(PRIMES), DEGREE)
        _times_power(self._sums.reshape(shape), PRIME_ARRAY, _POWERS, out.reshape(shape))
        return out


@lru_cache(maxsize=1)
def _twiddles() -> tuple[Residues, Residues, Residues]:
    every = [ring.tables(p) for p in PRIMES]
    return (
        np.stack([t.forward for t in every]),
        np.stack([t.forward_quotient for t in every]),
        np.array([t.negative_inverse for t in every], np.uint32),
    )


@compiled
def _accumulate_key(u: Any, public: Any, prime: int, out: Any) -> None:
    """out (n·8,) += u·public mod p, in the transform domain; public (n,) is the same for all lanes."""
    p, inverse = np.int64(prime), 1.0 / prime
    for i in range(public.size):
        for lane in range(8):
            k = i * 8 + lane
            _, r = ring.divided(np.int64(out[k]) + np.int64(u[k]) * np.int64(public[i]), p, inverse)
            out[k] = uint32(r)


@compiled
def _add_small(x: Any, e: Any, prime: int) -> None:
    """x (m,) += e mod p < 2^30, for errors of magnitude below p."""
    p = uint32(prime)
    for j in range(x.size):
        s = uint32(uint32(x[j] + p) + uint32(np.int32(e[j])))  # in (0, 3p)
        s = min(s, uint32(s - p))
        x[j] = min(s, uint32(s - p))


def transformed(small: NDArray[Any], prime: int) -> Residues:
    """Eight small polynomials, coefficient-major (n·8,), to the transform domain modulo p."""
    out = np.empty(small.size, np.uint32)
    ring.lift(small, prime, out)
    ring.forward(out, prime)
    return out


def add_zero(out: Residues, public: NDArray[np.uint64], random: Stream) -> None:
    """Add an encryption of zero, fresh for each lane, to transforms (parts, primes, n·8), and leave coefficients.

    public: party 2's public key of each part, (parts, primes, n). One ternary u for all parts, errors for each.
    """
    u = np.empty(GROUP, np.int8)
    if ring.ternary(random.bytes(GROUP + GROUP // 64 + 4096), u) < 0:  # probability below 2^-300
        raise ProtocolError("Too few random bytes; start the run again.")
    errors = np.empty((len(out), GROUP), np.int8)
    for e in errors:
        ring.centred_binomial(random.words(GROUP, np.uint64), e)
    for i, prime in enumerate(PRIMES):
        u_hat = transformed(u, prime)
        for part, e in enumerate(errors):
            x = out[part, i]
            _accumulate_key(u_hat, public[part, i], prime, x)
            ring.inverse(x, prime)
            _add_small(x, e, prime)


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
        out = np.zeros((totals.shape[1], len(PRIMES), DEGREE, LANES), np.uint32)
        out[..., : len(totals)] = totals.transpose(1, 2, 3, 0)
        add_zero(out.reshape(*out.shape[:2], GROUP), self._public, self._random)
        return out

    @staticmethod
    def unblind(opened: NDArray[np.uint64], pads: Sequence[int]) -> list[int]:
        """The exact signed results, of what party 2 opened and the pads modulo Q' of the same numbers."""
        half = PLAIN_MODULUS // 2
        return [
            (int(o) - floor_modulo_t(pad) + half) % PLAIN_MODULUS - half for o, pad in zip(opened, pads, strict=True)
        ]


def _padded_coefficients(residues: Residues, pads: Sequence[int]) -> bytes:
    """The coefficients that carry results, (primes, m), rounded to the kept primes, plus their pads modulo Q'.

    The pads go on prime by prime: Python's integers, whose time depends on them, see only what travels.
    """
    primes = np.array(PRIMES[:KEPT], np.uint32)[:, None]
    parts = np.array([[pad % p for pad in pads] for p in PRIMES[:KEPT]], np.uint32)
    padded = ring.sum_below(switch_modulus(residues) + parts, primes)
    return b"".join(crt(value, PRIMES[:KEPT]).to_bytes(COEFFICIENT_BYTES, "little") for value in padded.T.tolist())
