"""Images and masks that are given in memory, checked as files are."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import real_array
from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.intensities import MAX_RANGE, MIN_RANGE
from PPIRLogic.images.volume import Volume


def check_volume(volume: Any, what: str) -> Volume:
    """The volume itself. InputError, beginning with `what`: another type, a grid that is not one (sheared, spacing 0),
    voxels that are NaN or infinite, all voxels equal, or so close or far apart that single precision fails."""
    if not isinstance(volume, Volume):
        raise InputError(f"{what} is a {type(volume).__name__}. Give a Volume, for instance from read_volume(path).")
    try:
        Geometry.from_dict(volume.geometry.to_dict())
    except InputError as error:
        raise InputError(f"{what} cannot be used. {error}") from None
    bad = int(volume.array.size - np.count_nonzero(np.isfinite(volume.array)))
    if bad:
        raise InputError(
            f"{what} has {bad} voxels that are NaN or infinite. Replace them (for instance by the background value)."
        )
    low, high = float(volume.array.min()), float(volume.array.max())
    if low == high:
        raise InputError(f"{what} is constant: every voxel has the same value. Check that it is the right one.")
    if not MIN_RANGE <= high - low <= MAX_RANGE:
        raise InputError(
            f"{what} has intensities from {low:.3g} to {high:.3g}, of which differences cannot be computed in single"
            " precision. Scale them, for instance to 0 to 1000."
        )
    return volume


def as_mask(mask: Any, volume: Volume, what: str) -> NDArray[np.bool_]:
    """A mask as a bool array of shape volume.array.shape: inside is every value other than zero.

    InputError, beginning with `what`: no array of numbers, another shape, NaN, nothing inside, or fractions of several
    sizes, of which nobody said where the inside begins.

    >>> grid = Geometry((2, 2), (1.0, 1.0), (0.0, 0.0), (1, 0, 0, 1))
    >>> as_mask([[0, 255], [0, 1]], Volume(np.eye(2), grid), "The mask").tolist()
    [[False, True], [False, True]]
    """
    if isinstance(mask, (str, bytes, os.PathLike)):
        raise InputError(f"{what} is given as a path. Read it first, with read_mask(path, volume).")
    values = real_array(mask, what)
    if values.shape != volume.array.shape:
        raise InputError(
            f"{what} has array shape {values.shape}, its image {volume.array.shape} (the order is z, y, x)."
        )
    if values.dtype.kind == "f":
        _check_fractions(values, what)
    inside: NDArray[np.bool_] = np.ascontiguousarray(values != 0)
    if not inside.any():
        raise InputError(f"{what} is empty: no voxel is inside. Inside is every value other than zero.")
    return inside


def _check_fractions(values: NDArray[Any], what: str) -> None:
    bad = int(values.size - np.count_nonzero(np.isfinite(values)))
    if bad:
        raise InputError(f"{what} has {bad} voxels that are NaN or infinite. Set them to 0 (outside) or 1 (inside).")
    some = values[values != 0]
    if some.size and (some != some[0]).any() and (some != np.rint(some)).any():
        raise InputError(
            f"{what} holds fractions, from {some.min():.3g} to {some.max():.3g}, so that it is not clear where its"
            " inside begins. Apply a threshold, for instance 0.5, and save it as 0 and 1."
        )
