"""Party 1's points as integer columns of the private product, and the sums of the fit from what was opened."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import Array
from PPIRLogic.points.pointset import PointLayout, PointSet
from PPIRLogic.registration.points.fit import FitSums, rotation_of
from PPIRLogic.secure.exact_range import EXACT_MODULUS
from PPIRLogic.secure.layout import GROUP
from PPIRLogic.secure.product import Columns

_MAX_COLUMN = 2**24
_ROUNDS = 4  # each takes the error of the rounding down by the ratio of misfit to extent


class PointColumns:
    """A ColumnSource: the moving points about their centroid, rounded to a power of two mm, and a column of ones.

    The scale is the finest with which the sums stay exact, so that it follows from party 1's points alone.
    """

    def __init__(self, moving: PointSet, layout: PointLayout) -> None:
        self.centred: Array = moving.points - moving.points.mean(axis=0)
        self.scale = _finest_scale(self.centred, layout.bits)
        rounded = np.rint(self.centred * self.scale)
        self.values = np.vstack([rounded.T, np.ones(len(rounded))]).astype(np.int32)
        self.columns, self.groups = len(self.values), -(-len(rounded) // GROUP)

    def prepare(self, workers: int) -> None:
        pass

    def block(self, group: int, worker: int, out: Columns) -> None:
        part = self.values[:, group * GROUP : (group + 1) * GROUP]
        out[:, : part.shape[1]] = part
        out[:, part.shape[1] :] = 0

    def finish(self) -> None:
        pass

    def absolute_sums(self) -> NDArray[np.int64]:
        return np.abs(self.values).sum(axis=1, dtype=np.int64)

    def norms(self) -> NDArray[np.float64]:
        return np.linalg.norm(self.values.astype(np.float64), axis=1)

    def column_scales(self) -> NDArray[np.float64]:
        return np.array([self.scale] * (self.columns - 1) + [1.0])


def _finest_scale(centred: Array, bits: int) -> float:
    """The largest power of two per mm for which no sum leaves the exact range of fhe."""
    limit = (EXACT_MODULUS / 2 / 2**bits - len(centred)) / np.abs(centred).sum(axis=0).max()
    return 2.0 ** math.floor(math.log2(min(limit, _MAX_COLUMN / np.abs(centred).max())))


def fit_sums(columns: PointColumns, moving: PointSet, layout: PointLayout, opened: Sequence[int], kind: str) -> FitSums:
    """The sums of the fit, in mm, from the opened integers.

    The columns are the rounded points q + ρ. What ρ adds to the sums, Σ ρ·w'ᵀ, is taken off with w' ≈ s·R·q, the fit
    itself: only Σ ρ·(w' − s·R·q) remains of the rounding.
    """
    dim, n = layout.dimension, layout.count
    sums = np.array(opened, dtype=np.float64)
    cross = sums[: dim * dim].reshape(dim, dim) / columns.scale / layout.scale
    mean = sums[dim * dim : -1] / n / layout.scale
    other = float(sums[-1] / layout.spread_scale() - n * mean @ mean)
    rounding = columns.values[:dim].T / columns.scale - columns.centred
    own = float(np.square(columns.centred).sum())
    cross = cross - np.outer(rounding.sum(axis=0), mean)
    corrected = cross
    for _ in range(_ROUNDS):
        rotation, values, sign = rotation_of(corrected)
        scale = (values[:-1].sum() + sign * values[-1]) / own if kind == "similarity" else 1.0
        corrected = cross - scale * rounding.T @ columns.centred @ rotation.T
    centroid = np.array(layout.reference) + mean
    return FitSums(corrected, own, other, n, moving.points.mean(axis=0), centroid)
