"""What is sealed beside the pixels: place and tags, and nothing that an owner can break a reader with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.primis.extras import MAX_TAGS, Extras, plain_grid, split_extras

SIN, COS = np.sin(0.3), np.cos(0.3)
OBLIQUE = Geometry((6, 5, 4), (0.7, 0.8, 2.5), (-12.5, 3.0, 8.25), (COS, -SIN, 0, SIN, COS, 0, 0, 0, -1))
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, categories=("L", "N")), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(TEXT, TEXT, max_size=MAX_TAGS), st.booleans(), st.booleans(), st.binary(max_size=30))
def test_extras_come_back_as_they_were(tags: dict[str, str], placed: bool, rounded: bool, code: bytes) -> None:
    extras = Extras(OBLIQUE if placed else None, tags, rounded)
    assert split_extras(extras.pack() + code, (4, 5, 6), "The file") == (extras, code)


def test_a_plain_image_costs_one_byte() -> None:
    assert Extras().pack() == b"\0"
    assert plain_grid((4, 5, 6)) == Geometry((6, 5, 4), (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_whatever_an_owner_wrote_is_understood_or_refused(payload: bytes) -> None:
    try:
        extras, code = split_extras(payload, (8, 8), "The file")
    except InputError as error:
        assert "made wrongly" in str(error)
        return
    assert payload.endswith(code) and len(extras.tags) <= MAX_TAGS


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"\x08", b"\x01" + bytes(64), b"\x01" + b"\xff" * 64, b"\x02\xff", b"\x02\x01\xff\xff",
        b"\x02\x01\0\x01a\0\x02\x1b[", b"\x02\x02\0\x01a\0\x01b\0\x01a\0\x01c",
    ],
)  # fmt: skip
def test_impossible_extras_are_refused(payload: bytes) -> None:
    """No grid, no end, letters that a terminal obeys, a tag twice."""
    with pytest.raises(InputError, match="made wrongly"):
        split_extras(payload, (8, 8), "The file")
