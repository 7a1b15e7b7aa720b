"""Registration objects read by programs that share nothing with this one: dcmtk reads the bytes, plastimatch warps the
moving series by what was read, dicom3tools checks the objects against the standard. Debian's packages of these names
are needed; where they are not installed, a test says so."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_support import FRAME, write_results_of
from dicom_support import grid as fixed_grid
from dicom_support import spline as made_spline
from numpy.typing import NDArray

from PPIRLogic import LinearTransform, read_volume


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [p for p in programs if shutil.which(p) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def run(*command: Any) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


TURN = LinearTransform("rigid", [[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]], translation=[3, -2, 1.5], centre=[2, 1, 9])


def by_dcmtk(file: Path) -> Any:
    return json.loads(run("dcm2json", file))


def matrix_in(item: Any) -> NDArray[np.float64]:
    return np.reshape(item["300600C6"]["Value"], (4, 4))


def warped_by_plastimatch(folder: Path, transform: Path) -> NDArray[np.float32]:
    """The moving series on the grid of the derived one, by a program that read both series itself."""
    run("plastimatch", "convert", "--input", folder / "out" / "warped", "--output-img", folder / "grid.mha")
    run("plastimatch", "convert", "--input", folder / "moving", "--xf", transform, "--fixed", folder / "grid.mha",
        "--default-value", 0, "--output-img", folder / "again.mha")  # fmt: skip
    return sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "again.mha"), sitk.sitkFloat32))


@needs("dcm2json", "plastimatch")
def test_plastimatch_warps_by_the_matrix_that_dcmtk_reads(tmp_path: Path) -> None:
    write_results_of(tmp_path, TURN.to_sitk(), TURN, fixed_grid(), "1.2.3.4")
    (item,) = [
        i for i in by_dcmtk(tmp_path / "out" / "registration.dcm")["00700308"]["Value"]
        if i["00200052"]["Value"] == [FRAME]
    ]  # fmt: skip
    moving_to_fixed = matrix_in(item["00700309"]["Value"][0]["0070030A"]["Value"][0])
    right, wrong = np.linalg.inv(moving_to_fixed), moving_to_fixed
    expected = read_volume(tmp_path / "out" / "warped").array
    differences = []
    for matrix in (right, wrong):
        file = tmp_path / "read.tfm"
        numbers = " ".join(repr(float(v)) for v in (*matrix[:3, :3].ravel(), *matrix[:3, 3]))
        file.write_text(
            "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
            f"Parameters: {numbers}\nFixedParameters: 0 0 0\n"
        )
        differences.append(float(np.abs(warped_by_plastimatch(tmp_path, file) - expected).mean()))
    assert differences[0] < 0.6 < 10 < differences[1], "the second is the other direction, which must be seen"


@needs("dcm2json", "plastimatch")
def test_plastimatch_warps_by_the_field_that_dcmtk_reads(tmp_path: Path) -> None:
    linear, transform = made_spline()
    write_results_of(tmp_path, transform, linear, fixed_grid(), "1.2.3.4")
    (item,) = [
        i for i in by_dcmtk(tmp_path / "out" / "registration.dcm")["00640002"]["Value"]
        if i["00640003"]["Value"] == [FRAME]
    ]  # fmt: skip
    (grid,) = item["00640005"]["Value"]
    nx, ny, nz = grid["00640007"]["Value"]
    vectors = np.frombuffer(base64.b64decode(grid["00640009"]["InlineBinary"]), "<f4").reshape(nz, ny, nx, 3)
    post = matrix_in(item["00640010"]["Value"][0])
    k, j, i = np.indices((nz, ny, nx))
    at = np.stack([i, j, k], -1) * grid["00640008"]["Value"] + grid["00200032"]["Value"]
    total = (at + vectors) @ post[:3, :3].T + post[:3, 3] - at
    image = sitk.GetImageFromArray(total.astype(np.float32), isVector=True)
    image.SetOrigin(grid["00200032"]["Value"])
    image.SetSpacing([float(v) for v in grid["00640008"]["Value"]])
    sitk.WriteImage(image, str(tmp_path / "read.mha"))
    expected = read_volume(tmp_path / "out" / "warped").array
    assert np.abs(warped_by_plastimatch(tmp_path, tmp_path / "read.mha") - expected).mean() < 0.6
    still = sitk.Resample(
        read_volume(tmp_path / "moving").to_sitk(), fixed_grid().to_sitk_reference(), linear.to_sitk(), sitk.sitkLinear
    )
    assert np.abs(sitk.GetArrayFromImage(still) - expected).mean() > 3, "without the field it is another image"


@needs("dciodvfy")
@pytest.mark.parametrize("kind", ["linear", "deformable"])
def test_dicom3tools_finds_no_error(tmp_path: Path, kind: str) -> None:
    linear, transform = made_spline()
    write_results_of(tmp_path, transform if kind == "deformable" else linear.to_sitk(), linear, fixed_grid(), "")
    for file in (tmp_path / "out" / "registration.dcm", tmp_path / "out" / "warped" / "slice-0001.dcm"):
        said = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, timeout=60)
        lines = (said.stdout + said.stderr).splitlines()
        assert [line for line in lines if line in ("SpatialRegistration", "DeformableSpatialRegistration", "CTImage")]
        assert not [line for line in lines if line.startswith("Error")]
