"""Values of the loss at single transforms, at an extra level: to compare starts, and to check an end.

The value is `info`: −½·ln(1 − NCC²), or the mutual information, per voxel of the overlap: what one image tells of the
other. A start may also move: values first, slopes where a step is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from PPIRLogic.errors import OverlapError
from PPIRLogic.images.interpolation import MovingImage
from PPIRLogic.registration.columns.linear import LinearColumns, widest_scales
from PPIRLogic.registration.columns.masked import ProductColumns
from PPIRLogic.registration.columns.scales import LIMIT, Scales, power_of_two_below
from PPIRLogic.registration.levels import Level
from PPIRLogic.registration.losses import Evaluation, Sums
from PPIRLogic.registration.operands import FIXED_BOUND, square_shift
from PPIRLogic.registration.optimizers.gauss_newton import Stopping, minimise
from PPIRLogic.registration.party1.level_runs.linear import LinearRun
from PPIRLogic.registration.party1.level_runs.linear_mi import LinearMutualInformationRun
from PPIRLogic.registration.party1.level_runs.overlap import MIN_OVERLAP
from PPIRLogic.registration.party1.session import ClientSession
from PPIRLogic.registration.party1.state import RunState
from PPIRLogic.registration.request import LevelGrant
from PPIRLogic.registration.terms import GRADIENT, VALUE
from PPIRLogic.secure.exact_range import EXACT_MODULUS, NOISE_LIMIT
from PPIRLogic.secure.product import ColumnSource, numbers_of
from PPIRLogic.transforms import LinearTransform

_STEP_VOXELS = 0.05  # a start stops when a step moves no corner further
_LOSS_TOLERANCE = 1e-3
_MAX_NCC2 = 1 - 1e-9


@dataclass(frozen=True)
class Found:
    """info, in nats per voxel of the overlap; share of the samples in it; reversed: brighter here is darker there."""

    info: float
    share: float
    reversed: bool = False


NOTHING = Found(0.0, 0.0)


class ValueRun(LinearRun):
    """NCC at an extra level, open as long as it lives. `room`: numbers that may still be opened.

    sure: sharpness in nats from which on an end is taken. moves: values at most for a start that moves. quick: an end
    is looked at from one side of each axis. patient: as of `Stopping`.
    """

    sure, moves, quick, patient = 0.25, 14, False, False
    tried = 3, 4, 4  # starts that are let move, at first and in each further round

    def __init__(
        self, run: RunState, session: ClientSession, level: Level, moving: MovingImage, grant: LevelGrant
    ) -> None:
        super().__init__(run, session, level, moving)
        self.info, self.use, self.samples = session.open_level(level, self.loss, None)
        self.allowed = self.use
        self.granted = self.room = grant.most
        self._scales: dict[str, Scales] = {}
        self.scales = self._scales_of(self.start)
        self.shift = 2.0 ** square_shift(len(self.samples))
        self.first_overlap = 0.0

    @property
    def opened(self) -> int:
        """Numbers opened so far."""
        return self.granted - self.room

    @property
    def each(self) -> int:
        """Numbers of one value."""
        return numbers_of(self.terms[VALUE])

    @property
    def per_step(self) -> int:
        """Numbers of a value and the slopes after it."""
        return self.each + numbers_of(self.terms.get(GRADIENT, ()))

    def value(self, transform: LinearTransform) -> Found | None:
        """At one transform; None where nothing can be compared, or no number is left to open."""
        if self.room < self.each:
            return None
        self.first_overlap = 0.0
        try:
            return self._value(transform)
        except OverlapError:
            return None

    def descend(self, start: LinearTransform, most: int) -> tuple[LinearTransform, Found] | None:
        """The best transform that at most so many values lead to from a start; None as in `value`."""
        most = min(most, self.room // self.per_step)
        if most < 1 or GRADIENT not in self.terms:
            return None
        self.first_overlap, self._best = 0.0, None
        step = _STEP_VOXELS * min(self.level.geometry.spacing)
        try:
            self.scales = self._scales_of(start)
            self._prepare(start)
            end = minimise(
                start, self._evaluate, Stopping(step, _LOSS_TOLERANCE, most, self.patient), self.scale_mm, self.corners,
                lambda transform, evaluation, count, step: None, self._linearise,
            )  # fmt: skip
        except OverlapError:
            return None
        return end.transform, self._found_at(end.evaluation)

    def _prepare(self, start: LinearTransform) -> None:
        """What a start that moves needs before its first value."""

    def _found_at(self, evaluation: Evaluation) -> Found:
        share = evaluation.overlap / len(self.samples)
        return Found(-evaluation.value / max(share, 1e-9), share)

    def _scales_of(self, transform: LinearTransform) -> Scales:
        """Those of a kind of transform, the same wherever it moves the image to."""
        if transform.kind not in self._scales:
            self._scales[transform.kind] = self._fixed_scales(transform)
        return self._scales[transform.kind]

    def _columns(self, transform: LinearTransform, scales: Scales, *rest: Any, **options: Any) -> LinearColumns:
        return super()._columns(transform, self._scales_of(transform), *rest, **options)

    def _fixed_scales(self, transform: LinearTransform) -> Scales:
        """Scales under which no column saturates and no sum leaves the exact range."""
        widest = widest_scales(self.moving, self.level.geometry, transform, self.scale_mm)
        count = len(self.samples) * LIMIT
        room = min(1.0, EXACT_MODULUS / 4 / (count * FIXED_BOUND), NOISE_LIMIT / count)
        steepest = np.array([power_of_two_below(float(v)) for v in room * widest.steepest])
        return Scales(steepest, power_of_two_below(room * LIMIT / 2))

    def _sums(self, transform: LinearTransform) -> Sums:
        """The opened sums of one value."""
        self.state.cancel.check()
        active = self.info.active
        columns = LinearColumns(
            self.moving, self.level.geometry, self.samples, self.use, active, transform, self.scale_mm, self.scales,
            steepest=False,
        )  # fmt: skip
        private = self.state.parameters.fixed_mask == "private"
        source: ColumnSource = ProductColumns(columns) if private else columns
        terms = self.terms[VALUE]
        self.room -= numbers_of(terms)
        opened = self.session.evaluate(self.level, source, VALUE, terms)
        scales = source.column_scales()
        joint = {
            (t.column, t.operand): value / scales[t.column] / self._operand_scale(t.operand)
            for t, value in zip(terms, opened, strict=True)
        }
        return Sums(columns.gram / np.outer(columns.column_scales(), columns.column_scales()), joint)

    def _value(self, transform: LinearTransform) -> Found:
        return self._found(self._sums(transform))

    def _found(self, sums: Sums) -> Found:
        fit = self.loss.fit(sums)
        info = -0.5 * math.log(1 - min(1 - fit.value, _MAX_NCC2))
        return Found(info, fit.overlap / len(self.samples), fit.gain < 0)

    def _evaluate(self, transform: LinearTransform) -> Evaluation | None:
        try:
            sums = self._sums(transform)
            found = self._found(sums)
        except OverlapError:
            if not self.first_overlap:
                raise
            return None
        self._last_sums = (transform, sums)
        overlap = found.share * len(self.samples)
        return self._unless_too_small(Evaluation(-found.share * found.info, np.empty(0), np.empty(0), overlap))

    def _linearise(self, transform: LinearTransform, evaluation: Evaluation) -> Evaluation:
        known, sums = self._last_sums
        if known is not transform:  # a step after it was refused
            raise AssertionError("a step is taken from what was evaluated last")
        columns = self._columns(transform, self.scales, self.samples, self.use, self.info.active)
        terms = self.terms[GRADIENT]
        self.room -= numbers_of(terms)
        opened = self.session.evaluate(self.level, columns, GRADIENT, terms)
        d, scales = transform.parameters, columns.column_scales()
        joint = {(d + column, operand): value for (column, operand), value in sums.joint.items()}
        joint |= {(k, "J"): v / scales[k] / self._operand_scale("J") for k, v in enumerate(opened)}
        at = self.loss.evaluate(Sums(columns.gram / np.outer(scales, scales), joint))
        return Evaluation(evaluation.value, at.gradient, at.hessian, evaluation.overlap)


class MutualInformationValueRun(ValueRun, LinearMutualInformationRun):
    """Mutual information of few bins at an extra level."""

    loss: Any
    sure, quick = 0.08, True

    def _fixed_scales(self, transform: LinearTransform) -> Scales:
        widest = widest_scales(self.moving, self.level.geometry, transform, self.scale_mm)
        steepest = np.array([power_of_two_below(float(v)) for v in widest.steepest])
        return Scales(steepest, power_of_two_below(LIMIT / 2))

    def _prepare(self, start: LinearTransform) -> None:
        """Fix the samples: those well inside the moving image at this start."""
        self.use, self.start = self.allowed, start
        LinearMutualInformationRun._opened(self)

    def _value(self, transform: LinearTransform) -> Found:
        self.use = self.allowed
        found = self._evaluate(transform)
        return NOTHING if found is None else Found(-found.value, found.overlap / len(self.samples))

    def _evaluate(self, transform: LinearTransform) -> Evaluation | None:
        self.room -= self.each
        return LinearMutualInformationRun._evaluate(self, transform)

    def _linearise(self, transform: LinearTransform, evaluation: Evaluation) -> Evaluation:
        self.room -= self.per_step - self.each
        return LinearMutualInformationRun._linearise(self, transform, evaluation)

    def _found_at(self, evaluation: Evaluation) -> Found:
        return Found(-evaluation.value, evaluation.overlap / len(self.samples))


def enough(found: Found | None) -> bool:
    """Whether a value was taken over enough of the fixed image to be compared with others."""
    return found is not None and found.share >= MIN_OVERLAP
