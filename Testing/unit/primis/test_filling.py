"""Class lengths: few, never below what is needed, and of the image's size and the level alone."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from primis_support import sealed_payloads

from PPIRLogic.primis.filling import ANCHORS, STEPS, class_length

PIXELS = st.integers(4, 4096 * 4096)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 10**8), st.integers(1, 5), PIXELS)
def test_a_class_length_holds_the_code_and_is_a_class_of_its_own(length: int, level: int, pixels: int) -> None:
    filled = class_length(length, level, pixels)
    assert filled >= length and class_length(filled, level, pixels) == filled
    assert filled < max(
        64 * STEPS[level - 1], ANCHORS[level - 1] * pixels + 1, STEPS[level - 1] * length + STEPS[level - 1]
    )


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5), PIXELS)
def test_there_are_few_class_lengths(level: int, pixels: int) -> None:
    """Of all lengths within a factor of 64."""
    middle = int(ANCHORS[level - 1] * pixels) + 1
    lengths = {class_length(max(1, middle * n // 64), level, pixels) for n in (*range(1, 64), *range(64, 513, 8))}
    assert len(lengths) <= 12


def test_two_files_of_other_content_have_the_same_lengths() -> None:
    one, _ = sealed_payloads([bytes(40), bytes(45), bytes(70), bytes(99), bytes(300)], pad=True)
    two, _ = sealed_payloads([bytes(21), bytes(60), bytes(61), bytes(77), bytes(250)], pad=True)
    bare, _ = sealed_payloads([bytes(21), bytes(60), bytes(61), bytes(77), bytes(250)], pad=False)
    assert [c.length for c in one.header.codes] == [c.length for c in two.header.codes]
    assert [c.length for c in two.header.codes] != [c.length for c in bare.header.codes]
