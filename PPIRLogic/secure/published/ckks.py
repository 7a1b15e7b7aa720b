"""Approximate encrypted dot products: CKKS as published (Taiello et al. 2024), hardened. For comparison only.

The published parameters: ring degree n = 4096, coefficient moduli of 30, 24, 24 (and, for key switching, 30) bits,
scale Δ = 2^24, sub-arrays of D = 128 values. The primes are those SEAL chooses for them, encoding and rescaling are
SEAL's, the arithmetic is ours (`ring`), because no byte of the network may reach SEAL's native parsers and its binding
gives no other way in; tests compare with SEAL. What differs from the published code, and why:

- A dot product is read from the constant coefficient of the product, m_0 = (2/n)·Σ z_j over the slots, instead of by
  rotating and adding slots: no Galois keys (tens of MB), and one coefficient travels instead of all n, of which the
  others are partial sums over the owner's values.
- What is returned is re-randomised with a fresh encryption of zero, under a public key whose uniform half both parties
  seeded. Published, c1 = Σ S·a gives the key owner S itself.
- The factor of the dropped prime (2^24 against 16 760 833) is divided out; published, it is a bias of 1e-3.
- A key serves one evaluation, and a decrypted sum is shared only with noise on it (`flood`).

The noise on shared decryptions (Li, Micciancio, Schultz & Sorrell 2022). A CKKS decryption shared as it is gives an
equation in the secret key (Li & Micciancio 2021). With t a static bound of the error of a sum and τ sums decrypted
under one key, Gaussian noise of σ = √(12·τ)·2^(s/2)·t hides the errors to s = 30 bits in the sense of that paper: the
KL divergence between what is shared and the exact sums with the same noise is at most τ·t²/2σ², so the total variation
distance is at most √τ·t/2σ = 2^-15/(4·√3) = 2^-17.8. t is six standard deviations of the error, of public sizes: with
‖S‖₂ ≤ B and ‖V‖₂ ≤ 2^39/B (both sides scale what they encode so; B makes both terms of the root equal),

    error of a sum = (n/2)/Δ²·(S·e + V·r) + rounding,  e of σ 3.25 per coefficient, r uniform in ±1/2,
    √(n/2)/Δ · √((3.25·B)² + (0.29·2^39/B)²) and (n/2)/Δ·15.1 for the rounding of c1 at the rescaling.

The room of 78 bits allows no much larger s: with s = 60 the noise would be as large as most sums. fhe is exact instead.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import uint32, uint64
from numpy.typing import NDArray

from PPIRLogic.arrays import Array
from PPIRLogic.compiled import compiled
from PPIRLogic.errors import ProtocolError
from PPIRLogic.secure.fhe import ring
from PPIRLogic.secure.fhe.ring import checked_residues
from PPIRLogic.secure.fhe.ring import crt as crt
from PPIRLogic.secure.layout import LANES
from PPIRLogic.secure.prg import Stream, secret_stream

DEGREE = 4096
PRIMES = (1073668097, 16736257, 16760833)  # 30, 24, 24 bits; the fourth, 1073692673, is for key switching alone
KEPT = 2  # after the rescaling
SCALE = 2.0**24
SPLIT = 128  # D
STATISTICAL_BITS = 30
BITS = 54  # of a returned coefficient
POLYNOMIAL_BYTES = len(PRIMES) * DEGREE * 15 // 4
C1_BYTES = KEPT * DEGREE * 15 // 4
ANSWER_BYTES = C1_BYTES + 8
Q_KEPT = math.prod(PRIMES[:KEPT])
_ROOM_BITS = 39  # of a sum
_PRIME_COLUMN = np.array(PRIMES, np.int64)[:, None, None]

Polynomials = NDArray[np.uint32]  # (primes, count, n), in the transform domain


# -------------------------------------------------------------------------------------- encoding, transforms


def split(values: Array) -> Array:
    """Values (N,) as sub-arrays (ceil(N / D), D), padded with zeros."""
    out = np.zeros(-(-len(values) // SPLIT) * SPLIT)
    out[: len(values)] = values
    return out.reshape(-1, SPLIT)


def _slots() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where slot j and its conjugate lie among the odd powers of the 2n-th root: (3^j − 1)/2 and the mirrored one."""
    powers = np.array([pow(3, j, 2 * DEGREE) for j in range(DEGREE // 2)])
    return (powers - 1) // 2, (2 * DEGREE - powers - 1) // 2


_UP, _DOWN = _slots()
_TWIST = np.exp(-1j * np.pi * np.arange(DEGREE) / DEGREE)


def encode(values: Array) -> NDArray[np.int64]:
    """Real values (count, up to n/2) to coefficients (count, n) of polynomials with these values·Δ at their slots."""
    points = np.zeros((len(values), DEGREE), np.complex128)
    width = values.shape[1]
    points[:, _UP[:width]] = points[:, _DOWN[:width]] = values
    coefficients = (np.fft.fft(points, axis=1) * _TWIST).real / DEGREE
    return np.rint(coefficients * SCALE).astype(np.int64)


def transformed(coefficients: NDArray[Any]) -> Polynomials:
    """Integer polynomials (count, n) to the transform domain of every prime."""
    count, coefficients = len(coefficients), coefficients.astype(np.int64)
    out = np.empty((len(PRIMES), count, DEGREE), np.uint32)
    for i, prime in enumerate(PRIMES):
        residues = np.zeros((-(-count // LANES) * LANES, DEGREE), np.uint32)
        for k in range(count):
            ring.reduce(coefficients[k], prime, residues[k])
        for first in range(0, count, LANES):
            lanes = np.ascontiguousarray(residues[first : first + LANES].T).reshape(-1)
            ring.forward(lanes, prime)
            part = lanes.reshape(DEGREE, LANES).T[: count - first]
            out[i, first : first + LANES] = part
    return out


def _coefficients(transformed_: NDArray[np.uint64], prime: int) -> NDArray[np.uint32]:
    """(count, n) of one prime back to coefficients."""
    count = len(transformed_)
    out = np.empty((count, DEGREE), np.uint32)
    for first in range(0, count, LANES):
        lanes = np.zeros((DEGREE, LANES), np.uint32)
        part = transformed_[first : first + LANES]
        lanes[:, : len(part)] = part.T
        flat = lanes.reshape(-1)
        ring.inverse(flat, prime)
        out[first : first + LANES] = flat.reshape(DEGREE, LANES).T[: len(part)]
    return out


def joint_seed(session: bytes, level: int, evaluation: int, first: bytes, second: bytes) -> bytes:
    """The seed of the public polynomials of one key: both parties' bytes, the session, level and evaluation."""
    where = level.to_bytes(4, "big") + evaluation.to_bytes(4, "big")
    return hashlib.sha256(b"PPIR-CKKS-seed" + session + where + first + second).digest()


def uniform(seed: bytes, label: str, count: int) -> Polynomials:
    """Public uniform polynomials from the joint seed, (primes, count, n)."""
    out = np.empty((len(PRIMES), count, DEGREE), np.uint32)
    for k in range(count):
        words = Stream(seed, label, k).words(len(PRIMES) * (DEGREE + 256)).reshape(len(PRIMES), -1)
        for i, prime in enumerate(PRIMES):
            if ring.uniform_below(words[i], uint32(prime), out[i, k]) < 0:  # probability below 2^-300
                raise ProtocolError("The seed of this evaluation gave too few uniform words; start the run again.")
    return out


def _errors(count: int) -> NDArray[np.int8]:
    """Fresh errors of standard deviation 3.24, (count, n)."""
    out = np.empty(count * DEGREE, np.int8)
    ring.centred_binomial(secret_stream().words(out.size, np.uint64), out)
    return out.reshape(count, DEGREE)


def _ternary(count: int) -> NDArray[np.int8]:
    """Fresh uniform polynomials with coefficients in {−1, 0, 1}, (count, n)."""
    out = np.empty(count * DEGREE, np.int8)
    if ring.ternary(secret_stream().bytes(out.size + out.size // 64 + 4096), out) < 0:  # probability below 2^-300
        raise ProtocolError("Too few random bytes; start the run again.")
    return out.reshape(count, DEGREE)


# ------------------------------------------------------------------------------------------- the key holder


class Key:
    """A key pair for one evaluation: encrypts this side's values, opens what the other side returns."""

    def __init__(self, seed: bytes) -> None:
        self.seed = seed
        self._ternary = _ternary(1)
        self._secret = transformed(self._ternary)

    def _hidden(self, a: Polynomials, message: NDArray[np.int64]) -> bytes:
        """message + e − a·s, packed."""
        x = transformed(message + _errors(len(message)))
        product = a.astype(np.uint64) * self._secret % _PRIME_COLUMN.astype(np.uint64)
        hidden = (x.astype(np.int64) - product.astype(np.int64)) % _PRIME_COLUMN
        return ring.pack30(np.ascontiguousarray(hidden.astype(np.uint32)).reshape(-1)).tobytes()

    def public(self) -> bytes:
        """The half of the public key that travels; the other one is expanded from the seed."""
        return self._hidden(uniform(self.seed, "public", 1), np.zeros((1, DEGREE), np.int64))

    def encrypt(self, values: Array, label: str) -> bytes:
        """Values (N,) as encrypted sub-arrays, c0 only."""
        parts = split(values)
        return self._hidden(uniform(self.seed, label, len(parts)), encode(parts))

    def open(self, answers: bytes | memoryview, count: int) -> Array:
        """The sums in `count` blinded answers, with CKKS's own error; ProtocolError if malformed."""
        view = memoryview(answers)
        if len(view) != count * ANSWER_BYTES:
            raise ProtocolError(f"{count} encrypted sums take {count * ANSWER_BYTES} bytes, not {len(view)}.")
        out = np.empty(count)
        for k in range(count):
            part = view[k * ANSWER_BYTES : (k + 1) * ANSWER_BYTES]
            c1 = checked_residues(ring.unpack30(part[:C1_BYTES]).reshape(KEPT, DEGREE), PRIMES[:KEPT])
            c0 = int.from_bytes(part[C1_BYTES:], "little")
            if c0 >= Q_KEPT:
                raise ProtocolError("An encrypted sum is out of range.")
            # coefficient 0 of c1·s modulo X^n + 1, exact in 64 bits
            s = self._ternary[0].astype(np.int64)
            turned = np.concatenate([s[:1], -s[:0:-1]])
            product = [int(c1[i].astype(np.int64) @ turned) % PRIMES[i] for i in range(KEPT)]
            phase = (c0 + crt(product, PRIMES[:KEPT])) % Q_KEPT
            out[k] = (phase - Q_KEPT if phase > Q_KEPT // 2 else phase) * PER_UNIT
        return out


PER_UNIT = DEGREE / 2 * PRIMES[-1] / SCALE**2  # of a sum, per unit of the constant coefficient after the rescaling


# ----------------------------------------------------------------------------------------- the other party


@dataclass(frozen=True)
class Ciphertexts:
    """The other side's sub-arrays, (2, primes, count, n) in the transform domain."""

    data: NDArray[np.uint32]

    @classmethod
    def read(cls, payload: bytes, seed: bytes, label: str, values: int) -> Ciphertexts:
        """From the wire, checked for length and range; c1 is expanded from the seed. ProtocolError."""
        count = -(-values // SPLIT)
        if len(payload) != count * POLYNOMIAL_BYTES:
            raise ProtocolError("The encrypted values have a length that does not fit their level.")
        c0 = ring.unpack30(payload).reshape(len(PRIMES), count, DEGREE)
        checked = checked_residues(np.swapaxes(c0, 0, 1), PRIMES)
        return cls(np.stack([np.swapaxes(checked, 0, 1), uniform(seed, label, count)]))


@compiled
def _dot(x: Any, c: Any, prime: int, out: Any) -> None:
    """out (n,) += Σ_k x[k]·c[k] mod p."""
    p, inverse = np.int64(prime), 1.0 / prime
    for k in range(x.shape[0]):
        for j in range(x.shape[1]):
            _, r = ring.divided(np.int64(out[j]) + np.int64(x[k, j]) * np.int64(c[k, j]), p, inverse)
            out[j] = uint64(r)


def dot(plain: Polynomials, encrypted: Ciphertexts) -> NDArray[np.uint64]:
    """Σ over the sub-arrays of plain × encrypted, (2, primes, n)."""
    out = np.zeros((2, len(PRIMES), DEGREE), np.uint64)
    for half in range(2):
        for i, prime in enumerate(PRIMES):
            _dot(plain[i], encrypted.data[half, i], prime, out[half, i])
    return out


def blind(totals: list[NDArray[np.uint64]], seed: bytes, public: bytes, added: Array | None = None) -> bytes:
    """Re-randomise, rescale, and keep of each total c1 and the constant coefficient of c0.

    public: the other side's `Key.public`. added: numbers to add to the sums on the way. ProtocolError: malformed key.
    """
    if len(public) != POLYNOMIAL_BYTES:
        raise ProtocolError(f"The public key takes {POLYNOMIAL_BYTES} bytes, not {len(public)}.")
    pk0 = checked_residues(ring.unpack30(public).reshape(len(PRIMES), DEGREE), PRIMES)[:, None]
    keys = np.stack([pk0, uniform(seed, "public", 1)]).astype(np.uint64)
    count = len(totals)
    u = transformed(_ternary(count)).astype(np.uint64)
    halves = []
    for half in range(2):
        mixed = np.stack(totals)[:, half].swapaxes(0, 1) + u * keys[half] + transformed(_errors(count))
        halves.append(
            np.stack([_coefficients(mixed[i] % np.uint64(p), p) for i, p in enumerate(PRIMES)]).astype(np.int64)
        )
    if added is not None:
        whole = [round(float(v) * SCALE**2 / (DEGREE / 2)) for v in added]
        for i, prime in enumerate(PRIMES):
            halves[0][i, :, 0] += np.array([w % prime for w in whole], np.int64)
    c0, c1 = _rescaled(halves[0][:, :, :1]), _rescaled(halves[1])
    parts = []
    for k in range(count):
        parts.append(ring.pack30(np.ascontiguousarray(c1[:, k].astype(np.uint32)).reshape(-1)).tobytes())
        parts.append(crt([int(v) for v in c0[:, k, 0]], PRIMES[:KEPT]).to_bytes(8, "little"))
    return b"".join(parts)


def _rescaled(c: NDArray[np.int64]) -> NDArray[np.int64]:
    """round(c / p_last) modulo the kept primes, (primes, count, …) to (kept, count, …)."""
    last = PRIMES[-1]
    remainder = c[-1] % last
    remainder = np.where(remainder > last // 2, remainder - last, remainder)
    inverses = [pow(last, -1, p) for p in PRIMES[:KEPT]]
    return np.stack([(c[i] - remainder) % p * inverses[i] % p for i, p in enumerate(PRIMES[:KEPT])])


# --------------------------------------------------------------------------------------------------- noise


# ‖S‖₂ of a column as it is encoded, and ‖V‖₂ of an operand at most: no sum leaves the room of the modulus, and both
# contribute alike to the error.
MAX_NORM = math.sqrt(2.0**_ROOM_BITS * 0.29 / 3.25)
_MAX_FIXED_NORM = 2.0**_ROOM_BITS / MAX_NORM

# t: six standard deviations of the error of a decrypted sum
ERROR_BOUND = 6 * math.hypot(
    math.sqrt(DEGREE / 2) / SCALE * math.hypot(3.25 * MAX_NORM, 0.29 * _MAX_FIXED_NORM),
    DEGREE / 2 / SCALE * 15.1,
)


def fixed_range(samples: int) -> float:
    """The largest magnitude of an operand as it is encoded, for so many samples."""
    return float(_MAX_FIXED_NORM / math.sqrt(samples))


def flood(sums: Array) -> Array:
    """The decrypted sums of one key with the noise without which they must not be shared."""
    sigma = math.sqrt(12 * len(sums)) * 2 ** (STATISTICAL_BITS / 2) * ERROR_BOUND
    source = secrets.SystemRandom()
    return sums + np.array([source.gauss(0.0, sigma) for _ in sums])
