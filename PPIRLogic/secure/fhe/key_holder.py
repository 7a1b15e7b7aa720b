"""Party 2's half of the encrypted product: keys, encryption, decryption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import uint32, uint64
from numpy.typing import NDArray

from PPIRLogic.compiled import compiled
from PPIRLogic.errors import ProtocolError
from PPIRLogic.secure.fhe import ring
from PPIRLogic.secure.fhe.bfv import (
    C1_BYTES,
    COEFFICIENT_BYTES,
    GROUP,
    answer_bytes,
    floor_modulo_t,
    positions,
    seal_context,
    uniform_polynomial,
)
from PPIRLogic.secure.fhe.parameters import KEPT, PLAIN_MODULUS, PRIMES, Q_KEPT, Q
from PPIRLogic.secure.fhe.ring import DEGREE, Residues, checked_residues, crt
from PPIRLogic.secure.layout import LANES
from PPIRLogic.secure.prg import secret_stream


@compiled
def _scale_up(values: Any, remainder: int, t: int, errors: Any, out: Any) -> None:
    """The part of round(Q·v/t) + e that is not a multiple of floor(Q/t): floor((remainder·v + t/2) / t) + e.

    Q = floor(Q/t)·t + remainder; |v| ≤ t. Divided sixteen bits of v at a time so that 64 bits suffice.
    """
    inverse = 1.0 / t
    for j in range(values.size):
        v = np.int64(values[j])
        q, a = ring.divided(remainder * (v >> 32), t, inverse)
        for shift in (16, 0):
            digit, a = ring.divided(a * 65536 + remainder * ((v >> shift) & 65535), t, inverse)
            q = q * 65536 + digit
        digit, a = ring.divided(a + t // 2, t, inverse)
        out[j] = q + digit + np.int64(errors[j])


@compiled
def _residues(values: Any, small: Any, quotient: int, prime: int, out: Any) -> None:
    """out (8·n,) = quotient·v + small mod p, coefficient-major, for eight chunks of v; quotient = floor(Q/t) mod p."""
    n, inverse = out.size // 8, 1.0 / prime
    for lane in range(8):
        for j in range(n):
            _, v = ring.divided(np.int64(values[lane * n + j]), prime, inverse)
            _, r = ring.divided(quotient * v + small[lane * n + j], prime, inverse)
            out[j * 8 + lane] = uint32(r)


@compiled
def _multiples(values: Any, factor: int, t: int, out: Any) -> None:
    """out = factor·v mod t; 0 ≤ factor < t < 2^46, |v| ≤ t, sixteen bits of v at a time."""
    inverse = 1.0 / t
    for j in range(values.size):
        v = np.int64(values[j])
        _, a = ring.divided(factor * (v >> 32), t, inverse)
        for shift in (16, 0):
            _, a = ring.divided(a * 65536 + factor * ((v >> shift) & 65535), t, inverse)
        out[j] = a


def multiples(values: NDArray[Any], factor: int) -> NDArray[np.int64]:
    """factor·values modulo t, in [0, t)."""
    out = np.empty(values.size, np.int64)
    _multiples(values, factor, PLAIN_MODULUS, out)
    return out


@compiled
def _hide(x: Any, a: Any, secret: Any, secret_quotient: Any, prime: int, out: Any) -> None:
    """out[lane] = x − a[lane]·s mod p, in the transform domain; secret_quotient = floor(s·2^32 / p)."""
    p = uint32(prime)
    for lane in range(out.shape[0]):
        for j in range(secret.size):
            q = uint32((uint64(a[lane, j]) * uint64(secret_quotient[j])) >> uint64(32))
            h = uint32(uint32(a[lane, j] * secret[j]) - uint32(q * p))
            h = min(h, uint32(h - p))
            r = uint32(x[j * 8 + lane] + p - h)
            out[lane, j] = min(r, uint32(r - p))


@compiled
def _coefficient_of_product(c1: Any, secret: Any, at: int, prime: int) -> Any:
    """Coefficient `at` of c1·s modulo X^n + 1 and p: ternary s, 30-bit residues."""
    total = np.int64(0)
    n = secret.size
    for i in range(at + 1):
        total += np.int64(c1[i]) * np.int64(secret[at - i])
    for i in range(at + 1, n):
        total -= np.int64(c1[i]) * np.int64(secret[n + at - i])
    return ring.divided(total, np.int64(prime), 1.0 / prime)[1]


@dataclass
class KeyHolder:
    """Party 2's side of one level under one secret: makes the key pair, encrypts the fixed operands, opens answers."""

    seed: bytes

    def __post_init__(self) -> None:
        seal, context = seal_context()
        generator = seal.KeyGenerator(context)
        secret = generator.secret_key()
        self._secret = _read(secret.data(), 0).astype(np.uint32)
        self._secret_quotient = np.empty_like(self._secret)
        for residues, prime, quotients in zip(self._secret, PRIMES, self._secret_quotient, strict=True):
            ring.shoup_quotients(residues, prime, quotients)
        self._ternary = _coefficients(self._secret[0])
        public = seal.PublicKey()
        generator.create_public_key(public)
        data = public.data()
        self._public = self._move_to_seed(_read(data, 0), _read(data, (len(PRIMES) + 1) * DEGREE))
        self._random = secret_stream()

    def _move_to_seed(self, pk0: NDArray[np.uint64], pk1: NDArray[np.uint64]) -> Residues:
        """pk0' = pk0 + (pk1 − a')·s: SEAL's public key, with pk1 exchanged for the jointly seeded a'."""
        a, out = uniform_polynomial(self.seed, "public").astype(np.uint64), np.empty_like(self._secret)
        for i, p in enumerate(PRIMES):
            difference = ring.sum_below(pk1[i] + p - a[i], np.uint64(p))
            out[i] = ring.modulo(pk0[i] + difference * self._secret[i], p)
        return out

    @property
    def secret_hat(self) -> Residues:
        """The secret, (primes, n) in the transform domain; never leaves this party."""
        return self._secret

    def public_key(self) -> NDArray[np.uint8]:
        """pk0 in the transform domain, packed; pk1 is expanded from the seed by both sides."""
        return ring.pack30(self._public)

    def encrypt(self, values: NDArray[Any], operand: str, first_chunk: int) -> NDArray[np.uint8]:
        """Up to eight chunks (integers of magnitude below t, padded to a multiple of n with zeros) to packed c0."""
        padded = np.zeros(GROUP, np.int64)
        padded[: values.size] = values
        return self.encrypt_polynomials(padded, PLAIN_MODULUS, operand, first_chunk, -(-values.size // DEGREE))

    def encrypt_polynomials(
        self, padded: NDArray[Any], modulus: int, operand: str, first_chunk: int, chunks: int
    ) -> NDArray[np.uint8]:
        """The first `chunks` of eight plaintext polynomials modulo t = `modulus`, chunk after chunk, to packed c0."""
        errors, small = np.empty(GROUP, np.int8), np.empty(GROUP, np.int64)
        ring.centred_binomial(self._random.words(GROUP, np.uint64), errors)
        _scale_up(padded, Q % modulus, modulus, errors, small)
        a = np.zeros((LANES, len(PRIMES), DEGREE), np.uint32)
        for lane in range(chunks):
            a[lane] = uniform_polynomial(self.seed, operand, first_chunk + lane)
        out = np.empty((LANES, len(PRIMES), DEGREE), np.uint32)
        x = np.empty(GROUP, np.uint32)
        for i, prime in enumerate(PRIMES):
            _residues(padded, small, (Q // modulus) % prime, prime, x)
            ring.forward(x, prime)
            _hide(x, a[:, i], self._secret[i], self._secret_quotient[i], prime, out[:, i])
        return ring.pack30(out[:chunks])

    def opened(self, c1: Residues, b: int, at: int) -> int:
        """floor(t·phase/Q') of coefficient `at` of an answer: c1 (kept primes, n), b = its padded c0 modulo Q'."""
        residues = [_coefficient_of_product(c1[i], self._ternary, at, PRIMES[i]) for i in range(KEPT)]
        return floor_modulo_t((b + crt(residues, PRIMES[:KEPT])) % Q_KEPT)

    def forget(self) -> None:
        """Overwrite the secret key; nothing can be opened any more. SEAL's own copy is gone since the key was made."""
        for secret in (self._secret, self._secret_quotient, self._ternary):
            secret.fill(0)


def open_answers(
    holders: Sequence[KeyHolder], answers: bytes | memoryview, count: int, outputs: int = 1
) -> NDArray[np.uint64]:
    """The padded results modulo t of `count` answers, (count, secrets, outputs); ProtocolError if malformed.

    An answer is one c1 and, under each of the secrets, its `outputs` padded coefficients.
    """
    view, size = memoryview(answers), answer_bytes(outputs, len(holders))
    if len(view) != count * size:
        raise ProtocolError(f"{count} encrypted answers take {count * size} bytes, not {len(view)}.")
    out = np.empty((count, len(holders), outputs), np.uint64)
    for k in range(count):
        part = view[k * size : (k + 1) * size]
        c1 = checked_residues(ring.unpack30(part[:C1_BYTES]).reshape(KEPT, DEGREE), PRIMES[:KEPT])
        rest = part[C1_BYTES:]
        for i, holder in enumerate(holders):
            for j, at in enumerate(positions(outputs)):
                start = (i * outputs + j) * COEFFICIENT_BYTES
                b = int.from_bytes(rest[start : start + COEFFICIENT_BYTES], "little")
                if b >= Q_KEPT:
                    raise ProtocolError("An encrypted answer holds a coefficient out of range.")
                out[k, i, j] = holder.opened(c1, b, at)
    return out


def _read(data: Any, start: int) -> NDArray[np.uint64]:
    """The residues (primes, n) of one polynomial of a SEAL key; the special prime's come last and stay behind."""
    count = len(PRIMES) * DEGREE
    numbers = map(data.__getitem__, range(start, start + count))  # SEAL's Python gives one at a time, nothing faster
    return np.fromiter(numbers, np.uint64, count).reshape(-1, DEGREE)


def _coefficients(transformed: Residues) -> NDArray[np.int8]:
    """The secret's ternary coefficients from its first residue in the transform domain."""
    prime = PRIMES[0]
    lanes = np.zeros(GROUP, np.uint32)
    lanes[::LANES] = transformed
    ring.inverse(lanes, prime)
    values = lanes[::LANES].astype(np.int64)
    return (values - prime * (values > 1)).astype(np.int8)  # without a branch on the secret
