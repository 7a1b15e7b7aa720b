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

from PPIRLogic.losses.mattes import JointHistogram, Mattes, as_factor, bin_position, per_unit, slopes_of
from PPIRLogic.openings import GRADIENT, VALUE
from PPIRLogic.runs.diffeo import DiffeoRun
from PPIRLogic.runs.mattes import START_MARGIN, FactorColumns, moves_bins, parzen_source
from PPIRLogic.runs.spline import Opened, Point, SplineRun, clipped
from PPIRLogic.splinestep import MattesStep
from PPIRLogic.warp import INTENSITY_CENTRE, MovingImage
from PPIRLogic.warp_spline import SplineScales, SplineWarp

FIRST_DAMPING, DAMPING_STEP, TRIALS = 0.1, 4.0, 4
STEP_LIMIT = 0.4  # of the distance of control points: none moves further at once, and one such step cannot fold
MOST_SLOPE = 2**11 - 1  # |U|; with 12-bit g, the products stay below 2^23 (`secure.knots.VALUE_BITS`)
Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Counted:
    """The samples of a transform in its histogram: their positions in bins, and which are used, (N,)."""

    histogram: JointHistogram
    position: Array
    use: NDArray[np.bool_]


class MattesSplineRun(SplineRun):
    """The steps of a `SplineRun` on −MI."""

    loss: Mattes

    def _warp_of(self, moving: MovingImage, use: NDArray[np.bool_]) -> SplineWarp:
        """Without samples near the moving border at the start, as for linear transforms."""
        margin = START_MARGIN * self.level.factor * min(moving.geometry.spacing)
        inner = super()._warp_of(moving.narrowed(margin), use)
        columns, _ = inner.columns(self._displacement(self.start), SplineScales(1.0, 1.0))
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

    def _model(self, point: Point) -> MattesStep:
        """Opens the gradient at the point."""
        found: _Counted = point.found.detail
        bins, kappa, histogram = self.loss.bins, per_unit(self.loss.bins), found.histogram
        inside = found.use & moves_bins(found.position, bins)
        slopes, unit = as_factor(slopes_of(found.position, inside, histogram), MOST_SLOPE)
        g = point.columns[2:].reshape(len(point.columns) - 2, -1)[:, self.level.samples]
        source = FactorColumns(slopes, g.astype(np.int32), bins)
        numbers = self.session.evaluate(self.level, source, GRADIENT, self.terms[GRADIENT])
        scale = kappa / histogram.samples / (float(unit) * self.knots.scale * self.scales.gradient)
        opened = np.array(numbers, np.float64).reshape(-1, self.knots.count) * scale
        information = np.interp(found.position, np.arange(bins), histogram.information()) * inside
        importance = self.knots.on_grid(kappa**2 / histogram.samples * information)
        return MattesStep(
            point.columns[2:], self.scales, self.knots, opened, importance, self.bending, self.weight,
            self.run_.parameters.threads,
        )  # fmt: skip


class MattesDiffeoRun(DiffeoRun, MattesSplineRun):
    """The same with composed steps."""
