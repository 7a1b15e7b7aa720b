"""The starts that are compared."""

from __future__ import annotations

import numpy as np
import pytest

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.registration.party1.moments import Moments
from PPIRLogic.registration.party1.start_search import first_starts, quarter_turns
from PPIRLogic.transforms import LinearTransform
from PPIRLogic.transforms.linear import rotation_of

FIXED = {
    2: Geometry((20, 30), (1.0, 1.5), (4.0, -2.0), (1, 0, 0, 1)),
    3: Geometry((20, 30, 24), (1.0, 1.5, 1.0), (4.0, -2.0, 1.0), tuple(np.eye(3).ravel())),
}
MOVING = {
    2: Geometry((25, 25), (1.0, 1.0), (-40.0, 10.0), (1, 0, 0, 1)),
    3: Geometry((25, 25, 30), (1.0, 1.0, 1.0), (-40.0, 10.0, 6.0), tuple(np.eye(3).ravel())),
}


def moments_of(dimension: int) -> tuple[Moments, Moments]:
    """Those of an image, and of the same image turned and shifted."""
    turn = rotation_of(np.array([0.7]) if dimension == 2 else np.array([0.3, -0.5, 0.9]))
    return Moments(np.arange(1.0, dimension + 1), np.eye(dimension)), Moments(np.full(dimension, 5.0), turn)


@pytest.mark.parametrize(("dimension", "count"), [(2, 5), (3, 7)])
def test_the_true_motion_is_among_them(dimension: int, count: int) -> None:
    a, b = moments_of(dimension)
    starts = first_starts("rigid", FIXED[dimension], MOVING[dimension], (a, b))
    assert len(starts) == count
    for start in starts:
        assert np.linalg.det(start.transform.matrix) == pytest.approx(1.0), "no mirror image"
    by_moments = [s.transform for s in starts if "brightness" in s.name]
    assert all(np.allclose(t.apply([a.mean]), [b.mean]) for t in by_moments)
    assert any(np.allclose(t.matrix, b.axes) for t in by_moments)
    centres = next(s.transform for s in starts if s.name == "centres")
    assert np.allclose(centres.apply([FIXED[dimension].centre()]), [MOVING[dimension].centre()])


def test_a_translation_is_not_turned() -> None:
    starts = first_starts("translation", FIXED[3], MOVING[3], moments_of(3))
    assert [s.name for s in starts] == ["identity", "centres", "centres of brightness"]
    assert all(np.array_equal(s.transform.matrix, np.eye(3)) for s in starts)


@pytest.mark.parametrize(("dimension", "count"), [(2, 3), (3, 9)])
def test_quarter_turns(dimension: int, count: int) -> None:
    a, b = moments_of(dimension)
    turned = [s.transform for s in quarter_turns(LinearTransform.identity("rigid", a.mean), a, b)]
    assert len(turned) == count and all(np.allclose(t.apply([a.mean]), [b.mean]) for t in turned)
    for t in turned:
        assert np.allclose(np.abs(t.matrix), np.round(np.abs(t.matrix))), "axes to axes"
    assert len({tuple(np.round(t.matrix).ravel()) for t in turned}) == count
