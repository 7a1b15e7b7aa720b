"""Uniform cubic B-splines on the voxels of a grid: weights per axis, exact, and the two separable sums over them.

An axis of n voxels is cut into `cells` equal cells that cover it from the outer border of the first voxel to that of
the last; control point j lies at (j − 1) cells from that border, so there are cells + 3 of them. Everything follows
from whole numbers, so all parties compute the same weights, to the last bit, on any machine.

Arrays of control points are (z, y, x) like images; a 2D one has a single plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import Array
from PPIRLogic.compiled import compiled
from PPIRLogic.cubic_bspline import cubic, cubic_slope


@dataclass(frozen=True)
class ControlPointAxis:
    """One axis: `voxels` of the full grid, `cells` of the spline, and the level's voxels first, first + step, …"""

    voxels: int
    cells: int
    first: int
    step: int
    size: int

    @property
    def control_points(self) -> int:
        return self.cells + 3

    def _positions(self) -> list[Fraction]:
        return [
            Fraction((2 * (self.first + self.step * i) + 1) * self.cells, 2 * self.voxels) for i in range(self.size)
        ]

    @cached_property
    def start(self) -> NDArray[np.int64]:
        """The first of the four control points of every voxel, (size,)."""
        return np.array([int(u) for u in self._positions()], np.int64)

    @cached_property
    def weights(self) -> Array:
        """(size, 4)."""
        return np.array([[float(w) for w in cubic(u % 1)] for u in self._positions()])

    @cached_property
    def slopes(self) -> Array:
        """(size, 4): derivatives of the weights per cell."""
        return np.array([[float(w) for w in cubic_slope(u % 1)] for u in self._positions()])

    def integers(self, bits: int) -> NDArray[np.int64]:
        """(size, 4): the weights in units of 2^-bits; each voxel's four sum to 2^bits."""
        out = []
        for u in self._positions():
            row = [int(w * 2**bits + Fraction(1, 2)) for w in cubic(u % 1)]
            row[1] += 2**bits - sum(row)
            out.append(row)
        return np.array(out, np.int64)


@compiled
def _gather(values: Any, start: Any, weights: Any, out: Any) -> None:
    """out (outer, control points, inner) += Σ_i weight·values (outer, size, inner)."""
    for o in range(values.shape[0]):
        for i in range(values.shape[1]):
            for t in range(4):
                w, k = weights[i, t], start[i] + t
                for j in range(values.shape[2]):
                    out[o, k, j] += w * values[o, i, j]


@compiled
def _spread(control_points: Any, start: Any, weights: Any, out: Any) -> None:
    """out (outer, size, inner) = Σ_t weight·coefficients (outer, control points, inner)."""
    for o in range(out.shape[0]):
        for i in range(out.shape[1]):
            k = start[i]
            for j in range(out.shape[2]):
                out[o, i, j] = (
                    weights[i, 0] * control_points[o, k, j]
                    + weights[i, 1] * control_points[o, k + 1, j]
                    + weights[i, 2] * control_points[o, k + 2, j]
                    + weights[i, 3] * control_points[o, k + 3, j]
                )


def gather(values: NDArray[Any], axes: tuple[ControlPointAxis, ...], weights: list[NDArray[Any]]) -> NDArray[Any]:
    """Σ_x B_k(x)·values(x) per control point: values (…, y, x) → control points (…, y, x), axes in ITK order.

    float64, or int64 with sums modulo 2^64.
    """
    out = np.ascontiguousarray(values)
    for position, (axis, weight) in enumerate(zip(axes, weights, strict=True)):
        before = out.shape
        at = len(before) - 1 - position
        target = np.zeros((_size(before[:at]), axis.control_points, _size(before[at + 1 :])), out.dtype)
        _gather(out.reshape(target.shape[0], axis.size, target.shape[2]), axis.start, weight, target)
        out = target.reshape(*before[:at], axis.control_points, *before[at + 1 :])
    return out


def spread(
    control_points: NDArray[Any], axes: tuple[ControlPointAxis, ...], weights: list[NDArray[Any]]
) -> NDArray[Any]:
    """Σ_k B_k(x)·knots_k at every voxel: the transpose of `gather`."""
    out = np.ascontiguousarray(control_points)
    for position in reversed(range(len(axes))):
        axis, before = axes[position], out.shape
        at = len(before) - 1 - position
        target = np.empty((_size(before[:at]), axis.size, _size(before[at + 1 :])), out.dtype)
        _spread(
            out.reshape(target.shape[0], axis.control_points, target.shape[2]), axis.start, weights[position], target
        )
        out = target.reshape(*before[:at], axis.size, *before[at + 1 :])
    return out


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))
