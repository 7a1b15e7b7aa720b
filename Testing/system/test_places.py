"""Where a site lies and where results go: no home folder, a full standard output, an output that vanished."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from system_support import Phantom, here, motion_of, plain_grid, save

from PPIRLogic.cli import output
from PPIRLogic.cli.display import write_results
from PPIRLogic.cli.main import main
from PPIRLogic.errors import OutputError, PeerError
from PPIRLogic.images.volume import Volume
from PPIRLogic.local_processes import child_path
from PPIRLogic.network.identity import default_home
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.result import RegistrationResult
from PPIRLogic.registration.simulate import simulate

GRID = plain_grid(2)


@pytest.fixture(scope="module")
def result() -> RegistrationResult:
    phantom = Phantom.make(GRID)
    settings = Parameters(transform="translation", levels=(4,), protocol="clear", threads=1, initial="identity")
    return simulate(phantom.on(GRID), phantom.on(GRID, motion_of("translation", GRID)), parameters=settings)


def options(tmp_path: Path) -> SimpleNamespace:
    names = ("inverse", "warped", "dicom", "report", "pictures")
    return SimpleNamespace(
        output=tmp_path / "T.tfm", home=tmp_path / "home", json=False, accept_doubtful=False, **dict.fromkeys(names)
    )


def test_a_result_whose_place_vanished_is_kept_with_the_site(tmp_path: Path, result: RegistrationResult) -> None:
    a = options(tmp_path)
    a.home.mkdir()
    a.output = tmp_path / "gone" / "T.tfm"  # the folder was there before the run
    with pytest.raises(OutputError, match="The transform was kept as"):
        write_results(a, result, Phantom.make(GRID).on(GRID), None)  # type: ignore[arg-type]
    kept = next(a.home.glob("transform-*.h5"))
    found = sitk.ReadTransform(str(kept)).TransformPoint((1.0, 2.0))
    assert np.allclose(found, result.transform.TransformPoint((1.0, 2.0)))


def test_no_copy_stays_of_what_was_written(
    tmp_path: Path, result: RegistrationResult, capsys: pytest.CaptureFixture[str]
) -> None:
    a = options(tmp_path)
    a.home.mkdir()
    write_results(a, result, Phantom.make(GRID).on(GRID), None)  # type: ignore[arg-type]
    assert a.output.is_file() and list(a.home.iterdir()) == []
    assert "done" in capsys.readouterr().out


def test_a_user_without_a_home_is_told_to_name_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PPIR_HOME", raising=False)
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: Path("~/.local/share") / name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["identity", "--name", "A"])
    assert ended.value.code == 2 and "--home or PPIR_HOME" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [], "no folder called ~"
    monkeypatch.setenv("PPIR_HOME", str(tmp_path / "here"))
    assert default_home() == tmp_path / "here"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_standard_output_is_said_once_and_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        output.print_line("one")
        output.print_line("two")
        assert sys.stdout is not full
        full.close = lambda: None  # type: ignore[method-assign]
    assert capsys.readouterr().err.count("cannot be written") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize(("full", "code"), [(True, OutputError.exit_code), (False, 0)])
def test_what_a_full_standard_output_did_not_take_is_an_error_at_the_end(full: bool, code: int, tmp_path: Path) -> None:
    """A full disk is one; a pipe that was closed is none: who closed it has what he wanted."""
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "PPIRLogic", "identity", "--home", str(tmp_path / "home")]
    with open("/dev/full", "wb") as device, os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            words, env={**os.environ, "PYTHONPATH": child_path()}, stdout=device if full else pipe,
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == code and (tmp_path / "home" / "identity" / "certificate.pem").is_file()
    assert ("Not all could be written" in done.stderr) == full


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", ">&- 2>&-"])
def test_a_full_or_closed_standard_error_changes_no_exit_code(stderr: str, tmp_path: Path) -> None:
    words = f"{sys.executable} -m PPIRLogic check 127.0.0.1:1 --home {tmp_path / 'home'} {stderr}"
    done = subprocess.run(["sh", "-c", words], env={**os.environ, "PYTHONPATH": child_path()}, check=False)
    assert done.returncode == PeerError.exit_code


def test_images_that_have_nothing_in_common_end_in_doubt(tmp_path: Path) -> None:
    """Two images that have nothing in common: whatever is found is in doubt, and the files are written all the same."""
    noise = np.random.default_rng(5)
    for name in ("fixed", "moving"):
        values = noise.random(GRID.array_shape).astype(np.float32)
        save(Volume(values, GRID, name), tmp_path / f"{name}.nrrd")
    words = (
        "simulate",
        "--fixed",
        tmp_path / "fixed.nrrd",
        "--moving",
        tmp_path / "moving.nrrd",
        "--protocol",
        "clear",
    )
    more = ("--transform", "rigid", "--levels", "4", "--initial", "identity", "--threads", 1)
    done = here(tmp_path / "home", *words, *more, "--output", tmp_path / "T.tfm", "--report", tmp_path / "R.json")
    assert done.returncode == 13 and "in doubt" in done.stderr, done.stderr
    assert (tmp_path / "T.tfm").is_file() and "doubt" in (tmp_path / "R.json").read_text(encoding="utf-8")
    again = here(tmp_path / "home", *words, *more, "--output", tmp_path / "T.tfm", "--accept-doubtful")
    assert again.returncode == 0 and "note:" in again.stderr


def test_doubts_of_a_good_run_are_none(result: RegistrationResult) -> None:
    assert result.complete and replace(result).doubts == []
