"""The published CKKS protocols: our arithmetic against SEAL's, the noise against its derivation, the exchange whole."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from PPIRLogic.errors import PolicyError, ProtocolError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.rules import grid_problem
from PPIRLogic.secure.fhe import ring
from PPIRLogic.secure.layout import CHUNK
from PPIRLogic.secure.product import Term
from PPIRLogic.secure.published import ckks
from PPIRLogic.secure.published import common as approximate
from PPIRLogic.secure.published.ckks import DEGREE, PRIMES, SPLIT, Ciphertexts, Key

seal: Any = pytest.importorskip("tenseal.sealapi")
SEED = bytes(range(32))


@pytest.fixture(scope="module")
def context() -> Any:
    parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
    parameters.set_poly_modulus_degree(DEGREE)
    parameters.set_coeff_modulus(seal.CoeffModulus.Create(DEGREE, [30, 24, 24, 30]))
    return seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)


def test_the_primes_are_those_seal_chooses_for_the_published_sizes(context: Any) -> None:
    assert context.parameters_set()
    assert [m.value() for m in seal.CoeffModulus.Create(DEGREE, [30, 24, 24, 30])][:3] == list(PRIMES)


def test_encoding_and_transforms_are_those_of_seal(context: Any) -> None:
    values = np.random.default_rng(1).uniform(-2000, 2000, SPLIT)
    plain = seal.Plaintext()
    seal.CKKSEncoder(context).encode(values.tolist(), ckks.SCALE, plain)
    theirs = np.array([plain.data(i) for i in range(plain.coeff_count())], np.uint64).reshape(len(PRIMES), 1, DEGREE)
    ours = ckks.encode(values[None])[0]
    for i, prime in enumerate(PRIMES):
        gap = (ours - ckks._coefficients(theirs[i], prime)[0]) % prime
        assert np.minimum(gap, prime - gap).max() <= 1  # both round the same real numbers


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, SPLIT))
def test_the_constant_coefficient_is_the_sum_of_the_slots(seed: int, width: int) -> None:
    values = np.random.default_rng(seed).uniform(-100, 100, (3, width))
    sums = ckks.encode(values)[:, 0] / ckks.SCALE * DEGREE / 2
    assert np.allclose(sums, values.sum(axis=1), atol=DEGREE / 2 / ckks.SCALE)


def products(s: Any, v: Any, added: Any = None) -> Any:
    """S·V for columns (m, N) through keys, ciphertexts and blinding."""
    key = Key(SEED)
    fixed = Ciphertexts.read(key.encrypt(v, "J"), SEED, "J", len(v))
    totals = [ckks.dot(ckks.transformed(ckks.encode(ckks.split(row))), fixed) for row in s]
    return key, key.open(ckks.blind(totals, SEED, key.public(), added), len(s))


def test_the_error_of_a_sum_is_the_one_derived() -> None:
    rng, n = np.random.default_rng(2), 3000
    v, s = rng.uniform(-1, 1, n) * ckks.fixed_range(n), rng.normal(size=(40, n))
    s *= ckks.MAX_NORM / np.linalg.norm(s, axis=1)[:, None]
    _, found = products(s, v)
    errors = found - s @ v
    assert 0.5 < np.std(errors) / (ckks.ERROR_BOUND / 6) < 1.3  # both ways: neither too little noise nor too much
    assert np.abs(errors).max() < ckks.ERROR_BOUND


def test_the_largest_sums_do_not_wrap() -> None:
    n = 5000
    v = np.full(n, ckks.fixed_range(n))
    s = np.full((2, n), ckks.MAX_NORM / math.sqrt(n))
    s[1] *= -1
    _, found = products(s, v)
    assert np.allclose(found, s @ v, rtol=1e-6)


def test_numbers_added_under_the_encryption_arrive() -> None:
    v, s = np.arange(300.0), np.ones((2, 300))
    added = np.array([1e9, -2.5e10])
    _, found = products(s, v, added)
    assert np.allclose(found, s @ v + added, atol=10)


def test_the_noise_has_the_derived_size_and_is_fresh() -> None:
    sums = np.zeros(4000)
    one, two = ckks.flood(sums), ckks.flood(sums)
    sigma = math.sqrt(12 * len(sums)) * 2**15 * ckks.ERROR_BOUND
    assert np.std(one) == pytest.approx(sigma, rel=0.1) and not np.array_equal(one, two)
    # the bound on the statistical distance that the documentation states
    assert math.sqrt(len(sums)) * ckks.ERROR_BOUND / (2 * sigma) == pytest.approx(2**-17.8, rel=0.05)


def test_what_is_returned_is_blinded() -> None:
    """Without the fresh encryption of zero, c1 = S·a gives the key owner S; with it, neither S nor a pattern."""
    v, s = np.zeros(SPLIT), np.zeros((1, SPLIT))
    s[0, 5] = ckks.MAX_NORM
    key = Key(SEED)
    fixed = Ciphertexts.read(key.encrypt(v, "J"), SEED, "J", SPLIT)
    total = ckks.dot(ckks.transformed(ckks.encode(s)), fixed)
    a = fixed.data[1].astype(object)
    inverse = np.array([[pow(int(x), -1, p) for x in a[i, 0]] for i, p in enumerate(PRIMES[:1])], dtype=object)
    # the attack on the unprotected c1 recovers the polynomial of S
    seen = (total[1, 0].astype(object) * inverse[0] % PRIMES[0]).astype(np.uint64)
    expected = ckks.transformed(ckks.encode(s))[0, 0]
    assert np.array_equal(seen.astype(np.uint32), expected)
    answers = [ckks.blind([total], SEED, key.public()) for _ in range(2)]
    c1 = [ring.unpack30(x[: ckks.C1_BYTES]).reshape(2, DEGREE)[0].astype(np.int64) for x in answers]
    assert np.mean(c1[0] == c1[1]) < 0.01
    uniform = np.histogram(c1[0], 16, (0, PRIMES[0]))[0]
    assert ((uniform - DEGREE / 16) ** 2 / (DEGREE / 16)).sum() < 60  # chi-square, 15 degrees of freedom


@pytest.mark.parametrize("length", [0, 1, ckks.POLYNOMIAL_BYTES - 1, 2 * ckks.POLYNOMIAL_BYTES])
def test_ciphertexts_of_a_wrong_length_are_refused(length: int) -> None:
    with pytest.raises(ProtocolError):
        Ciphertexts.read(bytes(length), SEED, "J", SPLIT)


def test_residues_out_of_range_are_refused() -> None:
    key, bad = Key(SEED), b"\xff" * ckks.POLYNOMIAL_BYTES
    with pytest.raises(ProtocolError, match="out of range"):
        Ciphertexts.read(bad, SEED, "J", SPLIT)
    with pytest.raises(ProtocolError, match="out of range"):
        ckks.blind([np.zeros((2, 3, DEGREE), np.uint64)], SEED, bad)
    with pytest.raises(ProtocolError):
        ckks.blind([np.zeros((2, 3, DEGREE), np.uint64)], SEED, b"")
    for answer in (b"", b"\xff" * ckks.ANSWER_BYTES, bytes(ckks.ANSWER_BYTES - 8) + b"\xff" * 8):
        with pytest.raises(ProtocolError):
            key.open(answer, 1)


@pytest.mark.parametrize("protocol", ["fhe_v1", "fhe_v2"])
def test_both_protocols_give_the_sums_to_their_noise(protocol: str, exchange: Any) -> None:
    rng, n = np.random.default_rng(7), CHUNK + 77
    v = {"J": rng.integers(-2048, 2049, n, dtype=np.int32), "J2": rng.integers(0, 500_000, n, dtype=np.int32)}
    s = np.vstack([rng.integers(-30000, 30000, (2, n)), np.ones((1, n)), np.zeros((1, n))]).astype(np.int32)
    run = exchange(protocol, v)
    terms = [Term(c, o, "x") for c in range(4) for o in ("J", "J2")]
    for evaluation in range(2):
        got = run.evaluate(s, terms, evaluation)
        for value, term in zip(got, terms, strict=True):
            operand = v[term.operand].astype(np.float64)
            scale = np.linalg.norm(s[term.column]) * np.abs(operand).max() * math.sqrt(n)
            assert abs(value - s[term.column].astype(np.float64) @ operand) <= 5e-5 * scale
    assert run.problems == []


@pytest.mark.parametrize("protocol", ["fhe_v1", "fhe_v2"])
def test_every_evaluation_has_a_key_of_its_own(protocol: str, exchange: Any) -> None:
    v = {"J": np.arange(300, dtype=np.int32)}
    s = np.ones((1, 300), np.int32)
    run = exchange(protocol, v)
    for evaluation in range(2):
        run.evaluate(s, [Term(0, "J", "x")], evaluation)
    sent = [m for who, _, m in run.sent if who == "party 2"]
    keys, data = ([m.payload for m in sent if m.kind == kind] for kind in ("key", "data"))
    assert len(set(keys)) == 2 and len(set(data)) == 2


def test_losses_with_packed_terms_are_refused() -> None:
    with pytest.raises(PolicyError, match="Use fhe"):
        approximate.check_terms([Term(0, "B", "histogram", 4)])


@pytest.mark.parametrize("protocol", ["fhe_v1", "fhe_v2"])
def test_a_level_that_would_not_fit_is_refused_beforehand_with_what_would(protocol: str) -> None:
    volume = Geometry((192, 160, 192), (1.0,) * 3, (0.0,) * 3, tuple(np.eye(3).ravel()))

    def problem(**changes: Any) -> str:
        parameters = Parameters(**{"protocol": protocol, "loss": "ssd", "levels": (2, 1), **changes})
        return grid_problem(parameters.request("x", volume, "", ""), volume)

    assert "--percent 17" in problem() and problem(protocol="fhe") == ""
    assert problem(sampling="urs", percent=17.0) == "" and problem(levels=(4, 2)) == ""
