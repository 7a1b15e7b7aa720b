"""B-splines with all kinds of losses, in real processes: every protocol takes the same path, every number counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from system_support import Phantom, apply, grid_points, plain_grid, save

from PPIRLogic.cli.main import main
from PPIRLogic.disclosure.accounts import Budget
from PPIRLogic.errors import BudgetError, InputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.disclosure_estimate import most_numbers
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.result import RegistrationResult
from PPIRLogic.registration.simulate import simulate
from PPIRLogic.transforms import read_transform


def bent(geometry: Geometry) -> sitk.Transform:
    """A true motion, fixed to moving: a smooth wave of 4 mm after a small affine one."""
    d = geometry.dimension
    wave = sitk.BSplineTransformInitializer(geometry.to_sitk_reference(), [3] * d)
    size = len(wave.GetParameters()) // d
    wave.SetParameters([4.0 * np.sin(0.9 * i + k) for k in range(d) for i in range(size)])
    affine = sitk.AffineTransform(d)
    affine.SetCenter(geometry.centre().tolist())
    affine.SetTranslation([3.0, -2.0, 1.5][:d])
    return sitk.CompositeTransform([affine, wave])


def pair(dimension: int) -> tuple[Volume, Volume, sitk.Transform]:
    """Fixed, moving and the truth. The fixed image is the moving phantom seen through the truth, so it is exact."""
    geometry = plain_grid(dimension)
    phantom, truth = Phantom.make(geometry, blobs=24), bent(geometry)
    seen = phantom.at(apply(truth, grid_points(geometry))).reshape(geometry.array_shape)
    return Volume((1000 * seen).astype(np.float32), geometry, "fixed"), phantom.on(geometry), truth


def error(found: sitk.Transform, truth: sitk.Transform, geometry: Geometry) -> float:
    """Mean distance, mm, at the points that are not at the very border."""
    index = np.round(
        (grid_points(geometry, 4) @ geometry.physical_to_index()[:, :-1].T) + geometry.physical_to_index()[:, -1]
    )
    inside = ((index > 5) & (index < np.array(geometry.size) - 6)).all(axis=1)
    points = grid_points(geometry, 4)[inside]
    return float(np.linalg.norm(apply(found, points) - apply(truth, points), axis=1).mean())


def run(dimension: int, protocol: str, **changes: Any) -> RegistrationResult:
    """For mi with the intensities of the fixed image inverted, as of another modality."""
    fixed, moving, _ = pair(dimension)
    if changes.get("loss") == "mi":
        fixed = Volume(fixed.array.max() - fixed.array, fixed.geometry, "fixed")
        changes = {
            "levels": (1,),
            "iterations": (3,),
            "bins": 16,
            "bending": 10.0,
            "initial": sitk.AffineTransform(2),
            **changes,
        }
    settings = {
        "transform": "bspline", "grid_spacing": 12.0, "levels": (2, 1), "iterations": (3, 2), "initial": "identity",
        "evaluations": 12, **changes,
    }  # fmt: skip
    return simulate(fixed, moving, parameters=Parameters(protocol=protocol, **settings))  # type: ignore[arg-type]


def path_of(result: RegistrationResult) -> list[Any]:
    return [(v.kind, v.factor, v.evaluations, v.reason, v.values, v.steps_mm) for v in result.levels]


CASES = [(3, "ssd"), (2, "lncc"), (2, "mi")]


@pytest.fixture(scope="module")
def clear() -> dict[tuple[int, str], RegistrationResult]:
    return {(d, loss): run(d, "clear", loss=loss) for d, loss in CASES}


@pytest.mark.parametrize("protocol", ["fhe", pytest.param("mpc", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "dimension, loss", [c if c[0] == 2 else pytest.param(*c, marks=pytest.mark.long) for c in CASES]
)
def test_every_protocol_takes_the_path_of_clear(
    clear: dict[tuple[int, str], RegistrationResult], dimension: int, loss: str, protocol: str
) -> None:
    if protocol == "mpc":
        pytest.importorskip("torch")
    expected, found = clear[dimension, loss], run(dimension, protocol, loss=loss)
    assert found.complete and found.spline is not None and expected.spline is not None
    assert path_of(found) == path_of(expected)
    assert np.array_equal(found.spline.coefficients, expected.spline.coefficients)
    assert found.numbers == found.peer_numbers
    gradients = {r["level"]: r["numbers"] for r in found.ledger if r["kind"] == "gradient"}
    for level in [v for v in found.levels if v.kind == "bspline"]:
        assert level.iterations >= 1
        assert gradients[level.factor] > 30
    if loss == "mi":
        level, granted = found.levels[0], most_numbers(found.request, found.fixed_geometry)[0]
        assert level.values[-1] < level.values[0] - 0.2  # the information grows
        histograms = sum(r["numbers"] for r in found.ledger if r["kind"] == "histogram")
        assert histograms == level.evaluations * granted.numbers_per_evaluation == level.evaluations * 16**2
        assert gradients[1] == level.iterations * granted.numbers_per_gradient  # one for each step taken
        assert found.numbers == histograms + gradients[1] <= granted.most


@pytest.mark.parametrize("dimension, loss", [(3, "ssd"), (2, "lncc")])
def test_the_bending_is_found_and_folds_nowhere(
    clear: dict[tuple[int, str], RegistrationResult], dimension: int, loss: str
) -> None:
    found, (fixed, _, truth) = clear[dimension, loss], pair(dimension)
    assert [v.kind for v in found.levels] == ["affine", "affine", "bspline", "bspline"]
    before = error(found.linear.to_sitk(), truth, fixed.geometry)
    after = error(found.transform, truth, fixed.geometry)
    assert before > 1.0
    assert after < (0.75 if loss == "lncc" else 0.4) * before
    assert found.spline is not None and found.spline.statistics()["jacobian"]["smallest"] > 0.1


def test_mutual_information_finds_a_flow_too() -> None:
    fixed, _, truth = pair(3)
    found = run(3, "clear", loss="mi", transform="diffeo", initial=sitk.AffineTransform(3), bins=32, iterations=(6,))
    before = error(sitk.AffineTransform(3), truth, fixed.geometry)
    assert found.complete and found.diffeo is not None
    assert error(found.transform, truth, fixed.geometry) < 0.5 * before
    assert found.levels[0].smallest_jacobian is not None and found.levels[0].smallest_jacobian > 0.1


def test_a_run_that_would_fold_keeps_its_last_good_field() -> None:
    """Unrelated images and no bending energy: the steps fold, and none of them is taken."""
    fixed, _, _ = pair(2)
    other = Phantom.make(fixed.geometry, seed=77, blobs=40).on(fixed.geometry)
    parameters = Parameters(
        transform="bspline", protocol="clear", loss="ssd", grid_spacing=6.0, levels=(2, 1), iterations=(20, 5),
        bending=0.0, evaluations=100, initial=sitk.AffineTransform(2),
    )  # fmt: skip
    found = simulate(fixed, other, parameters=parameters)
    assert found.complete and found.spline is not None
    assert "folding" in {v.reason for v in found.levels}
    assert found.levels[-1].smallest_jacobian is not None and found.levels[-1].smallest_jacobian > 0.05
    folded = sitk.DisplacementFieldJacobianDeterminant(
        sitk.TransformToDisplacementField(found.spline.bspline(), sitk.sitkVectorFloat64, fixed.geometry.size,
                                          fixed.geometry.origin, fixed.geometry.spacing, fixed.geometry.direction)
    )  # fmt: skip
    assert float(sitk.GetArrayFromImage(folded).min()) > 0


def test_the_command_writes_a_composite_and_a_report(tmp_path: Path) -> None:
    fixed, moving, _ = pair(2)
    files = [str(save(v, tmp_path / f"{v.name}.mha")) for v in (fixed, moving)]
    out, report = tmp_path / "t.h5", tmp_path / "r.json"
    main(
        ["simulate", "--fixed", files[0], "--moving", files[1], "--protocol", "clear", "--transform", "bspline",
         "--grid-spacing", "16", "--levels", "2,1", "--iterations", "2,1", "--bending", "2", "--initial", "identity",
         "--output", str(out), "--report", str(report)]
    )  # fmt: skip
    composite = sitk.CompositeTransform(read_transform(out))
    assert composite.GetNumberOfTransforms() == 2
    assert composite.GetNthTransform(1).GetName() == "BSplineTransform"
    spline = json.loads(report.read_text())["transform"]["spline"]
    assert spline["cells"] == [6, 6] and spline["jacobian"]["folded_percent"] == 0
    assert "folds nowhere" in report.with_suffix(".html").read_text(encoding="utf-8")


def test_the_default_budget_refuses_before_anything_is_opened() -> None:
    fixed, moving, _ = pair(3)
    seen: list[str] = []
    parameters = Parameters(transform="bspline", grid_spacing=8.0, levels=(2, 1), initial="identity")
    with pytest.raises(BudgetError, match=r"iterations of \d+ numbers are .* --budget-percent"):
        simulate(fixed, moving, parameters=parameters, budget=Budget(), progress=lambda p: seen.append(p.stage))
    assert seen == ["connecting"]  # not even the affine part was begun


def test_a_budget_of_its_level_stops_the_second_session_and_keeps_the_affine() -> None:
    """It would have fitted before the affine part spent its share: the B-spline is refused at its session."""
    fixed, moving, _ = pair(2)
    parameters = Parameters(
        transform="bspline", grid_spacing=12.0, levels=(2, 1), iterations=(2, 1), initial="identity"
    )
    found = simulate(fixed, moving, parameters=parameters, budget=Budget(60.0, 36.0, 10**6, 10**6))
    assert not found.complete and isinstance(found.error, BudgetError) and found.spline is None
    assert [v.kind for v in found.levels] == ["affine", "affine"]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"grid_spacing": 500.0}, "coarser than the fixed image"),
        ({"grid_spacing": 2.2}, "finer than 2 voxels"),
        ({"loss": "lncc", "radius_mm": 60.0}, "larger than the fixed"),
        ({"sampling": "urs", "percent": 50.0}, "every voxel"),
        ({"iterations": (1, 1, 1)}, "one count of iterations per level"),
    ],
)
def test_bad_settings_are_named_before_the_run(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(2, "clear", **changes)


def test_fewer_evaluations_than_are_useful_are_no_lack_of_budget() -> None:
    found = run(2, "clear", evaluations=2)
    assert found.complete and [v.evaluations for v in found.levels if v.kind == "bspline"] == [2, 2]
