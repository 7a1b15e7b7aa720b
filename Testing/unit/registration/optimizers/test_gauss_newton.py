"""The damped Gauss-Newton loop on problems whose answer is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from PPIRLogic.registration.losses.base import Evaluation
from PPIRLogic.registration.optimizers.gauss_newton import Minimum, Stopping, minimise
from PPIRLogic.transforms import LinearTransform

TARGET = np.array([3.0, -2.0])
HESSIAN = np.array([[4.0, 1.0], [1.0, 0.5]])
CORNERS = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
START = LinearTransform.identity("translation", (0.0, 0.0))
Evaluate = Callable[[LinearTransform], Evaluation | None]


class Watched:
    """An objective that keeps what it was asked, and what was accepted."""

    def __init__(self, evaluate: Evaluate) -> None:
        self.evaluate, self.calls = evaluate, 0
        self.accepted: list[tuple[NDArray[np.float64], float, int, float]] = []

    def __call__(self, transform: LinearTransform) -> Evaluation | None:
        self.calls += 1
        return self.evaluate(transform)

    def accept(self, transform: LinearTransform, found: Evaluation, evaluations: int, step: float) -> None:
        assert evaluations == self.calls
        self.accepted.append((transform.translation, found.value, evaluations, step))

    def run(self, step_mm: float = 1e-6, loss: float = 0.0, evaluations: int = 100) -> Minimum:
        outcome = minimise(START, self, Stopping(step_mm, loss, evaluations), 5.0, CORNERS, self.accept)
        values = [value for _, value, _, _ in self.accepted]
        assert values == sorted(values, reverse=True) and len(set(values)) == len(values)
        assert outcome.evaluations == self.calls <= evaluations
        assert outcome.iterations == len(self.accepted) - 1
        assert outcome.evaluation.value == values[-1]
        return outcome


def quadratic(transform: LinearTransform) -> Evaluation:
    away = transform.translation - TARGET
    return Evaluation(1 + 0.5 * away @ HESSIAN @ away, HESSIAN @ away, HESSIAN, 100.0)


def wavy(transform: LinearTransform) -> Evaluation:
    """Many local minima, and a Hessian that is wrong by far."""
    x = transform.translation
    value = 30 + (x - TARGET) @ (x - TARGET) + 5 * np.cos(3 * x).sum()
    return Evaluation(float(value), 2 * (x - TARGET) - 15 * np.sin(3 * x), np.eye(2) * 0.3, 100.0)


def stretched(transform: LinearTransform) -> Evaluation:
    """Rosenbrock's valley as least squares."""
    x, y = transform.translation
    residual, jacobian = np.array([1 - x, 10 * (y - x * x)]), np.array([[-1.0, 0.0], [-20 * x, 10.0]])
    return Evaluation(float(residual @ residual), jacobian.T @ residual, jacobian.T @ jacobian, 100.0)


def test_a_quadratic_is_solved_in_a_few_evaluations() -> None:
    objective = Watched(quadratic)
    outcome = objective.run()
    assert np.abs(outcome.transform.translation - TARGET).max() < 1e-6
    assert outcome.reason == "step" and outcome.evaluations <= 6


def test_mixing_finds_what_creeps() -> None:
    """The Hessian is four times too large, so that a plain step goes a quarter of the way; mixed ones do not creep."""

    def creeping(transform: LinearTransform) -> Evaluation:
        return replace(quadratic(transform), hessian=4 * HESSIAN)

    outcome = Watched(creeping).run(step_mm=1e-4)
    assert np.abs(outcome.transform.translation - TARGET).max() < 1e-3
    assert outcome.evaluations <= 6, "0.75 to the power of 35 would be needed"


def test_a_mixed_step_that_is_refused_is_followed_by_the_plain_one() -> None:
    """Behind a wall the model knows nothing of, mixing overshoots once; the search goes on to the minimum."""

    def walled(transform: LinearTransform) -> Evaluation | None:
        return None if transform.translation[0] > 3.001 else replace(quadratic(transform), hessian=6 * HESSIAN)

    outcome = Watched(walled).run(step_mm=1e-4)
    assert np.abs(outcome.transform.translation - TARGET).max() < 5e-3


def test_a_curved_valley_is_followed_to_its_end() -> None:
    outcome = Watched(stretched).run()
    assert np.abs(outcome.transform.translation - 1).max() < 1e-5


def test_parameters_of_very_different_units_are_solved_alike() -> None:
    units = np.array([1e4, 1e-4])

    def scaled(transform: LinearTransform) -> Evaluation:
        away = transform.translation * units - units * TARGET
        return Evaluation(1 + 0.5 * away @ away, units * away, np.diag(units**2), 100.0)

    outcome = Watched(scaled).run()
    assert np.abs(outcome.transform.translation - TARGET).max() < 1e-5


def test_a_rise_is_never_accepted() -> None:
    for x in np.linspace(-4, 4, 9):
        objective = Watched(lambda t, x=x: wavy(t.updated([x, -x], 1.0)))  # type: ignore[misc]
        outcome = objective.run(step_mm=1e-3)  # `run` checks the order of the values
        assert outcome.evaluation.value < objective.accepted[0][1]


def test_accepted_steps_are_measured_in_mm_at_the_corners() -> None:
    objective = Watched(quadratic)
    objective.run()
    places, steps = [a[0] for a in objective.accepted], [a[3] for a in objective.accepted]
    assert np.isnan(steps[0])
    assert np.allclose(np.linalg.norm(np.diff(places, axis=0), axis=1), steps[1:])


# ----------------------------------------------------------------------------------------------- reasons


def test_ends_by_step_without_spending_an_evaluation() -> None:
    objective = Watched(quadratic)
    outcome = objective.run(step_mm=100.0)
    assert (outcome.reason, outcome.evaluations) == ("step", 1)
    assert np.abs(outcome.transform.translation - TARGET).max() < 0.02  # taken on the model's word


def test_a_short_step_is_not_taken_when_the_model_is_not_trusted() -> None:
    """Uphill steps raise the damping until the step is short: nothing was gained, so nothing is moved."""
    uphill = np.array([4.0, 4.0])
    wrong = Watched(lambda t: Evaluation(1 + float(t.translation @ t.translation), uphill, np.eye(2), 1.0))
    outcome = wrong.run(step_mm=0.01)
    assert outcome.reason == "refused" and outcome.evaluations > 1
    assert not outcome.transform.translation.any()
    nowhere = Watched(lambda t: None if t.translation.any() else quadratic(t))
    outcome = nowhere.run(step_mm=0.01)
    assert outcome.reason == "step" and not outcome.transform.translation.any()


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_ends_by_evaluations(limit: int) -> None:
    outcome = Watched(stretched).run(evaluations=limit)
    assert (outcome.reason, outcome.evaluations) == ("evaluations", limit)


def test_ends_by_loss_after_an_accepted_step() -> None:
    objective = Watched(quadratic)
    outcome = objective.run(loss=0.999)
    assert (outcome.reason, outcome.iterations) == ("loss", 1)


def test_ends_by_loss_where_it_is_flat() -> None:
    flat = Watched(lambda t: Evaluation(1.0, np.array([1.0, 0.0]), np.eye(2), 1.0))
    outcome = flat.run(loss=1e-6)
    assert (outcome.reason, outcome.evaluations, outcome.iterations) == ("loss", 2, 0)
    assert not outcome.transform.translation.any()


@pytest.mark.parametrize("trial", [None, float("nan"), float("inf")])
def test_ends_by_damping_where_no_step_can_be_taken(trial: float | None) -> None:
    def evaluate(transform: LinearTransform) -> Evaluation | None:
        if not transform.translation.any():
            return quadratic(transform)
        return None if trial is None else Evaluation(trial, np.zeros(2), np.eye(2), 1.0)

    outcome = Watched(evaluate).run(step_mm=1e-12)
    assert outcome.reason == "damping" and outcome.iterations == 0
    assert not outcome.transform.translation.any()


def test_a_start_without_overlap_is_the_callers_to_refuse() -> None:
    with pytest.raises(AssertionError):
        minimise(START, lambda t: None, Stopping(1.0, 0.0, 10), 5.0, CORNERS, lambda *a: None)
