"""Runs on velocities: what an iteration opens, and which settings go together."""

from __future__ import annotations

import numpy as np
import pytest

from PPIRLogic.errors import PolicyError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.registration.levels import make_levels
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party2.policy import Policy
from PPIRLogic.registration.rules import grid_problem, request_problem
from PPIRLogic.registration.terms import numbers_by_stage
from PPIRLogic.registration.transform_kinds import TRANSFORMS

LUNG = Geometry((115, 157, 129), (1.366, 1.366, 2.5), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))
HEAD = Geometry((181, 217, 180), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))


@pytest.mark.parametrize("fixed", [LUNG, HEAD], ids=["lung", "head"])
def test_an_iteration_opens_less_than_a_64th_of_the_dense_force(fixed: Geometry) -> None:
    """At every level, of 3 numbers per voxel; value included."""
    request = Parameters(transform="diffeo", loss="lncc", levels=(8, 4, 2, 1)).request("x", fixed, "", "")
    assert request.stride == 5 and request.iterations == (10, 10, 8, 2) == TRANSFORMS["diffeo"].default_iterations(
        (8, 4, 2, 1)
    )
    for level in make_levels(fixed, request):
        value, gradient = numbers_by_stage(request, level)
        assert value == 3
        assert 64 * (value + gradient) <= 3 * np.prod(level.geometry.size)


def test_settings_that_do_not_go_together_are_named() -> None:
    def problem(fixed: Geometry = LUNG, **changes: object) -> str:
        settings = {"transform": "diffeo", "levels": (4, 2), "iterations": (2, 1), **changes}
        request = Parameters(**settings).request("x", fixed, "", "")  # type: ignore[arg-type]
        return request_problem(request) or grid_problem(request, fixed)

    assert problem() == ""
    assert "one count of iterations per level" in problem(iterations=(1,))
    assert "every voxel" in problem(sampling="urs", percent=20.0)
    assert "private fixed mask" in problem(fixed_mask="private")
    assert "larger than the fixed" in problem(loss="lncc", radius_mm=30.0)
    assert "fewer than two cells" in problem(stride=20)
    assert problem(loss="mi") == problem(loss="mi", sampling="urs", percent=20.0) == ""
    request = Parameters(transform="diffeo", levels=(4, 2), iterations=(2,)).request("x", LUNG, "", "")
    with pytest.raises(PolicyError, match="iterations"):
        Policy().check(request, "peer", False)
    with pytest.raises(PolicyError, match="transform 'diffeo' is not permitted"):
        Policy(transforms=frozenset({"affine"})).check(request, "peer", False)
