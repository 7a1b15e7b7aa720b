"""The public linear map of B-splines: from one value per voxel to one number per control point.

The steepest-descent images of a B-spline are B_k(x)·g_a(x), with B public geometry and g party 1's own. So the
protocols multiply g_a and J voxel by voxel, under protection, and the holder of the protected products applies the
public map R_k = Σ_x B_k(x)·value(x), in integers. The cost follows the voxels, not the control points.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import Ring
from PPIRLogic.errors import ProtocolError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.pyramid import axis_factors, margin_voxels
from PPIRLogic.registration.sampling import block_order
from PPIRLogic.transforms.bspline import cells_of, level_axes
from PPIRLogic.transforms.bspline_basis import ControlPointAxis, gather

SUM_BITS = 57  # |R| < 2^57, whatever the images
VALUE_BITS = 23  # |g·J| < 2^23: 12 bits with sign each
MAX_BITS = 8
MIN_SHARE = 0.02  # control points with less than this share of a full one's weight are not opened
MAX_CELLS = 1024


@dataclass(frozen=True)
class ControlPointMap:
    """The map for one level. axes and margin (voxels) in ITK order; samples are those inside the margin, block-wise.

    pool: the level's random samples among these, where it has such: then the sums are over them alone.
    """

    axes: tuple[ControlPointAxis, ...]
    margin: tuple[int, ...]
    pool: NDArray[np.int32] | None = field(default=None, compare=False)
    room: int = SUM_BITS - VALUE_BITS  # bits of a sum beyond those of a value

    @property
    def shape(self) -> tuple[int, ...]:
        """The level's grid, (z, y, x) or (y, x)."""
        return tuple(a.size for a in reversed(self.axes))

    @property
    def counts(self) -> tuple[int, ...]:
        """Control points per axis, (z, y, x) or (y, x)."""
        return tuple(a.control_points for a in reversed(self.axes))

    @cached_property
    def samples(self) -> NDArray[np.int32]:
        return block_order(self.shape, self.margin) if self.pool is None else self.pool

    @property
    def inside(self) -> int:
        """How many samples there are inside the margin, without making them."""
        return math.prod(a.size - 2 * margin for a, margin in zip(self.axes, self.margin, strict=True))

    @cached_property
    def bits(self) -> int:
        """Of the integer weights per axis: as many as |R| < 2^57 allows, at most 8."""
        most = math.prod(float(gather(np.ones(a.size), (a,), [a.weights]).max()) for a in self.axes)
        room = self.room - math.ceil(math.log2(most)) - 1
        bits = min(MAX_BITS, room // len(self.axes))
        if bits < 2:
            raise ProtocolError("The B-spline grid of a level is too coarse for the exact range of its sums.")
        return bits

    @cached_property
    def weights(self) -> list[Ring]:
        """Integer weights per axis."""
        return [a.integers(self.bits) for a in self.axes]

    @property
    def scale(self) -> float:
        """Integers per unit of B."""
        return 2.0 ** (self.bits * len(self.axes))

    @cached_property
    def kept(self) -> NDArray[np.int64]:
        """Flat indices of the control points that are opened: those that the samples determine."""
        share = np.ones(1)
        for axis, margin, weight in zip(self.axes, self.margin, self.weights, strict=True):
            inside = np.zeros(axis.size, np.int64)
            inside[margin : axis.size - margin] = 1
            support = gather(inside, (axis,), [weight * weight])
            share = np.multiply.outer(support / support.max(), share).reshape(-1)
        return np.flatnonzero(share >= MIN_SHARE)

    @cached_property
    def largest(self) -> int:
        """The largest Σ_x B_k(x), in integers."""
        return int(gather(np.ones(self.shape, np.int64), self.axes, self.weights).max())

    @property
    def count(self) -> int:
        return len(self.kept)

    def on_grid(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values of the samples (N,) on the level's grid, 0 elsewhere."""
        grid = np.zeros(math.prod(self.shape), values.dtype)
        grid[self.samples] = values
        return grid.reshape(self.shape)

    def sums(self, values: NDArray[Any]) -> Ring:
        """Integers per sample (N,) to R of the kept control points, (count,) int64, modulo 2^64."""
        grid = self.on_grid(values.astype(np.int64, copy=False))
        return gather(grid, self.axes, self.weights).reshape(-1)[self.kept]

    def box_sums(self, values: NDArray[np.int64]) -> Ring:
        """Integers over the box inside the margin (…, y, x) to R of the kept control points, modulo 2^64."""
        grid = np.zeros(self.shape, np.int64)
        grid[tuple(slice(m, n - m) for m, n in zip(self.margin[::-1], self.shape, strict=True))] = values
        return gather(grid, self.axes, self.weights).reshape(-1)[self.kept]

    def to_wire(self) -> list[list[int]]:
        """Whole numbers that say all of it; they are public geometry."""
        return [[*(a.voxels, a.cells, a.first, a.step, a.size), m] for a, m in zip(self.axes, self.margin, strict=True)]

    @classmethod
    def from_wire(cls, rows: Any) -> ControlPointMap:
        """From the network; ProtocolError unless every number is in range."""
        if not isinstance(rows, (list, tuple)) or len(rows) not in (2, 3):
            raise ProtocolError("The grid of a B-spline is malformed.")
        axes, margin = [], []
        for row in rows:
            if not isinstance(row, (list, tuple)) or len(row) != 6 or any(type(v) is not int for v in row):
                raise ProtocolError("The grid of a B-spline is malformed.")
            voxels, cells, first, step, size, border = row
            fits = 1 <= size <= voxels <= 4096 and 1 <= cells <= MAX_CELLS and 0 <= border <= size // 4
            if not fits or first < 0 or step < 1 or first + step * (size - 1) >= voxels:
                raise ProtocolError("The grid of a B-spline is out of range.")
            axes.append(ControlPointAxis(voxels, cells, first, step, size))
            margin.append(border)
        if math.prod(a.size for a in axes) > 2**28:
            raise ProtocolError("The grid of a B-spline is out of range.")
        return cls(tuple(axes), tuple(margin))

    def digest(self) -> bytes:
        """Both sides compare it before they use the map."""
        pool = b"" if self.pool is None else self.pool.astype("<i4").tobytes()
        return hashlib.sha256(b"PPIR-knots-1" + msgpack.packb(self.to_wire()) + pool).digest()


def control_point_map_of(
    fixed: Geometry, level: Geometry, factor: int, margin_mm: float, spacing_mm: float, index: int, levels: int
) -> ControlPointMap:
    """The map of level `index` of `levels`: control points every `spacing_mm` on the last, then twice that."""
    finest = cells_of(fixed, spacing_mm, levels - 1)
    cells = tuple(m >> (levels - 1 - index) for m in finest)
    axes = level_axes(fixed, axis_factors(fixed, factor), level.size, cells)
    return ControlPointMap(axes, margin_voxels(level, margin_mm))


def control_point_map_by_stride(
    fixed: Geometry, level: Geometry, factor: int, margin_mm: float, stride: int
) -> ControlPointMap:
    """The map of a level with control points every `stride` of its voxels, or a little more, on every axis."""
    cells = tuple(max(1, n // stride) for n in level.size)
    axes = level_axes(fixed, axis_factors(fixed, factor), level.size, cells)
    return ControlPointMap(axes, margin_voxels(level, margin_mm))
