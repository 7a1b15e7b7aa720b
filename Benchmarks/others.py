"""Figure i: other registration programs on the same pairs in the same run, beside ours.

Each runs in a process of its own (`other_program.py`), because some crash; a crash is a row that says so. Their
seconds are of the whole process, as ours are of the whole command. They hold both images: they protect nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from Benchmarks import pairs
from Benchmarks.commands import THREADS, register_once
from Benchmarks.rows import ROOT, Options, Row, attempt

PROGRAMS = ("elastix", "ants", "simpleitk")
TIMEOUT = 1200


@dataclass(frozen=True)
class Contest:
    """One pair: its files, our options, and how a transform is judged (text of the measure, value, unit)."""

    name: str
    fixed: Path
    moving: Path
    ours: tuple[str, ...]
    measure: str
    judge: Callable[[sitk.Transform], float]


def beside_others(options: Options) -> Iterator[Row]:
    """i: accuracy and seconds of other programs in the same run."""
    for contest in _contests(options):
        for protocol in ("clear", "fhe"):
            yield from attempt("i", f"{contest.name}: ours, {protocol}", _ours, contest, protocol, options)
        for program in PROGRAMS:
            yield from attempt("i", f"{contest.name}: {program}", _other, contest, program, options)


def _contests(options: Options) -> Iterator[Contest]:
    fixed, moving = map(pairs.grey, pairs.DEMO)
    yield Contest("demonstration pair", *pairs.DEMO, pairs.DEMO_OPTIONS, "NCC",
                  lambda t: pairs.correlation(fixed, moving, t))  # fmt: skip
    slices = pairs.slices()
    yield Contest("slices of known truth", *pairs.SLICES, ("--loss", "ncc"), "mm TRE", slices.error)
    if options.quick:
        return
    volume = pairs.volume_pair(options.folder, 1, False)
    yield Contest("brain volume, seed 1", volume.fixed, volume.moving, ("--loss", "ncc", "--levels", "4,2,1"),
                  "mm TRE", volume.error)  # fmt: skip
    yield Contest("lung pair, no masks", *pairs.LUNG, ("--loss", "ncc"), "mm landmarks", pairs.landmark_error)


def _row(contest: Contest, who: str, transform: sitk.Transform, wall: float, inner: float) -> Row:
    value = contest.judge(transform)
    text = f"{value:.5f}" if contest.measure == "NCC" else f"{value:.4f}"
    return Row(
        "i", f"{contest.name}: {who}", f"{text} {contest.measure}, {wall:.1f} s (registration alone {inner:.1f} s)",
        data={contest.measure: value, "wall": wall, "registration": inner},
    )  # fmt: skip


def _ours(contest: Contest, protocol: str, options: Options) -> Iterator[Row]:
    run = register_once(contest.fixed, contest.moving, protocol, options.folder / "i.h5", *contest.ours)
    yield _row(contest, f"ours, {protocol}", run.transform, run.wall, run.result["seconds"])


def _other(contest: Contest, program: str, options: Options) -> Iterator[Row]:
    fixed, moving = (pairs.as_volume_file(p, options.folder) for p in (contest.fixed, contest.moving))
    out = options.folder / "other.json"
    out.unlink(missing_ok=True)
    script = Path(__file__).with_name("other_program.py")
    command = [options.peer_python, str(script), program, str(fixed), str(moving), str(out)]
    threads = {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": THREADS, "OMP_NUM_THREADS": THREADS}
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **threads}, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    wall = time.perf_counter() - began
    who = f"{contest.name}: {program}"
    if done.returncode == 3:
        yield Row("i", who, "not installed")
    elif done.returncode != 0 or not out.is_file():
        last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        yield Row("i", who, f"crashed (exit {done.returncode}): {last[:200]}", data={"stderr": done.stderr[-2000:]})
    else:
        found = json.loads(out.read_text())
        yield _row(contest, f"{program} {found['version']}", _affine(found), wall, found["seconds"])


def _affine(found: dict[str, list[float]]) -> sitk.AffineTransform:
    """ITK's own parameters (matrix row by row, translation) about a centre."""
    transform = sitk.AffineTransform(len(found["centre"]))
    transform.SetCenter(found["centre"])
    transform.SetParameters(np.asarray(found["parameters"], float).tolist())
    return transform
