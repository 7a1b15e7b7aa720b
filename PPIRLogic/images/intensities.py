"""Intensities: the robust range, its normalisation, and the fill outside of a mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import InputError
from PPIRLogic.images.volume import Volume

_PERCENTILE_VOXELS = 2_000_000
INTENSITY_CENTRE = 0.5  # normalised intensities lie in [-0.5, 1.5]; columns hold I − 0.5


@dataclass(frozen=True)
class Normalisation:
    """The intensities that become 0 (`low`) and 1 (`high`), and how they were found."""

    low: float
    high: float
    method: str


def robust_range(
    volume: Volume, mask: NDArray[np.bool_] | None = None, percentiles: tuple[float, float] = (1.0, 99.0)
) -> Normalisation:
    """The two percentiles of the intensities (inside `mask`, shape volume.array.shape, if given).

    Deterministic; beyond two million voxels every n-th one counts. Where both percentiles coincide, minimum and
    maximum. InputError: bad percentiles, nothing inside the mask, constant intensities.
    """
    lower, upper = percentiles
    if not 0 <= lower < upper <= 100:
        raise InputError(f"Percentiles must rise and lie between 0 and 100, not {lower:g}, {upper:g}.")
    values = volume.array.ravel() if mask is None else volume.array[mask]
    if values.size == 0:
        raise InputError(f"The mask of '{volume.name}' is empty: no voxel is inside.")
    sample = values[:: -(-values.size // _PERCENTILE_VOXELS)]
    low, high = (float(v) for v in np.percentile(sample, percentiles))
    if low < high:
        return Normalisation(low, high, f"percentiles {lower:g}-{upper:g}")
    low, high = float(values.min()), float(values.max())
    if not low < high:
        where = "" if mask is None else " inside its mask"
        raise InputError(f"The image '{volume.name}' is constant{where}: there is nothing to register.")
    return Normalisation(low, high, "minimum-maximum")


def normalise(volume: Volume, normalisation: Normalisation) -> Volume:
    """Map low → 0 and high → 1 linearly, clipped to [−0.5, 1.5]."""
    scale = 1.0 / (normalisation.high - normalisation.low)
    array = volume.array - np.float32(normalisation.low)
    array *= np.float32(scale)
    np.clip(array, -0.5, 1.5, out=array)
    return Volume(array, volume.geometry, volume.name)


def fill_outside(volume: Volume, mask: NDArray[np.bool_]) -> Volume:
    """Every voxel outside `mask` (shape volume.array.shape) gets the mean of the voxels inside ('owner fill').

    InputError: another shape, or nothing inside.
    """
    if mask.shape != volume.array.shape:
        raise InputError(f"The mask of '{volume.name}' has shape {mask.shape}, the image {volume.array.shape}.")
    inside = volume.array[mask]
    if inside.size == 0:
        raise InputError(f"The mask of '{volume.name}' is empty: no voxel is inside.")
    mean = np.float32(inside.mean(dtype=np.float64))
    return Volume(np.where(mask, volume.array, mean), volume.geometry, volume.name)
