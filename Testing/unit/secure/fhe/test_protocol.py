"""Products checked before they are released: exact, sized as said, never failing by accident."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from PPIRLogic.disclosure.failed_checks import FailedChecks
from PPIRLogic.errors import FixedPointError, PPIRError, ProtocolError, VerificationError
from PPIRLogic.secure.exact_range import NOISE_LIMIT, check_range
from PPIRLogic.secure.fhe.bfv import positions
from PPIRLogic.secure.fhe.key_holder import _scale_up, multiples
from PPIRLogic.secure.fhe.parameters import PLAIN_MODULUS, Q
from PPIRLogic.secure.fhe.protocol import DIGIT_BITS, DIGITS, pad_block, pad_noise, pad_values
from PPIRLogic.secure.layout import CHUNK
from PPIRLogic.secure.product import Term

MODULI = st.integers(-PLAIN_MODULUS, PLAIN_MODULUS)


@pytest.mark.parametrize("samples", [1, CHUNK, 9 * CHUNK + 5])
def test_products_are_exact_and_their_own_check_passes(exchange: Callable[..., Any], samples: int) -> None:
    draw = np.random.default_rng(samples)
    image = draw.integers(-2048, 2049, samples).astype(np.int32)
    image[0] = 2048
    columns = draw.integers(-400, 401, (3, samples)).astype(np.int32) // np.array([[1], [8], [1]], np.int32)
    terms = [Term(0, "J", "gradient"), Term(2, "J", "value"), Term(1, "J2", "overlap")]
    opened = exchange("fhe", {"J": image, "J2": image * image})
    expected = [int(columns[t.column].astype(np.int64) @ (image.astype(np.int64) ** len(t.operand))) for t in terms]
    for evaluation in range(12):
        assert opened.evaluate(columns, terms, evaluation) == expected
    assert opened.problems == []


def test_several_outputs_per_term(exchange: Callable[..., Any]) -> None:
    """A packed operand: every number of an answer has a pad of its own, and a check of its own."""
    outputs, part = 4, CHUNK // 4
    draw = np.random.default_rng(4)
    fixed = draw.integers(-50, 51, (2, outputs, part)).astype(np.int32)  # chunk, vector, sample
    column = np.zeros((1, 2, CHUNK), np.int32)
    column[0, :, -part:] = draw.integers(-400, 401, (2, part))
    opened = exchange("fhe", {"B": fixed.reshape(-1)})
    expected = np.einsum("ci,cvi->v", column[0, :, -part:].astype(np.int64), fixed).tolist()
    assert opened.evaluate(column.reshape(1, -1), [Term(0, "B", "histogram", outputs)]) == expected


@given(st.lists(MODULI, min_size=1, max_size=20), st.integers(0, PLAIN_MODULUS - 1))
def test_multiples_are_exact_modulo_t(values: list[int], factor: int) -> None:
    assert multiples(np.array(values), factor).tolist() == [v * factor % PLAIN_MODULUS for v in values]


@given(st.lists(MODULI, min_size=1, max_size=20))
def test_values_of_46_bits_are_scaled_exactly(values: list[int]) -> None:
    """What is encrypted for v: floor(Q/t)·v + this = round(Q·v/t)."""
    out, remainder = np.empty(len(values), np.int64), Q % PLAIN_MODULUS
    _scale_up(np.array(values), remainder, PLAIN_MODULUS, np.zeros(len(values), np.int8), out)
    assert out.tolist() == [(remainder * v + PLAIN_MODULUS // 2) // PLAIN_MODULUS for v in values]


@given(st.lists(st.integers(0, PLAIN_MODULUS - 1), min_size=1, max_size=8).filter(lambda v: len(v) in (1, 2, 4, 8)))
def test_a_pad_s_digits_times_their_values_give_the_pad(pads: list[int]) -> None:
    block, values = pad_block(pads)[0], pad_values()
    assert np.abs(block).max() < 1 << DIGIT_BITS and block[DIGITS * CHUNK :].max() == 0
    for at, pad in zip(positions(len(pads)), pads, strict=True):
        digits = [int(block[k * CHUNK + CHUNK - 1 - at]) * int(values[k * CHUNK]) for k in range(DIGITS)]
        assert sum(digits) == pad
    assert np.count_nonzero(values) == DIGITS


def test_the_noise_of_the_pads_leaves_room_for_that_of_the_columns() -> None:
    """Docs/privacy/verified.md: of the 2^33 that may be there, the pad's digits take less than 1/20."""
    assert pad_noise(1) < NOISE_LIMIT / 20
    assert pad_noise(32) < NOISE_LIMIT / 2
    worst_of_one = 21 * DIGITS * 2**DIGIT_BITS + DIGITS * 2**DIGIT_BITS / 2  # errors are at most 21
    assert worst_of_one < NOISE_LIMIT / 20


def test_a_range_that_the_pads_would_pass_is_refused() -> None:
    """A column that just fits leaves no room for the pads: nothing is sent."""
    check_range(1, NOISE_LIMIT / 26 * 0.99, 0)
    with pytest.raises(FixedPointError, match="Nothing was sent"):
        check_range(1, NOISE_LIMIT / 26 * 0.99, 0, pad_noise(1))


def test_every_level_has_a_factor_of_its_own(exchange: Callable[..., Any]) -> None:
    factors = {exchange("fhe", {"J": np.ones(9, np.int32)})._side._factor for _ in range(4)}
    assert len(factors) == 4 and all(0 < f < PLAIN_MODULUS for f in factors)


def test_an_impossible_answer_is_not_believed_and_leaves_its_test_on_record(
    exchange: Callable[..., Any], tmp_path: Path
) -> None:
    opened, failures = exchange("fhe", {"J": np.array([3, -2, 1], np.int32)}), FailedChecks(tmp_path)
    opened._product.test_through(lambda: failures.test("peer", "session"))
    columns, terms = np.array([[1, 2, 3]], np.int32), [Term(0, "J", "gradient")]
    assert opened.evaluate(columns, terms) == [2] and failures.count("peer") == 0
    read = opened._side._opened
    opened._side._opened = lambda: (np.array([12345678901], np.uint64), read()[1])  # party 2 guesses
    with pytest.raises(ProtocolError, match="larger than any image"):
        opened.evaluate(columns, terms)
    assert failures.count("peer") == 1


def test_a_failed_test_is_on_record_at_both_sides_and_ends_the_level(
    exchange: Callable[..., Any], tmp_path: Path
) -> None:
    opened = exchange("fhe", {"J": np.array([3, -2, 1], np.int32)})
    mine, theirs = FailedChecks(tmp_path / "1"), FailedChecks(tmp_path / "2")
    opened._product.test_through(lambda: mine.test("party 2", "s"))
    opened._side.test_through(lambda: theirs.test("party 1", "s"))
    opened._side._factor += 1  # as if party 1 had made something else of what it got
    with pytest.raises(PPIRError):
        opened.evaluate(np.array([[1, 2, 3]], np.int32), [Term(0, "J", "gradient")])
    opened.close()
    assert [type(p) for p in opened.problems] == [VerificationError]
    assert mine.count("party 2") == theirs.count("party 1") == 1
    assert opened._side._keys == () and opened._side._factor == 0


def test_the_context_is_that_of_the_request(exchange: Callable[..., Any]) -> None:
    """Party 1 and party 2 hash the same bytes, in whatever frames they came."""
    opened = exchange("fhe", {"J": np.arange(9, dtype=np.int32)})
    opened.evaluate(np.ones((300, 9), np.int32), [Term(k, "J", "gradient") for k in range(300)])
    sent = [m.payload for a, _, m in opened.sent if a == "party 1" and m.kind == "request"]
    assert len(sent) > 1 and hashlib.sha256(b"".join(sent)).digest() == opened._side._digest


def test_what_an_evaluation_sends(exchange: Callable[..., Any]) -> None:
    """Docs/privacy/verified.md: 92 kB per number, 800 bytes for the test on its way, 8 bytes per number back."""
    opened = exchange("fhe", {"J": np.arange(9, dtype=np.int32)})
    before = len(opened.sent)
    opened.evaluate(np.ones((14, 9), np.int32), [Term(k, "J", "gradient") for k in range(14)])
    sizes = {(a, m.kind): 0 for a, _, m in opened.sent[before:]}
    for a, _, m in opened.sent[before:]:
        sizes[a, m.kind] += len(m.payload)
    assert sizes == {
        ("party 1", "evaluate"): 0, ("party 1", "request"): 14 * 92184, ("party 1", "test"): 32 + 32,
        ("party 2", "test"): 32 + 32, ("party 2", "answer"): 14 * 8,
    }  # fmt: skip
