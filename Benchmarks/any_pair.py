"""Any pair gives the right transform or a warning: hard views and places of pairs with known truth, under `clear`.

Each case is a row of bench-output/any_pair.jsonl; those that are there are not run again. A case is found if its mean
error is small (3 mm of one head, 12 mm of parts of a breathing lung, whose landmarks an affine transform leaves 5 to
10 mm apart), warned if the run says that it is in doubt, and silent if it is neither.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from Benchmarks.others import NOT_INSTALLED, PROGRAMS, affine_found, run_program
from Benchmarks.pairs import map_points
from Benchmarks.rows import Options
from PPIRLogic.cli.demo import DATA
from PPIRLogic.errors import PPIRError
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.simulate import RunningPeers, peers
from PPIRLogic.transforms.linear import rotation_of

Points = NDArray[np.float64]
VIEWS = {  # shares of the axes x, y, z that remain
    "full": (0, 1, 0, 1, 0, 1), "top": (0, 1, 0, 1, 0.5, 1), "bottom": (0, 1, 0, 1, 0, 0.5),
    "left": (0, 0.5, 0, 1, 0, 1), "right": (0.5, 1, 0, 1, 0, 1), "front": (0, 1, 0, 0.5, 0, 1),
    "back": (0, 1, 0.5, 1, 0, 1), "right bottom": (0.5, 1, 0, 1, 0, 0.5), "left top": (0, 0.5, 0, 1, 0.5, 1),
    "front bottom": (0, 1, 0, 0.5, 0, 0.5), "back top": (0, 1, 0.5, 1, 0.5, 1),
}  # fmt: skip
SLABS = ((20, 3.0), (20, 5.0), (30, 5.0), (40, 4.0))  # slices, mm


@dataclass(frozen=True)
class Pair:
    """A fixed file, the moving image, and where points of the one lie in the other."""

    name: str
    fixed: Path
    moving: sitk.Image
    fixed_points: Points
    moving_points: Points
    limit_mm: float
    levels: tuple[int, ...]


def pairs() -> Iterator[Pair]:
    """The lung of the package, and heads where there are some."""
    marks = [np.loadtxt(DATA / f"lung_{n}_landmarks.txt", skiprows=2) for n in ("baseline", "followup")]
    lung = sitk.ReadImage(str(DATA / "lung_followup.mha"), sitk.sitkFloat32)
    yield Pair("lung", DATA / "lung_baseline.mha", lung, marks[0], marks[1], 12.0, (4, 2))
    folder = Path(os.environ.get("PPIR_BENCH_DATA", ""))
    if not (folder / "t2_rot10_tx15.mha").is_file():
        return
    t1 = sitk.ReadImage(str(folder / "t1.mha"), sitk.sitkFloat32)
    truth = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.0, 0.0, np.deg2rad(-10.0), (-15.0, 0.0, 0.0))
    array = sitk.GetArrayViewFromImage(t1)
    index = np.argwhere(array > 0.1 * array.max())[::4001, ::-1].astype(float)
    points = index * t1.GetSpacing() + t1.GetOrigin()
    there = np.array([truth.TransformPoint(p) for p in points.tolist()])
    same = sitk.Resample(t1, t1, truth.GetInverse(), sitk.sitkLinear, 0.0)
    yield Pair("t1-t1", folder / "t1.mha", same, points, there, 3.0, (4, 2))
    other = sitk.ReadImage(str(folder / "t2_rot10_tx15.mha"), sitk.sitkFloat32)
    yield Pair("t1-t2", folder / "t1.mha", other, points, there, 3.0, (4, 2))


def losses_of(pair: Pair) -> tuple[str, ...]:
    return {"t1-t1": ("ncc",), "t1-t2": ("mi",)}.get(pair.name, ("ncc", "mi"))


def view(image: sitk.Image, name: str) -> sitk.Image:
    share, size = VIEWS[name], image.GetSize()
    window = tuple(slice(int(share[2 * k] * size[k]), int(share[2 * k + 1] * size[k])) for k in range(3))
    return image[window]


def slab(image: sitk.Image, slices: int, mm: float) -> sitk.Image:
    """So many thick slices from the middle of an image."""
    smooth = sitk.RecursiveGaussian(image, mm / 2.5, False, sitk.RecursiveGaussianImageFilter.ZeroOrder, 2)
    size, spacing = image.GetSize(), image.GetSpacing()
    first = max(0.0, (size[2] - slices * mm / spacing[2]) / 2)
    origin = image.TransformContinuousIndexToPhysicalPoint((0.0, 0.0, first))
    new_spacing = (spacing[0], spacing[1], mm)
    return sitk.Resample(
        smooth, (size[0], size[1], slices), sitk.Transform(), sitk.sitkLinear, origin, new_spacing, image.GetDirection()
    )


@dataclass(frozen=True)
class Place:
    """A rotation about the middle of an image, and a shift: where its voxels are put."""

    turn: Points
    shift: Points

    @classmethod
    def drawn(cls, degrees: float, mm: float, generator: np.random.Generator) -> Place:
        axis, way = (v / np.linalg.norm(v) for v in generator.normal(size=(2, 3)))
        return cls(rotation_of(np.deg2rad(degrees) * axis), mm * way)

    def put(self, image: sitk.Image, points: Points) -> tuple[sitk.Image, Points]:
        middle = [(n - 1) / 2 for n in image.GetSize()]
        centre = np.array(image.TransformContinuousIndexToPhysicalPoint(middle))
        out = sitk.Image(image)
        out.SetOrigin((self.turn @ (np.array(image.GetOrigin()) - centre) + centre + self.shift).tolist())
        out.SetDirection((self.turn @ np.reshape(image.GetDirection(), (3, 3))).ravel().tolist())
        return out, (points - centre) @ self.turn.T + centre + self.shift


Case = tuple[str, Callable[[sitk.Image], sitk.Image], Place]


def cases(quick: bool) -> Iterator[Case]:
    """Name, what remains of the moving image, and where it is put."""
    still, generator = Place(np.eye(3), np.zeros(3)), np.random.default_rng(11)
    for name in ("full", "top", "left", "left top") if quick else VIEWS:
        yield f"view {name}", lambda image, n=name: view(image, n), still
    for slices, mm in SLABS[:1] if quick else SLABS:
        yield f"slab {slices} x {mm:g} mm", lambda image, s=slices, h=mm: slab(image, s, h), still
    for number in range(2 if quick else 20):
        place = Place.drawn(generator.uniform(0, 30), generator.uniform(0, 40), generator)
        yield f"random {number}", lambda image: image, place
        half = [*VIEWS][1 + number % 6]
        yield f"random half {number}", lambda image, n=half: view(image, n), place
    for number in range(1 if quick else 6):
        place = Place.drawn((90.0, 180.0)[number % 2], (0.0, 100.0)[number % 3 == 0], generator)
        yield f"turned {number}", lambda image: image, place


def measure(world: RunningPeers, pair: Pair, loss: str, case: Case) -> dict[str, Any]:
    name, cut, place = case
    moving, points = place.put(cut(pair.moving), pair.moving_points)
    index = np.array([moving.TransformPhysicalPointToContinuousIndex(p) for p in points.tolist()])
    inside = ((index >= -0.5) & (index <= np.array(moving.GetSize()) - 0.5)).all(axis=1)
    began = time.perf_counter()
    row: dict[str, Any] = {"pair": pair.name, "loss": loss, "case": name}
    parameters = Parameters(protocol="clear", loss=loss, levels=pair.levels, threads=2)
    try:
        result = register(Volume.from_sitk(moving, name), world.peer, home=world.home, parameters=parameters)
    except PPIRError as error:
        return {**row, "error_mm": None, "doubts": [str(error)], "seconds": time.perf_counter() - began}
    found = np.array([result.transform.TransformPoint(p) for p in pair.fixed_points[inside].tolist()])
    gap = float(np.linalg.norm(found - points[inside], axis=1).mean())
    extra = [record for record in (result.starts, result.check) if record is not None]
    return {
        **row, "error_mm": gap, "doubts": result.doubts, "seconds": time.perf_counter() - began,
        "extra_numbers": sum(record.numbers for record in extra), "start": result.starts and result.starts.chosen,
        "compared": result.starts and result.starts.values, "check": result.check and dict(vars(result.check)),
        "evaluations": [level.evaluations for level in result.levels],
    }  # fmt: skip


def measure_other(pair: Pair, program: str, case: Case, options: Options) -> dict[str, Any] | None:
    """The same case by another program with its own defaults; None where it is not installed."""
    name, cut, place = case
    moving, points = place.put(cut(pair.moving), pair.moving_points)
    index = np.array([moving.TransformPhysicalPointToContinuousIndex(p) for p in points.tolist()])
    inside = ((index >= -0.5) & (index <= np.array(moving.GetSize()) - 0.5)).all(axis=1)
    file = options.folder / "any_pair_moving.mha"
    sitk.WriteImage(moving, str(file))
    done, seconds, found = run_program(program, pair.fixed, file, options)
    if done.returncode == NOT_INSTALLED:
        return None
    row = {"pair": pair.name, "loss": program, "case": name, "doubts": [], "seconds": seconds, "error_mm": None}
    if found is None:  # it says itself that it failed
        return {**row, "doubts": [f"exit {done.returncode}"]}
    there = map_points(affine_found(found), pair.fixed_points[inside])
    return {**row, "error_mm": float(np.linalg.norm(there - points[inside], axis=1).mean())}


def summary(rows: list[dict[str, Any]], limits: dict[str, float]) -> str:
    """By pair, loss and sort of case: found, warned, silent; and false alarms."""
    counted: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0] * 5)
    for row in rows:
        right = row["error_mm"] is not None and row["error_mm"] < limits[row["pair"]]
        at = counted[row["pair"], row["loss"], row["case"].rstrip("0123456789 ")]
        at[0] += 1
        at[1 if right else 2 if row["doubts"] else 3] += 1
        at[4] += right and bool(row["doubts"])
    lines = [f"{'pair':7s}{'loss':10s}{'case':26s}{'runs':>5s}{'found':>6s}{'warned':>7s}{'silent':>7s}{'alarms':>7s}"]
    for (pair, loss, case), (runs, found, warned, silent, alarms) in counted.items():
        lines.append(f"{pair:7s}{loss:10s}{case:26s}{runs:5d}{found:6d}{warned:7d}{silent:7d}{alarms:7d}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("bench-output/any_pair.jsonl"))
    parser.add_argument("--quick", action="store_true", help="a few cases of each sort")
    parser.add_argument("--pair", action="append", help="lung, t1-t1 or t1-t2; several may be given (all)")
    parser.add_argument("--peer-python", default="", help="a Python with itk-elastix and antspyx, to compare with them")
    a = parser.parse_args()
    a.output.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in a.output.read_text().splitlines()] if a.output.is_file() else []
    done, limits = {(r["pair"], r["loss"], r["case"]) for r in rows}, {}
    options, programs = Options(a.output.parent, a.quick, a.peer_python or sys.executable), [*PROGRAMS]
    for pair in pairs():
        limits[pair.name] = pair.limit_mm
        if a.pair and pair.name not in a.pair:
            continue
        with peers(pair.fixed, protocol="clear") as world:
            for case in cases(a.quick):
                for loss in losses_of(pair):
                    if (pair.name, loss, case[0]) in done:
                        continue
                    rows.append(measure(world, pair, loss, case))
                    with a.output.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
                    print(json.dumps(rows[-1]), flush=True)
                for program in [program for program in programs if (pair.name, program, case[0]) not in done]:
                    other = measure_other(pair, program, case, options)
                    if other is None:
                        print(f"{program} is not installed in {options.peer_python}: left out")
                        programs.remove(program)
                        continue
                    rows.append(other)
                    with a.output.open("a") as file:
                        file.write(json.dumps(other) + "\n")
                    print(json.dumps(other), flush=True)
    print(summary([row for row in rows if row["pair"] in limits], limits))


if __name__ == "__main__":
    main()
