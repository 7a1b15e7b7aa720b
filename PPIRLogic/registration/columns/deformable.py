"""Party 1's columns for B-splines: the warped moving image and its gradient at every voxel of a level, quantised.

The steepest-descent images are B_k(x)·g_a(x), so only I, Ω and the dim components of g = Aᵀ∇I(A(x + u(x))) are held,
as whole images on the level's grid (integers; zero outside of the samples and of the overlap).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.compiled import compiled_ieee
from PPIRLogic.errors import FixedPointError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.intensities import INTENSITY_CENTRE
from PPIRLogic.images.interpolation import MovingImage, compose, embed, interpolate, leave_masked_out, within
from PPIRLogic.registration.columns.scales import LIMIT, power_of_two_below
from PPIRLogic.secure.layout import GROUP
from PPIRLogic.secure.product import Columns
from PPIRLogic.transforms import LinearTransform

GRADIENT_LIMIT = 2**12 - 1  # with 12-bit J, the products stay below 2^23 (`control_points.VALUE_BITS`)
WIDE_LIMIT = 2**24


@compiled_ieee
def _bend(before: Any, u: Any, steps: Any, i: int, j: int, k: int, g: Any) -> None:
    """g = (I + ∇u)ᵀ·before at a voxel."""
    dim, nz, ny, nx = u.shape
    g[:] = before
    for b in range(dim):
        along = 0.0
        for c in range(dim):
            if b == 0:
                low, high = max(i - 1, 0), min(i + 1, nx - 1)
                d = (u[c, k, j, high] - u[c, k, j, low]) / max(high - low, 1)
            elif b == 1:
                low, high = max(j - 1, 0), min(j + 1, ny - 1)
                d = (u[c, k, high, i] - u[c, k, low, i]) / max(high - low, 1)
            else:
                low, high = max(k - 1, 0), min(k + 1, nz - 1)
                d = (u[c, high, j, i] - u[c, low, j, i]) / max(high - low, 1)
            along += d * before[c]
        for a in range(dim):
            g[a] += steps[b, a] * along


@compiled_ieee
def _place_line(
    use: Any, displacement: Any, to_index: Any, by_mm: Any, shape: Any, low: Any, high: Any, k: int, j: int, at: Any,
    keep: Any,
) -> None:  # fmt: skip
    """Where the voxels of a line lie: at (3, nx), moving index, or the nearest one inside; keep: used and inside."""
    deep = displacement.shape[0] == 3
    along_x, along_y, along_z = displacement[0, k, j], displacement[1, k, j], displacement[-1, k, j]
    for i in range(use.shape[2]):
        u, v = along_x[i], along_y[i]
        w = along_z[i] if deep else 0.0
        x = to_index[0, 0] * i + to_index[0, 1] * j + to_index[0, 2] * k + to_index[0, 3]
        y = to_index[1, 0] * i + to_index[1, 1] * j + to_index[1, 2] * k + to_index[1, 3]
        z = to_index[2, 0] * i + to_index[2, 1] * j + to_index[2, 2] * k + to_index[2, 3]
        x += by_mm[0, 0] * u + by_mm[0, 1] * v + by_mm[0, 2] * w
        y += by_mm[1, 0] * u + by_mm[1, 1] * v + by_mm[1, 2] * w
        z += by_mm[2, 0] * u + by_mm[2, 1] * v + by_mm[2, 2] * w
        inside = (low[0] <= x) & (x <= high[0]) & (low[1] <= y) & (y <= high[1]) & (low[2] <= z) & (z <= high[2])
        keep[i] = use[k, j, i] & inside
        at[0, i], at[1, i], at[2, i] = within(x, shape[2]), within(y, shape[1]), within(z, shape[0])


@compiled_ieee
def _warp(
    use: Any, displacement: Any, to_index: Any, by_mm: Any, data: Any, cubic: bool, rows: Any, low: Any, high: Any,
    gradient: Any, steps: Any, limit: float, scale: float, intensity_scale: float, first: int, last: int, out: Any,
) -> float:  # fmt: skip
    """Fill out (5, nz, ny, nx) = I, Ω, g for the planes first…last−1; returns the largest |g| per mm before rounding.

    to_index (3, 4): fixed index → moving index without displacement; by_mm (3, 3): displacement in mm → moving index;
    gradient (3, 3) = by_mmᵀ. steps (3, 3): grid index steps per mm along each axis, or of no rows; where given, g is
    the gradient of the warped image, (I + ∇u)ᵀAᵀ∇I, by central differences of u.
    """
    _, ny, nx = use.shape
    at, seen, keep = np.empty((3, nx)), np.empty((4, nx)), np.empty(nx, np.bool_)
    g, before = np.zeros(3), np.zeros(3)
    peak = 0.0
    for k in range(first, last):
        for j in range(ny):
            _place_line(use, displacement, to_index, by_mm, data.shape, low, high, k, j, at, keep)
            if rows.size > 1:
                leave_masked_out(rows, at, keep)
            interpolate(data, cubic, at, keep, seen)
            for i in range(nx):
                kept = np.int64(keep[i])
                out[0, k, j, i] = kept * np.int64(np.rint((seen[0, i] - INTENSITY_CENTRE) * intensity_scale))
                out[1, k, j, i] = kept
                for a in range(displacement.shape[0]):
                    g[a] = gradient[a, 0] * seen[1, i] + gradient[a, 1] * seen[2, i] + gradient[a, 2] * seen[3, i]
                if len(steps) and keep[i]:
                    before[:] = g
                    _bend(before, displacement, steps, i, j, k, g)
                for a in range(displacement.shape[0]):
                    peak = max(peak, kept * abs(g[a]))
                    out[2 + a, k, j, i] = kept * np.int64(max(-limit, min(limit, np.rint(g[a] * scale))))
    return peak


@dataclass(frozen=True)
class BSplineScales:
    """Integers per unit of I and per unit of g (1/mm); powers of two, party 1's own."""

    intensity: float
    gradient: float


class HeldColumns:
    """Whole columns (m, …grid) as a `ColumnSource` over the samples of a level; int16."""

    def __init__(self, grids: NDArray[np.int16], samples: NDArray[np.int32], scales: NDArray[np.float64]) -> None:
        self.columns, self.groups = len(grids), -(-len(samples) // GROUP)
        self._flat, self._samples, self._scales = grids.reshape(len(grids), -1), samples, scales

    def prepare(self, workers: int) -> None:
        pass

    def block(self, group: int, worker: int, out: Columns) -> None:
        at = self._samples[group * GROUP : (group + 1) * GROUP]
        for row, column in zip(out, self._flat, strict=True):
            row[: len(at)] = column[at]
        out[:, len(at) :] = 0

    def finish(self) -> None:
        pass

    def absolute_sums(self) -> NDArray[np.int64]:
        return np.array([np.abs(c.astype(np.int32)).sum(dtype=np.int64) for c in self._flat])

    def norms(self) -> NDArray[np.float64]:
        return np.array([math.sqrt(np.square(c.astype(np.int64)).sum()) for c in self._flat])

    def column_scales(self) -> NDArray[np.float64]:
        return self._scales


class DeformableWarp:
    """Warps the moving image of a level by A(x + u(x)) onto the level's grid."""

    def __init__(
        self, moving: MovingImage, fixed: Geometry, affine: LinearTransform, use: NDArray[np.bool_], threads: int,
        composed: bool = False, wide: bool = False,
    ) -> None:  # fmt: skip
        """use: voxels of the level that take part, of its array shape. composed: g is for x + u(x + v), else for u + v.
        wide: columns are int32, with room for WIDE_LIMIT, not int16.

        With v a small velocity, the gradient for it is that of the warped image, not of the moving one.
        """
        self._moving, self._threads = moving, threads
        self.dimension = fixed.dimension
        self._use = use if fixed.dimension == 3 else use[None]
        linear = compose(moving.to_index, embed(affine.affine()))
        self._to_index = compose(linear, embed(fixed.index_to_physical()))
        self._by_mm = np.ascontiguousarray(linear[:, :3])
        self._gradient = np.ascontiguousarray(linear[:, :3].T)
        self._dtype: type[np.signedinteger] = np.int32 if wide else np.int16
        self._limit = WIDE_LIMIT if wide else GRADIENT_LIMIT
        self._steps = embed(fixed.physical_to_index())[:, :3].copy() if composed else np.empty((0, 3))

    def columns(self, displacement: NDArray[np.floating], scales: BSplineScales) -> tuple[NDArray[Any], float]:
        """I, Ω, g as (2 + dim, …grid), and the largest |g| per mm. displacement: u in mm, (dim, …grid)."""
        from concurrent.futures import ThreadPoolExecutor

        shape = self._use.shape
        field = displacement.reshape(self.dimension, *shape)
        out = np.empty((2 + self.dimension, *shape), self._dtype)
        m = self._moving
        bounds = np.linspace(0, shape[0], min(self._threads, shape[0]) + 1).astype(int)

        def part(first: int, last: int) -> float:
            return float(
                _warp(
                    self._use, field, self._to_index, self._by_mm, m.data, m.cubic, m.rows, m.low, m.high,
                    self._gradient, self._steps, float(self._limit), scales.gradient, scales.intensity, first, last,
                    out,
                )
            )  # fmt: skip

        with ThreadPoolExecutor(len(bounds) - 1) as pool:
            peaks = list(pool.map(part, bounds[:-1].tolist(), bounds[1:].tolist()))
        return out.reshape(2 + self.dimension, *displacement.shape[1:]), max(peaks)


def choose_bspline_scales(
    columns: NDArray[np.int16], peak: float, intensity_scale: float, limit: float
) -> BSplineScales:
    """From a first look at party 1's own columns: g may grow to twice its peak, the sum of I·J to four times."""
    if peak == 0:
        raise FixedPointError(
            "The moving image has no gradient where it overlaps the fixed grid: nothing can be aligned there. Check the"
            " image, its mask and the initial transform."
        )
    brightness = float(np.abs(columns[0].astype(np.int32)).sum(dtype=np.int64)) / intensity_scale
    intensity = power_of_two_below(min(LIMIT / 2, limit / (4 * max(brightness, 1.0))))
    return BSplineScales(intensity, power_of_two_below(GRADIENT_LIMIT / (2 * peak)))
