"""Damped Gauss-Newton (Levenberg-Marquardt) on sums alone. Knows nothing of images or of the peer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from PPIRLogic.registration.losses.base import Evaluation
from PPIRLogic.registration.optimizers.mixing import FormerStep
from PPIRLogic.transforms import LinearTransform

Evaluate = Callable[[LinearTransform], Evaluation | None]
Linearise = Callable[[LinearTransform, Evaluation], Evaluation]

_FIRST_DAMPING = 1e-3
_DAMPING_STEP = 10.0
_MAX_DAMPING = 1e7
_LAST_STEP = 50.0  # times the step tolerance
_REFUSED_STEP = 40.0  # times the step tolerance: a plain step that is so short and refused ends a level
_TRUSTED_DAMPING = 1e-3  # up to this damping a last, short step is taken on the model's word


@dataclass(frozen=True)
class Stopping:
    """When a level ends: step (mm, largest displacement of a grid corner), relative loss decrease, evaluations.

    patient: a short step that is refused does not end it; smaller ones are tried.
    """

    step_mm: float
    loss: float
    evaluations: int
    patient: bool = False


@dataclass(frozen=True)
class Minimum:
    transform: LinearTransform
    evaluation: Evaluation
    evaluations: int
    iterations: int
    reason: str  # step | loss | evaluations | refused | damping


def minimise(
    start: LinearTransform,
    evaluate: Evaluate,
    stopping: Stopping,
    scale_mm: float,
    corners: np.ndarray,
    accepted: Callable[[LinearTransform, Evaluation, int, float], None],
    linearise: Linearise = lambda transform, evaluation: evaluation,
) -> Minimum:
    """Minimise from `start`. `evaluate` returns None where the overlap became too small: the step is refused.

    `linearise` completes an evaluation that came without gradient and Hessian, where a step is taken from it.

    `accepted(transform, evaluation, evaluations so far, step in mm)` is called for the start and every accepted step,
    so that a run that ends early keeps its best transform. The step that ends a level because it is short, or because
    the loss hardly fell, is still taken without spending an evaluation if the model is trusted (little damping).
    """
    current, best = start, evaluate(start)
    if best is None:
        raise AssertionError("the caller checks the overlap of the start")
    accepted(current, best, 1, float("nan"))
    evaluations, iterations, damping = 1, 0, _FIRST_DAMPING
    former: FormerStep | None = None
    while True:
        best = best if best.gradient.size else linearise(current, best)
        step = plain = _step(best, damping)
        if former is not None and damping <= _TRUSTED_DAMPING:
            step = former.mixed(plain, best.hessian)
        trial = current.updated(step, scale_mm)
        length = trial.max_displacement(current, corners)
        if length < stopping.step_mm:
            final = trial if damping <= _TRUSTED_DAMPING else current
            return Minimum(final, best, evaluations, iterations, "step")
        if evaluations >= stopping.evaluations:
            return Minimum(current, best, evaluations, iterations, "evaluations")
        found = evaluate(trial)
        evaluations += 1
        if found is not None and found.value < best.value:
            decrease = (best.value - found.value) / max(abs(best.value), 1e-300)
            current, best, iterations = trial, found, iterations + 1
            damping = max(damping / _DAMPING_STEP, 1e-9)
            former = FormerStep(plain, step)
            accepted(current, best, evaluations, length)
            if decrease < stopping.loss:
                last = _last_step(current, best, damping, stopping, scale_mm, corners)
                return Minimum(last, best, evaluations, iterations, "loss")
            continue
        if found is not None and found.value - best.value < stopping.loss * abs(best.value):
            return Minimum(current, best, evaluations, iterations, "loss")  # flat: the minimum is reached
        former = None
        if step is not plain:
            continue  # with the plain one
        if found is not None and not stopping.patient and length < _REFUSED_STEP * stopping.step_mm:
            return Minimum(current, best, evaluations, iterations, "refused")
        damping *= _DAMPING_STEP
        if damping > _MAX_DAMPING:
            return Minimum(current, best, evaluations, iterations, "damping")


def _last_step(
    current: LinearTransform,
    best: Evaluation,
    damping: float,
    stopping: Stopping,
    scale_mm: float,
    corners: np.ndarray,
) -> LinearTransform:
    """One more step from numbers that are already open, if the model is trusted and the step is short."""
    if not best.gradient.size:
        return current  # a gradient is not opened for it
    trial = current.updated(_step(best, damping), scale_mm)
    short = trial.max_displacement(current, corners) < _LAST_STEP * stopping.step_mm
    return trial if short and damping <= _TRUSTED_DAMPING else current


def _step(evaluation: Evaluation, damping: float) -> np.ndarray:
    """−(H + λ·diag H)⁻¹ G, solved with unit diagonal so that the units of the parameters do not matter."""
    hessian = evaluation.hessian
    scale = 1 / np.sqrt(np.maximum(np.diag(hessian), 1e-30))
    matrix = hessian * np.outer(scale, scale) + damping * np.eye(len(scale))
    return -scale * np.linalg.lstsq(matrix, scale * evaluation.gradient, rcond=None)[0]
