"""Transforms around an end."""

from __future__ import annotations

import numpy as np
import pytest

from PPIRLogic.registration.party1.end_check import around
from PPIRLogic.transforms import LinearTransform


@pytest.mark.parametrize(("dimension", "count"), [(2, 6), (3, 12)])
def test_shifts_and_turns_to_either_side(dimension: int, count: int) -> None:
    centre = np.arange(1.0, dimension + 1)
    matrix = np.eye(dimension) + 0.1 * np.arange(dimension**2).reshape(dimension, dimension) / dimension**2
    end = LinearTransform("affine", matrix, np.full(dimension, 3.0), centre)
    found = list(around(end, 10.0, 12.0))
    assert len(found) == count
    at_centre = [np.linalg.norm(t.apply([centre]) - end.apply([centre])) for t in found]
    assert sorted(np.round(at_centre, 9)) == [0.0] * (count - 2 * dimension) + [10.0] * (2 * dimension)
    for turned in found[2 * dimension :]:
        turn = turned.matrix @ np.linalg.inv(matrix)
        assert np.allclose(turn @ turn.T, np.eye(dimension)) and np.linalg.det(turn) == pytest.approx(1.0)
        assert np.degrees(np.arccos((np.trace(turn) - dimension + 2) / 2)) == pytest.approx(12.0)
    shifts = sum(t.translation - end.translation for t in found)
    assert np.allclose(shifts, 0.0), "to either side"
