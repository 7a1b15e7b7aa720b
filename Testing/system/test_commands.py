"""The command line from identity to ledger, as two sites type it, and the files a run leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import SimpleITK as sitk
from system_support import (
    Phantom,
    Program,
    account_numbers,
    command,
    distance,
    environment,
    events_of,
    grid,
    grid_points,
    here,
    motion_of,
    plain_grid,
    ppir,
    save,
    turned,
)

import PPIRLogic
from PPIRLogic.cli.demo import DATA
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.version import SOFTWARE

SCHEMA = json.loads((Path(PPIRLogic.__file__).parent / "report_schema.json").read_text())


def make_pair(folder: Path, fixed: Geometry, moving: Geometry, kind: str = "rigid") -> sitk.Transform:
    """fixed.nrrd and moving.nrrd in the folder, and the true transform between them."""
    folder.mkdir(parents=True, exist_ok=True)
    phantom, truth = Phantom.make(fixed), motion_of(kind, fixed)
    save(phantom.on(fixed), folder / "fixed.nrrd")
    save(phantom.on(moving, truth), folder / "moving.nrrd")
    return truth


def check_warped(folder: Path, warped: str, transform: str) -> None:
    """The warped image is what anyone gets who resamples the moving image with the transform file."""
    fixed, moving = (sitk.ReadImage(str(folder / n)) for n in ("fixed.nrrd", "moving.nrrd"))
    again = sitk.Resample(moving, fixed, sitk.ReadTransform(str(folder / transform)), sitk.sitkLinear, 0.0)
    written = sitk.ReadImage(str(folder / warped))
    assert written.GetSize() == fixed.GetSize()
    for what in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert np.allclose(getattr(written, what)(), getattr(fixed, what)(), rtol=0, atol=1e-6)
    a, b = (sitk.GetArrayFromImage(v).astype(float) for v in (again, written))
    assert np.ptp(a) > 100, "an empty image would equal an empty image"
    assert np.abs(a - b).max() < 1e-3 * np.ptp(a)


def check_report(file: Path, complete: bool = True) -> dict[str, Any]:
    report = dict(json.loads(file.read_text()))
    jsonschema.validate(report, SCHEMA)
    assert report["complete"] is complete
    page = file.with_suffix(".html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html") and "</html>" in page
    assert 'src="http' not in page and 'href="http' not in page, "a report must not call anybody"
    return report


# ------------------------------------------------------------------------------------------------- simulate


@pytest.mark.parametrize(("dimension", "output", "warped"), [
    (2, "T.h5", "W.nrrd"), pytest.param(3, "T.tfm", "W.nii.gz", marks=pytest.mark.long),
])  # fmt: skip
def test_simulate_writes_everything(tmp_path: Path, dimension: int, output: str, warped: str) -> None:
    fixed = plain_grid(dimension)
    truth = make_pair(tmp_path, fixed, fixed, "affine")
    done = ppir(
        tmp_path / "home", "simulate", "--fixed", tmp_path / "fixed.nrrd", "--moving", tmp_path / "moving.nrrd",
        "--output", tmp_path / output, "--warped", tmp_path / warped, "--report", tmp_path / "R.json", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    events = events_of(done)
    stages = [e["stage"] for e in events if e["event"] == "progress"]
    assert stages[0] == "connecting" and stages[-1] == "finished" and {"level", "evaluation"} < set(stages)
    result = events[-1]
    assert result["event"] == "result" and result["complete"] is True
    assert result["transform"] == str(tmp_path / output)
    assert distance(sitk.ReadTransform(str(tmp_path / output)), truth, fixed) < 0.3
    check_warped(tmp_path, warped, output)
    report = check_report(tmp_path / "R.json")
    assert report["totals"]["numbers"] == report["peer_numbers"] == result["numbers"] and report["counts_agree"]
    assert sum(v["evaluations"] for v in report["levels"]) > 3
    left = {p.name for p in tmp_path.iterdir()} - {"home", "fixed.nrrd", "moving.nrrd"}
    assert left == {output, warped, "R.json", "R.html"}


def test_simulate_for_a_person(tmp_path: Path) -> None:
    fixed = plain_grid(2)
    make_pair(tmp_path, fixed, fixed)
    done = ppir(
        tmp_path / "home", "simulate", "--fixed", tmp_path / "fixed.nrrd", "--moving", tmp_path / "moving.nrrd",
        "--transform", "rigid", "--output", tmp_path / "T.tfm",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "done" in done.stdout and "numbers of the fixed image disclosed" in done.stdout
    assert str(tmp_path / "T.tfm") in done.stdout
    assert not list(tmp_path.glob("*.html"))


FRAMES = {
    "left-handed": np.diag([1.0, -1.0, 1.0]),
    "sagittal, oblique, left-handed": turned(3, 8.0) @ np.array([[0, 0, -1.0], [1.0, 0, 0], [0, 1.0, 0]]),
}


@pytest.mark.parametrize("frame", [pytest.param("left-handed", marks=pytest.mark.long), list(FRAMES)[1]])
def test_any_orientation_of_the_fixed_grid(tmp_path: Path, frame: str) -> None:
    fixed = grid((42, 34, 22), (1.2, 1.5, 2.6), (-60.0, 30.0, 110.0), FRAMES[frame])
    centre = fixed.centre()
    moving = grid((48, 40, 36), (1.4, 1.4, 1.9), centre - 0.5 * np.array([47 * 1.4, 39 * 1.4, 35 * 1.9]))
    truth = make_pair(tmp_path, fixed, moving)
    done = ppir(
        tmp_path / "home", "simulate", "--fixed", tmp_path / "fixed.nrrd", "--moving", tmp_path / "moving.nrrd",
        "--transform", "rigid", "--output", tmp_path / "T.h5", "--warped", tmp_path / "W.nrrd",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert distance(sitk.ReadTransform(str(tmp_path / "T.h5")), truth, fixed) < 0.6
    check_warped(tmp_path, "W.nrrd", "T.h5")


def test_an_initial_transform_from_a_file(tmp_path: Path) -> None:
    """A start that is right needs few evaluations."""
    fixed = plain_grid(2)
    truth = make_pair(tmp_path, fixed, fixed)
    sitk.WriteTransform(truth, str(tmp_path / "start.tfm"))
    done = here(
        tmp_path / "home", "simulate", "--fixed", tmp_path / "fixed.nrrd", "--moving", tmp_path / "moving.nrrd",
        "--transform", "rigid", "--initial", tmp_path / "start.tfm", "--output", tmp_path / "T.h5", "--json",
        "--protocol", "clear", "--levels", "1",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    events = events_of(done)
    assert max(e["evaluation"] for e in events if e["event"] == "progress") <= 3
    assert distance(sitk.ReadTransform(str(tmp_path / "T.h5")), truth, fixed) < 0.2


# --------------------------------------------------------------------------------- two homes, real commands


def one_event(home: Path, *arguments: object, run: Any = here) -> dict[str, Any]:
    done = run(home, *arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    (event,) = events_of(done)
    return event


def test_two_hospitals_from_identity_to_ledger(tmp_path: Path) -> None:
    a, b = tmp_path / "A", tmp_path / "B"
    fixed = plain_grid(3)
    truth = make_pair(tmp_path, fixed, fixed)
    mine = one_event(a, "identity", "--name", "Hospital A", run=ppir)
    theirs = one_event(b, "identity", "--name", "Hospital B", run=ppir)
    assert (mine["name"], theirs["name"]) == ("Hospital A", "Hospital B")
    assert mine["fingerprint"] != theirs["fingerprint"]
    assert one_event(a, "identity")["fingerprint"] == mine["fingerprint"], "a second look makes no second key"
    assert mine["fingerprint"] in here(a, "identity").stdout

    one_event(a, "trust", "add", theirs["fingerprint"], "--name", "Hospital B", run=ppir)
    with Program(
        b, "serve", tmp_path / "fixed.nrrd", "--name", "atlas", "--listen", "127.0.0.1:0", "--budget-percent", 20,
        "--budget-bits", 120,
    ) as server:  # fmt: skip
        listening = server.wait_for("listening")
        address = listening["address"]
        assert listening["images"] == ["atlas"]

        # B does not trust A yet: both are told how to change that, and the server goes on.
        refused = ppir(a, "check", address)
        assert refused.returncode == 7 and refused.stdout == ""
        assert mine["fingerprint"] in refused.stderr and "trust" in refused.stderr
        assert mine["fingerprint"] in str(server.wait_for("refused connection"))
        one_event(b, "trust", "add", mine["fingerprint"], "--name", "Hospital A")

        done = ppir(a, "check", address, "--json")
        assert done.returncode == 0
        peer, image = events_of(done)
        assert (peer["event"], peer["name"], peer["fingerprint"]) == ("peer", "Hospital B", theirs["fingerprint"])
        assert (image["event"], image["name"], image["has_mask"]) == ("image", "atlas", False)
        assert image["protocols"] == ["fhe", "mpc"] and image["geometry"]["size"] == list(fixed.size)
        assert "atlas" in here(a, "check", address).stdout

        (estimate,) = (e for e in events_of(here(a, "estimate", address, "--transform", "rigid", "--json"))[2:])
        assert estimate["event"] == "estimate" and estimate["most"] == sum(r["most"] for r in estimate["levels"])
        factors = [r["factor"] for r in estimate["levels"] if not r["purpose"]]
        assert factors == sorted(factors)[::-1]
        assert [r["purpose"] for r in estimate["levels"] if r["purpose"]] == ["starts", "check", "detail"]
        more = events_of(here(a, "estimate", address, "--transform", "bspline", "--json"))[-1]
        assert [r["transform"] for r in more["levels"]] == ["affine"] * 5 + ["bspline"] * 2  # the affine part counts
        assert "--iterations" in more["problem"] and not estimate["problem"]
        said = here(a, "estimate", address, "--transform", "bspline").stdout
        assert "bspline, shrink factor 1: at most" in said and "the owner's budget has" in said and "in all" in said

        assert here(b, "ledger").stdout.strip() == "Nothing has been disclosed."
        done = ppir(
            a, "register", tmp_path / "moving.nrrd", "--peer", address, "--transform", "rigid",
            "--output", tmp_path / "T.h5", "--warped", tmp_path / "W.nrrd", "--report", tmp_path / "R.json", "--json",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        numbers = events_of(done)[-1]["numbers"]
        assert 0 < numbers <= estimate["most"]
        session = server.wait_for("session")
        assert session["peer"] == mine["fingerprint"] and session["image"] == "atlas"
        assert server.wait_for("session finished")["numbers"] == numbers
        assert distance(sitk.ReadTransform(str(tmp_path / "T.h5")), truth, fixed) < 0.3
        check_warped(tmp_path, "W.nrrd", "T.h5")
        report = check_report(tmp_path / "R.json")
        assert report["peer"]["name"] == "Hospital B" and report["peer"]["fingerprint"] == theirs["fingerprint"]
        assert report["software"]["ppir"] in SOFTWARE or SOFTWARE in str(report["software"])

        left = next(e for e in events_of(here(a, "check", address, "--json")) if e["event"] == "image")
        assert left["numbers_opened"] == numbers
        rows = events_of(ppir(b, "ledger", "--json"))
        assert sum(r["numbers"] for r in rows) == numbers == account_numbers(b)
        assert all(r["bits"] == 46 * r["numbers"] for r in rows)
        assert {r["level"] for r in rows} == {v["factor"] for v in report["levels"]}
        assert {r["name"] for r in rows} == {"atlas"} and "image 'atlas'" in here(b, "ledger").stdout
        assert here(a, "ledger").stdout.strip() == "Nothing has been disclosed.", "A shares no image"

        server.process.send_signal(signal.SIGINT)
        assert server.ends() == 0
    audit = [json.loads(line)["event"] for line in (b / "audit.jsonl").read_text().splitlines()]
    assert audit[0] == "listening" and audit[-1] == "stopped" and "session finished" in audit
    private = [p for p in (a, b) for p in p.rglob("*") if p.is_file() and b"PRIVATE KEY" in p.read_bytes()]
    assert len(private) == 2 and all(p.stat().st_mode & 0o077 == 0 for p in private)


def test_trust_can_be_listed_and_taken_back(tmp_path: Path) -> None:
    a, b = tmp_path / "A", tmp_path / "B"
    fingerprint = one_event(b, "identity")["fingerprint"]
    one_event(a, "trust", "add", fingerprint.lower().replace("-", " "), "--name", "B")
    assert one_event(a, "trust")["fingerprint"] == fingerprint
    assert one_event(a, "trust", "remove", "B")["fingerprint"] == fingerprint
    assert here(a, "trust", "--json").stdout == ""


def test_a_renewed_certificate_keeps_the_fingerprint_and_a_new_key_does_not(tmp_path: Path) -> None:
    first = one_event(tmp_path, "identity", "--name", "A")["fingerprint"]
    assert one_event(tmp_path, "identity", "--renew")["fingerprint"] == first
    assert one_event(tmp_path, "identity", "--new-key")["fingerprint"] != first


def test_an_image_is_offered_to_those_named_by_allow_only(tmp_path: Path) -> None:
    fixed = plain_grid(2)
    make_pair(tmp_path, fixed, fixed)
    homes = {n: tmp_path / n for n in ("A", "B", "C")}
    prints = {n: one_event(h, "identity", "--name", n)["fingerprint"] for n, h in homes.items()}
    for name in ("A", "C"):
        one_event(homes["B"], "trust", "add", prints[name], "--name", name)
        one_event(homes[name], "trust", "add", prints["B"], "--name", "B")
    with Program(homes["B"], "serve", tmp_path / "fixed.nrrd", "--listen", "127.0.0.1:0", "--allow", "A") as server:
        address = server.wait_for("listening")["address"]
        assert [e["event"] for e in events_of(here(homes["A"], "check", address, "--json"))] == ["peer", "image"]
        assert [e["event"] for e in events_of(here(homes["C"], "check", address, "--json"))] == ["peer"]
        done = here(
            homes["C"], "register", tmp_path / "moving.nrrd", "--peer", address, "--image", "fixed",
            "--output", tmp_path / "T.h5",
        )  # fmt: skip
        assert done.returncode == 10 and "no image 'fixed'" in done.stderr
        assert not (tmp_path / "T.h5").exists()


def test_two_images_on_offer_must_be_told_apart(tmp_path: Path) -> None:
    fixed = plain_grid(2)
    make_pair(tmp_path, fixed, fixed)
    a, b = tmp_path / "A", tmp_path / "B"
    prints = [one_event(h, "identity")["fingerprint"] for h in (a, b)]
    one_event(b, "trust", "add", prints[0])
    one_event(a, "trust", "add", prints[1])
    files = (tmp_path / "fixed.nrrd", tmp_path / "moving.nrrd")
    with Program(b, "serve", *files, "--listen", "127.0.0.1:0", "--budget-percent", 20, "--budget-bits", 120) as server:
        address = server.wait_for("listening")["address"]
        words = ("register", files[1], "--peer", address, "--transform", "rigid", "--output", tmp_path / "T.h5")
        done = here(a, *words)
        assert done.returncode == 10
        assert all(w in done.stderr for w in ("offered: image-1, image-2.", "--image")), "never the files' names"
        assert here(a, *words, "--image", "image-1").returncode == 0


def test_every_command_explains_itself(tmp_path: Path) -> None:
    for name in ("identity", "trust", "serve", "dealer", "check", "register", "simulate", "demo", "ledger"):
        done = here(tmp_path, name, "--help")
        assert done.returncode == 0 and f"ppir {name}" in done.stdout and "example:" in done.stdout
    assert here(tmp_path).returncode == 2
    assert here(tmp_path, "--version").stdout.strip() == SOFTWARE


@pytest.mark.long
def test_after_the_doctor_a_registration_compiles_nothing(tmp_path: Path) -> None:
    """The first registration after an installation, with the usual options, on the published 2D pair."""
    there = {**environment(tmp_path / "home"), "NUMBA_CACHE_DIR": str(tmp_path / "compiled")}
    fixed, moving = (DATA / f"BrainProtonDensitySlice{name}.png" for name in ("BSplined10", "R10X13Y17S12"))
    kept = []
    for words in (
        ("doctor",),
        ("simulate", "--fixed", fixed, "--moving", moving, "--output", tmp_path / "T.h5", "--accept-doubtful"),
    ):
        done = subprocess.run(command(*words), env=there, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 2) and "PROBLEM  run" not in done.stdout, done.stdout + done.stderr
        kept.append({path.name for path in tmp_path.rglob("*.nbc")})
    assert (tmp_path / "T.h5").is_file() and len(kept[0]) > 20
    assert kept[1] == kept[0]


def test_home_by_option_and_by_environment(tmp_path: Path) -> None:
    """--home wins over PPIR_HOME; what is made there is for its owner's eyes only."""
    one_event(tmp_path / "unused", "identity", "--home", tmp_path / "chosen")
    assert (tmp_path / "chosen").is_dir() and not (tmp_path / "unused").exists()
    assert os.stat(tmp_path / "chosen").st_mode & 0o077 == 0


def test_grid_points_are_in_array_order() -> None:
    """The phantoms' own ground: a wrong order there would make every answer above meaningless."""
    geometry = grid((3, 2), (2.0, 5.0), (1.0, 1.0), turned(2, 30.0))
    image = geometry.to_sitk_reference()
    expected = [image.TransformIndexToPhysicalPoint((x, y)) for y in range(2) for x in range(3)]
    assert np.allclose(grid_points(geometry), expected)
