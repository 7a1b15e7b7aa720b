"""Class lengths: few, never below what is needed, and of the image's shape and the level alone."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from primis_support import sealed_payloads

from PPIRLogic.primis.filling import ANCHORS, STEPS, class_length

SIDE = st.integers(2, 4096)
SHAPE = st.one_of(st.tuples(SIDE, SIDE), st.tuples(st.integers(2, 400), SIDE, SIDE))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 10**8), st.integers(1, 5), SHAPE)
def test_a_class_length_holds_the_code_and_is_a_class_of_its_own(
    length: int, level: int, shape: tuple[int, ...]
) -> None:
    filled = class_length(length, level, shape)
    assert filled >= length and class_length(filled, level, shape) == filled
    assert filled < max(64 * STEPS[level - 1], STEPS[level - 1] * length + STEPS[level - 1]) or filled <= 2 * length


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5), SHAPE)
def test_there_are_few_class_lengths(level: int, shape: tuple[int, ...]) -> None:
    """Of all lengths within a factor of 512."""
    middle = class_length(1 + math.prod(shape) // 8, level, shape)
    lengths = {class_length(max(1, middle * n // 64), level, shape) for n in (*range(1, 64), *range(64, 513, 8))}
    assert len(lengths) <= 12


def test_what_fits_the_anchor_and_not_a_quarter_of_it_has_one_length() -> None:
    for level, (anchor, step) in enumerate(zip(ANCHORS, STEPS, strict=True), 1):
        assert {class_length(n, level, (160, 160)) for n in range(anchor // step + 1, anchor + 1)} == {anchor}
        assert class_length(anchor + 1, level, (160, 160)) == 2 * anchor
        assert class_length(7 * anchor, level, (7, 160, 160)) == 7 * anchor


def test_two_files_of_other_content_have_the_same_lengths() -> None:
    one, _ = sealed_payloads([bytes(40), bytes(45), bytes(70), bytes(399), bytes(550)], pad=True)
    two, _ = sealed_payloads([bytes(21), bytes(60), bytes(61), bytes(377), bytes(450)], pad=True)
    bare, _ = sealed_payloads([bytes(21), bytes(60), bytes(61), bytes(377), bytes(450)], pad=False)
    assert [c.length for c in one.header.codes] == [c.length for c in two.header.codes]
    assert [c.length for c in two.header.codes] != [c.length for c in bare.header.codes]
