"""The Gauss-Newton model of B-splines on real images: gradient and Hessian against finite differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sample_data_support import sample

from PPIRLogic.disclosure.accounts import Budget, DisclosureRecord, ImageAccount
from PPIRLogic.errors import BudgetError, PolicyError
from PPIRLogic.images.intensities import normalise, robust_range
from PPIRLogic.images.interpolation import MovingImage
from PPIRLogic.images.pyramid import smooth
from PPIRLogic.images.reading import read_volume
from PPIRLogic.registration.columns.deformable import BSplineScales, DeformableWarp
from PPIRLogic.registration.disclosure_estimate import check_budget, check_offered, grants, most_numbers
from PPIRLogic.registration.levels import make_levels
from PPIRLogic.registration.losses import Loss, Sums
from PPIRLogic.registration.losses.base import IntensityFit
from PPIRLogic.registration.losses.ncc import NCC
from PPIRLogic.registration.losses.ssd import SSD
from PPIRLogic.registration.operands import FIXED_SCALE
from PPIRLogic.registration.optimizers.bspline_step import BSplineStep
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party2.fixed_image import FixedImage
from PPIRLogic.registration.protocols import PROTOCOLS
from PPIRLogic.registration.rules import grid_problem, request_problem
from PPIRLogic.registration.terms import GRADIENT, VALUE, numbers_by_stage, terms_by_stage
from PPIRLogic.registration.transform_kinds import TRANSFORMS
from PPIRLogic.secure.product import numbers_of
from PPIRLogic.transforms import BSplineTransform, LinearTransform
from PPIRLogic.transforms.bending_energy import BendingEnergy
from PPIRLogic.transforms.bspline import cells_of, control_point_spacing
from PPIRLogic.transforms.bspline_basis import spread

FIXED = sample("BrainProtonDensitySliceBSplined10.png")
MOVING = sample("BrainProtonDensitySliceBorder20.png")
REQUEST = {"transform": "bspline", "grid_spacing": 20.0, "levels": (8, 4), "iterations": (2, 1)}


class Problem:
    """One level of the pair in plain arrays, both images in one place."""

    def __init__(self, loss: Loss) -> None:
        fixed, moving = (read_volume(p, role="fixed") for p in (FIXED, MOVING))
        self.request = Parameters(**REQUEST, loss=loss.name).request("x", fixed.geometry, "", "")  # type: ignore[arg-type]
        self.level = make_levels(fixed.geometry, self.request)[0]
        assert self.level.control_points is not None
        self.loss, self.control_points = loss, self.level.control_points
        self.j = FixedImage("x", fixed).operands(self.level, ("J",), self.request)["J"]
        scaled = smooth(normalise(moving, robust_range(moving)), self.level.sigma_mm)
        affine = LinearTransform.identity("affine", fixed.geometry.centre())
        use = self.control_points.on_grid(np.ones(len(self.level.samples), bool))
        self.warp = DeformableWarp(MovingImage(scaled, (0, 0)), self.level.geometry, affine, use, 1)
        self.scales = BSplineScales(2.0**13, 2.0**14)
        cells = cells_of(fixed.geometry, 20.0, 1)
        self.zero = BSplineTransform.zero(affine, fixed.geometry, tuple(m // 2 for m in cells))
        self.bending = BendingEnergy(self.zero.cells, control_point_spacing(fixed.geometry, self.zero.cells))

    def columns(self, coefficients: NDArray[np.float64]) -> NDArray[np.int16]:
        weights = [a.weights for a in self.control_points.axes]
        u = np.stack([spread(c, self.control_points.axes, weights) for c in coefficients])
        columns, peak = self.warp.columns(u, self.scales)
        assert peak * self.scales.gradient < 4095  # nothing saturates
        return columns

    def fit(self, columns: NDArray[np.int16]) -> IntensityFit:
        own = columns[:2].reshape(2, -1)[:, self.level.samples] / np.array([[self.scales.intensity], [1.0]])
        j = self.j / FIXED_SCALE
        joint = {(0, "J"): float(own[0] @ j), (1, "J"): float(own[1] @ j), (1, "J2"): float(own[1] @ (j * j))}
        return self.loss.fit(Sums(own @ own.T, joint))

    def model(self, coefficients: NDArray[np.float64], weight: float = 0.0) -> BSplineStep:
        columns = self.columns(coefficients)
        flat = columns.reshape(len(columns), -1)[:, self.level.samples].astype(np.int64)
        unit = 1 / (self.control_points.scale * self.scales.gradient * FIXED_SCALE)
        opened = np.stack([self.control_points.sums(g * self.j) * unit for g in flat[2:]])
        return BSplineStep(
            columns, self.scales, self.control_points, self.fit(columns), opened, self.bending, weight, 1
        )


@pytest.mark.parametrize("loss", [SSD(), NCC()], ids=lambda v: v.name)
def test_gradient_is_the_slope_of_the_value(loss: Loss) -> None:
    """Along random smooth directions; the overlap stays whole, so that the value is differentiable."""
    problem = Problem(loss)
    random = np.random.default_rng(1)
    shape = problem.zero.coefficients.shape
    start = random.normal(0, 0.3, shape)
    gradient = problem.model(start).data_gradient
    kept = np.zeros(problem.control_points.counts, bool).reshape(-1)
    kept[problem.control_points.kept] = True
    for _ in range(3):
        direction = random.normal(size=shape) * kept.reshape(problem.control_points.counts)
        direction += 3 * gradient / abs(gradient).max()  # a slope that is not lost in the rounding of the columns
        values = [problem.fit(problem.columns(start + h * direction)).value for h in (-0.05, 0.05)]
        assert float(np.sum(gradient * direction)) == pytest.approx((values[1] - values[0]) / 0.1, rel=0.03)


def test_a_step_lowers_the_energy_as_the_model_expects() -> None:
    problem = Problem(NCC())
    zero, weight = problem.zero.coefficients, 1.0
    before = problem.fit(problem.columns(zero)).value
    step, expected = problem.model(zero, weight).solve(zero)
    after = problem.fit(problem.columns(step)).value + weight * problem.bending.value(step)
    assert 0.5 < (before - after) / expected < 1.5
    assert after < 0.5 * before


def test_more_bending_energy_gives_a_smoother_step() -> None:
    problem = Problem(NCC())
    zero = problem.zero.coefficients
    energies = [problem.bending.value(problem.model(zero, w).solve(zero)[0]) for w in (0.1, 1.0, 10.0)]
    assert energies[0] > 1.5 * energies[1] > 2 * energies[2]


def test_a_value_opens_three_numbers_and_a_gradient_one_per_control_point_and_axis() -> None:
    problem = Problem(NCC())
    stages = terms_by_stage(problem.request, problem.level)
    each, gradient = numbers_by_stage(problem.request, problem.level)
    assert each == numbers_of(stages[VALUE]) == 3
    assert gradient == numbers_of(stages[GRADIENT]) == 2 * problem.control_points.count
    assert PROTOCOLS["fhe"].bits_of(stages[GRADIENT]) == 58 and PROTOCOLS["fhe"].bits_of(stages[VALUE]) == 46


def budget_of(percent: float, tmp_path: Path) -> ImageAccount:
    return ImageAccount(tmp_path / "account", Budget(percent, 6 * percent, 10**9, 10**9))


@pytest.mark.parametrize("protocol", ["fhe", "mpc"])
def test_a_run_is_granted_whole_or_refused_with_what_would_fit(protocol: str, tmp_path: Path) -> None:
    fixed = read_volume(FIXED, role="fixed").geometry
    request = Parameters(**REQUEST, protocol=protocol).request("x", fixed, "", "")  # type: ignore[arg-type]
    levels = make_levels(fixed, request)
    voxels = [len(v.samples) for v in levels]
    rich = grants(request, levels, voxels, budget_of(60, tmp_path), PROTOCOLS[protocol])
    check_budget(request, rich, budget_of(60, tmp_path))
    assert [g.gradients for g in rich] == [2, 1]
    poor = grants(request, levels, voxels, budget_of(5, tmp_path), PROTOCOLS[protocol])
    with pytest.raises(BudgetError, match=r"shrink factor 8: 2 iterations of \d+ numbers .* enough for \d iterations"):
        check_budget(request, poor, budget_of(5, tmp_path))


def test_party_1_refuses_beforehand_what_the_offer_cannot_hold() -> None:
    fixed = read_volume(FIXED, role="fixed").geometry
    request = Parameters(**REQUEST).request("x", fixed, "", "")  # type: ignore[arg-type]
    with pytest.raises(BudgetError, match="--budget-percent"):
        check_offered(request, fixed, DisclosureRecord(Budget(5.0, 100.0)))
    rich = Budget(60.0, 360.0)
    check_offered(request, fixed, DisclosureRecord(rich))
    with pytest.raises(BudgetError, match="--budget-image"):
        check_offered(request, fixed, DisclosureRecord(rich, [{"level": 1, "numbers": 199_990, "bits": 0}]))
    with pytest.raises(BudgetError, match="shrink factor 8"):
        voxels = most_numbers(request, fixed)[0].samples
        used = {"level": 8, "numbers": voxels // 2, "bits": 0}
        check_offered(request, fixed, DisclosureRecord(rich, [used]))


def test_settings_that_do_not_go_together_are_named() -> None:
    fixed = read_volume(FIXED, role="fixed").geometry

    def problem(**changes: object) -> str:
        request = Parameters(**{**REQUEST, **changes}).request("x", fixed, "", "")  # type: ignore[arg-type]
        return request_problem(request) or grid_problem(request, fixed)

    assert problem() == ""
    assert "coarser than the fixed image" in problem(grid_spacing=500.0)
    assert "finer than 2 voxels" in problem(grid_spacing=5.0)
    assert "one count of iterations per level" in problem(iterations=(1, 2, 3))
    assert "every voxel" in problem(sampling="urs", percent=20.0)
    assert "private fixed mask" in problem(fixed_mask="private")
    assert "larger than the fixed" in problem(loss="lncc", radius_mm=30.0)
    of = TRANSFORMS["bspline"].default_iterations
    assert of((4, 2, 1)) == (6, 4, 1) and of((1,)) == (1,)


def test_the_policy_refuses_what_goes_not_together() -> None:
    from PPIRLogic.registration.party2.policy import Policy

    fixed = read_volume(FIXED, role="fixed").geometry
    request = Parameters(**{**REQUEST, "iterations": (1, 2, 3)}).request("x", fixed, "", "")  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match="iterations"):
        Policy().check(request, "peer", False)
