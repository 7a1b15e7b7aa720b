"""Figure i: other registration programs on the same pairs in the same run, beside ours.

Each runs in a process of its own (`other_program.py`), because some crash; a crash is a row that says so. Their
seconds are of the whole process, as ours are of the whole command. They hold both images: they protect nothing.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from Benchmarks import pairs
from Benchmarks.commands import THREADS, register_once
from Benchmarks.rows import ROOT, Options, Row, attempt

PROGRAMS = ("elastix", "ants", "simpleitk")
TIMEOUT = 1200
NOT_INSTALLED = 3


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
    volume = pairs.volume_pair(options.folder, 1, options.quick)
    yield Contest("brain volume, seed 1", volume.fixed, volume.moving, ("--loss", "ncc", "--levels", "4,2,1"),
                  "mm TRE", volume.error)  # fmt: skip
    if options.quick:
        return
    yield Contest("lung pair, no masks", *pairs.LUNG, ("--loss", "ncc"), "mm landmarks", pairs.landmark_error)


@dataclass(frozen=True)
class Result:
    """One run: its transform, the seconds of the whole process and of the registration alone."""

    transform: sitk.Transform
    wall: float
    inner: float


def _row(contest: Contest, who: str, results: list[Result]) -> Row:
    """The median of several runs, with the range of their errors: some programs are not repeatable."""
    values = [contest.judge(r.transform) for r in results]
    value, wall, inner = (statistics.median(v) for v in (values, [r.wall for r in results], [r.inner for r in results]))
    digits = 5 if contest.measure == "NCC" else 4
    spread = f" ({min(values):.{digits}f} to {max(values):.{digits}f} in {len(values)} runs)" if len(values) > 1 else ""
    text = f"{value:.{digits}f} {contest.measure}{spread}; {wall:.1f} s, registration alone {inner:.1f} s"
    data = {contest.measure: values, "wall": [r.wall for r in results], "registration": [r.inner for r in results]}
    return Row("i", f"{contest.name}: {who}", text, data=data)


def _ours(contest: Contest, protocol: str, options: Options) -> Iterator[Row]:
    out = options.folder / "i.h5"
    runs = [
        register_once(contest.fixed, contest.moving, protocol, out, *contest.ours)
        for _ in range(_repeats(contest, options))
    ]
    results = [Result(r.transform, r.wall, r.result["seconds"]) for r in runs]
    yield _row(contest, f"ours, {protocol}", results)


def _repeats(contest: Contest, options: Options) -> int:
    """Three where a run takes seconds."""
    return 3 if contest.fixed.suffix == ".png" and not options.quick else 1


def _other(contest: Contest, program: str, options: Options) -> Iterator[Row]:
    fixed, moving = (pairs.as_volume_file(p, options.folder) for p in (contest.fixed, contest.moving))
    who, results, number = f"{contest.name}: {program}", [], ""
    for _ in range(_repeats(contest, options)):
        done, wall, found = run_program(program, fixed, moving, options)
        if done.returncode == NOT_INSTALLED:
            yield Row("i", who, "not installed")
            return
        if found is None:
            last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
            text = f"crashed (exit {done.returncode}): {last[:200]}"
            yield Row("i", who, text, data={"stderr": done.stderr[-2000:]})
            return
        number = found["version"]
        results.append(Result(affine_found(found), wall, found["seconds"]))
    yield _row(contest, f"{program} {number}", results)


def run_program(
    program: str, fixed: Path, moving: Path, options: Options
) -> tuple[subprocess.CompletedProcess[str], float, dict[str, Any] | None]:
    """One run in a process of its own: how it ended, its seconds, and what it wrote if it ended well."""
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
    found = json.loads(out.read_text()) if done.returncode == 0 and out.is_file() else None
    return done, wall, found


def affine_found(found: dict[str, Any]) -> sitk.AffineTransform:
    """ITK's own parameters (matrix row by row, translation) about a centre."""
    transform = sitk.AffineTransform(len(found["centre"]))
    transform.SetCenter(found["centre"])
    transform.SetParameters(np.asarray(found["parameters"], float).tolist())
    return transform
