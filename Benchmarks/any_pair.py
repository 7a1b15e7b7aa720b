"""Any pair gives the right transform or a warning: hard views and places of pairs with known truth, under `clear`.

Each case is a row of bench-output/any_pair.jsonl; those that are there are not run again, so that a run may be stopped
and goes on. The cases come in rounds, one of each kind in turn: what was run is at any time a sample of them all. A
case is found if its mean error is small, warned if the run says that it is in doubt, silent if it is neither.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import SimpleITK as sitk

from Benchmarks.any_pair_page import table, write_page
from Benchmarks.hard_cases import Case, cases
from Benchmarks.hard_pairs import PAIRS, Pair
from Benchmarks.others import NOT_INSTALLED, affine_found, run_program
from Benchmarks.pairs import map_points
from Benchmarks.rows import Options
from PPIRLogic.errors import PPIRError
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.party1.session import ClientSession
from PPIRLogic.registration.simulate import RunningPeers, peers

PROGRAMS = ("elastix", "ants", "simpleitk")
OTHERS = 2  # cases of each kind that other programs get, unless said otherwise


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """How many numbers are opened, by purpose of the level ('search' where it has none): `clear` does not count."""
    numbers: dict[str, int] = defaultdict(int)
    evaluate = ClientSession.evaluate

    def counting(self: ClientSession, level: Any, *rest: Any, **named: Any) -> list[int]:
        values = evaluate(self, level, *rest, **named)
        numbers[level.purpose or "search"] += len(values)
        return values

    with mock.patch.object(ClientSession, "evaluate", counting):
        yield numbers


def measure(world: RunningPeers, pair: Pair, loss: str, case: Case) -> dict[str, Any]:
    moving, points, inside = case.made(pair)
    row: dict[str, Any] = _row(pair, loss, case)
    parameters = Parameters(protocol="clear", loss=loss, levels=pair.levels, threads=1)
    began, cpu = time.perf_counter(), time.process_time()
    with counted() as numbers:
        try:
            result = register(Volume.from_sitk(moving, case.name), world.peer, home=world.home, parameters=parameters)
        except PPIRError as error:
            return {**row, "doubts": [str(error)], "seconds": time.perf_counter() - began, "numbers": dict(numbers)}
    found = np.array([result.transform.TransformPoint(p) for p in pair.fixed_points[inside].tolist()])
    return {
        **row, "error_mm": float(np.linalg.norm(found - points[inside], axis=1).mean()), "doubts": result.doubts,
        "seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu, "numbers": dict(numbers),
        "start": result.starts and result.starts.chosen, "compared": result.starts and result.starts.values,
        "tried": result.starts and result.starts.tried, "check": result.check and dict(vars(result.check)),
        "evaluations": [level.evaluations for level in result.levels],
        "reasons": [level.reason for level in result.levels],
    }  # fmt: skip


def _row(pair: Pair, who: str, case: Case) -> dict[str, Any]:
    known = {"pair": pair.name, "loss": who, "case": case.name, "kind": case.kind, "limit_mm": pair.limit_mm}
    return {**known, "error_mm": None, "doubts": []}


def measure_other(pair: Pair, program: str, case: Case, options: Options) -> dict[str, Any] | None:
    """The same case by another program with its own defaults; None where it is not installed."""
    moving, points, inside = case.made(pair)
    files = [options.folder / f"any_pair_{role}.mha" for role in ("fixed", "moving")]
    for image, file in zip((_grey(pair.fixed), moving), files, strict=True):
        sitk.WriteImage(image, str(file))
    name = "simpleitk-mattes" if program == "simpleitk" and pair.modalities > 1 else program
    done, seconds, found = run_program(name, *files, options)
    if done.returncode == NOT_INSTALLED:
        return None
    row = {**_row(pair, program, case), "seconds": seconds}
    if found is None:  # it says itself that it failed
        return {**row, "doubts": [f"exit {done.returncode}"]}
    there = map_points(affine_found(found), pair.fixed_points[inside])
    return {**row, "error_mm": float(np.linalg.norm(there - points[inside], axis=1).mean())}


def _grey(file: Path) -> sitk.Image:
    image = sitk.ReadImage(str(file))
    return sitk.Cast(
        sitk.VectorIndexSelectionCast(image, 0) if image.GetNumberOfComponentsPerPixel() > 1 else image,
        sitk.sitkFloat32,
    )


def in_rounds(pair: Pair, quick: bool) -> list[tuple[int, Case]]:
    """The cases with the round they come in: first one of each kind, then another one."""
    seen: dict[str, int] = defaultdict(int)
    out = []
    for case in cases(pair, quick):
        out.append((seen[case.kind], case))
        seen[case.kind] += 1
    return sorted(out, key=lambda v: v[0])


class Rows:
    """What was measured, kept in a file of one row a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        self.done = {(r["pair"], r["loss"], r["case"]) for r in self.rows}

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        right = row["error_mm"] is not None and row["error_mm"] < row["limit_mm"]
        verdict = ("found, warned" if row["doubts"] else "found") if right else "warned" if row["doubts"] else "SILENT"
        error = "–" if row["error_mm"] is None else f"{row['error_mm']:.2f} mm"
        print(
            f"{row['pair']:12s}{row['loss']:10s}{row['case']:20s}{error:>10s} {verdict:14s}"
            f"{sum(row.get('numbers', {}).values()):7d} numbers {row['seconds']:6.1f} s",
            flush=True,
        )


def measure_pair(pair: Pair, rows: Rows, a: argparse.Namespace, options: Options) -> None:
    chosen = [(n, c) for n, c in in_rounds(pair, a.quick) if n < a.rounds and fnmatch(c.name, a.case)]
    losses = [loss for loss in pair.losses if a.loss in (None, loss)]
    ours = [(c, loss) for _, c in chosen for loss in losses if (pair.name, loss, c.name) not in rows.done]
    if ours:
        with peers(pair.fixed, protocol="clear", threads=1) as world:
            for case, loss in ours:
                rows.add(measure(world, pair, loss, case))
    for program in a.program:
        for number, case in chosen:
            if number >= a.others or (pair.name, program, case.name) in rows.done:
                continue
            row = measure_other(pair, program, case, options)
            if row is None:
                print(f"{program} is not installed in {options.peer_python}: left out")
                break
            rows.add(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("bench-output/any_pair.jsonl"))
    parser.add_argument("--quick", action="store_true", help="a few cases of each kind")
    parser.add_argument("--pair", action="append", choices=PAIRS, help="several may be given (all)")
    parser.add_argument("--loss", choices=("ncc", "mi"), help="with this loss only")
    parser.add_argument("--case", default="*", help="only cases whose name fits, such as 'view *'")
    parser.add_argument("--rounds", type=int, default=99, help="cases of each kind at most (all)")
    parser.add_argument("--program", action="append", choices=PROGRAMS, help="compare with it; several (all there are)")
    parser.add_argument(
        "--others", type=int, default=OTHERS, help="cases of each kind for other programs (%(default)s)"
    )
    parser.add_argument("--peer-python", default="", help="a Python with itk-elastix and antspyx")
    parser.add_argument("--write-docs", action="store_true", help="write Docs/results/any-pair.md from all rows")
    a = parser.parse_args()
    a.program = a.program or PROGRAMS
    rows, options = Rows(a.output), Options(a.output.parent, a.quick, a.peer_python or sys.executable)
    for name in a.pair or PAIRS:
        pair = PAIRS[name](a.output.parent)
        if pair is None:
            print(f"{name}: its images are not here; see Benchmarks/README.md")
            continue
        measure_pair(pair, rows, a, options)
    print("\n".join(table(rows.rows)))
    if a.write_docs:
        write_page(rows.rows)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
