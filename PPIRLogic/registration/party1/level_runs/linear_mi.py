"""One level of a linear registration by mutual information: histogram first, gradient where a step is taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from PPIRLogic.arrays import Array
from PPIRLogic.errors import OverlapError
from PPIRLogic.images.intensities import INTENSITY_CENTRE
from PPIRLogic.registration.columns.linear import all_columns
from PPIRLogic.registration.columns.mutual_information import FactorColumns, moves_bins, parzen_source
from PPIRLogic.registration.columns.scales import LIMIT, Scales, power_of_two_below
from PPIRLogic.registration.losses import Evaluation
from PPIRLogic.registration.losses.mutual_information import (
    FACTOR,
    JointHistogram,
    MutualInformation,
    as_factor,
    bin_position,
    per_unit,
    slopes_of,
)
from PPIRLogic.registration.optimizers.gauss_newton import Minimum, Stopping
from PPIRLogic.registration.party1.level_runs.linear import LinearRun
from PPIRLogic.registration.terms import GRADIENT, VALUE
from PPIRLogic.secure.layout import CHUNK
from PPIRLogic.secure.product import Columns
from PPIRLogic.transforms import LinearTransform

START_MARGIN = 2.0  # voxels of a level that its samples keep from the moving border, at its start


class LinearMutualInformationRun(LinearRun):
    """Mutual information at one level, over the level's fixed pool of samples."""

    loss: MutualInformation
    rigid = False  # whether only rigid steps are taken now
    _before = 0  # evaluations of the steps before

    def _choose_scales(self, scan: Any) -> Scales:
        """The steepest-descent images are rounded again before they travel: 15 bits are room enough."""
        steepest = LIMIT / (2 * np.maximum(scan.peaks()[:-2], 1)) * scan.scales.steepest
        return Scales(np.array([power_of_two_below(float(v)) for v in steepest]), power_of_two_below(LIMIT / 2))

    def _opened(self) -> None:
        """Fix the samples of the level: those well inside the moving image at its start.

        Where samples fall in and out of the field of view with every step, the histogram's jumps hide its slope.
        """
        moving, margin = self.moving, START_MARGIN * self.level.factor * min(self.moving.geometry.spacing)
        self.moving = moving.narrowed(margin)
        inside = self._own_columns(self.start)[-1] > 0
        self.moving = moving
        self.use = self.use & inside

    def _minimise(self, start: LinearTransform, stopping: Stopping) -> Minimum:
        """At the first level rigid steps first: from afar, few samples do not tell a stretch from a misplaced image."""
        self.rigid = self.level.index == 0 and start.kind in ("similarity", "affine") and stopping.evaluations > 2
        if not self.rigid:
            return super()._minimise(start, stopping)
        first = super()._minimise(start, replace(stopping, evaluations=stopping.evaluations // 2))
        self.rigid, self.record.rigid_iterations = False, first.iterations
        left = replace(stopping, evaluations=stopping.evaluations - first.evaluations)
        self._before = first.evaluations
        found = super()._minimise(first.transform, left)
        return replace(
            found, evaluations=first.evaluations + found.evaluations, iterations=first.iterations + found.iterations
        )

    def _accepted(self, transform: LinearTransform, found: Evaluation, evaluations: int, step: float) -> None:
        if not (self._before and evaluations == 1):  # where the rigid steps ended, which is on record
            super()._accepted(transform, found, self._before + evaluations, step)

    def _evaluate(self, transform: LinearTransform) -> Evaluation | None:
        self.state.cancel.check()
        columns = self._own_columns(transform)
        d = transform.parameters
        use = columns[d + 1] > 0
        position = bin_position(columns[d] / self.scales.intensity + INTENSITY_CENTRE, self.loss.bins)
        source = parzen_source(position, use, self.loss.bins)
        opened = self.session.evaluate(self.level, source, VALUE, self.terms[VALUE])
        histogram = self._histogram(opened)
        if histogram is None:
            return None
        self._last = (transform, columns, position, use, histogram)
        empty = np.empty(0)
        return self._unless_too_small(Evaluation(-histogram.mutual_information(), empty, empty, histogram.samples))

    def _linearise(self, transform: LinearTransform, evaluation: Evaluation) -> Evaluation:
        known, columns, position, use, histogram = self._last
        assert known is transform  # a step is taken from what was evaluated last
        d, bins, kappa = transform.parameters, self.loss.bins, per_unit(self.loss.bins)
        steepest = columns[:d] / self.scales.steepest[:, None]
        inside = use & moves_bins(position, bins)
        slopes, of_slopes = as_factor(slopes_of(position, inside, histogram), FACTOR)
        factors, of_factors = as_factor(steepest, FACTOR)
        opened = self.session.evaluate(self.level, FactorColumns(slopes, factors, bins), GRADIENT, self.terms[GRADIENT])
        gradient = -kappa / histogram.samples * np.array(opened, np.float64) / (of_slopes * of_factors)
        information = np.interp(position, np.arange(bins), histogram.information()) * inside
        hessian = kappa**2 / histogram.samples * (steepest * information) @ steepest.T
        if self.rigid:
            gradient, hessian = within(rigid_steps(transform), gradient, hessian)
        return Evaluation(evaluation.value, gradient, hessian, evaluation.overlap)

    def _histogram(self, opened: list[int]) -> JointHistogram | None:
        try:
            return JointHistogram.from_sums(opened, self.loss.bins)
        except OverlapError:
            if not self.first_overlap:
                raise
            return None

    def _own_columns(self, transform: LinearTransform) -> Columns:
        """S, I and Ω at all samples of the pool, (d + 2, N)."""
        chunks = np.arange(-(-len(self.samples) // CHUNK))
        source = self._columns(transform, self.scales, self.samples, self.use, chunks)
        return all_columns(source, len(self.samples), self.session.link)


def rigid_steps(transform: LinearTransform) -> Array:
    """Orthonormal directions (d, k) of a transform's parameters that turn and shift it and, to first order, no more."""
    wide = transform.basis(1.0).reshape(transform.parameters, -1)
    narrow = replace(transform, kind="rigid").basis(1.0)
    steps, *_ = np.linalg.lstsq(wide.T, narrow.reshape(len(narrow), -1).T, rcond=None)
    directions: Array = np.linalg.qr(steps)[0]
    return directions


def within(directions: Array, gradient: Array, hessian: Array) -> tuple[Array, Array]:
    """A gradient and Hessian whose step lies in these directions (d, k) alone."""
    inside = directions @ directions.T
    stiff = float(np.trace(hessian)) * (np.eye(len(gradient)) - inside)
    return inside @ gradient, inside @ hessian @ inside + stiff
