"""The centre of brightness and its axes."""

from __future__ import annotations

import numpy as np

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.party1.moments import moving_moments

TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def test_a_bright_block_in_a_turned_grid() -> None:
    grid = Geometry((30, 24, 20), (1.0, 2.0, 1.5), (5.0, -3.0, 8.0), tuple(TURN.ravel()))
    array = np.zeros(grid.array_shape, np.float32)
    array[4:8, 6:16, 20:24] = 1.0  # z, y, x: 6 by 20 by 4 mm
    found = moving_moments(Volume(array, grid))
    assert found is not None
    middle = grid.index_to_physical() @ np.array([21.5, 10.5, 5.5, 1.0])
    assert np.allclose(found.mean, middle, atol=1e-9)
    along_y = TURN @ np.array([0.0, 1.0, 0.0])
    assert abs(found.axes[:, 2] @ along_y) > 1 - 1e-9, "the last axis is the longest"
    assert np.allclose(found.axes.T @ found.axes, np.eye(3))


def test_a_dark_image_has_none() -> None:
    grid = Geometry((8, 8), (1.0, 1.0), (0.0, 0.0), (1, 0, 0, 1))
    assert moving_moments(Volume(np.zeros((8, 8), np.float32), grid)) is None
