"""Class lengths: few, never below what is needed, and of shape, type and one factor for the file alone."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from primis_support import sealed_payloads

from PPIRLogic.primis.filling import ANCHORS, class_lengths

SIDE = st.integers(2, 4096)
SHAPE = st.one_of(st.tuples(SIDE, SIDE), st.tuples(st.integers(2, 400), SIDE, SIDE))
DTYPE = st.sampled_from(["uint8", "uint16", "int16"])
HERE = (160, 160)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 10**8), min_size=1, max_size=5), SHAPE, DTYPE)
def test_class_lengths_hold_the_codes_and_are_classes_of_their_own(
    lengths: list[int], shape: tuple[int, ...], dtype: str
) -> None:
    filled = class_lengths(lengths, shape, dtype)
    assert all(a >= b for a, b in zip(filled, lengths, strict=True))
    assert class_lengths(filled, shape, dtype) == filled


@settings(max_examples=25, deadline=None)
@given(SHAPE, DTYPE, st.data())
def test_there_are_few_class_lengths(shape: tuple[int, ...], dtype: str, data: st.DataObject) -> None:
    """Whatever five codes have, each up to 64 times shorter or 8 times longer than usual."""
    usual = class_lengths([1] * 5, shape, dtype)
    usual = [max(64, n) for n in usual]
    factors = data.draw(st.lists(st.tuples(*[st.floats(1 / 64, 8)] * 5), min_size=60, max_size=60))
    found = {
        tuple(class_lengths([max(1, int(u * f)) for u, f in zip(usual, five, strict=True)], shape, dtype))
        for five in factors
    }
    assert len(found) <= 8


def test_what_fits_the_anchors_and_not_a_quarter_of_them_has_one_length() -> None:
    for level, anchor in enumerate(ANCHORS):
        short = [1] * 5
        for length in (anchor // 4 + 1, anchor // 2, anchor):
            short[level] = length
            assert class_lengths(short, HERE, "uint8") == list(ANCHORS)
        short[level] = anchor + 1
        assert class_lengths(short, HERE, "uint8") == [2 * n for n in ANCHORS]
    assert class_lengths([7 * n for n in ANCHORS], (7, *HERE), "uint8") == [7 * n for n in ANCHORS]
    assert class_lengths(ANCHORS, HERE, "int16") == [*ANCHORS[:4], 2 * ANCHORS[4]]


def test_two_files_of_other_content_have_the_same_lengths() -> None:
    one, _ = sealed_payloads([bytes(40), bytes(45), bytes(70), bytes(399), bytes(550)], pad=True)
    two, _ = sealed_payloads([bytes(21), bytes(60), bytes(61), bytes(377), bytes(450)], pad=True)
    bare, _ = sealed_payloads([bytes(21), bytes(60), bytes(61), bytes(377), bytes(450)], pad=False)
    assert [c.length for c in one.header.codes] == [c.length for c in two.header.codes]
    assert [c.length for c in two.header.codes] != [c.length for c in bare.header.codes]
