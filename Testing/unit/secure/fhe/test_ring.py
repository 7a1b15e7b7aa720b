"""The ring Z_p[X]/(X^8192 + 1): transforms, products, draws and packing."""

from __future__ import annotations

import os
import platform
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba import njit, uint32
from numpy.typing import NDArray

from PPIRLogic.secure.fhe import bfv, ring, transform_kernels
from PPIRLogic.secure.fhe.key_holder import _coefficients, _read
from PPIRLogic.secure.fhe.parameters import PRIMES
from PPIRLogic.secure.fhe.ring import DEGREE
from PPIRLogic.secure.layout import LANES
from PPIRLogic.secure.prg import Stream

Poly = NDArray[np.int64]


def lanes_of(polynomials: Poly) -> NDArray[np.uint32]:
    """(8, n) to the interleaved layout (n·8,)."""
    return np.ascontiguousarray(polynomials.T, np.uint32).reshape(-1)


def transform(polynomials: Poly, prime: int) -> NDArray[np.uint32]:
    """(8, n) coefficients to the transform domain, interleaved."""
    x = lanes_of(polynomials)
    ring.forward(x, prime)
    return x


def coefficients(transformed: NDArray[np.uint32], prime: int) -> Poly:
    """Interleaved transform domain to (8, n) coefficients."""
    x = transformed.copy()
    ring.inverse(x, prime)
    return x.reshape(DEGREE, LANES).T.astype(np.int64)


def schoolbook(a: Poly, b: Poly, prime: int) -> list[int]:
    """a·b mod X^n + 1 with Python integers; b has few terms."""
    total = np.zeros(DEGREE, object)
    for shift in np.flatnonzero(b):
        turned = np.roll(a.astype(object), shift)
        turned[:shift] *= -1
        total += int(b[shift]) * turned
    return [int(v) % prime for v in total]


def uniform(label: str, prime: int, size: tuple[int, ...]) -> Poly:
    words = Stream(b"r" * 32, label).words(int(np.prod(size)), np.uint64)
    return (words % np.uint64(prime)).astype(np.int64).reshape(size)


@pytest.mark.parametrize("prime", PRIMES)
def test_primes_fit_the_transform(prime: int) -> None:
    assert prime % (2 * DEGREE) == 1 and prime < 2**30
    assert all(prime % d for d in range(3, int(prime**0.5) + 1, 2))


@pytest.mark.parametrize("prime", PRIMES)
def test_inverse_undoes_forward(prime: int) -> None:
    polynomials = uniform("trip", prime, (LANES, DEGREE))
    polynomials[0], polynomials[1] = 0, prime - 1  # the extremes
    transformed = transform(polynomials, prime)
    assert transformed.max() < prime
    assert np.array_equal(coefficients(transformed, prime), polynomials)


def test_forward_takes_residues_up_to_four_times_the_prime() -> None:
    prime = PRIMES[-1]
    polynomials = uniform("lazy", prime, (LANES, DEGREE))
    raised = polynomials + prime * (np.arange(DEGREE) % 4)
    assert raised.max() < 2**32
    assert np.array_equal(transform(raised, prime), transform(polynomials, prime))


@pytest.mark.parametrize("prime", PRIMES)
def test_product_in_the_transform_domain_is_negacyclic(prime: int) -> None:
    a = uniform("left", prime, (LANES, DEGREE))
    b = np.zeros((LANES, DEGREE), np.int64)
    generator = np.random.default_rng(5)
    for row in b:
        row[generator.choice(DEGREE, 5, replace=False)] = generator.integers(0, prime, 5)
    b[0, -1] = prime - 1  # wraps round, with a sign
    product = transform(a, prime).astype(np.uint64) * transform(b, prime) % np.uint64(prime)
    got = coefficients(product.astype(np.uint32), prime)
    for lane in (0, 3, 7):
        assert got[lane].tolist() == schoolbook(a[lane], b[lane], prime)


@example([-99_534_927_493_517_923], PRIMES[1])  # just below a multiple, of which the double knows nothing
@given(st.lists(st.integers(-(2**63) + 1, 2**63 - 1), min_size=1, max_size=20), st.sampled_from([2**46 - 21, *PRIMES]))
def test_division_without_a_division_is_exact(values: list[int], modulus: int) -> None:
    for v in values:
        edges = (v // modulus * modulus, v // modulus * modulus - 1)
        for a in (v, *(e for e in edges if abs(e) < 2**63)):
            assert ring.divided(np.int64(a), np.int64(modulus), 1.0 / modulus) == divmod(a, modulus)


@pytest.mark.parametrize("modulus", [2**46 - 21, *PRIMES])
def test_division_is_exact_beside_multiples(modulus: int) -> None:
    """Where a double cannot tell the quotient: one off a multiple, of either sign, a million times."""
    most = 2**62 // modulus
    quotients = np.random.default_rng(modulus % 1000).integers(-most, most, 10**6)
    for rest in (0, 1, modulus - 1):
        q, r = _all_divided(quotients * modulus + rest, modulus)
        assert np.array_equal(q, quotients) and (r == rest).all()


@njit
def _all_divided(values: Any, modulus: int) -> Any:
    q, r = np.empty_like(values), np.empty_like(values)
    for i in range(values.size):
        q[i], r[i] = ring.divided(values[i], modulus, 1.0 / modulus)
    return q, r


def test_reduction_is_exact() -> None:
    values = np.random.default_rng(3).integers(-(2**62), 2**62, 1000)
    out = np.empty(1000, np.uint32)
    ring.reduce(values, PRIMES[0], out)
    assert (out == values % PRIMES[0]).all()


@pytest.mark.parametrize("degree", [32, 64, 128, 256, 4096, DEGREE])
def test_transform_evaluates_at_odd_powers_of_the_root(degree: int) -> None:
    """At every number of stages; by Horner's rule, in Python's integers."""
    prime = PRIMES[2]
    polynomials = uniform("odd", prime, (LANES, degree))
    x = lanes_of(polynomials)
    ring.forward(x, prime)
    root = ring._smallest_root(prime, degree)
    for k in (0, 1, degree // 3, degree - 1):
        place = int(format(k, f"0{degree.bit_length() - 1}b")[::-1], 2)
        at, value = pow(root, 2 * place + 1, prime), np.zeros(LANES, object)
        for c in reversed(range(degree)):
            value = (value * at + polynomials[:, c].astype(object)) % prime
        assert x.reshape(degree, LANES)[k].tolist() == value.tolist()
    ring.inverse(x, prime)
    assert np.array_equal(x, lanes_of(polynomials))


def test_products_are_summed_over_lanes_and_calls() -> None:
    prime, table = PRIMES[1], ring.tables(PRIMES[1])
    values = np.random.default_rng(2).integers(-(2**29), 2**29, LANES * DEGREE).astype(np.int32)
    values[:16] = [1 - prime, prime - 1] * 8
    c = uniform("c", prime, (2, LANES * DEGREE)).astype(np.uint32)
    c[:, :64] = prime - 1  # eight products with the largest residue
    x = (values % prime).astype(np.uint32)
    ring.forward(x, prime)
    total, room = np.full((2, DEGREE), 2**33, np.uint64), np.empty_like(x)
    for _ in range(3):
        transform_kernels.transform_and_add(
            values, c, total, table.forward, table.forward_quotient, uint32(prime), uint32(table.negative_inverse), room
        )
    assert np.array_equal(room, x) and total.max() < 2**33 + 3 * 2**32
    products = (x.astype(object) * c).reshape(2, DEGREE, LANES).sum(axis=2)
    got = (total - np.uint64(2**33)).astype(object) * 2**32 % prime
    assert np.array_equal(got, 3 * products % prime)


NARROWER = {"256 bits": ("haswell", "+avx,+avx2,+bmi,+bmi2"), "no vectors of 256 bits": ("x86-64", "+sse2")}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the processors named here are x86-64")
@pytest.mark.parametrize("features", NARROWER)
def test_kernels_are_right_on_processors_with_narrower_vectors(features: str, tmp_path: Path) -> None:
    name, flags = NARROWER[features]
    settings = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": flags, "NUMBA_CACHE_DIR": str(tmp_path)}
    tests = ["transform_evaluates_at_odd_powers_of_the_root[8192]", "products_are_summed_over_lanes_and_calls"]
    code = "from PPIRLogic.secure.fhe import vectors; assert vectors.WIDE == 8"
    subprocess.run([sys.executable, "-c", code], env=os.environ | settings, check=True)
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", *(f"{__file__}::test_{test}" for test in tests)]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout


def test_lift_reverses_each_chunk_and_keeps_signs() -> None:
    prime = PRIMES[0]
    values = np.random.default_rng(0).integers(-(2**23), 2**23, GROUP := LANES * DEGREE).astype(np.int32)
    values[:3] = [-(2**29), 2**29, 0]
    turned, out = np.empty(GROUP, np.int32), np.empty(GROUP, np.uint32)
    transform_kernels.reverse_chunks(values, turned)
    ring.lift(turned, prime, out)
    assert np.array_equal(out.reshape(DEGREE, LANES).T, values.reshape(LANES, DEGREE)[:, ::-1] % prime)


# ------------------------------------------------------------------------------------- Microsoft SEAL's own


def seal_ciphertext(context: Any, seal: Any, words: NDArray[np.uint64], path: Path, transformed: bool) -> Any:
    """A SEAL ciphertext (2, primes, n) of these residues, through SEAL's stream format without compression."""

    def head(length: int) -> bytes:
        return struct.pack("<HBBBBHQ", 0xA15E, 16, 4, 3, 0, 0, 16 + length)

    array = struct.pack("<Q", words.size) + words.astype("<u8").tobytes()
    body = struct.pack("<4Q", *context.first_parms_id())
    body += struct.pack("<BQQQdQ", transformed, 2, DEGREE, len(PRIMES), 1.0, 1) + head(len(array)) + array
    path.write_bytes(head(len(body)) + body)
    ciphertext = seal.Ciphertext()
    ciphertext.load(context, str(path))
    return ciphertext


def test_transform_is_seals_own(tmp_path: Path) -> None:
    """Same root, same order: SEAL transforms a ciphertext of our residues to what we get."""
    seal, context = bfv.seal_context()
    residues = np.stack([uniform(f"seal{i}", prime, (2, DEGREE)) for i, prime in enumerate(PRIMES)], axis=1)
    ciphertext = seal_ciphertext(context, seal, residues.astype(np.uint64), tmp_path / "ciphertext", False)
    seal.Evaluator(context).transform_to_ntt_inplace(ciphertext)
    for i, prime in enumerate(PRIMES):
        batch = np.zeros((LANES, DEGREE), np.int64)
        batch[:2] = residues[:, i]
        ours = transform(batch, prime).reshape(DEGREE, LANES)
        for part in range(2):
            start = (part * len(PRIMES) + i) * DEGREE
            assert [ciphertext[start + j] for j in range(DEGREE)] == ours[:, part].tolist()


def test_a_secret_key_of_seal_is_ternary_in_our_coefficients() -> None:
    seal, context = bfv.seal_context()
    key = seal.KeyGenerator(context).secret_key()  # its data live as long as it does
    secret = _read(key.data(), 0).astype(np.uint32)
    first = _coefficients(secret[0])
    assert set(np.unique(first)) == {-1, 0, 1}
    assert np.abs(np.bincount(first + 1) / DEGREE - 1 / 3).max() < 0.032  # six standard errors
    for i, prime in enumerate(PRIMES[1:], 1):  # the same polynomial under every prime
        batch = np.zeros((LANES, DEGREE), np.int64)
        batch[0] = first.astype(np.int64) % prime
        assert np.array_equal(transform(batch, prime)[::LANES], secret[i])


# -------------------------------------------------------------------------------------------------- draws


@pytest.mark.parametrize("prime", [PRIMES[0], PRIMES[3], 3])
def test_uniform_below_keeps_what_is_below_in_order(prime: int) -> None:
    words = Stream(b"u" * 32, prime).words(DEGREE * 2, np.uint32)
    if prime == 3:
        words &= np.uint32(3)
    out = np.empty(DEGREE, np.uint32)
    used = ring.uniform_below(words, uint32(prime), out)
    masked = words & np.uint32(2**30 - 1)
    assert np.array_equal(out, masked[masked < prime][:DEGREE])
    assert np.count_nonzero(masked[:used] < prime) == DEGREE and masked[used - 1] < prime
    assert abs(out.mean() / (prime - 1) - 0.5) < 6 * 0.41 / np.sqrt(DEGREE)


def test_uniform_below_says_when_words_run_out() -> None:
    words = np.full(100, 2**30 - 1, np.uint32)  # all beyond the prime
    assert ring.uniform_below(words, uint32(PRIMES[0]), np.empty(1, np.uint32)) == -1


def test_centred_binomial_has_the_moments_of_21_minus_21_bits() -> None:
    words = Stream(b"e" * 32, "cbd").words(200_000, np.uint64)
    errors = np.empty(words.size, np.int8)
    ring.centred_binomial(words, errors)
    bits = (words[:, None] >> np.arange(42, dtype=np.uint64)) & np.uint64(1)
    assert np.array_equal(errors, bits[:, :21].sum(axis=1).astype(int) - bits[:, 21:].sum(axis=1).astype(int))
    assert abs(errors.mean()) < 6 * 3.24 / np.sqrt(words.size)
    assert abs(errors.var() - 10.5) < 6 * 10.5 * np.sqrt(2 / words.size)


def test_ternary_is_uniform_and_rejects_the_last_byte() -> None:
    random = Stream(b"t" * 32, "ternary").bytes(70_000)
    random[:3] = [255, 254, 0]
    out = np.empty(65_536, np.int8)
    used = ring.ternary(random, out)
    kept = random[random < 255][:65_536]
    assert np.array_equal(out, (kept % 3).astype(np.int8) - 1) and used > 65_536
    assert np.abs(np.bincount(out + 1) / out.size - 1 / 3).max() < 6 * 0.47 / np.sqrt(out.size)
    assert ring.ternary(np.full(10, 255, np.uint8), np.empty(1, np.int8)) == -1


# ------------------------------------------------------------------------------------------------ packing


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2**30 - 1), max_size=40).filter(lambda v: len(v) % 4 == 0))
def test_packing_takes_15_bytes_per_four_and_gives_them_back(values: list[int]) -> None:
    packed = ring.pack30(np.array(values, np.uint32))
    assert packed.size == len(values) // 4 * 15
    assert ring.unpack30(packed.tobytes()).tolist() == values
    as_integer = sum(v << (30 * i) for i, v in enumerate(values))
    assert int.from_bytes(packed.tobytes(), "little") == as_integer


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=150).filter(lambda b: len(b) % 15 == 0))
def test_every_byte_string_unpacks_to_30_bits_and_back(data: bytes) -> None:
    values = ring.unpack30(data)
    assert values.size == len(data) // 15 * 4 and (values < 2**30).all()
    assert ring.pack30(values).tobytes() == data
