"""Where the brightness of an image lies, and along which axes: of the fixed image from a handful of private sums."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import Array
from PPIRLogic.images.intensities import INTENSITY_CENTRE
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.columns.mutual_information import BinColumns, FactorColumns
from PPIRLogic.registration.losses.mutual_information import FACTOR
from PPIRLogic.registration.operands import FIXED_BOUND, FIXED_SCALE
from PPIRLogic.registration.party1.level_runs.values import ValueRun
from PPIRLogic.registration.terms import MOMENTS
from PPIRLogic.secure.exact_range import EXACT_MODULUS, NOISE_LIMIT
from PPIRLogic.secure.layout import CHUNK
from PPIRLogic.secure.product import Columns

_MAX_SCALE = 2.0**14
_BRIGHTEST = 31  # of a bin: sums of products stay where the noise of fhe is hidden
_MOVING_POINTS = 40  # per axis


@dataclass(frozen=True)
class Moments:
    """mean: the centre of brightness, LPS mm. axes (dim, dim): columns are principal axes, the narrowest first."""

    mean: Array
    axes: Array


def fixed_moments(run: ValueRun) -> Moments | None:
    """Of the fixed image over the samples of an open level. None where they are not offered, or it is dark."""
    if MOMENTS not in run.terms or run.room < len(run.terms[MOMENTS]):
        return None
    points = _sample_points(run)
    centre, reach = (points.max(axis=0) + points.min(axis=0)) / 2, np.ptp(points, axis=0) / 2
    columns = _products((points - centre) / np.maximum(reach, 1e-9))
    run.room -= len(columns)
    sums = _pooled_sums(run, columns) if run.loss.pooled else _sums(run, columns)
    return _moments(sums, centre, np.maximum(reach, 1e-9))


def moving_moments(volume: Volume) -> Moments | None:
    """Of this site's own normalised image."""
    grid = volume.geometry
    axes = [np.unique(np.linspace(0, n - 1, min(n, _MOVING_POINTS)).astype(np.int64)) for n in grid.size]
    index = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)
    affine = grid.index_to_physical()
    points = index @ affine[:, :-1].T + affine[:, -1]
    centre, reach = grid.centre(), np.maximum(np.ptp(points, axis=0) / 2, 1e-9)
    weight = volume.array[tuple(index.T[::-1])].astype(np.float64)
    return _moments(_products((points - centre) / reach) @ weight, centre, reach)


def _products(unit: Array) -> Array:
    """1, x, y[, z], and their products xx, xy, …, (count, n), of coordinates from −1 to 1 (n, dim)."""
    dim = unit.shape[1]
    pairs = [unit[:, i] * unit[:, j] for i in range(dim) for j in range(i, dim)]
    return np.stack([np.ones(len(unit)), *unit.T, *pairs])


def _moments(sums: Array, centre: Array, reach: Array) -> Moments | None:
    """From the brightness times each of `_products`, summed."""
    dim = len(centre)
    if not sums[0] > 0:
        return None
    mean = sums[1 : dim + 1] / sums[0]
    second = np.zeros((dim, dim))
    second[np.triu_indices(dim)] = sums[dim + 1 :] / sums[0]
    second = second + np.triu(second, 1).T - np.outer(mean, mean)
    axes: Array = np.linalg.eigh(second * np.outer(reach, reach))[1]
    return Moments(centre + reach * mean, axes)


def _sample_points(run: ValueRun) -> Array:
    grid = run.level.geometry
    index = np.stack(np.unravel_index(run.samples, grid.array_shape), axis=1)[:, ::-1]
    affine = grid.index_to_physical()
    points: Array = index @ affine[:, :-1].T + affine[:, -1]
    return points


def _sums(run: ValueRun, products: Array) -> Array:
    """Σ product·J from whole numbers, J counted from black."""
    count = products.shape[1]
    scale = min(_MAX_SCALE, EXACT_MODULUS / 4 / (count * FIXED_BOUND), NOISE_LIMIT / count)
    whole = np.rint(products * scale).astype(np.int32)

    def fill(first: int, last: int, out: Columns) -> None:
        out[:, : last - first] = whole[:, first:last]

    source = BinColumns(len(whole), whole.shape[1], 1, fill)
    opened = run.session.evaluate(run.level, source, MOMENTS, run.terms[MOMENTS])
    black = INTENSITY_CENTRE * whole.sum(axis=1, dtype=np.int64)
    return (np.array(opened, np.float64) / FIXED_SCALE + black) / scale


def _pooled_sums(run: ValueRun, products: Array) -> Array:
    """The same from the bins of J: each counts as bright as its number."""
    bins = run.loss.width
    factors: NDArray[np.int32] = np.rint(products * FACTOR).astype(np.int32)
    brightness = np.rint(np.arange(bins) * _BRIGHTEST / (bins - 1)).astype(np.int32)
    part = CHUNK // bins
    slopes = np.tile(np.repeat(brightness, part), products.shape[1] // part)
    opened = run.session.evaluate(run.level, FactorColumns(slopes, factors, bins), MOMENTS, run.terms[MOMENTS])
    return np.array(opened, np.float64) / (FACTOR * _BRIGHTEST)
