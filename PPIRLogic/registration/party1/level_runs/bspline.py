"""One level of a B-spline registration: value first, its gradient only where a step is taken. Least squares here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import Array
from PPIRLogic.errors import OverlapError
from PPIRLogic.images.interpolation import MovingImage
from PPIRLogic.registration.columns.deformable import BSplineScales, DeformableWarp, HeldColumns, choose_bspline_scales
from PPIRLogic.registration.columns.scales import LIMIT
from PPIRLogic.registration.levels import Level
from PPIRLogic.registration.losses.base import Sums
from PPIRLogic.registration.operands import FIXED_SCALE, square_shift
from PPIRLogic.registration.optimizers.bspline_step import BSplineStep
from PPIRLogic.registration.party1.level_runs.overlap import SHRINKING_LIMIT, check_start
from PPIRLogic.registration.party1.session import ClientSession
from PPIRLogic.registration.party1.state import RunState
from PPIRLogic.registration.result import LevelRecord
from PPIRLogic.registration.terms import GRADIENT, VALUE, loss_of, terms_by_stage
from PPIRLogic.secure.exact_range import EXACT_MODULUS
from PPIRLogic.transforms.bending_energy import BendingEnergy, jacobian
from PPIRLogic.transforms.bspline import BSplineTransform, control_point_spacing
from PPIRLogic.transforms.bspline_basis import spread
from PPIRLogic.transforms.diffeomorphic import DiffeoTransform

MIN_JACOBIAN = 0.1  # a step that leaves less anywhere in the fixed image is shortened or refused
STEP_LENGTHS = (1.0, 0.5, 0.25)
Deformation = BSplineTransform | DiffeoTransform


@dataclass(frozen=True)
class Point:
    """A transform with its columns (party 1's own), what the opened numbers say of it, and E = value + bending."""

    transform: Deformation
    columns: NDArray[np.int16]
    found: Opened
    energy: float
    jacobian: float


@dataclass(frozen=True)
class Opened:
    """A loss at one transform: its value, the samples in the overlap, and what a step needs of the opened numbers."""

    value: float
    overlap: float
    detail: Any


class BSplineRun:
    """One level: opens it, then takes Gauss-Newton steps, at most as many as gradients may be opened."""

    composed = False  # steps are added to u

    def __init__(self, run: RunState, session: ClientSession, level: Level, moving: MovingImage) -> None:
        self.state, self.session, self.level = run, session, level
        self.loss, self.terms = loss_of(session.request), terms_by_stage(session.request, level)
        assert level.control_points is not None and isinstance(run.best, Deformation)
        self.control_points, self.moving = level.control_points, moving
        self.cells = tuple(a.cells for a in level.control_points.axes)
        self.spacing = control_point_spacing(session.geometry, self.cells)
        self.bending = BendingEnergy(self.cells, self.spacing)
        self.weights = [a.weights for a in level.control_points.axes]
        self.start = self._prepared(run.best)
        self.weight = run.parameters.bending_weight()
        self.shift = 2.0 ** square_shift(len(level.samples))
        self.first_overlap = 0.0
        self.evaluations = self.folded = 0
        self.began = time.perf_counter()

    def run(self, evaluations: int, gradients: int) -> None:
        run, level, session = self.state, self.level, self.session
        run.report_progress(
            session, "level", level=level.index + 1, levels=len(session.request.levels), factor=level.factor,
            detail=f"{level.describe()}, control points every {min(self.spacing):.3g} mm",
        )  # fmt: skip
        self.info, use, _ = session.open_level(level, self.loss, None)
        grid = self.control_points.on_grid(use)
        self.warp = self._warp_of(self.moving, grid)
        self.scales = self._choose_scales()
        self.record = LevelRecord(
            level.factor, list(level.geometry.size), list(level.geometry.spacing), int(np.count_nonzero(use))
        )
        run.records.append(self.record)
        point = self._evaluate(self.start, 0.0)
        if point is None:
            raise OverlapError("The transform of the level before folds on this level's grid.")
        self._accepted(point, float("nan"))
        self.record.reason = self._minimise(point, evaluations, gradients)
        self.record.seconds = time.perf_counter() - self.began

    def _minimise(self, point: Point, evaluations: int, gradients: int) -> str:
        tolerance = self.state.parameters.step_mm(self.session.geometry, self.level.factor)
        for _ in range(gradients):
            found, tried, self.folded = None, 0, 0
            for step, expected in self._trials(point):
                if not tried and (self._longest(step) < tolerance or self._is_little(expected, point)):
                    return "step"
                if self.evaluations >= evaluations:
                    return "evaluations"
                tried += 1
                trial = self._moved(point.transform, step)
                found = self._evaluate(trial, min(MIN_JACOBIAN, point.jacobian))
                if found is not None and found.energy < point.energy:
                    break
                found = None
            if found is None:
                return "folding" if self.folded == tried else "damping"
            decrease = (point.energy - found.energy) / abs(point.energy)
            point = found
            self._accepted(point, self._longest(step))
            if decrease < self.state.parameters.loss_tolerance:
                return "loss"
        return "iterations"

    def _is_little(self, expected: float, point: Point) -> bool:
        return expected < self.state.parameters.loss_tolerance * abs(point.energy)

    def _trials(self, point: Point) -> Iterator[tuple[Array, float]]:
        """Steps from the point, the best first, each with the decrease to expect; the next if one fails."""
        step, expected = self._step(point)
        for length in STEP_LENGTHS:
            yield length * step, expected

    def _choose_scales(self) -> BSplineScales:
        """From a look at party 1's own columns at the start; nothing is opened."""
        widest = BSplineScales(LIMIT / 2, 1.0)
        columns, peak = self.warp.columns(self._displacement(self.start), widest)
        share = int(columns[1].sum(dtype=np.int64)) / len(self.level.samples)
        check_start(share, self.level, "Give a better initial transform.")
        return choose_bspline_scales(columns, peak, widest.intensity, self._most())

    def _most(self) -> float:
        """What a sum of a column's magnitudes must stay below."""
        return EXACT_MODULUS / 2 / self.info.bound("J")

    def _warp_of(self, moving: MovingImage, use: NDArray[np.bool_]) -> DeformableWarp:
        """use: on the level's grid."""
        threads = self.state.parameters.threads
        return DeformableWarp(moving, self.level.geometry, self.start.affine, use, threads, self.composed)

    def _prepared(self, transform: Deformation) -> Deformation:
        """The transform of the level before on this level's control points."""
        assert isinstance(transform, BSplineTransform)
        while transform.cells != self.cells:
            transform = transform.refined()
        return transform

    def _displacement(self, transform: Deformation) -> NDArray[np.floating]:
        """u in mm at every voxel of the level, (dim, …grid)."""
        return self._spread(self._coefficients(transform))

    def _spread(self, coefficients: Array) -> Array:
        return np.stack([spread(c, self.control_points.axes, self.weights) for c in coefficients])

    def _coefficients(self, transform: Deformation) -> Array:
        """What the bending energy is taken of."""
        assert isinstance(transform, BSplineTransform)
        return transform.coefficients

    def _moved(self, transform: Deformation, step: Array) -> Deformation:
        assert isinstance(transform, BSplineTransform)
        return replace(transform, coefficients=transform.coefficients + step)

    def _smallest_jacobian(self, transform: Deformation) -> float:
        """Over the level's voxels."""
        direction = self.session.geometry.direction
        return float(jacobian(self._coefficients(transform), self.control_points.axes, self.spacing, direction).min())

    def _longest(self, step: Array) -> float:
        """Largest displacement of a step anywhere on the grid, mm; the control points bound it from above."""
        return float(np.sqrt(np.square(step).sum(axis=0)).max())

    def _evaluate(self, transform: Deformation, least: float) -> Point | None:
        """None where the transform folds (nothing is opened) or the overlap became too small."""
        run = self.state
        run.cancel.check()
        smallest = self._smallest_jacobian(transform)
        if smallest < least or smallest <= 0:
            self.folded += 1
            return None
        columns, _ = self.warp.columns(self._displacement(transform), self.scales)
        self.evaluations += 1
        try:
            found = self._opened(columns)
        except OverlapError:
            if not self.first_overlap:
                raise
            return None
        self.first_overlap = self.first_overlap or found.overlap
        if found.overlap < SHRINKING_LIMIT * self.first_overlap:
            return None
        energy = found.value + self.weight * self.bending.value(self._coefficients(transform))
        return Point(transform, columns, found, energy, smallest)

    def _opened(self, columns: NDArray[np.int16]) -> Opened:
        """Opens the value. OverlapError where nothing is left of the overlap."""
        real = np.array([self.scales.intensity, 1.0])
        source = HeldColumns(columns[:2], self.level.samples, real)
        terms = self.terms[VALUE]
        opened = self.session.evaluate(self.level, source, VALUE, terms)
        joint = {
            (t.column, t.operand): value / real[t.column] / self._operand_scale(t.operand)
            for t, value in zip(terms, opened, strict=True)
        }
        own = columns[:2].reshape(2, -1).astype(np.int64)
        fit = self.loss.fit(Sums((own @ own.T) / np.outer(real, real), joint))
        return Opened(fit.value, fit.overlap, fit)

    def _operand_scale(self, operand: str) -> float:
        return FIXED_SCALE**2 / self.shift if operand.endswith("2") else float(FIXED_SCALE)

    def _step(self, point: Point) -> tuple[Array, float]:
        """Opens SᵀJ at the point, then solves on party 1's own."""
        real = np.array([self.scales.intensity, 1.0, *[self.scales.gradient] * (len(point.columns) - 2)])
        source = HeldColumns(point.columns, self.level.samples, real)
        numbers = self.session.evaluate(self.level, source, GRADIENT, self.terms[GRADIENT])
        unit = 1 / (self.control_points.scale * self.scales.gradient * FIXED_SCALE)
        opened = np.array(numbers, np.float64).reshape(-1, self.control_points.count) * unit
        model = BSplineStep(
            point.columns, self.scales, self.control_points, point.found.detail, opened, self.bending, self.weight,
            self.state.parameters.threads,
        )  # fmt: skip
        step, expected = model.solve(self._coefficients(point.transform))
        return self._limited(step), expected

    def _limited(self, step: Array) -> Array:
        """A step as far as the model holds."""
        return step

    def _accepted(self, point: Point, step: float) -> None:
        run, record = self.state, self.record
        run.best = point.transform
        record.values.append(point.found.value)
        record.evaluations, record.iterations = self.evaluations, len(record.values) - 1
        record.overlap = point.found.overlap / max(1, record.samples)
        record.smallest_jacobian = point.jacobian
        if len(record.values) > 1:
            record.steps_mm.append(step)
        run.report_progress(
            self.session, "evaluation", level=self.level.index + 1, levels=len(self.session.request.levels),
            factor=self.level.factor, evaluation=self.evaluations, value=point.found.value,
        )  # fmt: skip


def clipped(step: Array, limit: float) -> Array:
    """A step (dim, …control points) with no control point moved further than the limit, mm."""
    length = np.sqrt(np.square(step).sum(axis=0))
    return step * np.minimum(1.0, limit / np.maximum(length, limit))
