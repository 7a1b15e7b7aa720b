"""A grey image on a grid."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from PPIRLogic.arrays import real_array, single_precision
from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry


@dataclass(frozen=True, eq=False)
class Volume:
    """A grey image on a grid.

    array: float32, C-contiguous, (z, y, x) or (y, x); other types are converted. geometry: the grid, in ITK order
    (x, y[, z]). name: for messages. subject: a digest of whose image it is, modality: what DICOM calls its kind (MR,
    CT, …), frame: the UID of its frame of reference, where its file says so. InputError: the array does not fit
    the grid, holds no real numbers, or such that single precision would make one of many.

    >>> import numpy as np
    >>> grid = Geometry((4, 3), (1.0, 1.0), (0.0, 0.0), (1, 0, 0, 1))
    >>> volume = Volume(np.arange(12).reshape(3, 4), grid)
    >>> volume.array.dtype, volume.array.shape
    (dtype('float32'), (3, 4))
    >>> Volume(np.zeros((4, 3)), grid)
    Traceback (most recent call last):
    PPIRLogic.errors.InputError: An array of shape (4, 3) does not fit a grid of 4×3 voxels, 1×1 mm.
    """

    array: NDArray[np.float32]
    geometry: Geometry
    name: str = ""
    subject: str = field(default="", repr=False)
    modality: str = field(default="", repr=False)
    frame: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        what = f"The voxels of '{self.name}'"
        if not isinstance(self.geometry, Geometry):
            raise InputError(f"The grid of '{self.name}' is a {type(self.geometry).__name__}. Give a Geometry.")
        object.__setattr__(self, "array", single_precision(real_array(self.array, what), what))
        if self.array.shape != self.geometry.array_shape:
            raise InputError(f"An array of shape {self.array.shape} does not fit a grid of {self.geometry.describe()}.")

    @classmethod
    def from_sitk(cls, image: sitk.Image, name: str = "") -> Volume:
        """A scalar 2D or 3D SimpleITK image as a Volume (pixels converted to float32). InputError otherwise.

        >>> Volume.from_sitk(sitk.Image([4, 3, 2], sitk.sitkUInt8)).array.shape
        (2, 3, 4)
        """
        if not isinstance(image, sitk.Image):
            raise InputError(f"The image '{name}' is a {type(image).__name__}. Give a SimpleITK image.")
        if image.GetNumberOfComponentsPerPixel() != 1 or image.GetDimension() not in (2, 3):
            raise InputError(f"Only grey 2D and 3D images can be used; '{name}' is not one.")
        return cls(sitk.GetArrayFromImage(image), Geometry.from_sitk(image), name)

    def to_sitk(self) -> sitk.Image:
        """A float32 SimpleITK image on the same grid (a copy)."""
        image = sitk.GetImageFromArray(self.array, isVector=False)
        self.geometry.stamp(image)
        return image
