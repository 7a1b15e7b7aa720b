"""Which settings go together, and what the request says of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from halves_support import GRID, request

from PPIRLogic.errors import PolicyError, ProtocolError
from PPIRLogic.registration.losses.cross_correlation import (
    FORCE_BITS,
    SUM_BITS,
)
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party2.policy import Policy
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.rules import request_problem


@pytest.mark.parametrize(
    "change, words",
    [
        ({"transform": "affine", "iterations": ()}, "goes with the transform diffeo"),
        ({"transform": "bspline"}, "goes with the transform diffeo"),
        ({"protocol": "fhe"}, "protocol mpc"),
        ({"protocol": "fhe_v1"}, "protocol mpc"),
        ({"fixed_mask": "private"}, "none or fill"),
        ({"fixed_mask": "disclosed"}, "none or fill"),
        ({"sampling": "urs"}, "every voxel"),
        ({"iterations": (1, 2)}, "one count"),
        ({"stride": 1}, "stride"),
        ({"loss": "lncc", "protocol": "published"}, "loss cc alone"),
        ({"loss": "mi", "transform": "rigid", "iterations": (), "protocol": "published"}, "loss cc alone"),
        ({"loss": "points_3d", "transform": "rigid", "iterations": (), "protocol": "published"}, "loss cc alone"),
    ],
)
def test_what_does_not_go_together_is_said(change: dict[str, Any], words: str) -> None:
    assert words in request_problem(request(**change))
    assert not request_problem(request()) and not request_problem(request(protocol="published"))


def test_the_default_policy_refuses_the_published_openings() -> None:
    Policy().check(request(), "", False)
    with pytest.raises(PolicyError, match="protocol 'published_cc' is not permitted"):
        Policy().check(request(protocol="published"), "", False)


def test_the_bending_travels_with_the_request_of_this_loss_alone() -> None:
    asked = Parameters(transform="diffeo", loss="cc", protocol="mpc", elastic=2.0).request("x", GRID, "", "")
    assert asked.bending == 300.0 and asked.elastic_mm == 2.0
    assert Request.from_dict({**asked.to_dict()}) == asked
    assert Parameters(transform="diffeo", loss="ncc", elastic=2.0).request("x", GRID, "", "").elastic_mm == 0
    assert replace(asked, bending=-1.0).to_dict() and FORCE_BITS < SUM_BITS
    with pytest.raises(ProtocolError, match="bending"):
        Request.from_dict(replace(asked, bending=-1.0).to_dict())
