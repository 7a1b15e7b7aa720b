"""Party 1's columns under a deformation."""

from __future__ import annotations

import numpy as np
from fields_support import wave
from sample_data_support import sample

from PPIRLogic.images.intensities import normalise, robust_range
from PPIRLogic.images.interpolation import MovingImage
from PPIRLogic.images.pyramid import smooth
from PPIRLogic.images.reading import read_volume
from PPIRLogic.registration.columns.deformable import BSplineScales, DeformableWarp
from PPIRLogic.transforms import LinearTransform
from PPIRLogic.transforms.displacement_field import (
    Field,
    composed,
    zero_field,
)

MOVING = sample("BrainProtonDensitySliceBorder20.png")


def test_the_gradient_is_that_of_the_warped_image() -> None:
    """Against differences, half a voxel apart, of the image warped by φ∘(x + h·e): not that of the moving image."""
    moving = read_volume(MOVING, role="moving")
    grid, image = moving.geometry, smooth(normalise(moving, robust_range(moving)), 3.0)
    use = np.zeros(grid.array_shape, bool)
    use[30:-30, 30:-30] = True
    affine = LinearTransform("affine", np.array([[0.9, 0.2], [-0.3, 1.1]]), np.array([2.0, -1.0]), grid.centre())
    field = wave(grid, 12.0)
    scales = BSplineScales(2.0**14, 2.0**14)

    def columns(u: Field, composed_with: bool = True) -> np.ndarray:
        found, peak = DeformableWarp(MovingImage(image, (0, 0)), grid, affine, use, 1, composed_with).columns(u, scales)
        assert peak * scales.gradient < 4095  # nothing saturates
        return found.astype(np.float64)

    here = columns(field)
    inside = here[1] > 0
    for axis in range(2):
        shift = zero_field(grid)
        shift[axis] = 0.5
        ahead, behind = (columns(composed(field, sign * shift, grid))[0] for sign in (1, -1))
        wanted = ((ahead - behind) / scales.intensity)[inside]
        found, other = (columns(field, c)[2 + axis][inside] / scales.gradient for c in (True, False))
        assert np.abs(found - wanted).mean() < 0.12 * np.abs(wanted).mean()
        assert np.abs(other - wanted).mean() > 0.3 * np.abs(wanted).mean()
