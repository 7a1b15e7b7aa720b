"""The images of a run that this site may see, and the pictures made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from PPIRLogic.errors import InputError
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.result import RegistrationResult
from PPIRLogic.report.figures import Picture, draw
from PPIRLogic.report.slices import checkerboard, combine, scaled, window_of


@dataclass(frozen=True, eq=False)
class Pictures:
    """The images to show. NaN voxels count as 'outside' and are drawn in a neutral colour.

    moving: raw, on its own grid; its intensities set the grey scale. before, warped: the moving image on the fixed
    grid under the initial and the final transform. fixed: ONLY where this machine holds both images (a trial).
    InputError if the grids of before, warped and fixed differ.
    """

    moving: Volume
    warped: Volume
    before: Volume
    fixed: Volume | None = None

    def __post_init__(self) -> None:
        for other in (self.before, self.fixed):
            if other is not None and not other.geometry.matches(self.warped.geometry):
                raise InputError(
                    "The images to show are not on one grid: the moving image before and after, and the fixed image if"
                    " given, must all be on the fixed grid."
                )


def pictures_of(result: RegistrationResult, moving: Volume, fixed: Volume | None = None) -> Pictures:
    """The pictures of a run: `moving` on the fixed grid before and after, NaN outside of it.

    `fixed` as in `Pictures`.
    """
    reference, image = result.fixed_geometry.to_sitk_reference(), moving.to_sitk()

    def resample(transform: sitk.Transform) -> Volume:
        out = sitk.Resample(image, reference, transform, sitk.sitkLinear, math.nan, sitk.sitkFloat32)
        return Volume.from_sitk(out, moving.name)

    return Pictures(moving, resample(result.transform), resample(result.first.to_sitk()), fixed)


def figures_of(pictures: Pictures) -> list[Picture]:
    """The figures that this site may see."""
    window = window_of(pictures.moving.array)
    before, after = scaled(pictures.before, window), scaled(pictures.warped, window)
    if pictures.fixed is None:
        text = "The moving image on the fixed grid, {} registration"
        return [
            Picture("moving_before", text.format("before"), draw(before)),
            Picture("moving_after", text.format("after"), draw(after)),
        ]
    fixed = scaled(pictures.fixed, window_of(pictures.fixed.array))
    boards = [combine(fixed, moving, checkerboard) for moving in (before, after)]
    gaps = [combine(fixed, moving, lambda f, m: f.plane - m.plane) for moving in (before, after)]
    sizes = np.concatenate([np.abs(s.plane[np.isfinite(s.plane)]).ravel() for s in gaps[0]])
    limit = max(0.05, float(np.percentile(sizes, 99))) if sizes.size else 1.0
    return [
        Picture("checkerboard_before", "Checkerboard before registration", draw(boards[0])),
        Picture("checkerboard_after", "Checkerboard after registration", draw(boards[1])),
        Picture("difference_before", "Fixed minus moving, before registration", draw(gaps[0], limit)),
        Picture("difference_after", "Fixed minus moving, after registration", draw(gaps[1], limit)),
    ]
