"""How a budget is shared out among the levels of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sample_data_support import ROOT

from PPIRLogic.disclosure.accounts import Budget, ImageAccount
from PPIRLogic.errors import BudgetError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.registration.disclosure_estimate import check_budget, grants, most_numbers
from PPIRLogic.registration.levels import make_levels
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.protocols import PROTOCOLS
from PPIRLogic.registration.request import LevelGrant

HEAD = Geometry((181, 217, 180), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))
SLICE = Geometry((181, 217), (1.0, 1.0), (0.0, 0.0), (1, 0, 0, 1))
NAMED = {"initial": "centres", "skip_check": True}


def granted(geometry: Geometry, budget: Budget, path: Path, **options: object) -> list[LevelGrant]:
    request = Parameters(**options).request("x", geometry, "", "")  # type: ignore[arg-type]
    levels = make_levels(geometry, request)
    voxels = [len(level.samples) for level in levels]
    account = ImageAccount(path / "account.jsonl", budget)
    out = grants(request, levels, voxels, account, PROTOCOLS["fhe"])
    check_budget(request, out, account)
    return out


@pytest.mark.parametrize("geometry", [HEAD, SLICE], ids=["3D", "2D"])
def test_the_default_budget_is_enough_to_compare_and_to_check(geometry: Geometry, tmp_path: Path) -> None:
    extra = {g.purpose: g for g in granted(geometry, Budget(), tmp_path, levels=(4, 2, 1)) if g.purpose}
    dimension = geometry.dimension
    assert extra["check"].evaluations == {2: 7, 3: 13}[dimension] and extra["detail"].evaluations == 1
    least = {2: 5 + 12 + 6, 3: 7 + 12 + 12}[dimension]  # the first starts, one that moves, and what lies around its end
    assert extra["starts"].evaluations >= least and extra["starts"].gradients >= 8


def test_the_multimodal_preset_fits_the_budget_that_it_names(tmp_path: Path) -> None:
    """Whole: no level gets less than it asks for, within the default limit of a session."""
    preset = json.loads((ROOT / "PPIRExtension/Resources/Presets/4_multimodal_affine.json").read_text())
    asked, named = preset["parameters"], preset["budget"]
    options = {
        "transform": asked["transform"],
        "loss": asked["loss"],
        "bins": int(asked["bins"]),
        "evaluations": asked["evaluations"],
    }
    budget = Budget(percent_per_level=named["percent"], bits_percent_per_level=named["bits"])
    out = granted(HEAD, budget, tmp_path, **options)
    request = Parameters(**options).request("x", HEAD, "", "")
    assert [g.evaluations for g in out] == [g.evaluations for g in most_numbers(request, HEAD)]
    assert sum(g.most for g in out) <= 20_000 and [g.evaluations for g in out if not g.purpose] == [20, 20, 20]
    with pytest.raises(BudgetError):
        granted(HEAD, Budget(), tmp_path / "default", loss="mi", levels=(2, 1), bins=32)


def test_starts_of_mi_open_few_numbers(tmp_path: Path) -> None:
    bound = {g.purpose: g.most for g in most_numbers(Parameters(loss="mi").request("x", HEAD, "", ""), HEAD)}
    assert bound["starts"] <= 2500
    bound = {g.purpose: g.most for g in most_numbers(Parameters().request("x", HEAD, "", ""), HEAD)}
    assert bound["starts"] <= 750


@pytest.mark.parametrize("percent", [0.3, 0.5, 1.0, 2.0, 5.0, 20.0])
def test_extra_levels_take_nothing_from_the_search(percent: float, tmp_path: Path) -> None:
    budget = Budget(percent_per_level=percent, bits_percent_per_level=4 * percent, numbers_per_session=1500)
    both = granted(HEAD, budget, tmp_path, levels=(4, 2))
    search = granted(HEAD, budget, tmp_path, levels=(4, 2), **NAMED)
    assert [g.to_dict() for g in both if not g.purpose] == [g.to_dict() for g in search]
    for factor in {g.factor for g in both}:
        here = [g for g in both if g.factor == factor]
        fewest = min(g.samples for g in here)
        assert sum(g.most for g in here) <= fewest * percent / 100
    assert sum(g.most for g in both) <= 1500


def test_what_cannot_fit_is_left_out_and_no_error(tmp_path: Path) -> None:
    tight = Budget(numbers_per_session=3 * 15)  # three evaluations of an affine transform, no more
    out = granted(HEAD, tight, tmp_path, levels=(1,))
    assert {g.purpose: g.most for g in out} == {"starts": 0, "": 45, "check": 0, "detail": 0}


def test_the_estimate_names_the_extra_levels() -> None:
    most = most_numbers(Parameters().request("x", HEAD, "", ""), HEAD)
    assert [g.purpose for g in most] == ["starts", "", "", "", "check", "detail"]
    assert [g.most for g in most if g.purpose] == [120 * 3 + 60 * 6 + 10, 13 * 3, 3]
