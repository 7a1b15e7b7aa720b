"""A grey image on a grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry


@dataclass(frozen=True, eq=False)
class Volume:
    """A grey image: `array` float32, C-contiguous, (z, y, x) or (y, x), on the grid `geometry`."""

    array: NDArray[np.float32]
    geometry: Geometry
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "array", np.ascontiguousarray(self.array, dtype=np.float32))
        if self.array.shape != self.geometry.array_shape:
            raise InputError(f"An array of shape {self.array.shape} does not fit a grid of {self.geometry.describe()}.")

    @classmethod
    def from_sitk(cls, image: sitk.Image, name: str = "") -> Volume:
        """A scalar 2D or 3D SimpleITK image as a Volume (pixels converted to float32). InputError otherwise."""
        if image.GetNumberOfComponentsPerPixel() != 1 or image.GetDimension() not in (2, 3):
            raise InputError(f"Only grey 2D and 3D images can be used; '{name}' is not one.")
        return cls(sitk.GetArrayFromImage(image).astype(np.float32, copy=False), Geometry.from_sitk(image), name)

    def to_sitk(self) -> sitk.Image:
        """A float32 SimpleITK image on the same grid (a copy)."""
        image = sitk.GetImageFromArray(self.array, isVector=False)
        self.geometry.stamp(image)
        return image
