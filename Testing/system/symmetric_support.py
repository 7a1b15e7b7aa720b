"""The images of the tests of symmetric registration."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from system_support import Phantom, apply, grid_points, plain_grid
from test_spline import bent

from PPIRLogic.images.volume import Volume


def pair(dimension: int) -> tuple[Volume, Volume, sitk.Transform]:
    """Fixed, moving, truth: a phantom with detail of a window's size everywhere, seen through a smooth bend."""
    geometry = plain_grid(dimension)
    draw, blobs = np.random.default_rng(7), 700 if dimension == 3 else 250
    size = np.array(geometry.size) - 1
    affine = geometry.index_to_physical()
    centres = draw.uniform(-0.1, 1.1, (blobs, dimension)) * size @ affine[:, :-1].T + affine[:, -1]
    phantom = Phantom(centres, draw.uniform(2.5, 4.5, blobs), draw.uniform(0.4, 1.0, blobs))
    truth = bent(geometry)
    seen = phantom.at(apply(truth, grid_points(geometry))).reshape(geometry.array_shape)
    return Volume((1000 * seen).astype(np.float32), geometry, "fixed"), phantom.on(geometry), truth
