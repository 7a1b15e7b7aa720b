"""The figures in SECURITY.md under 'Assumptions and parameters', computed again from what the code uses."""

from __future__ import annotations

import math
import re

import pytest
from sample_data_support import ROOT

from PPIRLogic.disclosure.accounts import Budget
from PPIRLogic.disclosure.failed_checks import MAX_FAILURES
from PPIRLogic.secure.exact_range import NOISE_LIMIT, check_range
from PPIRLogic.secure.fhe import protocol, ring, slots
from PPIRLogic.secure.fhe.parameters import PLAIN_MODULUS, PRIMES, Q_KEPT, SPECIAL_BITS, Q
from PPIRLogic.secure.fhe.ring import DEGREE
from PPIRLogic.secure.published import ckks

SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
VERIFIED = (ROOT / "Docs" / "privacy" / "verified.md").read_text(encoding="utf-8")
# Albrecht et al. 2018, Homomorphic Encryption Security Standard, table 1: the most bits of the modulus by ring degree,
# for ternary secrets against classical attacks, for 128, 192 and 256 bits of security
STANDARD = {4096: (109, 75, 58), 8192: (218, 152, 118)}
# Bossuat et al. 2024, Security Guidelines for Implementing Homomorphic Encryption: the same for 128 bits of security,
# against classical and against quantum attacks
GUIDELINES = {4096: (106, 80), 8192: (214, 161)}
SPECIAL_OF_CKKS = 1073692673  # of 30 bits, for key switching in the published code; ours does not use it


def bits(*primes: int) -> int:
    return sum(p.bit_length() for p in primes)


def test_every_modulus_is_within_the_standard_s_table_and_seal_s_copy_of_it() -> None:
    seal = pytest.importorskip("tenseal.sealapi")
    levels = (seal.SEC_LEVEL_TYPE.TC128, seal.SEC_LEVEL_TYPE.TC192, seal.SEC_LEVEL_TYPE.TC256)
    for degree, allowed in STANDARD.items():
        assert tuple(seal.CoeffModulus.MaxBitCount(degree, level) for level in levels) == allowed
    assert (ring.DEGREE, ckks.DEGREE) == (8192, 4096)
    assert bits(*PRIMES) + SPECIAL_BITS == 140 <= STANDARD[8192][1]
    assert bits(*ckks.PRIMES, SPECIAL_OF_CKKS) == 108 <= STANDARD[4096][0]
    assert bits(*ckks.PRIMES) == 78 > STANDARD[4096][1]  # what is encrypted with: 128 bits, not 192
    assert bits(*PRIMES) + SPECIAL_BITS <= min(GUIDELINES[8192])
    assert bits(*ckks.PRIMES, SPECIAL_OF_CKKS) > max(GUIDELINES[4096]) > min(GUIDELINES[4096]) > bits(*ckks.PRIMES)
    assert "140 (ciphertexts 120)" in SECURITY and "108 (ciphertexts 78;" in SECURITY


def test_errors_have_the_deviation_that_the_standard_assumes() -> None:
    assert math.sqrt(2 * 21 / 4) == pytest.approx(3.24, abs=0.01)  # the difference of two counts of 21 bits
    assert 8 / math.sqrt(2 * math.pi) == pytest.approx(3.19, abs=0.01)  # the standard's table


def test_a_wrong_number_is_below_2_to_the_minus_39() -> None:
    """26·‖S‖₂ is eight standard deviations of S·e; what passes the check carries with 2^-41, rounding with 2^-40."""
    assert 8 * math.sqrt(21 / 2) < 26
    assert -50 < math.log2(math.erfc(8 / math.sqrt(2))) < -49
    check_range(1.0, 2.0**33 / 26 / 1.1, 1.0)
    with pytest.raises(Exception, match=r"2\^-41"):
        check_range(1.0, 2.0**33 / 26 * 1.1, 1.0)
    rounding = math.sqrt(2 / math.pi) * math.sqrt(DEGREE / 18)  # the mean of |c1's rounding times the secret|
    assert math.log2(rounding / (Q_KEPT / PLAIN_MODULUS)) == pytest.approx(-39.9, abs=0.1)
    assert rounding / (Q_KEPT / PLAIN_MODULUS) + NOISE_LIMIT / (Q / PLAIN_MODULUS) < 2.0**-39
    assert "2⁻³⁹" in SECURITY


def carry_of_a_slot() -> float:
    """The mean noise of a product of slots against a step: the chance that one coefficient carries."""
    t, last = max(slots.SLOT_MODULI), PRIMES[-1]
    product = math.sqrt(DEGREE) * 3.24 * t / math.sqrt(12)  # e·m, m uniform modulo t
    rounded = math.sqrt(DEGREE) / math.sqrt(12) * t / math.sqrt(12)  # the rounding of Q·v/t times m
    deviation = math.hypot(product / last, rounded / last, math.sqrt(DEGREE / 18))
    return math.sqrt(2 / math.pi) * deviation / (Q_KEPT / t)


def test_a_wrong_slot() -> None:
    carry = carry_of_a_slot()
    assert -56 < math.log2(carry) < -55
    assert -33 < math.log2(carry * len(slots.SLOT_MODULI) * 3 * 2.3e6) < -31
    assert "2⁻⁵⁵" in SECURITY


def test_the_distance_of_a_shared_decryption_under_the_published_protocols() -> None:
    """√τ·t / 2σ with σ = √(12·τ)·2^(s/2)·t, for any τ."""
    for tau in (1, 14):
        sigma = math.sqrt(12 * tau) * 2 ** (ckks.STATISTICAL_BITS / 2) * ckks.ERROR_BOUND
        distance = math.sqrt(tau) * ckks.ERROR_BOUND / (2 * sigma)
        assert math.log2(distance) == pytest.approx(-17.8, abs=0.05)
    assert "2⁻¹⁷·⁸" in SECURITY


def test_a_forgery() -> None:
    assert 2 / (PLAIN_MODULUS - 1) < 2.0**-44
    assert all(1 / t + 2 / (t - 1) < 2.0**-27 for t in slots.SLOT_MODULI)  # over χ, and over α
    assert protocol.DIGIT_BITS * protocol.DIGITS == 46 >= PLAIN_MODULUS.bit_length()


def test_the_largest_budget() -> None:
    """The union over all that one peer may be told of one subject at the default budget; what fails ends it."""
    numbers, tests = Budget().numbers_per_image, 100_000  # a step of slots opens two numbers at least
    rounding = math.sqrt(2 / math.pi) * math.sqrt(DEGREE / 18) / (Q_KEPT / PLAIN_MODULUS)
    wrong = rounding + NOISE_LIMIT / (Q / PLAIN_MODULUS)
    assert math.log2(numbers * wrong) < -21  # a number
    assert math.log2(2 * wrong) < -38 and "2⁻³⁸" in SECURITY
    assert math.log2(numbers * 2 * wrong) < -20  # it, or what is compared with it: a test that fails by accident
    assert math.log2(tests * len(slots.SLOT_MODULI) * 3 * 2.3e6 * carry_of_a_slot()) < -15
    assert MAX_FAILURES == 3 and math.log2(MAX_FAILURES * 2 / (PLAIN_MODULUS - 1)) < -42
    assert math.log2(MAX_FAILURES * (1 / min(slots.SLOT_MODULI) + 2 / (min(slots.SLOT_MODULI) - 1))) < -25
    for limit in ("2⁻²¹", "2⁻²⁰", "2⁻¹⁵", "2⁻⁴²", "2⁻²⁵"):
        assert limit in VERIFIED


@pytest.mark.parametrize(("tests", "bits"), [(10_000, 38), (200_000, 51)])
def test_what_tests_tell(tests: int, bits: int) -> None:
    """In which of so many tests at most three failed: so many answers there are at most."""
    answers = sum(math.comb(tests, failed) for failed in range(MAX_FAILURES + 1))
    assert bits - 1 < math.log2(answers) < bits and f"{bits} for" in VERIFIED


def test_every_row_of_the_table_says_where_it_comes_from() -> None:
    table = SECURITY.split("## Assumptions and parameters")[1].split("##")[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if re.match(r"\| [^-w]", line)]
    assert len(rows) >= 12 and all(len(row) == 3 and all(cell.strip() for cell in row) for row in rows)
