"""The figures in SECURITY.md under 'Assumptions and parameters', computed again from what the code uses."""

from __future__ import annotations

import math
import re

import pytest
from sample_data_support import ROOT

from PPIRLogic.secure.exact_range import check_range
from PPIRLogic.secure.fhe import ring, slots
from PPIRLogic.secure.fhe import verified as fhe_verified
from PPIRLogic.secure.fhe.parameters import FLOOD, PLAIN_MODULUS, PRIMES, Q_KEPT, SECURITY_BITS, SPECIAL_BITS, Q
from PPIRLogic.secure.fhe.ring import DEGREE
from PPIRLogic.secure.published import ckks

SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
# Albrecht et al. 2018, Homomorphic Encryption Security Standard, table 1: the most bits of the modulus by ring degree,
# for ternary secrets against classical attacks, for 128, 192 and 256 bits of security
STANDARD = {4096: (109, 75, 58), 8192: (218, 152, 118)}
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
    assert "140 (ciphertexts 120)" in SECURITY and "108 (ciphertexts 78;" in SECURITY


def test_errors_have_the_deviation_that_the_standard_assumes() -> None:
    assert math.sqrt(2 * 21 / 4) == pytest.approx(3.24, abs=0.01)  # the difference of two counts of 21 bits
    assert 8 / math.sqrt(2 * math.pi) == pytest.approx(3.19, abs=0.01)  # the standard's table


def test_the_distance_of_a_flooded_number() -> None:
    """26·‖S‖₂ is eight standard deviations of S·e; what passes the check is hidden to 2^-40."""
    assert 8 * math.sqrt(21 / 2) < 26
    assert -50 < math.log2(math.erfc(8 / math.sqrt(2))) < -49
    assert SECURITY_BITS == 40 and math.log2(FLOOD) == pytest.approx(72, abs=0.01)
    check_range(1.0, 2.0**33 / 26 / 1.1, 1.0)
    with pytest.raises(Exception, match=r"2\^-40"):
        check_range(1.0, 2.0**33 / 26 * 1.1, 1.0)


def test_a_wrong_decryption_is_more_than_190_standard_deviations_away() -> None:
    margin = Q_KEPT / (4 * PLAIN_MODULUS)
    assert margin / math.sqrt(DEGREE / 18) > 190
    t, p0 = max(slots.SLOT_MODULI), PRIMES[0]
    assert p0 / (2 * t) - 258 > 255
    tail = 2 * math.exp(-(255**2) / 2 / (ring.DEGREE / 18 + 0.5 * 255 / 3))  # Bernstein
    assert tail < 2.0**-70


def test_the_distance_of_slots() -> None:
    t, d = max(slots.SLOT_MODULI), Q // PRIMES[0]
    before = 21 * ring.DEGREE * t // 2 + ring.DEGREE * t // 4 + 21 * (2 * ring.DEGREE + 1) + 1
    assert before / (512 * d) < 2.0**-61.9
    assert "2⁻⁶²" in SECURITY


def test_the_distance_of_a_shared_decryption_under_the_published_protocols() -> None:
    """√τ·t / 2σ with σ = √(12·τ)·2^(s/2)·t, for any τ."""
    for tau in (1, 14):
        sigma = math.sqrt(12 * tau) * 2 ** (ckks.STATISTICAL_BITS / 2) * ckks.ERROR_BOUND
        distance = math.sqrt(tau) * ckks.ERROR_BOUND / (2 * sigma)
        assert math.log2(distance) == pytest.approx(-17.8, abs=0.05)
    assert "2⁻¹⁷·⁸" in SECURITY


def test_a_forgery() -> None:
    assert 2 / (PLAIN_MODULUS - 1) < 2.0**-44
    assert fhe_verified.DIGIT_BITS * fhe_verified.DIGITS == 46 >= PLAIN_MODULUS.bit_length()


def test_every_row_of_the_table_says_where_it_comes_from() -> None:
    table = SECURITY.split("## Assumptions and parameters")[1].split("##")[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if re.match(r"\| [^-w]", line)]
    assert len(rows) >= 12 and all(len(row) == 3 and all(cell.strip() for cell in row) for row in rows)
