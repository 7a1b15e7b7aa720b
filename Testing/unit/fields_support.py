"""What the tests of displacement fields share: awkward grids, and smooth fields on them."""

from __future__ import annotations

import numpy as np
import pytest

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.transforms import LinearTransform
from PPIRLogic.transforms.displacement_field import (
    Field,
    smoothed,
)

OBLIQUE = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
GRIDS = (
    Geometry((40, 36, 32), (1.3, 1.0, 2.0), (3.0, 4.0, 5.0), OBLIQUE),
    Geometry((60, 50), (1.0, 1.5), (-7.0, 2.0), (1.0, 0.0, 0.0, 1.0)),
)
grids = pytest.mark.parametrize("grid", GRIDS, ids=["3D", "2D"])


def wave(grid: Geometry, height_mm: float, seed: int = 1) -> Field:
    """A smooth random field that is at most so long and dies out towards the border."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(grid.dimension, *grid.array_shape)).astype(np.float32)
    for axis, size in enumerate(grid.array_shape):
        shape = [1] * (grid.dimension + 1)
        shape[axis + 1] = size
        noise *= (np.sin(np.pi * (np.arange(size) + 0.5) / size) > 0.5).reshape(shape)
    field = smoothed(noise, grid, 5.0)
    return field * np.float32(height_mm / np.sqrt(np.square(field).sum(axis=0)).max())


def affine_of(grid: Geometry) -> LinearTransform:
    return LinearTransform.identity("affine", grid.centre())
