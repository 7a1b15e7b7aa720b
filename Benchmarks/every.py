"""Figure n: memory and time of every method on a volume of 192×160×192 voxels.

`python -m Benchmarks.every --only "affine ncc fhe,…"` measures some of them, on two cores if it is started so.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from Benchmarks import pairs
from Benchmarks.commands import peak_of, register
from Benchmarks.rows import Options, Row, attempt, surroundings, write_figure
from PPIRLogic.registration.simulate import RunningPeers, peers

SIZE = (192, 160, 192)
MEMORY_LIMIT = 8.0  # GB, all parties together
_BUMP_MM, _BUMP_WIDTH = 4.0, 25.0  # of the deformation that deformable methods are to find

LINEAR = ("--transform", "affine")
SPLINE, DIFFEO = ("--transform", "bspline"), ("--transform", "diffeo", "--levels", "4,2")
METHODS: dict[str, tuple[str, tuple[str, ...]]] = {  # name → protocol, options
    **{f"affine ncc {p}": (p, LINEAR) for p in ("clear", "fhe", "mpc")},
    **{
        f"affine ncc {p} urs 10 %": (p, (*LINEAR, "--sampling", "urs", "--percent", "10")) for p in ("fhe_v1", "fhe_v2")
    },
    **{f"affine ssd {p}": (p, (*LINEAR, "--loss", "ssd")) for p in ("fhe", "mpc")},
    **{f"affine lncc {p}": (p, (*LINEAR, "--loss", "lncc")) for p in ("fhe", "mpc")},
    **{f"affine mi {p}": (p, (*LINEAR, "--loss", "mi")) for p in ("fhe", "mpc")},
    **{f"B-spline ncc {p}": (p, SPLINE) for p in ("clear", "fhe", "mpc")},
    **{f"diffeomorphic lncc {p}": (p, (*DIFFEO, "--loss", "lncc")) for p in ("clear", "fhe", "mpc")},
    **{f"symmetric cc {p}": (p, (*DIFFEO, "--loss", "cc")) for p in ("clear", "mpc")},
}


def every(options: Options) -> Iterator[Row]:
    """n: memory and time of every method at 192×160×192."""
    chosen = ("affine ncc clear", "affine ncc fhe") if options.quick else tuple(METHODS)
    yield from _measured(chosen, options.folder, *_volumes(options.folder))


def _measured(names: tuple[str, ...], folder: Path, fixed: Path, moved: dict[str, Path]) -> Iterator[Row]:
    for name in names:
        protocol, settings = METHODS[name]
        yield from attempt("n", name, _method, name, fixed, moved, folder, protocol, settings)


def _volumes(folder: Path) -> tuple[Path, dict[str, Path]]:
    """The brain volume on that grid; and copies of it, moved by the affine of figure e, alone and with a deformation.

    moving(y) = fixed(T⁻¹(y)), as in pairs.volume_pair.
    """
    source = pairs.grey(pairs.VOLUME)
    extent = np.array(source.GetSize()) * source.GetSpacing()
    grid = sitk.Image(SIZE, sitk.sitkFloat32)
    grid.SetSpacing((extent / SIZE).tolist())
    grid.SetOrigin(source.GetOrigin())
    grid.SetDirection(source.GetDirection())
    fixed = sitk.Resample(source, grid, sitk.Transform(), sitk.sitkBSpline, 0.0)
    sitk.WriteImage(fixed, str(folder / "fixed.mha"))
    back, moved = pairs.volume_truth(fixed).GetInverse(), {}
    for name, transform in (("linear", back), ("bent", sitk.CompositeTransform([_bump(fixed), back]))):
        moved[name] = folder / f"{name}.mha"
        sitk.WriteImage(sitk.Resample(fixed, fixed, transform, sitk.sitkBSpline, 0.0), str(moved[name]))
    return folder / "fixed.mha", moved


def _bump(fixed: sitk.Image) -> sitk.Transform:
    """A smooth displacement of up to 4 mm in the middle of the volume."""
    axes = [(np.arange(n) - n / 2) * s for n, s in zip(SIZE, fixed.GetSpacing(), strict=True)]
    z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
    weight = _BUMP_MM * np.exp(-(x**2 + y**2 + z**2) / (2 * _BUMP_WIDTH**2))
    field = sitk.GetImageFromArray(np.stack([weight, -weight / 2, weight / 2], -1), isVector=True)
    field.CopyInformation(fixed)
    return sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))


def _method(
    name: str, fixed: Path, moved: dict[str, Path], folder: Path, protocol: str, settings: tuple[str, ...]
) -> Iterator[Row]:
    moving = moved["linear" if "affine" in settings else "bent"]
    with ExitStack() as stack:
        world: RunningPeers = stack.enter_context(peers(fixed, protocol=protocol))
        others = [stack.enter_context(peak_of(child.process.pid)) for child in world.children]
        run = register(world, moving, protocol, folder / "n.h5", *settings)
        time.sleep(0.1)
        memories = [run.peak, *(m.peak for m in others)]
    known = [m for m in memories if m is not None]
    gigabytes = sum(known) / 1e9 if len(known) == len(memories) else None
    parts = ", ".join(f"{m / 1e9:.2f}" for m in known) + " GB"
    text = (
        f"{run.wall:.0f} s; {run.result['bytes_sent'] / 1e6:.0f} MB sent, {run.result['bytes_received'] / 1e6:.0f} MB"
        f" received; {run.result['numbers']} numbers; peak memory {parts} (party 1, peers)"
    )
    data = {"wall": run.wall, "memory": memories}
    must = f"≤ {MEMORY_LIMIT:g} GB in all"
    yield Row("n", name, text, must, None if gigabytes is None else gigabytes <= MEMORY_LIMIT, data)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m Benchmarks.every", description=__doc__)
    parser.add_argument("--only", default=",".join(METHODS), help=f"out of: {', '.join(METHODS)}")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("bench-output/every.jsonl"),
        help="JSON lines; rows are added, the last counts",
    )
    parser.add_argument(
        "--write-docs", action="store_true", help="also figure n of Docs/results/benchmarks.md, of all its rows"
    )
    a = parser.parse_args()
    a.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ppir-bench-") as folder:
        fixed, moved = _volumes(Path(folder))
        for name in a.only.split(","):
            where = surroundings(False)
            for row in _measured((name,), Path(folder), fixed, moved):
                print(f"| {row.what} | {row.value} |", flush=True)
                with a.output.open("a", encoding="utf-8") as out:
                    out.write(json.dumps({**where, **asdict(row)}, ensure_ascii=False) + "\n")
    if a.write_docs:
        _write(a.output)


def _write(file: Path) -> None:
    """The last row of every method, with the commit and the load when its measurement began."""
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        begin = f"; {row['date'][:10]}, {row['commit'][:12]}, load {row['load_at_start']:.1f}"
        found[row["what"]] = Row("n", row["what"], row["value"] + begin, row["must"], row["reached"])
    rows = [found.get(m, Row("n", m, "not measured")) for m in METHODS]
    write_figure("n", every.__doc__ or "n", rows, surroundings(False))


if __name__ == "__main__":
    main()
