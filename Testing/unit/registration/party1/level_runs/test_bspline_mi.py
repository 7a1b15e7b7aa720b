"""The model of −MI that deformable steps are taken from, on real slices of two modalities."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sample_data_support import sample

from PPIRLogic.images.intensities import normalise, robust_range
from PPIRLogic.images.interpolation import MovingImage
from PPIRLogic.images.pyramid import smooth
from PPIRLogic.images.reading import read_volume
from PPIRLogic.registration.columns.deformable import BSplineScales, DeformableWarp
from PPIRLogic.registration.levels import make_levels
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.level_runs.bspline import Point
from PPIRLogic.registration.party1.level_runs.bspline_mi import STEP_LIMIT, BSplineMutualInformationRun
from PPIRLogic.registration.party2.fixed_image import FixedImage
from PPIRLogic.registration.rules import request_problem
from PPIRLogic.registration.terms import GRADIENT, VALUE, loss_of, terms_by_stage
from PPIRLogic.secure.product import numbers_of
from PPIRLogic.transforms import BSplineTransform, LinearTransform
from PPIRLogic.transforms.bending_energy import BendingEnergy
from PPIRLogic.transforms.bspline import cells_of, control_point_spacing

FIXED = sample("BrainProtonDensitySliceBSplined10.png")
MOVING = sample("BrainT1SliceBorder20.png")
Array = NDArray[np.float64]


class Problem(BSplineMutualInformationRun):
    """A level of the pair, opened over a clear exchange instead of a session."""

    def __init__(self, exchange: Callable[..., Any], bins: int = 16) -> None:
        fixed, moving = (read_volume(p, role="fixed") for p in (FIXED, MOVING))
        geometry = fixed.geometry
        request = Parameters(
            transform="bspline", loss="mi", grid_spacing=24.0, levels=(2,), iterations=(2,), bins=bins, sampling="urs"
        ).request("x", geometry, "", "")
        assert request_problem(request) == ""
        self.level = make_levels(geometry, request)[0]
        assert self.level.control_points is not None
        self.control_points, self.loss = self.level.control_points, loss_of(request)  # type: ignore[assignment]
        self.terms = terms_by_stage(request, self.level)
        operand = FixedImage("x", fixed).operands(self.level, ("B",), request)
        self.opened, self.count = exchange("clear", operand, control_points=self.control_points, vectors=bins), 0
        self.session: Any = SimpleNamespace(evaluate=self.evaluate)
        affine = LinearTransform.identity("affine", geometry.centre())
        scaled = smooth(normalise(moving, robust_range(moving)), self.level.sigma_mm)
        use = self.control_points.on_grid(np.ones(len(self.level.samples), bool))
        self.warp = DeformableWarp(MovingImage(scaled, (0, 0), cubic=True), self.level.geometry, affine, use, 1)
        self.scales = BSplineScales(2.0**13, 2.0**13)
        cells = cells_of(geometry, 24.0, 0)
        self.zero = BSplineTransform.zero(affine, geometry, cells)
        self.spacing = control_point_spacing(geometry, cells)
        self.bending, self.weight = BendingEnergy(cells, self.spacing), 0.0
        self.weights = [a.weights for a in self.control_points.axes]
        self.state: Any = SimpleNamespace(parameters=SimpleNamespace(threads=1))

    def evaluate(self, level: Any, source: Any, stage: str, terms: Any) -> list[int]:
        self.count += 1
        found: list[int] = self.opened.evaluate(source, terms, self.count)
        assert len(found) == numbers_of(terms)
        return found

    def at(self, coefficients: Array) -> Point:
        columns, peak = self.warp.columns(self._spread(coefficients), self.scales)
        assert peak * self.scales.gradient < 4095  # nothing saturates
        found = self._opened(columns)
        return Point(self._moved(self.zero, coefficients), columns, found, found.value, 1.0)


@pytest.fixture
def problem(exchange: Callable[..., Any]) -> Problem:
    return Problem(exchange)


def test_the_gradient_is_the_slope_of_the_value(problem: Problem) -> None:
    """Along the gradient and along random directions beside it."""
    random = np.random.default_rng(3)
    start = random.normal(0, 0.3, problem.zero.coefficients.shape)
    gradient = problem._model(problem.at(start)).data_gradient
    assert np.abs(gradient).max() > 0
    for share in (0.0, 0.3, 0.3):
        direction = gradient / np.abs(gradient).max() + share * random.normal(size=gradient.shape)
        ahead, behind = (problem.at(start + h * direction).found.value for h in (0.02, -0.02))
        inside = np.zeros(problem.control_points.counts, bool).reshape(-1)
        inside[problem.control_points.kept] = True
        slope = float(np.sum(gradient * direction))  # 0 beyond the opened control points
        assert (ahead - behind) / 0.04 == pytest.approx(slope, rel=0.05)


def test_a_step_raises_the_information_and_is_short(problem: Problem) -> None:
    """Towards the B-spline of about 4 mm that the fixed slice was bent with."""
    problem.weight = 3.0
    zero = problem.zero.coefficients
    before = problem.at(zero)
    step, _ = next(problem._trials(before))
    after = problem.at(step)
    gained = before.found.value - after.found.value - problem.weight * problem.bending.value(step)
    assert gained > 0.02
    length = float(np.sqrt(np.square(step).sum(axis=0)).max())
    assert 0.5 < length <= 1.001 * STEP_LIMIT * min(problem.spacing)


def test_what_an_evaluation_opens(problem: Problem) -> None:
    assert numbers_of(problem.terms[VALUE]) == 16 * 16
    assert numbers_of(problem.terms[GRADIENT]) == 2 * problem.control_points.count < 2 * len(problem.level.samples)
