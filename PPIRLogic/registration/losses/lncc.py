"""Locally normalised cross-correlation: same anatomy, intensities that drift from place to place."""

from __future__ import annotations

import math

import numpy as np

from PPIRLogic.errors import InputError
from PPIRLogic.images.pyramid import smooth
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.losses.base import Loss
from PPIRLogic.registration.losses.ncc import NCC
from PPIRLogic.registration.request import Request

FLOOR = 0.02  # under the local standard deviation, of the image's normalised range: flat air stays flat
RANGE = 4.0  # standard deviations that become half of the coded range
CENTRE = 0.5


class LNCC(NCC):
    """1 − NCC² of two locally normalised images: a surrogate of local normalised cross-correlation.

    Each voxel of each image is normalised by the mean and the standard deviation of its own window before the images
    are compared, Î = (I − mean)/max(sd, floor), each by its owner on its own grid. That differs from true LNCC, in
    which the moving image's window moves along with the transform. The window is Gaussian, its standard deviation
    half of radius_mm times the level's shrink factor. Opens what `NCC` opens.
    """

    name = "lncc"
    words = (
        "1 − NCC² of two images that were each normalised by the mean and contrast of a window around every voxel: a"
        " stand-in for local correlation, blind to slow changes of brightness and contrast"
    )
    bending = 30.0
    affine_loss = "ncc"  # a window's statistics lead nowhere from afar
    windowed = True

    def __init__(self, radius_mm: float = 0.0) -> None:
        self.radius_mm = radius_mm

    def configured(self, request: Request, finer: int = 0) -> Loss:
        return LNCC(request.radius_mm)

    def prepared(self, volume: Volume, factor: int) -> Volume:
        """InputError: the window is larger than the image, or no radius was given."""
        radius = self.radius_mm * factor
        shortest = min(n * s for n, s in zip(volume.geometry.size, volume.geometry.spacing, strict=True))
        if not 0 < 2 * radius <= shortest:
            raise InputError(
                f"The window of lncc, {2 * radius:g} mm wide at shrink factor {factor}, must be larger than nothing and"
                f" not larger than the image ({shortest:.4g} mm on its shortest axis). Give another --radius."
            )
        return locally_normalised(volume, radius / 2)


def locally_normalised(volume: Volume, sigma_mm: float) -> Volume:
    """(I − mean)/max(sd, floor) in a Gaussian window, coded so that 0 becomes 0.5 and ±4 the ends of [−0.5, 1.5]."""
    centred = Volume(volume.array - np.float32(CENTRE), volume.geometry, volume.name)
    mean = smooth(centred, sigma_mm).array.astype(np.float64)
    square = smooth(Volume(np.square(centred.array), volume.geometry, volume.name), sigma_mm).array.astype(np.float64)
    deviation = np.maximum(np.sqrt(np.maximum(square - mean * mean, 0)), FLOOR)
    local = np.clip((centred.array - mean) / deviation, -RANGE, RANGE)
    return Volume((CENTRE + local / RANGE).astype(np.float32), volume.geometry, volume.name)


def default_radius_mm(spacing: tuple[float, ...]) -> float:
    """Five voxels of the finest axis."""
    return float(math.ceil(5 * min(spacing)))
