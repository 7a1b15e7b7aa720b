"""Intensities: padding, the robust range, its normalisation, and the fill outside of a mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import InputError
from PPIRLogic.images.volume import Volume

_PERCENTILE_VOXELS = 2_000_000
_MIN_PADDED, _PADDED_SHARE = 16, 1e-3  # voxels, and of all voxels: fewer are outliers
_PADDING_GAP = 0.5  # between the padding and all the rest, of the rest's own robust range
_ROUNDING = 1e-4  # of the value: what lies closer may differ by the steps of single precision alone
_NO_MEASUREMENT = (-1100.0, 30_000.0)  # lower than air in a CT, and above what scanners write
INTENSITY_CENTRE = 0.5  # normalised intensities lie in [-0.5, 1.5]; columns hold I − 0.5
MIN_RANGE, MAX_RANGE = 1e-30, 1e37  # beyond, what is computed in single precision vanishes or overflows


@dataclass(frozen=True)
class Normalisation:
    """The intensities that become 0 (`low`) and 1 (`high`), and how they were found. Voxels of the value `padding`
    hold nothing: they take no part in the range and get the mean of the others."""

    low: float
    high: float
    method: str
    padding: float | None = None


@dataclass(frozen=True)
class Padding:
    """A value that marks voxels which were never measured. certain: it cannot be a measured intensity of this image."""

    value: float
    voxels: int
    certain: bool

    def describe(self, what: str) -> str:
        """In words, beginning with `what`, such as an image's name."""
        text = f"{what} has {self.voxels} voxels of the value {self.value:g}, far from all others"
        if self.certain:
            return f"{text}: taken as padding. They are left out of the intensity range, and filled."
        return f"{text}. If nothing was measured there, give a mask."


def padding_of(values: NDArray[np.float32]) -> Padding | None:
    """The one extreme value that many voxels share and that lies far from all others; None if there is none.

    Certain is what lies below the air of a CT or above what scanners write; any other, such as 0, may be measured.

    >>> scan = np.r_[np.full(500, -3024.0), np.linspace(-1000, 1200, 4000)].astype(np.float32)
    >>> padding_of(scan)
    Padding(value=-3024.0, voxels=500, certain=True)
    >>> padding_of(scan[500:]) is None
    True
    """
    sample = values.ravel()[:: -(-values.size // _PERCENTILE_VOXELS)]
    for extreme, nearest in ((float(values.min()), np.min), (float(values.max()), np.max)):
        rest = sample[sample != np.float32(extreme)]
        if rest.size == 0 or sample.size - rest.size < max(_MIN_PADDED, _PADDED_SHARE * sample.size):
            continue
        low, high = np.percentile(rest, (1.0, 99.0))
        gap = abs(float(nearest(rest)) - extreme)
        if gap > _PADDING_GAP * (high - low) > 0 and gap > _ROUNDING * abs(extreme):
            certain = not _NO_MEASUREMENT[0] <= extreme < _NO_MEASUREMENT[1]
            return Padding(extreme, int(np.count_nonzero(values == np.float32(extreme))), certain)
    return None


def robust_range(
    volume: Volume, mask: NDArray[np.bool_] | None = None, percentiles: tuple[float, float] = (1.0, 99.0)
) -> Normalisation:
    """The two percentiles of the intensities (inside `mask`, shape volume.array.shape, if given).

    Deterministic; beyond two million voxels every n-th one counts. What is certainly padding does not count. Where
    both percentiles coincide, minimum and maximum. InputError: bad percentiles, nothing inside the mask, constant
    intensities.
    """
    lower, upper = percentiles
    if not 0 <= lower < upper <= 100:
        raise InputError(f"Percentiles must rise and lie between 0 and 100, not {lower:g}, {upper:g}.")
    values = volume.array.ravel() if mask is None else volume.array[mask]
    if values.size == 0:
        raise InputError(f"The mask of '{volume.name}' is empty: no voxel is inside.")
    found = padding_of(values)
    padding = found.value if found is not None and found.certain else None
    if padding is not None:
        values = values[values != np.float32(padding)]
    sample = values[:: -(-values.size // _PERCENTILE_VOXELS)]
    low, high = (float(v) for v in np.percentile(sample, percentiles))
    if high - low >= MIN_RANGE:
        return Normalisation(low, high, f"percentiles {lower:g}-{upper:g}", padding)
    low, high = float(values.min()), float(values.max())
    if not high - low >= MIN_RANGE:
        where = "" if mask is None else " inside its mask"
        raise InputError(f"The image '{volume.name}' is constant{where}: there is nothing to register.")
    return Normalisation(low, high, "minimum-maximum", padding)


def normalise(volume: Volume, normalisation: Normalisation) -> Volume:
    """Map low → 0 and high → 1 linearly, clipped to [−0.5, 1.5]; padding → the mean of the rest."""
    scale = 1.0 / (normalisation.high - normalisation.low)
    array = volume.array - np.float32(normalisation.low)
    array *= np.float32(scale)
    np.clip(array, -0.5, 1.5, out=array)
    if normalisation.padding is not None:
        padded = volume.array == np.float32(normalisation.padding)
        array[padded] = array[~padded].mean(dtype=np.float64)
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
