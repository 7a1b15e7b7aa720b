"""Diffeomorphic registration through real processes: the same path under every protocol, every number counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from system_support import apply, grid_points, save
from test_spline import error, pair, path_of

from PPIRLogic.cli.main import main
from PPIRLogic.disclosure.accounts import Budget
from PPIRLogic.errors import BudgetError, InputError
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.result import RegistrationResult
from PPIRLogic.registration.simulate import simulate
from PPIRLogic.transforms import read_transform

CASES = ((2, "lncc"), (3, "ncc"))
STIFF = {"lncc": 1000.0, "ncc": 30.0}  # most of the phantom is flat: there lncc has nothing but noise to go by


def run(dimension: int, protocol: str, **changes: Any) -> RegistrationResult:
    fixed, moving, _ = pair(dimension)
    settings = {
        "transform": "diffeo", "stride": 4, "levels": (2, 1), "iterations": (5, 3), "initial": "identity",
        "evaluations": 16, **changes,
    }  # fmt: skip
    return simulate(fixed, moving, parameters=Parameters(protocol=protocol, **settings))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clear() -> dict[tuple[int, str], RegistrationResult]:
    return {(d, loss): run(d, "clear", loss=loss, bending=STIFF[loss]) for d, loss in CASES}


@pytest.mark.parametrize("protocol", ["fhe", "mpc"])
@pytest.mark.parametrize(
    "dimension, loss", [c if c[0] == 2 else pytest.param(*c, marks=pytest.mark.long) for c in CASES]
)
def test_every_protocol_takes_the_path_of_clear(
    clear: dict[tuple[int, str], RegistrationResult], dimension: int, loss: str, protocol: str
) -> None:
    if protocol == "mpc":
        pytest.importorskip("torch")
    expected, found = clear[dimension, loss], run(dimension, protocol, loss=loss, bending=STIFF[loss])
    assert found.complete and found.diffeo is not None and expected.diffeo is not None
    assert path_of(found) == path_of(expected)
    assert np.array_equal(found.diffeo.field, expected.diffeo.field)
    assert np.array_equal(found.diffeo.inverse, expected.diffeo.inverse)
    assert found.numbers == found.peer_numbers
    for level in found.levels[-2:]:
        assert level.kind == "diffeo" and level.iterations >= 1


@pytest.mark.parametrize("dimension, loss", CASES)
def test_the_bending_is_found_folds_nowhere_and_goes_back(
    clear: dict[tuple[int, str], RegistrationResult], dimension: int, loss: str
) -> None:
    found, (fixed, _, truth) = clear[dimension, loss], pair(dimension)
    assert [v.kind for v in found.levels] == ["affine", "affine", "diffeo", "diffeo"]
    before = error(found.linear.to_sitk(), truth, fixed.geometry)
    after = error(found.transform, truth, fixed.geometry)
    assert before > 0.7
    assert after < (0.5 if loss == "lncc" else 0.35) * before
    assert found.diffeo is not None
    statistics = found.diffeo.statistics()
    assert statistics["jacobian"]["smallest"] > 0.1 and statistics["inverse_error_voxels"]["mean"] < 0.05
    points = grid_points(fixed.geometry, 4)
    gone = apply(found.transform, points)
    there_and_back = np.linalg.norm(apply(found.inverse(), gone) - points, axis=1)
    assert np.median(there_and_back) < 0.05 < np.median(np.linalg.norm(gone - points, axis=1))


def test_the_command_writes_the_field_its_inverse_and_a_report(tmp_path: Path) -> None:
    fixed, moving, _ = pair(2)
    files = [str(save(v, tmp_path / f"{v.name}.mha")) for v in (fixed, moving)]
    out, back, report = tmp_path / "t.h5", tmp_path / "i.h5", tmp_path / "r.json"
    main(
        ["simulate", "--fixed", files[0], "--moving", files[1], "--protocol", "clear", "--transform", "diffeo",
         "--stride", "6", "--levels", "2,1", "--iterations", "3,1", "--elastic", "0.5", "--initial", "identity",
         "--output", str(out), "--inverse", str(back), "--report", str(report)]
    )  # fmt: skip
    there, inverse = sitk.CompositeTransform(read_transform(out)), read_transform(back)
    assert there.GetNthTransform(1).GetName() == "DisplacementFieldTransform"
    centre = fixed.geometry.centre().tolist()
    assert np.allclose(inverse.TransformPoint(there.TransformPoint(centre)), centre, atol=0.05)
    found = json.loads(report.read_text())["transform"]
    assert found["kind"] == "diffeo" and found["inverse_file"] == str(back)
    assert found["diffeo"]["jacobian"]["folded_percent"] == 0 and found["diffeo"]["jacobian"]["smallest"] > 0
    page = report.with_suffix(".html").read_text(encoding="utf-8")
    assert "folds nowhere" in page and "There and back" in page


@pytest.mark.parametrize(
    "options, words",
    [
        (("--transform", "diffeo", "--output", "t.tfm"), "displacement field needs a binary file"),
        (("--transform", "diffeo", "--output", "t.h5", "--inverse", "i.txt"), "displacement field needs a binary file"),
        (("--transform", "bspline", "--output", "t.h5", "--inverse", "i.h5"), "bspline transform has no inverse"),
    ],
)
def test_files_that_cannot_hold_the_result_are_refused_beforehand(
    options: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed, moving, _ = pair(2)
    files = [str(save(v, tmp_path / f"{v.name}.mha")) for v in (fixed, moving)]
    placed = [str(tmp_path / v) if v.endswith((".h5", ".tfm", ".txt")) else v for v in options]
    with pytest.raises(SystemExit):
        main(["simulate", "--fixed", files[0], "--moving", files[1], *placed])
    assert words in " ".join(capsys.readouterr().err.split())


def test_the_default_budget_refuses_before_anything_is_opened() -> None:
    fixed, moving, _ = pair(3)
    seen: list[str] = []
    parameters = Parameters(transform="diffeo", levels=(2, 1), initial="identity")
    with pytest.raises(BudgetError, match=r"iterations of \d+ numbers are .* enough for \d+ iterations.*--stride"):
        simulate(fixed, moving, parameters=parameters, budget=Budget(), progress=lambda p: seen.append(p.stage))
    assert seen == ["connecting"]  # not even the affine part was begun


def test_a_fold_stops_the_level_and_keeps_the_last_good_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step may leave a Jacobian below that of the start: every one is refused as a fold, nothing is lost."""
    monkeypatch.setattr("PPIRLogic.registration.party1.level_runs.bspline.MIN_JACOBIAN", 1.0)
    found = run(2, "clear", loss="ncc", levels=(2,), iterations=(3,))
    assert found.complete and found.levels[-1].reason == "folding" and found.levels[-1].iterations == 0
    assert found.diffeo is not None and not found.diffeo.field.any()


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"stride": 30}, "fewer than two cells"),
        ({"loss": "lncc", "radius_mm": 60.0}, "larger than the fixed"),
        ({"sampling": "urs", "percent": 50.0}, "every voxel"),
        ({"iterations": (1, 1, 1)}, "one count of iterations per level"),
    ],
)
def test_bad_settings_are_named_before_the_run(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(2, "clear", **changes)
