"""Levels of a multi-resolution pyramid.

Grids of levels follow from the full-resolution grid and a factor alone, both public, so that the two sides compute
the same ones. Voxel centres of a level lie on voxel centres of the full grid: index_fine = (f−1)//2 + f·index_coarse.
Lengths are in mm; per-axis tuples are in ITK order (x, y[, z]).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume

_MIN_LEVEL_SIZE = 8
_MIN_SLICES = 16  # of an axis whose voxels are longer than the others': it is short, and shrinking costs it most
_LONGER = 1.3  # times the shortest voxel side
_RECURSIVE_MIN_SIZE = 4  # what ITK's recursive filter needs
_RECURSIVE_MIN_SIGMA = 1.0  # voxels; below, the recursive approximation is poor and a short kernel is as quick


def _offset(factor: int) -> int:
    return (factor - 1) // 2


def _coarse_size(size: int, factor: int) -> int:
    return (size - _offset(factor) - 1) // factor + 1


def axis_factors(geometry: Geometry, factor: int) -> tuple[int, ...]:
    """Integer shrink per axis that makes the level nearly isotropic, leaving at least 8 voxels on each axis.

    Of slices that are thicker than a voxel is wide at least 16 are left. An axis that already has fewer keeps its
    voxels. It follows from the grid and the factor alone, so that a factor names one grid and one budget. InputError: a
    factor that is not a whole number of at least 1.

    >>> slices = Geometry((128, 128, 30), (2.0, 2.0, 5.0), (0.0,) * 3, tuple(np.eye(3).ravel()))
    >>> [axis_factors(slices, factor) for factor in (8, 4, 2)]
    [(8, 8, 1), (4, 4, 1), (2, 2, 1)]
    """
    if type(factor) is not int or factor < 1:
        raise InputError(f"A pyramid factor must be a whole number of at least 1, not {factor}.")
    finest = min(geometry.spacing)
    factors = []
    for size, spacing in zip(geometry.size, geometry.spacing, strict=True):
        f = max(1, min(size, math.floor(factor * finest / spacing + 0.5)))
        least = _MIN_SLICES if spacing > _LONGER * finest else _MIN_LEVEL_SIZE
        while f > 1 and _coarse_size(size, f) < least:
            f -= 1
        factors.append(f)
    return tuple(factors)


def level_geometry(geometry: Geometry, factor: int) -> Geometry:
    """The grid that `build_level` gives for this factor."""
    return _shrunk(geometry, axis_factors(geometry, factor))


def _shrunk(geometry: Geometry, factors: Sequence[int]) -> Geometry:
    affine = geometry.index_to_physical()
    first = [_offset(f) for f in factors]
    return Geometry(
        tuple(_coarse_size(n, f) for n, f in zip(geometry.size, factors, strict=True)),
        tuple(s * f for s, f in zip(geometry.spacing, factors, strict=True)),
        tuple(affine[:, :-1] @ np.asarray(first, dtype=np.float64) + affine[:, -1]),
        geometry.direction,
    )


def default_sigma_mm(geometry: Geometry, factor: int) -> float:
    """Standard deviation, mm, of the smoothing before shrinking: half the level's finest spacing, 0 for factor 1."""
    return 0.0 if factor == 1 else 0.5 * factor * min(geometry.spacing)


def smooth(volume: Volume, sigma_mm: float) -> Volume:
    """Gaussian of standard deviation `sigma_mm` on every axis; float32, same grid. 0 gives the volume itself.

    Beyond its border the image continues with its border values. InputError: a sigma that is negative or not finite.
    """
    if not 0 <= sigma_mm < math.inf:
        raise InputError(f"A smoothing sigma must be a finite number of mm of at least 0, not {sigma_mm}.")
    if sigma_mm == 0:
        return volume
    sigmas = [sigma_mm / s for s in volume.geometry.spacing]
    recursive = [
        n >= _RECURSIVE_MIN_SIZE and sigma >= _RECURSIVE_MIN_SIGMA
        for n, sigma in zip(volume.geometry.size, sigmas, strict=True)
    ]
    array = volume.array
    if any(recursive):
        image = volume.to_sitk()
        gaussian = sitk.RecursiveGaussianImageFilter.ZeroOrder
        for axis, use in enumerate(recursive):
            if use:
                image = sitk.RecursiveGaussian(image, sigma_mm, False, gaussian, axis)
        array = sitk.GetArrayFromImage(image)
    for axis, use in enumerate(recursive):
        if not use:
            array = _convolve(array, _kernel(sigmas[axis]), array.ndim - 1 - axis)
    return Volume(array, volume.geometry, volume.name)


def _kernel(sigma: float) -> NDArray[np.float32]:
    """Odd, normalised taps of the discrete Gaussian (Bessel) of exactly that variance; `sigma` in voxels.

    Unlike a sampled Gaussian it keeps its variance however small sigma is. It is the inverse Fourier transform of
    exp(σ²(cos ω − 1)).
    """
    radius = math.ceil(4 * sigma) + 2
    length = 4 * radius + 2  # long enough that wrapping round does not matter
    omega = 2 * np.pi * np.arange(length // 2 + 1) / length
    half = np.fft.irfft(np.exp(sigma * sigma * (np.cos(omega) - 1)), length)[: radius + 1]
    taps = np.concatenate([half[:0:-1], half]).clip(0)
    return (taps / taps.sum()).astype(np.float32)


def _convolve(array: NDArray[np.float32], taps: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Convolve along one axis, borders continued with their values."""
    radius, size = taps.size // 2, array.shape[axis]
    out = np.zeros_like(array)
    index = np.arange(size)
    for shift, tap in zip(range(-radius, radius + 1), taps, strict=True):
        if tap > 1e-9:
            out += tap * array.take((index + shift).clip(0, size - 1), axis=axis)
    return out


def shrink(volume: Volume, factors: Sequence[int]) -> Volume:
    """Keep every f-th voxel per axis, starting at (f−1)//2; `factors` in ITK order.

    InputError: not one factor of 1..size per axis.
    """
    if len(factors) != volume.geometry.dimension or any(
        not 1 <= f <= n for f, n in zip(factors, volume.geometry.size, strict=True)
    ):
        raise InputError(f"Cannot shrink {volume.geometry.describe()} by {tuple(factors)}.")
    window = tuple(slice(_offset(f), None, f) for f in reversed(factors))
    return Volume(volume.array[window], _shrunk(volume.geometry, factors), volume.name)


def build_level(volume: Volume, factor: int, sigma_mm: float | None = None) -> Volume:
    """Smooth (by `default_sigma_mm` unless given) and shrink; the grid is `level_geometry(volume.geometry, factor)`."""
    sigma = default_sigma_mm(volume.geometry, factor) if sigma_mm is None else sigma_mm
    return shrink(smooth(volume, sigma), axis_factors(volume.geometry, factor))


def border_margin_mm(full_geometry: Geometry, factor: int, sigma_mm: float) -> float:
    """Width, mm, of the border strip where smoothed values depend on the continuation beyond the image."""
    return 3.0 * max(sigma_mm, 0.5 * factor * min(full_geometry.spacing))


def margin_voxels(level_geometry: Geometry, margin_mm: float) -> tuple[int, ...]:
    """`margin_mm` in whole voxels of the grid per axis, at most an eighth of the axis."""
    # the small allowance keeps 3.0000000001 voxels from becoming 4
    return tuple(
        min(math.ceil(margin_mm / s - 1e-9), n // 8)
        for n, s in zip(level_geometry.size, level_geometry.spacing, strict=True)
    )
