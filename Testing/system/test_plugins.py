"""A small package adds a loss, a protocol and a transform; the command uses them without a change of ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from system_support import Phantom, grid_points, plain_grid, save

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A virtual environment of its own with the plugin installed by pip; the rest comes from this one."""
    folder = tmp_path_factory.mktemp("plugins")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    place = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    site = Path(sysconfig.get_path("purelib", "venv", vars=place))
    ours = [sysconfig.get_path("purelib"), str(ROOT)]
    (site / "ours.pth").write_text("\n".join(ours))
    python = Path(sysconfig.get_path("scripts", "venv", vars=place)) / ("python.exe" if os.name == "nt" else "python")
    package = folder / "package"
    shutil.copytree(PACKAGE, package)  # building leaves files beside the source
    options = ["--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([python, "-m", "pip", "install", *options, package], check=True)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        words = [str(python), "-m", "PPIRLogic", *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, cwd=folder, timeout=120)

    return run


PACKAGE = Path(__file__).parent / "plugin_package"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, sitk.Transform]:
    """Two images of one phantom; the moving one is brighter by a constant, which ssd alone would follow."""
    folder, geometry = tmp_path_factory.mktemp("pair"), plain_grid(2)
    phantom, truth = Phantom.make(geometry), sitk.AffineTransform(2)
    truth.SetCenter(geometry.centre().tolist())
    truth.SetMatrix([1.04, 0, 0, 0.97])
    truth.SetTranslation([2.0, -1.5])
    fixed = save(phantom.on(geometry), folder / "fixed.nrrd")
    moving = save(phantom.on(geometry, truth), folder / "moving.nrrd")
    return fixed, moving, truth


def gap_mm(found: Path, truth: sitk.Transform) -> float:
    points = grid_points(plain_grid(2), 4)
    read = sitk.ReadTransform(str(found))
    moved = [np.subtract(read.TransformPoint(p), truth.TransformPoint(p)) for p in points.tolist()]
    return float(np.sqrt(np.square(moved).sum(axis=1).mean()))


@pytest.mark.parametrize(
    "settings",
    [
        ("--transform", "affine", "--loss", "ssd_offset", "--protocol", "shifted"),
        ("--transform", "bspline", "--loss", "ssd_offset", "--protocol", "shifted", "--grid-spacing", "30"),
        ("--transform", "stretch", "--loss", "ssd_offset", "--protocol", "fhe"),
    ],
    ids=lambda s: s[1],
)
def test_what_a_package_adds_runs_from_the_command_line(
    installed: Run, pair: tuple[Path, Path, sitk.Transform], settings: tuple[str, ...], tmp_path: Path
) -> None:
    fixed, moving, truth = pair
    output, report = tmp_path / "T.h5", tmp_path / "R.json"
    done = installed(
        "simulate", "--fixed", fixed, "--moving", moving, *settings, "--output", output, "--report", report
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert gap_mm(output, truth) < 0.3
    said = json.loads(report.read_text())
    assert said["request"]["loss"] == "ssd_offset" and said["complete"]
    page = report.with_suffix(".html").read_text()
    assert "after the best shift of brightness" in page
    if "shifted" in settings:
        assert "a protocol of another package" in page.lower()


def test_the_help_names_what_is_installed(installed: Run) -> None:
    said = installed("register", "--help").stdout
    assert all(name in said for name in ("ssd_offset", "shifted", "stretch"))


def test_a_plugin_is_served_only_where_the_policy_names_it(
    installed: Run, pair: tuple[Path, Path, sitk.Transform], tmp_path: Path
) -> None:
    code = f"""
import sys
from PPIRLogic import FixedImage, Policy, read_volume
from PPIRLogic.errors import PolicyError
from PPIRLogic.registration.parameters import Parameters
image = FixedImage("atlas", read_volume({str(pair[0])!r}))
for named in ({{}}, {{"losses": frozenset({{"ssd_offset"}})}}):
    policy = Policy(**named)
    request = Parameters(loss="ssd_offset").request("atlas", image.geometry, "", "")
    try:
        policy.check(request, "peer", False)
        print("permitted")
    except PolicyError as error:
        print(error)
print("ppir_plugin" in sys.modules)
"""
    script = tmp_path / "check.py"
    script.write_text(code)
    python = installed("--version").args[0]
    done = subprocess.run([python, script], capture_output=True, text=True, check=True)
    refused, permitted, _ = done.stdout.splitlines()
    assert "'ssd_offset' is not permitted" in refused and permitted == "permitted"
