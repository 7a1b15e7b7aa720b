"""Values of the correlation ratio at single transforms, where starts of mutual information are compared."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import Array
from PPIRLogic.errors import OverlapError
from PPIRLogic.images.intensities import INTENSITY_CENTRE
from PPIRLogic.registration.columns.linear import LinearColumns, all_columns
from PPIRLogic.registration.columns.mutual_information import BinColumns
from PPIRLogic.registration.columns.scales import LIMIT
from PPIRLogic.registration.losses import Evaluation
from PPIRLogic.registration.losses.correlation_ratio import KNOTS, WEIGHT, Relation, hats
from PPIRLogic.registration.losses.mutual_information import as_factor
from PPIRLogic.registration.operands import FIXED_BOUND, FIXED_SCALE
from PPIRLogic.registration.party1.level_runs.values import Found, ValueRun
from PPIRLogic.registration.terms import GRADIENT, VALUE
from PPIRLogic.secure.exact_range import EXACT_MODULUS, NOISE_LIMIT
from PPIRLogic.secure.product import Columns, numbers_of
from PPIRLogic.transforms import LinearTransform

_EMPTY = np.empty(0)


@dataclass(frozen=True)
class _At:
    """One transform: the relation found there, and party 1's own intensities, (N,)."""

    transform: LinearTransform
    relation: Relation
    intensity: Array
    inside: NDArray[np.bool_]
    found: Found


class CorrelationRatioValueRun(ValueRun):
    """As a `ValueRun` of NCC, with a free function of the intensity in place of a line."""

    sure, moves, quick, patient = 0.09, 24, True, True
    tried = 7, 4, 2

    def _value(self, transform: LinearTransform) -> Found:
        return self._at(transform).found

    def _evaluate(self, transform: LinearTransform) -> Evaluation | None:
        try:
            self._last_at = self._at(transform)
        except OverlapError:
            if not self.first_overlap:
                raise
            return None
        found = self._last_at.found
        return self._unless_too_small(
            Evaluation(-found.share * found.info, _EMPTY, _EMPTY, found.share * len(self.samples))
        )

    def _at(self, transform: LinearTransform) -> _At:
        self.state.cancel.check()
        own = self._own(transform, steepest=False)
        intensity, inside = own[0] / self._scales_of(transform).intensity + INTENSITY_CENTRE, own[1] > 0
        weights = hats(intensity, inside)
        terms = self.terms[VALUE]
        self.room -= numbers_of(terms)
        opened = self.session.evaluate(self.level, whole_columns(np.vstack([weights, own[1:]])), VALUE, terms)
        real, count = weights.astype(np.float64) / WEIGHT, int(np.count_nonzero(inside))
        j = np.array(opened[:KNOTS], np.float64) / (WEIGHT * FIXED_SCALE)
        relation = Relation.fitted(real @ real.T, j, opened[KNOTS] / self._operand_scale("J2"), count)
        found = Found(-0.5 * math.log(relation.left), count / len(self.samples))
        return _At(transform, relation, intensity, inside, found)

    def _linearise(self, transform: LinearTransform, evaluation: Evaluation) -> Evaluation:
        """J − f(I∘T) by least squares, with f free: the slopes of the image times those of f."""
        at = self._last_at
        assert at.transform is transform  # a step is taken from what was evaluated last
        own = self._own(transform, steepest=True)
        value, slope = at.relation.at(at.intensity)
        slopes = own[:-2] * (slope * at.inside) / self._scales_of(transform).steepest[:, None]
        whole, units = as_factor(slopes, self._most_slope())
        terms = self.terms[GRADIENT]
        self.room -= numbers_of(terms)
        opened = self.session.evaluate(self.level, whole_columns(whole), GRADIENT, terms)
        slopes = whole / units[:, None]
        residual = np.array(opened, np.float64) / (FIXED_SCALE * units) - slopes @ value
        free = slopes @ hats(at.intensity, at.inside).T / WEIGHT
        hessian = slopes @ slopes.T - free @ np.linalg.solve(at.relation.normal, free.T)
        return Evaluation(evaluation.value, -residual, hessian, evaluation.overlap)

    def _own(self, transform: LinearTransform, steepest: bool) -> Columns:
        """S if asked for, I and Ω at all samples."""
        columns = LinearColumns(
            self.moving, self.level.geometry, self.samples, self.use, self.info.active, transform, self.scale_mm,
            self._scales_of(transform), steepest=steepest,
        )  # fmt: skip
        return all_columns(columns, len(self.samples), self.session.link)

    def _most_slope(self) -> int:
        """Whole numbers up to which no sum leaves the exact range."""
        count = len(self.samples)
        return int(min(LIMIT, EXACT_MODULUS / 4 / (count * FIXED_BOUND), NOISE_LIMIT / count))


def whole_columns(values: Columns) -> BinColumns:
    """Columns (m, N) of whole numbers as a source."""

    def fill(first: int, last: int, out: Columns) -> None:
        out[:, : last - first] = values[:, first:last]

    return BinColumns(len(values), values.shape[1], 1, fill)
