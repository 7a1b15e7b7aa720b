"""What the tests of symmetric runs share: grids, pictures, and the parts that an owner computes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.interpolation import MovingImage
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.levels import Level, make_levels
from PPIRLogic.registration.losses.cross_correlation import (
    HalfColumns,
    half_columns,
    normalised,
)
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.symmetric.half_field import HalfField
from PPIRLogic.registration.symmetric.half_image import HalfImage
from PPIRLogic.registration.symmetric.one_time_masks import box_of
from PPIRLogic.transforms import LinearTransform
from PPIRLogic.transforms.displacement_field import (
    smoothed,
)

Array = NDArray[Any]
GRID = Geometry((24, 30, 26), (1.5, 1.0, 1.2), (3.0, 4.0, 5.0), (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
PLANE = Geometry((60, 50), (1.0, 1.5), (-7.0, 2.0), (1.0, 0.0, 0.0, 1.0))
SCALE = 2.0**22  # of the warped images below


def request(**changes: Any) -> Request:
    settings: dict[str, Any] = {
        "image": "x", "protocol": "mpc", "transform": "diffeo", "loss": "cc", "levels": (1,), "iterations": (3,),
        "stride": 5, "evaluations": 12, "bending": 100.0,
    }  # fmt: skip
    return Request(**{**settings, **changes})


def level_of(grid: Geometry) -> Level:
    return make_levels(grid, request())[0]


def image(shape: tuple[int, ...], seed: int, sigma: float = 1.2) -> Array:
    """A smooth random image with flat regions, within [−0.5, 0.5]."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return np.clip(np.maximum(noise / np.abs(noise).max(), 0.02) - 0.3, -0.5, 0.5)


def columns_of(picture: Array, slope: float = 2.0**-10) -> tuple[HalfColumns, Array, Array]:
    """An owner's part, with 1/√E and the gradient that it stands for; all voxels are inside."""
    whole_numbers = np.rint(picture * SCALE).astype(np.int32)
    gradient = np.rint(np.stack(np.gradient(picture)) * SCALE).astype(np.int32)
    x, root = normalised(whole_numbers, np.ones(picture.shape, np.int32), SCALE)
    return half_columns(x, root, gradient, slope), root, gradient


def pair_of(level: Level) -> tuple[HalfColumns, HalfColumns]:
    assert level.control_points is not None
    one = image(box_of(level.control_points), 1)
    other = 0.7 * ndimage.shift(one, 0.8, order=1, mode="nearest") + 0.1 * image(one.shape, 2)
    return columns_of(one)[0], columns_of(other)[0]


def half_image(bending: float = 1.0) -> HalfImage:
    level, still = level_of(PLANE), LinearTransform.identity("affine", PLANE.centre())
    volume = Volume((image(PLANE.array_shape, 1) + 0.5).astype(np.float32), PLANE, "moving")
    moving = MovingImage(volume, (0, 0), cubic=True)
    return HalfImage(level, PLANE, moving, still, HalfField.identity(PLANE), bending, 0.0, 1)


def wave(grid: Geometry, height_mm: float, seed: int) -> Array:
    noise = np.random.default_rng(seed).normal(size=(grid.dimension, *grid.array_shape)).astype(np.float32)
    noise[(slice(None), *[slice(6, -6)] * grid.dimension)] *= 3
    field = smoothed(noise, grid, 5.0)
    return np.asarray(field * np.float32(height_mm / np.sqrt(np.square(field).sum(axis=0)).max()))
