"""The examples do what their README says: every script a process on loopback; the notebook, cell by cell."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from PPIRLogic.local_processes import Site, make_sites

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PATIENCE = 180.0  # seconds
FREE = "127.0.0.1:0"


@contextlib.contextmanager
def serving(script: str, site: Site, *arguments: str) -> Iterator[str]:
    """A script that serves, as long as the context lasts: its address."""
    command = [sys.executable, str(EXAMPLES / script), "--listen", FREE, *arguments]
    process = subprocess.Popen(command, env=environment(site), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    watch = threading.Timer(PATIENCE, process.kill)
    watch.start()
    try:
        word, _, address = process.stdout.readline().strip().partition(" ")
        assert word == "listening" and address.startswith("127.0.0.1:")
        yield address
        assert process.poll() is None, "it ended by itself"
    finally:
        watch.cancel()
        process.kill()
        process.communicate()


def environment(site: Site) -> dict[str, str]:
    return {**os.environ, "PPIR_HOME": str(site.home), "MPLBACKEND": "agg"}


def registered(site: Site, folder: Path, *arguments: str) -> str:
    """Hospital A from start to end: what it said. The transform brings the sample images together."""
    command = [sys.executable, str(EXAMPLES / "hospital_a_register.py"), "--output", str(folder), *arguments]
    done = subprocess.run(command, env=environment(site), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    check_transform(sitk.ReadTransform(str(folder / "transform.h5")))
    assert sitk.ReadImage(str(folder / "warped.nrrd")).GetSize() == (221, 257)
    return done.stdout


def check_transform(transform: sitk.Transform) -> None:
    """The moving sample was made with a turn of 10° and a scale of 1/1.2."""
    origin, x = (np.array(transform.TransformPoint(p)) for p in ((0.0, 0.0), (1.0, 0.0)))
    assert np.linalg.norm(x - origin) == pytest.approx(1 / 1.2, abs=0.02)
    assert abs(np.degrees(np.arctan2(*(x - origin)[::-1]))) == pytest.approx(10, abs=0.5)


def test_two_hospitals(tmp_path: Path) -> None:
    sites = make_sites(tmp_path, ("hospital-a", "hospital-b"))
    with serving("hospital_b_serve.py", sites["hospital-b"]) as address:
        said = registered(sites["hospital-a"], tmp_path, "--peer", address)
    assert "Aligned in" in said and "Hospital A learned" in said and "level 4/4" in said


@pytest.mark.long
def test_two_hospitals_and_a_dealer(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="mpc is an extra that is not installed here")
    sites = make_sites(tmp_path, ("hospital-a", "hospital-b", "dealer"))
    with serving("dealer.py", sites["dealer"]) as third:
        known = "--dealer", third, "--dealer-fingerprint", sites["dealer"].fingerprint
        with serving("hospital_b_serve.py", sites["hospital-b"], *known) as address:
            assert "Aligned in" in registered(sites["hospital-a"], tmp_path, "--peer", address, *known)


@pytest.mark.long
def test_the_notebook(tmp_path: Path) -> None:
    """All of its code in order, as one program in a fresh Python; it is stored without results."""
    notebook = json.loads((EXAMPLES / "two_hospitals.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert cells and not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    program = tmp_path / "cells.py"
    program.write_text("\n\n".join("".join(cell["source"]) for cell in cells), encoding="utf-8")
    site = make_sites(tmp_path, ("hospital-a",))["hospital-a"]
    done = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, env=environment(site), capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "numbers learned by hospital A" in done.stdout
    assert (tmp_path / "two_hospitals.png").read_bytes().startswith(b"\x89PNG")
    check_transform(sitk.ReadTransform(str(tmp_path / "two_hospitals.h5")))


def test_every_example_is_in_the_readme() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"({p.name})" in text for p in EXAMPLES.iterdir() if p.suffix in (".py", ".ipynb"))
