"""Symmetric registration with local cross-correlation through real processes over TLS, with a real dealer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from symmetric_support import pair
from system_support import apply, grid_points, save
from test_spline import error

from PPIRLogic.cli.main import main
from PPIRLogic.disclosure.accounts import Budget
from PPIRLogic.errors import BudgetError, InputError, PolicyError
from PPIRLogic.registration.disclosure_estimate import most_numbers
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.request import Peer
from PPIRLogic.registration.result import RegistrationResult
from PPIRLogic.registration.simulate import peers, simulate
from PPIRLogic.transforms import read_transform


def run(protocol: str, dimension: int = 3, swapped: bool = False, **changes: Any) -> RegistrationResult:
    fixed, moving, _ = pair(dimension)
    if swapped:
        fixed, moving = moving, fixed
    given = sitk.AffineTransform(dimension)
    given.SetTranslation([3.0, -2.0, 1.5][:dimension])
    settings = {
        "transform": "diffeo", "loss": "cc", "stride": 5, "levels": (2, 1), "iterations": (6, 3), "evaluations": 20,
        "initial": given.GetInverse() if swapped else given, **changes,
    }  # fmt: skip
    budget = settings.pop("budget", None)
    options = {"budget": budget} if budget else {}
    return simulate(fixed, moving, parameters=Parameters(protocol=protocol, **settings), **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clear() -> RegistrationResult:
    return run("clear")


@pytest.fixture(scope="module")
def shared() -> RegistrationResult:
    return run("mpc")


def test_mpc_finds_what_clear_finds(clear: RegistrationResult, shared: RegistrationResult) -> None:
    assert shared.complete and shared.diffeo is not None and clear.diffeo is not None
    off = np.sqrt(np.square(shared.diffeo.field - clear.diffeo.field).sum(axis=0).mean())
    moved = np.sqrt(np.square(clear.diffeo.field).sum(axis=0).mean())
    assert off < 0.01 and moved > 50 * off
    assert [v.iterations for v in shared.levels] == [v.iterations for v in clear.levels]


def test_the_bend_is_found_without_folding_and_goes_back(shared: RegistrationResult) -> None:
    fixed, _, truth = pair(3)
    before, after = (error(t, truth, fixed.geometry) for t in (shared.first.to_sitk(), shared.transform))
    assert after < 0.35 * before
    assert shared.diffeo is not None
    found = shared.diffeo.statistics()
    assert found["jacobian"]["smallest"] > 0 and found["inverse_error_voxels"]["mean"] < 0.05
    for level in shared.levels:
        assert level.iterations >= 2 and level.values[-1] < level.values[0]


def test_swapped_images_give_the_inverse(clear: RegistrationResult) -> None:
    """There and back by two runs, of which each knows nothing of the other."""
    fixed, _, _ = pair(3)
    back = run("clear", swapped=True)
    points = grid_points(fixed.geometry, 4)
    lengths = np.linalg.norm(points - fixed.geometry.centre(), axis=1)
    inner = points[lengths < 0.3 * np.linalg.norm(np.ptp(points, axis=0))]
    there = apply(clear.transform, inner)
    off = np.linalg.norm(apply(back.transform, there) - inner, axis=1)
    assert off.mean() < 0.5 * min(fixed.geometry.spacing)
    assert np.linalg.norm(there - inner, axis=1).mean() > 4 * off.mean()


def test_all_is_counted_on_both_sides_as_estimated(shared: RegistrationResult) -> None:
    assert shared.numbers == shared.peer_numbers
    rows = {(r["kind"], r["to"], r["level"]): r["numbers"] for r in shared.ledger}
    assert {k[:2] for k in rows} == {
        ("geometry", "party 1"), ("similarity", "party 1"), ("coarse force", "party 1"), ("coarse force", "party 2"),
        ("half field", "party 1"),
    }  # fmt: skip
    for level, grant in zip(shared.levels, most_numbers(shared.request, shared.fixed_geometry), strict=True):
        steps = level.iterations + (level.reason not in ("iterations", "loss"))
        assert rows["similarity", "party 1", level.factor] == level.evaluations <= grant.evaluations
        for side in ("party 1", "party 2"):
            assert rows["coarse force", side, level.factor] == steps * grant.numbers_per_gradient
        assert steps <= grant.gradients and grant.party2_learns == grant.gradients * grant.numbers_per_gradient
        assert rows["half field", "party 1", level.factor] == grant.numbers_once
        opened = sum(n for (_, to, factor), n in rows.items() if to == "party 1" and factor == level.factor)
        assert opened <= grant.most
        if level.reason == "iterations":
            spare = grant.evaluations - level.evaluations
            assert opened == grant.most - spare  # all the rest was foreseen, to the number


def test_the_default_budget_refuses_before_anything_is_opened() -> None:
    with pytest.raises(BudgetError, match=r"iterations of \d+ numbers are"):
        run("mpc", initial="identity", budget=Budget())


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"transform": "affine"}, "transform diffeo"),
        ({"protocol": "fhe"}, "protocol mpc"),
        ({"stride": 30}, "two cells"),
    ],
)
def test_bad_settings_are_named_before_the_run(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(changes.pop("protocol", "clear"), **changes)


def test_published_is_refused_unless_it_is_named(tmp_path: Path) -> None:
    """An owner who permits mpc has not permitted the openings per voxel."""
    fixed, moving, _ = pair(2)
    with peers(save(fixed, tmp_path / "f.mha"), protocol="mpc") as world:
        parameters = Parameters(
            transform="diffeo", loss="cc", protocol="published", initial=sitk.AffineTransform(2), levels=(2,)
        )
        peer = Peer(world.peer.address, "fixed", world.peer.dealer, world.peer.dealer_fingerprint)
        with pytest.raises(PolicyError, match="'published_cc' is not permitted"):
            register(moving, peer, parameters=parameters, home=world.home)


def test_published_warns_counts_every_voxel_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed, moving, _ = pair(2)
    files = [str(save(v, tmp_path / f"{v.name}.mha")) for v in (fixed, moving)]
    sitk.WriteTransform(sitk.AffineTransform(2), str(tmp_path / "a.tfm"))
    main([
        "simulate", "--fixed", files[0], "--moving", files[1], "--transform", "diffeo", "--loss", "cc", "--protocol",
        "published", "--initial", str(tmp_path / "a.tfm"), "--levels", "2", "--iterations", "2", "--output",
        str(tmp_path / "t.h5"), "--inverse", str(tmp_path / "i.h5"), "--report", str(tmp_path / "r.json"),
    ])  # fmt: skip
    said = " ".join(capsys.readouterr().err.split())
    assert "WARNING: the protocol published_cc opens three numbers per voxel" in said
    report = json.loads((tmp_path / "r.json").read_text())
    rows = {(r["kind"], r["to"]): r["numbers"] for r in report["disclosed"]["rows"]}
    assert rows["voxel force", "party 1"] == rows["voxel force", "party 2"] == 2 * 3 * report["levels"][0]["samples"]
    there, back = (read_transform(tmp_path / name) for name in ("t.h5", "i.h5"))
    points = grid_points(fixed.geometry, 6)
    assert np.abs(apply(back, apply(there, points)) - points).max() < 0.5
