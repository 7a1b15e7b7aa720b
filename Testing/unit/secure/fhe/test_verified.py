"""Products checked before they are opened: exact, sized as said, never failing by accident."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from PPIRLogic.errors import FixedPointError, ProtocolError
from PPIRLogic.secure.exact_range import check_range
from PPIRLogic.secure.fhe import verified as fhe_verified
from PPIRLogic.secure.fhe.bfv import positions
from PPIRLogic.secure.fhe.key_holder import _scale_up, multiples
from PPIRLogic.secure.fhe.parameters import FLOOD, PLAIN_MODULUS, Q
from PPIRLogic.secure.fhe.verified import DIGIT_BITS, DIGITS, VerifiedProduct, pad_block, pad_values
from PPIRLogic.secure.layout import CHUNK, GROUP
from PPIRLogic.secure.product import Term

MODULI = st.integers(-PLAIN_MODULUS, PLAIN_MODULUS)


@pytest.mark.parametrize("samples", [1, CHUNK, 9 * CHUNK + 5])
def test_products_are_exact_and_their_own_check_passes(exchange: Callable[..., Any], samples: int) -> None:
    draw = np.random.default_rng(samples)
    image = draw.integers(-2048, 2049, samples).astype(np.int32)
    image[0] = 2048
    columns = draw.integers(-400, 401, (3, samples)).astype(np.int32) // np.array([[1], [8], [1]], np.int32)
    terms = [Term(0, "J", "gradient"), Term(2, "J", "value"), Term(1, "J2", "overlap")]
    opened = exchange("fhe_verified", {"J": image, "J2": image * image})
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
    opened = exchange("fhe_verified", {"B": fixed.reshape(-1)})
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


def test_the_noise_of_the_pads_leaves_room_under_the_flood() -> None:
    """Docs/privacy/fhe_verified.md: of the 2^33 that are hidden, the pad's digits take less than 1/20."""
    noise = VerifiedProduct._pad_noise
    assert noise(None, 1) < 2.0**-40 * 2 * FLOOD / 20  # type: ignore[arg-type]
    assert noise(None, 32) < 2.0**-40 * 2 * FLOOD / 2  # type: ignore[arg-type]
    worst_of_one = 21 * DIGITS * 2**DIGIT_BITS + DIGITS * 2**DIGIT_BITS / 2  # errors are at most 21
    assert worst_of_one < 2.0**-40 * 2 * FLOOD / 20


def test_a_range_that_the_pads_would_pass_is_refused(exchange: Callable[..., Any]) -> None:
    """A column that just fits fhe leaves no room for the pads: nothing is sent."""
    limit = 2.0**-40 * 2 * FLOOD
    check_range(1, limit / 26 * 0.99, 0)
    with pytest.raises(FixedPointError, match="Nothing was sent"):
        check_range(1, limit / 26 * 0.99, 0, VerifiedProduct._pad_noise(None, 1))  # type: ignore[arg-type]


def test_every_level_has_a_factor_of_its_own(exchange: Callable[..., Any]) -> None:
    factors = {exchange("fhe_verified", {"J": np.ones(9, np.int32)})._side._factor for _ in range(4)}
    assert len(factors) == 4 and all(0 < f < PLAIN_MODULUS for f in factors)


def test_an_impossible_answer_is_not_believed(exchange: Callable[..., Any]) -> None:
    opened = exchange("fhe", {"J": np.array([3, -2, 1], np.int32)})
    opened._side._opened = lambda: np.array([12345678901], np.uint64)  # party 2 guesses
    with pytest.raises(ProtocolError, match="larger than any image"):
        opened.evaluate(np.array([[1, 2, 3]], np.int32), [Term(0, "J", "gradient")])


def test_the_group_of_the_pads_is_one_group() -> None:
    assert pad_block([1]).shape == (1, GROUP) and fhe_verified.DIGITS * DIGIT_BITS == 46
