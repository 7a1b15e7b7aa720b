"""The moving image between its voxels, and where it may be sampled."""

from __future__ import annotations

import numpy as np

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.interpolation import MovingImage
from PPIRLogic.images.volume import Volume

EYE = tuple(np.eye(3).ravel())


def test_a_margin_takes_at_most_an_eighth_of_a_thin_axis() -> None:
    """16 mm from each border would leave 4 of 20 slices."""
    grid = Geometry((90, 100, 20), (2.0, 2.0, 3.0), (0.0, 0.0, 0.0), EYE)
    image = MovingImage(Volume(np.zeros(grid.array_shape, np.float32), grid), (3, 3, 2))
    inner = image.narrowed(16.0)
    assert inner.low.tolist() == [11.0, 11.0, 4.0] and inner.high.tolist() == [78.0, 88.0, 15.0]
    assert image.low.tolist() == [3.0, 3.0, 2.0], "the image itself is left alone"
