"""One level of a deformable registration by mutual information, over the level's fixed pool of samples.

Opened are, as for a linear transform, the joint histogram, and where a step is taken from it, one number per control
point and axis: Σ_x B_k(x)·g_a(x)·Σ_t B(x,t)·U(x,t). The Hessian is party 1's own: g gᵀ weighed with the information
that the opened histogram holds about the moving intensity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import Array
from PPIRLogic.images.intensities import INTENSITY_CENTRE
from PPIRLogic.images.interpolation import MovingImage
from PPIRLogic.registration.columns.deformable import BSplineScales, DeformableWarp
from PPIRLogic.registration.columns.mutual_information import FactorColumns, moves_bins, parzen_source
from PPIRLogic.registration.losses.mutual_information import (
    JointHistogram,
    MutualInformation,
    as_factor,
    bin_position,
    per_unit,
    slopes_of,
)
from PPIRLogic.registration.optimizers.bspline_step import MutualInformationStep
from PPIRLogic.registration.party1.level_runs.bspline import BSplineRun, Opened, Point, clipped
from PPIRLogic.registration.party1.level_runs.diffeo import DiffeoRun
from PPIRLogic.registration.party1.level_runs.linear_mi import START_MARGIN
from PPIRLogic.registration.terms import GRADIENT, VALUE

FIRST_DAMPING, DAMPING_STEP, TRIALS = 0.1, 4.0, 4
STEP_LIMIT = 0.4  # of the distance of control points: none moves further at once, and one such step cannot fold
MAX_SLOPE = 2**11 - 1  # |U|; with 12-bit g, the products stay below 2^23 (`control_points.VALUE_BITS`)


@dataclass(frozen=True)
class _Counted:
    """The samples of a transform in its histogram: their positions in bins, and which are used, (N,)."""

    histogram: JointHistogram
    position: Array
    use: NDArray[np.bool_]


class BSplineMutualInformationRun(BSplineRun):
    """The steps of a `BSplineRun` on −MI."""

    loss: MutualInformation

    def _warp_of(self, moving: MovingImage, use: NDArray[np.bool_]) -> DeformableWarp:
        """Without samples near the moving border at the start, as for linear transforms."""
        margin = START_MARGIN * self.level.factor * min(moving.geometry.spacing)
        inner = super()._warp_of(moving.narrowed(margin), use)
        columns, _ = inner.columns(self._displacement(self.start), BSplineScales(1.0, 1.0))
        return super()._warp_of(moving, columns[1] > 0)

    def _most(self) -> float:
        return float("inf")  # intensities go into bins, not into a sum

    def _opened(self, columns: NDArray[np.int16]) -> Opened:
        bins, samples = self.loss.bins, self.level.samples
        intensity, inside = columns[:2].reshape(2, -1)[:, samples]
        use = inside > 0
        position = bin_position(intensity / self.scales.intensity + INTENSITY_CENTRE, bins)
        numbers = self.session.evaluate(self.level, parzen_source(position, use, bins), VALUE, self.terms[VALUE])
        histogram = JointHistogram.from_sums(numbers, bins)
        counted = _Counted(histogram, position, use)
        return Opened(-histogram.mutual_information(), histogram.samples, counted)

    damping = FIRST_DAMPING

    def _trials(self, point: Point) -> Iterator[tuple[Array, float]]:
        """More and more damped: far from the maximum, the histogram knows less than it seems to."""
        model = self._model(point)
        for _ in range(TRIALS):
            step, expected = model.solve(self._coefficients(point.transform), self.damping)
            self.damping /= DAMPING_STEP
            yield self._limited(step), expected
            self.damping *= DAMPING_STEP**2.5

    def _limited(self, step: Array) -> Array:
        return clipped(step, STEP_LIMIT * min(self.spacing))

    def _model(self, point: Point) -> MutualInformationStep:
        """Opens the gradient at the point."""
        found: _Counted = point.found.detail
        bins, kappa, histogram = self.loss.bins, per_unit(self.loss.bins), found.histogram
        inside = found.use & moves_bins(found.position, bins)
        slopes, unit = as_factor(slopes_of(found.position, inside, histogram), MAX_SLOPE)
        g = point.columns[2:].reshape(len(point.columns) - 2, -1)[:, self.level.samples]
        source = FactorColumns(slopes, g.astype(np.int32), bins)
        numbers = self.session.evaluate(self.level, source, GRADIENT, self.terms[GRADIENT])
        scale = kappa / histogram.samples / (float(unit) * self.control_points.scale * self.scales.gradient)
        opened = np.array(numbers, np.float64).reshape(-1, self.control_points.count) * scale
        information = np.interp(found.position, np.arange(bins), histogram.information()) * inside
        importance = self.control_points.on_grid(kappa**2 / histogram.samples * information)
        return MutualInformationStep(
            point.columns[2:], self.scales, self.control_points, opened, importance, self.bending, self.weight,
            self.state.parameters.threads,
        )  # fmt: skip


class DiffeoMutualInformationRun(DiffeoRun, BSplineMutualInformationRun):
    """The same with composed steps."""
