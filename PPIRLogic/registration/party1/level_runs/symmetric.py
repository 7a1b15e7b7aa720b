"""One level of a symmetric diffeomorphic registration with local cross-correlation (Avants et al. 2008) at party 1.

Both owners warp their image half of the way, to the middle, and each gets the coarse force on its own half. Both then
move by the same fraction of their step; party 1 learns the new mean correlation and keeps the position or has both go
back. At the end of a level party 1 learns party 2's velocity: that is the part of the transform it does not know.
"""

from __future__ import annotations

import time

import numpy as np

from PPIRLogic.images.interpolation import MovingImage
from PPIRLogic.registration.levels import Level
from PPIRLogic.registration.losses.cross_correlation import UNIT_BITS
from PPIRLogic.registration.party1.level_runs.overlap import check_start
from PPIRLogic.registration.party1.session import ClientSession
from PPIRLogic.registration.party1.state import RunState
from PPIRLogic.registration.result import LevelRecord
from PPIRLogic.registration.symmetric.half_field import HalfField, whole
from PPIRLogic.registration.symmetric.half_image import HalfImage, dense_velocity
from PPIRLogic.registration.terms import FIELD, GRADIENT, VALUE, loss_of, terms_by_stage
from PPIRLogic.transforms.diffeomorphic import DiffeoTransform
from PPIRLogic.transforms.displacement_field import jacobian_determinant

STEP_LENGTHS = (1.0, 0.5, 0.25)
Halves = tuple[HalfField, HalfField]


class SymmetricRun:
    """One level: from `state.halves`, the two halves of the transform after the levels before, to those after it."""

    def __init__(self, run: RunState, session: ClientSession, level: Level, moving: MovingImage) -> None:
        self.state, self.session, self.level, self.moving = run, session, level, moving
        self.terms = terms_by_stage(session.request, level)
        self.start: Halves = run.halves or (HalfField.identity(level.geometry),) * 2
        self.record = LevelRecord(
            level.factor, list(level.geometry.size), list(level.geometry.spacing), len(level.samples)
        )
        self.evaluations = 0
        self.began = time.perf_counter()

    def run(self, evaluations: int, gradients: int) -> None:
        """At most so many of each; then `run.best` is the whole transform after this level, unless it folds."""
        run, level, session = self.state, self.level, self.session
        assert isinstance(run.best, DiffeoTransform)
        affine = run.best.affine
        self.half = HalfImage(
            level, session.geometry, self.moving, affine, self.start[0], session.request.bending,
            session.request.elastic_mm, run.parameters.threads,
        )  # fmt: skip
        run.report_progress(
            session, "level", level=level.index + 1, levels=len(session.request.levels), factor=level.factor,
            detail=f"{level.describe()}, control points every {min(self.half.spacing):.3g} mm on either half",
        )  # fmt: skip
        check_start(self.half.overlap, level, "Give a better initial transform.")
        session.open_level(level, loss_of(session.request), None)
        run.records.append(self.record)
        value = self._evaluate(0.0)
        self._accepted(value, 0.0)
        self.record.reason, keep = self._minimise(value, evaluations, gradients)
        numbers = session.evaluate(level, self.half, FIELD, self.terms[FIELD], {"keep": keep})
        theirs = np.array(numbers, np.int64).reshape(self.half.velocity.shape)
        second = self.start[1].on_grid(level.geometry).moved(dense_velocity(theirs, level))
        halves = run.halves = self.half.finished(), second
        found = whole(affine, *halves)
        self.record.smallest_jacobian = float(jacobian_determinant(found.field, level.geometry).min())
        if self.record.smallest_jacobian > 0:
            run.best = found
        else:  # neither half folds; on the grid of a level their composition may
            self.record.reason = "folding"
        self.record.seconds = time.perf_counter() - self.began

    def _minimise(self, value: float, evaluations: int, gradients: int) -> tuple[str, bool]:
        """Why it ended, and whether both sides are to keep the position they are at."""
        p = self.state.parameters
        tolerance = p.step_mm(self.session.geometry, self.level.factor)
        for _ in range(gradients):
            self._step()
            if self.half.longest_step() < tolerance:
                return "step", True
            found = None
            for length in STEP_LENGTHS:
                if self.evaluations >= evaluations:
                    return "evaluations", False
                found = self._evaluate(length)
                if found < value:
                    break
            if found is None or found >= value:
                return "damping", False
            decrease, value = (value - found) / value, found
            self._accepted(value, length * self.half.longest_step())
            if decrease < p.loss_tolerance:
                return "loss", True
        return "iterations", True

    def _evaluate(self, length: float) -> float:
        """Both sides move by so much of their steps; 1 − the mean of CC there."""
        self.state.cancel.check()
        self.half.try_step(length)
        self.evaluations += 1
        self.record.evaluations = self.evaluations
        (total,) = self.session.evaluate(self.level, self.half, VALUE, self.terms[VALUE], {"length": length})
        return 1 - total / 2.0 ** (2 * UNIT_BITS) / len(self.level.samples)

    def _step(self) -> None:
        """Both sides keep the position they are at and learn the force on their half there."""
        numbers = self.session.evaluate(self.level, self.half, GRADIENT, self.terms[GRADIENT])
        self.half.step_from(np.array(numbers, np.int64).reshape(self.level.geometry.dimension, -1))

    def _accepted(self, value: float, step: float) -> None:
        record = self.record
        self.half.keep()
        record.values.append(value)
        record.iterations = len(record.values) - 1
        record.overlap = self.half.overlap
        if len(record.values) > 1:
            record.steps_mm.append(step)
        self.state.report_progress(
            self.session, "evaluation", level=self.level.index + 1, levels=len(self.session.request.levels),
            factor=self.level.factor, evaluation=self.evaluations, value=value,
        )  # fmt: skip
