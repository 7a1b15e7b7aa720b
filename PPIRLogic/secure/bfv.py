"""The exact encrypted inner product: BFV with coefficient packing, two parties, no third one.

Party 2 encrypts each chunk of n fixed values as Σ v_j X^j. Party 1 multiplies by Σ s_j X^(n−1−j): coefficient
n−1 of the product is the inner product. Keys and parameter validation are Microsoft SEAL's (through
tenseal.sealapi, 128-bit classical security by its own table); the transforms and the multiply-accumulate are
ours (`ring`), in SEAL's own residue form, because SEAL's Python binding moves ciphertexts only through files
and holds the interpreter lock. No byte from the network ever reaches SEAL.

What protects what (n = 8192, Q = four 30-bit primes, 2^120; t = 2^46 − 21, prime):

- Party 2's image: ring learning with errors under its secret key; one fresh key pair per level, never stored.
- Party 1's S, against the key holder, who can open every ciphertext:
  (1) `c1` of the answer is re-randomised with a fresh encryption of zero under the public key; the public
      polynomials `pk1` and every `c1` are expanded from a seed both parties contributed to, so a key holder
      cannot choose a key that does not mask;
  (2) of `c0` only the one coefficient that carries the result travels, with a one-time pad modulo t and a
      uniform flood of ±F, F = Q/4t ≈ 2^72, added before the modulus switch: it hides the noise that depends on S
      (S·e, at most 26·‖S‖₂ except with probability 2^-49, and the rounding of Q·v/t, at most ½·Σ|S|) to a statistical
      distance of at most 2^-40.
- `check_range` refuses, before anything is sent, an S for which the result could wrap or the noise could reach
  the flood.

All of this holds for parties that follow the protocol. A malicious party 1 uses the answers as a decryption oracle:
fewer than three hundred give the level's key. A malicious party 2 that adds a large multiple of X^i to its own
ciphertext sees up to about one bit of S per answer through the flood, which covers half of Q/t. Neither is prevented
here. The time party 1 takes tells how many of its chunks are empty, not which.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit, uint32, uint64
from numpy.typing import NDArray

from PPIRLogic.errors import FixedPointError, MissingDependencyError, ProtocolError
from PPIRLogic.secure import ring
from PPIRLogic.secure.prg import Stream, secret_stream
from PPIRLogic.secure.ring import DEGREE, LANES

PLAIN_MODULUS = 2**46 - 21
PRIMES = (1073430529, 1073479681, 1073643521, 1073692673)
SPECIAL_BITS = 20
KEPT = 2  # primes left after the modulus switch
Q = math.prod(PRIMES)
Q_KEPT = math.prod(PRIMES[:KEPT])
FLOOD = Q // (4 * PLAIN_MODULUS)
SECURITY_BITS = 40
CHUNK_BYTES = len(PRIMES) * DEGREE * 15 // 4
_C1_BYTES = KEPT * DEGREE * 15 // 4
_COEFFICIENT_BYTES = 8
ANSWER_BYTES = _C1_BYTES + _COEFFICIENT_BYTES
GROUP = LANES * DEGREE
Residues = NDArray[np.uint32]

_PRIME_ARRAY = np.array(PRIMES, np.uint32)
_jit = njit(nogil=True, cache=True, boundscheck=False)


def answer_bytes(outputs: int) -> int:
    """The length of one re-randomised answer that carries so many numbers."""
    return _C1_BYTES + _COEFFICIENT_BYTES * outputs


def positions(outputs: int) -> range:
    """The coefficients that carry the numbers of one answer: the last of each of `outputs` equal parts."""
    part = DEGREE // outputs
    return range(part - 1, DEGREE, part)


def new_pads(count: int) -> list[int]:
    """One-time pads, uniform modulo t."""
    return [secrets.randbelow(PLAIN_MODULUS) for _ in range(count)]


def check_range(largest_sum: int, norm: float, absolute_sum: int, pad_noise: float = 0.0) -> None:
    """Refuse S before it is used.

    largest_sum: max over the terms of Σ|S|·max|V|. norm: max ‖S‖₂. absolute_sum: max Σ|S|. FixedPointError if a result
    could wrap modulo t, or if the noise could show through the flood. The noise that depends on S is S·e, at most
    26·‖S‖₂ (8σ), plus S times the rounding of Q·v/t, at most ½·Σ|S| (it does not average out where V is constant,
    such as a background or a mask), plus `pad_noise` where pads are added under encryption.
    """
    if 2 * largest_sum >= PLAIN_MODULUS:
        raise FixedPointError(
            f"A sum could reach {largest_sum:.3g}, beyond the exact range of ±{PLAIN_MODULUS // 2:.3g} of the encrypted"
            " product. Nothing was sent. Use fewer samples (sampling urs or gms) or a coarser finest level."
        )
    if 26 * norm + absolute_sum / 2 + pad_noise > 2.0**-SECURITY_BITS * 2 * FLOOD:
        raise FixedPointError(
            f"A column (norm {norm:.3g}, sum {absolute_sum:.3g}) is too large for the noise to be hidden to"
            f" 2^-{SECURITY_BITS}. Nothing was sent. Use fewer samples (sampling urs or gms) or a coarser finest level."
        )


@lru_cache(maxsize=1)
def _seal_context() -> tuple[Any, Any]:
    try:
        import tenseal.sealapi as seal
    except ImportError as error:
        raise MissingDependencyError(
            "The fhe protocol needs the package tenseal, which is not installed here: pip install 'ppir[fhe]'."
        ) from error
    parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV)
    parameters.set_poly_modulus_degree(DEGREE)
    moduli = seal.CoeffModulus.Create(DEGREE, [ring.PRIME_BITS] * len(PRIMES) + [SPECIAL_BITS])
    parameters.set_coeff_modulus(moduli)
    parameters.set_plain_modulus(PLAIN_MODULUS)
    context = seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)
    if not context.parameters_set() or tuple(m.value() for m in moduli)[: len(PRIMES)] != PRIMES:
        raise MissingDependencyError(
            "The installed tenseal does not accept the parameters of the fhe protocol"
            f" ({context.parameters_error_message()}). Install tenseal 0.3.18."
        )
    return seal, context


def joint_seed(session: bytes, level: int, first: bytes, second: bytes) -> bytes:
    """The seed of a level's public polynomials: both parties' 32 bytes, the session and the level."""
    return hashlib.sha256(b"PPIR-BFV-seed" + session + level.to_bytes(4, "big") + first + second).digest()


def _uniform(seed: bytes, *label: str | int) -> Residues:
    """A public uniform polynomial in the transform domain, (primes, n), from the joint seed."""
    out = np.empty((len(PRIMES), DEGREE), np.uint32)
    words = Stream(seed, "uniform", *label).words(len(PRIMES) * (DEGREE + 256)).reshape(len(PRIMES), -1)
    for i, prime in enumerate(PRIMES):
        if ring.uniform_below(words[i], uint32(prime), out[i]) < 0:  # probability below 2^-300
            raise ProtocolError("The seed of this level gave too few uniform words; start the run again.")
    return out


# ----------------------------------------------------------------------------------- party 2: key holder


@_jit
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


@_jit
def _residues(values: Any, small: Any, quotient: int, prime: int, out: Any) -> None:
    """out (8·n,) = quotient·v + small mod p, coefficient-major, for eight chunks of v; quotient = floor(Q/t) mod p."""
    n, inverse = out.size // 8, 1.0 / prime
    for lane in range(8):
        for j in range(n):
            _, v = ring.divided(np.int64(values[lane * n + j]), prime, inverse)
            _, r = ring.divided(quotient * v + small[lane * n + j], prime, inverse)
            out[j * 8 + lane] = uint32(r)


@_jit
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


@_jit
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


@_jit
def _coefficient_of_product(c1: Any, secret: Any, at: int) -> Any:
    """Coefficient `at` of c1·s modulo X^n + 1, over the integers: ternary s, 30-bit residues."""
    total = np.int64(0)
    n = secret.size
    for i in range(at + 1):
        total += np.int64(c1[i]) * np.int64(secret[at - i])
    for i in range(at + 1, n):
        total -= np.int64(c1[i]) * np.int64(secret[n + at - i])
    return total


@dataclass
class KeyHolder:
    """Party 2's side of one level: makes the key pair, encrypts the fixed operands, opens the answers."""

    seed: bytes

    def __post_init__(self) -> None:
        seal, context = _seal_context()
        generator = seal.KeyGenerator(context)
        secret = generator.secret_key()
        self._secret = _read(secret.data(), 0).astype(np.uint32)
        self._secret_quotient = ((self._secret.astype(np.uint64) << 32) // _PRIME_ARRAY[:, None]).astype(np.uint32)
        self._ternary = _coefficients(self._secret[0])
        public = seal.PublicKey()
        generator.create_public_key(public)
        data = public.data()
        self._public = self._move_to_seed(_read(data, 0), _read(data, (len(PRIMES) + 1) * DEGREE))
        self._random = secret_stream()

    def _move_to_seed(self, pk0: NDArray[np.uint64], pk1: NDArray[np.uint64]) -> Residues:
        """pk0' = pk0 + (pk1 − a')·s: SEAL's public key, with pk1 exchanged for the jointly seeded a'."""
        p = _PRIME_ARRAY.astype(np.uint64)[:, None]
        a = _uniform(self.seed, "public").astype(np.uint64)
        return ((pk0 + (pk1 + p - a) % p * self._secret) % p).astype(np.uint32)

    @property
    def secret_hat(self) -> Residues:
        """The secret modulo the first prime, in the transform domain; never leaves this party."""
        return self._secret[0]

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
            a[lane] = _uniform(self.seed, operand, first_chunk + lane)
        out = np.empty((LANES, len(PRIMES), DEGREE), np.uint32)
        x = np.empty(GROUP, np.uint32)
        for i, prime in enumerate(PRIMES):
            table = ring.tables(prime)
            _residues(padded, small, (Q // modulus) % prime, prime, x)
            ring.forward(x, table.forward, table.forward_quotient, prime)
            _hide(x, a[:, i], self._secret[i], self._secret_quotient[i], prime, out[:, i])
        return ring.pack30(out[:chunks])

    def open(self, answers: bytes | memoryview, count: int, outputs: int = 1) -> NDArray[np.uint64]:
        """The (padded, flooded) results modulo t of `count` re-randomised answers; ProtocolError if malformed.

        Each answer carries `outputs` of them; returns (count·outputs,).
        """
        view, size = memoryview(answers), answer_bytes(outputs)
        if len(view) != count * size:
            raise ProtocolError(f"{count} encrypted answers take {count * size} bytes, not {len(view)}.")
        out = np.empty((count, outputs), np.uint64)
        for k in range(count):
            part = view[k * size : (k + 1) * size]
            c1 = checked_residues(ring.unpack30(part[:_C1_BYTES]).reshape(KEPT, DEGREE), PRIMES[:KEPT])
            coefficients = np.frombuffer(part[_C1_BYTES:], "<u8").tolist()
            if max(coefficients) >= Q_KEPT:
                raise ProtocolError("An encrypted answer holds a coefficient out of range.")
            for i, (at, b) in enumerate(zip(positions(outputs), coefficients, strict=True)):
                out[k, i] = self._open_one(c1, b, at)
        return out.reshape(-1)

    def _open_one(self, c1: Residues, b: int, at: int) -> int:
        residues = [_coefficient_of_product(c1[i], self._ternary, at) % PRIMES[i] for i in range(KEPT)]
        phase = (b + _crt(residues, PRIMES[:KEPT])) % Q_KEPT
        return (phase * PLAIN_MODULUS + Q_KEPT // 2) // Q_KEPT % PLAIN_MODULUS

    def forget(self) -> None:
        """Overwrite the secret key; nothing can be opened any more. SEAL's own copy is gone since the key was made."""
        for secret in (self._secret, self._secret_quotient, self._ternary):
            secret.fill(0)


def _read(data: Any, start: int) -> NDArray[np.uint64]:
    """The residues (primes, n) of one polynomial of a SEAL key; the special prime's come last and stay behind."""
    count = len(PRIMES) * DEGREE
    return np.fromiter((data[start + i] for i in range(count)), np.uint64, count).reshape(-1, DEGREE)


def _coefficients(transformed: Residues) -> NDArray[np.int8]:
    """The secret's ternary coefficients from its first residue in the transform domain."""
    prime = PRIMES[0]
    table = ring.tables(prime)
    lanes = np.zeros(GROUP, np.uint32)
    lanes[::LANES] = transformed
    ring.inverse(lanes, table.inverse, table.inverse_quotient, prime, table.degree_inverse)
    values = lanes[::LANES].astype(np.int64)
    return np.where(values > 1, values - prime, values).astype(np.int8)


def _crt(residues: list[int], primes: tuple[int, ...]) -> int:
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


# ------------------------------------------------------------------------------------ party 1: evaluator


@_jit
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
        c1 = _uniform(seed, operand, chunk)
        group, lane = divmod(slot, LANES)
        for i in range(len(PRIMES)):
            _interleave(c0[i], lane, self.data[group, 2 * copy, i])
            _interleave(c1[i], lane, self.data[group, 2 * copy + 1, i])


@_jit
def _accumulate(block: Any, column: int, group: Any, total: Any, primes: Any, twiddle: Any, quotient: Any) -> None:
    x = np.empty(block.shape[1], np.uint32)
    signed = np.empty(block.shape[1], np.int32)
    ring.reverse_chunks(block[column], signed)
    for i in range(primes.size):
        ring.lift(signed, primes[i], x)
        ring.forward(x, twiddle[i], quotient[i], primes[i])
        for part in range(group.shape[0]):
            ring.multiply_accumulate(x, group[part, i], total[part, i], primes[i])


@_jit
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


@_jit
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
        _accumulate(block, column, group, self.total[result], _PRIME_ARRAY, *_twiddles())

    def merge(self, other: Accumulator) -> None:
        self.total = (self.total + other.total) % _PRIME_ARRAY.astype(np.uint64)[:, None]


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
        self._public = np.stack([pk0, _uniform(seed, "public")]).astype(np.uint64)
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
        _switch_modulus(np.ascontiguousarray(c1), _PRIME_ARRAY, pow(PRIMES[2], -1, PRIMES[3]), out)
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
    value = _crt([int(r) for r in residues], PRIMES)
    value = (value + (Q * pad + PLAIN_MODULUS // 2) // PLAIN_MODULUS + secrets.randbelow(2 * FLOOD) - FLOOD) % Q
    return ((value * Q_KEPT + Q // 2) // Q % Q_KEPT).to_bytes(8, "little")
