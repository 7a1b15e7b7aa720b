"""One owner's half of a symmetric registration at one level: its image, its field, its steps. The same on both sides.

The coarse force on a half is all that its owner gets of the other image. The owner turns it into a step of its own
velocity by Gauss-Newton on its own slopes (the window's best case, CC = 1), with the bending energy of the step as the
fluid smoothing and a Gaussian over the whole velocity as the elastic one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import Array
from PPIRLogic.errors import FixedPointError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.interpolation import MovingImage
from PPIRLogic.images.pyramid import smooth
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.columns.deformable import WIDE_LIMIT, BSplineScales, DeformableWarp
from PPIRLogic.registration.columns.scales import power_of_two_below
from PPIRLogic.registration.levels import Level
from PPIRLogic.registration.losses.base import IntensityFit
from PPIRLogic.registration.losses.cross_correlation import (
    SUM_BITS,
    TERM_BITS,
    HalfColumns,
    half_columns,
    normalised,
    window_size,
)
from PPIRLogic.registration.optimizers.bspline_step import BSplineStep
from PPIRLogic.registration.symmetric.half_field import HalfField
from PPIRLogic.transforms.bending_energy import BendingEnergy
from PPIRLogic.transforms.bspline import control_point_spacing
from PPIRLogic.transforms.bspline_basis import gather, spread
from PPIRLogic.transforms.displacement_field import Field, jacobian_determinant
from PPIRLogic.transforms.linear import LinearTransform

VELOCITY_BITS = 16  # of a control point's velocity, per mm
STEP_LIMIT = 1.0  # voxels of the level, for each half
MIN_JACOBIAN = 0.1
_SHORTENINGS = 4
_INTENSITY = 2.0**22  # integers per unit of the warped image, |I| ≤ 1
_RIDGE = 0.3  # of the mean of the Gauss-Newton matrix's diagonal: noise in flat regions moves nothing far
_SHARE = 1.2  # both halves answer the same force, so neither moves all of the way that would answer it alone


class HalfImage:
    """`start` is the half of the levels before. `velocity` and `trial`: V of this level at its control points.

    Both are whole numbers of 2^-VELOCITY_BITS mm, (dim, …knots): what is told is what was used.
    """

    def __init__(
        self, level: Level, fixed: Geometry, image: MovingImage, affine: LinearTransform, start: HalfField,
        weight: float, elastic_mm: float, threads: int,
    ) -> None:  # fmt: skip
        """fixed: the full grid of the fixed image. weight: of the bending energy of a step, mm²."""
        assert level.control_points is not None
        self.level, self.control_points, self.threads = level, level.control_points, threads
        self._weight, self._elastic = weight, elastic_mm
        cells = tuple(a.cells for a in self.control_points.axes)
        self.spacing = control_point_spacing(fixed, cells)
        self._bending = BendingEnergy(cells, self.spacing)
        self._weights = [a.weights for a in self.control_points.axes]
        dim = fixed.dimension
        sides = [
            slice(m, a.size - m) for a, m in zip(self.control_points.axes, self.control_points.margin, strict=True)
        ]
        self.box = (slice(None), *reversed(sides))
        self.box_shape = tuple(s.stop - s.start for s in self.box[1:])
        use = np.zeros(self.control_points.shape, bool)
        use[self.box[1:]] = True
        self._warp = DeformableWarp(image, level.geometry, affine, use, threads, composed=True, wide=True)
        self.start = start.on_grid(level.geometry)
        self.velocity = np.zeros((dim, *self.control_points.counts), np.int64)
        self.trial = self.velocity
        self._field = self.start.field
        self._step = np.zeros(self.velocity.shape)
        self._choose_scales()

    def _choose_scales(self) -> None:
        """From a look at the owner's own columns at the start."""
        columns, peak = self._warp.columns(self._field, BSplineScales(_INTENSITY, 1.0))
        if peak == 0:
            raise FixedPointError(
                "An image has no gradient on the grid of a level: nothing can be aligned there. Check the image, its"
                " mask and the initial transform."
            )
        self.overlap = float(columns[1].sum(dtype=np.int64)) / len(self.level.samples)
        self._scales = BSplineScales(_INTENSITY, power_of_two_below(WIDE_LIMIT / (4 * peak)))
        image, inside, *gradient = self._warped()
        _, root = normalised(image, inside, _INTENSITY)
        fine = 2.0**20 / max(float(np.max(np.abs(g) * root)) for g in gradient)
        largest = self._largest(half_columns(np.zeros(root.shape, np.int64), root, np.stack(gradient), fine))
        self._slope = power_of_two_below(fine * 2.0**SUM_BITS / 4 / largest)

    def _largest(self, columns: HalfColumns) -> float:
        """A bound of every sum of the force, from the owner's own: |ρ·ĵ·a − ρ²·b| is at most |a| + |b|."""
        sizes = np.abs(columns.slopes) + np.abs(columns.products)
        weights = [w.astype(np.float64) for w in self.control_points.weights]
        grid = np.zeros(self.control_points.shape)
        most = 0.0
        for size in sizes:
            grid[self.box[1:]] = size
            most = max(most, float(gather(grid, self.control_points.axes, weights).max()))
        return most * 2.0**TERM_BITS

    def _warped(self) -> NDArray[np.int32]:
        """I, Ω and the gradient at the trial's position, (2 + dim, …) over the box."""
        columns, _ = self._warp.columns(self._field, self._scales)
        return columns[self.box]

    def columns(self) -> HalfColumns:
        """The owner's part at the trial's position; the next step is taken from there."""
        image, inside, *gradient = self._warped()
        x, root = normalised(image, inside, _INTENSITY)
        self.last_columns = half_columns(x, root, np.stack(gradient), self._slope)
        if self._largest(self.last_columns) >= 2.0**SUM_BITS:
            raise FixedPointError("The slopes of an image grew beyond the exact range of the force.")
        return self.last_columns

    # ------------------------------------------------------------------------------------------------ steps

    def step_from(self, force: NDArray[np.int64]) -> None:
        """Find the step at the present position from the opened force, (dim, kept), that `columns` led to.

        A voxel's move changes all the windows it is in; the force at their centres alone stands for each of them, as
        in Avants et al. 2008, so it counts as often as a window has voxels.
        """
        slopes = self.last_columns.slopes
        grid = np.zeros((2 + len(slopes), *self.control_points.shape), np.int32)
        grid[(slice(2, None), *self.box[1:])] = slopes
        per_unit = self._scales.gradient * self._slope
        opened = force / (self.control_points.scale * 2.0**TERM_BITS * per_unit)
        scale = _SHARE * len(self.level.samples) / window_size(len(force))
        fit = IntensityFit(0.0, _SHARE, 0.0, scale, 0.0, free=False)
        model = BSplineStep(
            grid,
            BSplineScales(1.0, per_unit),
            self.control_points,
            fit,
            opened,
            self._bending,
            self._weight,
            self.threads,
            _RIDGE,
        )
        step, _ = model.solve(np.zeros((len(force), *self.control_points.counts)))
        length = np.sqrt(np.square(step).sum(axis=0))
        limit = STEP_LIMIT * min(self.level.geometry.spacing)
        self._step = step * np.minimum(1.0, limit / np.maximum(length, limit))

    def longest_step(self) -> float:
        """Of the step found last, mm."""
        return float(np.sqrt(np.square(self._step).sum(axis=0)).max())

    def try_step(self, length: float) -> None:
        """Move to V + length·step; shorter where that would fold, or leave less than a tenth of a small volume."""
        for _ in range(_SHORTENINGS):
            trial = self._quantised(self.velocity / 2.0**VELOCITY_BITS + length * self._step)
            field = self.start.displaced(self._dense(trial))
            if not length or jacobian_determinant(field, self.level.geometry).min() > MIN_JACOBIAN:
                self.trial, self._field = trial, field
                return
            length /= 2
        self.trial, self._field = self.velocity, self.start.displaced(self._dense(self.velocity))

    def keep(self) -> None:
        """The trial becomes the velocity that later steps are added to."""
        self.velocity = self.trial

    def _quantised(self, velocity: Array) -> NDArray[np.int64]:
        if self._elastic > 0:
            velocity = np.stack([_smoothed(c, self.spacing, self._elastic) for c in velocity])
        return np.rint(velocity * 2.0**VELOCITY_BITS).astype(np.int64)

    def _dense(self, velocity: NDArray[np.int64]) -> Field:
        return dense_velocity(velocity, self.level)

    def finished(self) -> HalfField:
        """The half at the end of the level."""
        return self.start.moved(self._dense(self.velocity))


def dense_velocity(velocity: NDArray[np.int64], level: Level) -> Field:
    """V at the voxels of a level, mm, from whole numbers at its control points (dim, …knots)."""
    assert level.control_points is not None
    weights, real = [a.weights for a in level.control_points.axes], velocity / 2.0**VELOCITY_BITS
    return np.stack([spread(c, level.control_points.axes, weights) for c in real]).astype(np.float32)


def _smoothed(coefficients: Array, spacing: tuple[float, ...], sigma_mm: float) -> Array:
    dim = len(spacing)
    grid = Geometry(coefficients.shape[::-1], spacing, (0.0,) * dim, tuple(np.eye(dim).ravel().tolist()))
    return smooth(Volume(coefficients.astype(np.float32), grid, "velocity"), sigma_mm).array.astype(np.float64)
