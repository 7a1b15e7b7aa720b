"""One level of a linear registration by least squares: party 1's columns, the opened sums, Gauss-Newton."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import OverlapError
from PPIRLogic.images.interpolation import MovingImage
from PPIRLogic.registration.columns.linear import LinearColumns, choose_scales, scan_columns, widest_scales
from PPIRLogic.registration.columns.masked import ProductColumns
from PPIRLogic.registration.columns.scales import Scales
from PPIRLogic.registration.levels import Level
from PPIRLogic.registration.losses import Evaluation, Loss, Sums
from PPIRLogic.registration.operands import FIXED_SCALE, square_shift
from PPIRLogic.registration.optimizers.gauss_newton import Minimum, Stopping, minimise
from PPIRLogic.registration.party1.level_runs.overlap import SHRINKING_LIMIT, check_start, overlap_advice
from PPIRLogic.registration.party1.session import ClientSession
from PPIRLogic.registration.party1.state import RunState
from PPIRLogic.registration.result import LevelRecord
from PPIRLogic.registration.sampling import Indices, choose_blocks, unit_size
from PPIRLogic.registration.terms import VALUE, loss_at, terms_by_stage
from PPIRLogic.secure.exact_range import EXACT_MODULUS
from PPIRLogic.secure.layout import GROUP
from PPIRLogic.secure.prg import derive_key
from PPIRLogic.secure.product import Columns, ColumnSource
from PPIRLogic.transforms import LinearTransform


class LinearRun:
    """One level of a linear transform: opens it, chooses samples and scales, minimises."""

    def __init__(self, run: RunState, session: ClientSession, level: Level, moving: MovingImage) -> None:
        self.state, self.session, self.level, self.moving = run, session, level, moving
        self.loss = loss_at(session.request, level)
        self.terms = terms_by_stage(session.request, level)
        assert isinstance(run.best, LinearTransform)
        self.start = run.best
        geometry = session.geometry
        self.scale_mm = float(np.linalg.norm(geometry.extent_mm())) / 4
        self.corners = geometry.corners()
        self.began = time.perf_counter()

    def run(self, evaluations: int, gradients: int = 0) -> None:
        run, level, session = self.state, self.level, self.session
        run.report_progress(
            session, "level", level=level.index + 1, levels=len(session.request.levels), factor=level.factor,
            detail=level.describe(),
        )  # fmt: skip
        widest = widest_scales(self.moving, level.geometry, self.start, self.scale_mm)
        scan = self._scan(level.samples, widest)
        self._check_overlap(scan)
        blocks = self._choose_blocks(widest)
        self.info, self.use, self.samples = session.open_level(level, self.loss, blocks)
        self.scales = self._choose_scales(scan)
        self._opened()
        self.shift = 2.0 ** square_shift(len(self.samples))
        self.first_overlap = 0.0
        self.record = LevelRecord(
            level.factor, list(level.geometry.size), list(level.geometry.spacing), int(np.count_nonzero(self.use))
        )
        run.records.append(self.record)
        tolerance = run.parameters.step_mm(session.geometry, level.factor)
        finest = level.index == len(session.request.levels) - 1
        stopping = Stopping(tolerance, run.parameters.least_decrease(finest), evaluations)
        outcome = self._minimise(self.start, stopping)
        run.best = outcome.transform
        self.record.evaluations, self.record.iterations = outcome.evaluations, outcome.iterations
        self.record.reason = outcome.reason
        self.record.seconds = time.perf_counter() - self.began

    def _minimise(self, start: LinearTransform, stopping: Stopping) -> Minimum:
        return minimise(start, self._evaluate, stopping, self.scale_mm, self.corners, self._accepted, self._linearise)

    def _opened(self) -> None:
        """What is left to prepare once the level is open."""

    def _choose_scales(self, scan: LinearColumns) -> Scales:
        limit = EXACT_MODULUS / 2 / run_bound(self.loss, self.info)
        return choose_scales(scan, len(self.level.samples), limit)

    def _columns(
        self, transform: LinearTransform, scales: Scales, samples: Indices, use: Any, active: Any, watch: bool = False
    ) -> LinearColumns:
        return LinearColumns(
            self.moving, self.level.geometry, samples, use, active, transform, self.scale_mm, scales, watch
        )

    def _scan(self, samples: Indices, scales: Scales) -> LinearColumns:
        """A look at party 1's own columns over all samples of the level, at the start."""
        use, active = np.ones(len(samples), bool), np.arange(-(-len(samples) // (GROUP // 8)))
        scan = self._columns(self.start, scales, samples, use, active, watch=True)
        scan_columns(scan, self.session.link)
        return scan

    def _check_overlap(self, scan: LinearColumns) -> None:
        share = int(scan.gram[-1, -1]) / len(self.level.samples)
        advice = overlap_advice(self.state.parameters.initial, self.moving.geometry, self.session.geometry)
        check_start(share, self.level, advice)

    def _choose_blocks(self, widest: Scales) -> NDArray[np.int64] | None:
        """gms: blocks ∝ mean gradient magnitude of the warped moving image at the start of the level."""
        p = self.state.parameters
        if p.sampling != "gms":
            return None
        samples = self.level.samples
        unit = unit_size(len(samples), self.level.geometry.dimension)
        shift = LinearTransform("translation", self.start.matrix, self.start.translation, self.start.centre)
        scales = Scales(np.full(shift.parameters, widest.steepest[-1]), widest.intensity)
        active = np.arange(-(-len(samples) // (GROUP // 8)))
        source = self._columns(shift, scales, samples, np.ones(len(samples), bool), active)
        magnitude = np.zeros(-(-len(samples) // unit) * unit)

        def measure(group: int, worker: int, block: Columns) -> None:
            part = np.linalg.norm(block[: shift.parameters], axis=0)[: max(0, len(samples) - group * GROUP)]
            magnitude[group * GROUP : group * GROUP + len(part)] = part

        scan_columns(source, self.session.link, measure)
        weights = magnitude.reshape(-1, unit).mean(axis=1)
        return choose_blocks(weights, p.percent, derive_key(p.seed.to_bytes(8, "big"), "gms"), self.level.index)

    def _evaluate(self, transform: LinearTransform) -> Evaluation | None:
        run = self.state
        run.cancel.check()
        columns = self._columns(transform, self.scales, self.samples, self.use, self.info.active)
        private = run.parameters.fixed_mask == "private"
        source: ColumnSource = ProductColumns(columns) if private else columns
        terms = self.terms[VALUE]
        opened = self.session.evaluate(self.level, source, VALUE, terms)
        scales = source.column_scales()
        joint = {
            (t.column, t.operand): value / scales[t.column] / self._operand_scale(t.operand)
            for t, value in zip(terms, opened, strict=True)
        }
        gram = columns.gram / np.outer(columns.column_scales(), columns.column_scales())
        try:
            evaluation = self.loss.evaluate(Sums(gram, joint))
        except OverlapError:
            if not self.first_overlap:
                raise
            return None
        return self._unless_too_small(evaluation)

    def _unless_too_small(self, evaluation: Evaluation) -> Evaluation | None:
        """None where the overlap has shrunk too far since the level's start."""
        self.first_overlap = self.first_overlap or evaluation.overlap
        return evaluation if evaluation.overlap >= SHRINKING_LIMIT * self.first_overlap else None

    def _linearise(self, transform: LinearTransform, evaluation: Evaluation) -> Evaluation:
        return evaluation  # gradient and Hessian came with the value

    def _operand_scale(self, operand: str) -> float:
        if operand == "M":
            return 1.0
        return FIXED_SCALE**2 / self.shift if operand.endswith("2") else float(FIXED_SCALE)

    def _accepted(self, transform: LinearTransform, found: Evaluation, evaluations: int, step: float) -> None:
        run, record = self.state, self.record
        run.best = transform
        record.values.append(found.value)
        record.evaluations, record.iterations = evaluations, len(record.values) - 1
        record.overlap = found.overlap / max(1, record.samples)
        record.transforms.append([*transform.matrix.ravel().tolist(), *transform.translation.tolist()])
        if len(record.values) > 1:
            record.steps_mm.append(step)
        run.report_progress(
            self.session, "evaluation", level=self.level.index + 1, levels=len(self.session.request.levels),
            factor=self.level.factor, evaluation=evaluations, value=found.value,
        )  # fmt: skip


def run_bound(loss: Loss, info: Any) -> int:
    """The largest bound among the operands that S and I columns meet (J or M·J)."""
    return max(info.bound(o) for o in loss.operands if o in ("J", "MJ"))
