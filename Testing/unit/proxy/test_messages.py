"""What two sites say of proxies: everything is checked, and nothing takes more room than is due."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from PPIRLogic.errors import ProtocolError, VersionError
from PPIRLogic.proxy import messages as m

ARRAYS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=9))
GOOD = m.Segment((20, 24, 22), (4000, 4000, 4000), 99, bytes(32)).to_dict()


@given(ARRAYS)
@settings(max_examples=60, deadline=None)
def test_voxels_come_out_as_they_went_in(array: np.ndarray) -> None:
    data = m.packed(array)
    assert len(data) <= m.most_compressed(array.size)
    assert (m.unpacked(data, array.shape, m.digest_of(array), "This") == array).all()


@given(ARRAYS, st.data())
@settings(max_examples=60, deadline=None)
def test_changed_voxels_are_refused(array: np.ndarray, data: Any) -> None:
    packed = bytearray(m.packed(array))
    where = data.draw(st.integers(0, len(packed) - 1))
    packed[where] ^= data.draw(st.integers(1, 255))
    try:
        found = m.unpacked(packed, array.shape, m.digest_of(array), "This")
    except ProtocolError:
        return
    assert (found == array).all(), "a change that means nothing, such as of the header's level"


@given(st.binary(max_size=200))
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        m.unpacked(data, (3, 4, 5), bytes(32), "This")


def test_a_bomb_takes_no_room() -> None:
    import tracemalloc

    bomb = zlib.compress(bytes(10**8), 9)
    tracemalloc.start()
    with pytest.raises(ProtocolError, match="does not hold 1000 voxels"):
        m.unpacked(bomb, (10, 10, 10), bytes(32), "This")
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.binary(max_size=40),
                   st.lists(st.integers(-5, 2**33), max_size=5))  # fmt: skip


@given(st.dictionaries(st.sampled_from([*GOOD, "more"]), VALUES))
@settings(max_examples=150, deadline=None)
def test_a_question_is_whole_or_refused(changes: dict[str, Any]) -> None:
    try:
        found = m.Segment.from_dict({**GOOD, **changes})
    except ProtocolError:
        return
    assert m.Segment.from_dict(found.to_dict()) == found and 0 < found.voxels <= m.MAX_VOXELS
    assert 0 < found.size <= m.most_compressed(found.voxels)


@given(st.dictionaries(st.sampled_from(["model", "classes", "version"]), VALUES))
def test_a_model_is_whole_or_refused(changes: dict[str, Any]) -> None:
    good = m.ServedModel("ab" * 32, ("background", "brain")).to_dict()
    try:
        found = m.ServedModel.from_dict({**good, **changes})
    except ProtocolError:
        return
    assert len(found.digest) == 64 and len(found.classes) >= 2


@pytest.mark.parametrize(
    "names", [[], ["one"], ["a", "a"], ["a", ""], ["a", "\x07"], ["a", 3], ["a"] * 99], ids=range(7)
)
def test_classes_that_are_none(names: list[Any]) -> None:
    with pytest.raises(ProtocolError, match="classes"):
        m.ServedModel.from_dict({"model": bytes(32), "classes": names})


def test_answers_and_versions() -> None:
    good = m.Segmented(10, bytes(32), 4)
    assert m.Segmented.from_dict(good.to_dict(), 100) == good
    for wrong in ({"size": 0}, {"size": 10**9}, {"first": 11}, {"first": -1}, {"digest": b""}):
        with pytest.raises(ProtocolError):
            m.Segmented.from_dict({**good.to_dict(), **wrong}, 100)
    m.check_opening(m.opening(), m.ASKS, m.SEGMENTS)
    with pytest.raises(VersionError):
        m.check_opening({"version": 2}, m.ASKS, m.SEGMENTS)
