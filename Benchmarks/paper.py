"""The paper's tables for our images: python -m Benchmarks.paper [--only affine,points] [--seeds 10] [--write-docs]."""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from Benchmarks import pairs
from Benchmarks.paper_tables import TABLES, ImageCase, Line, PointCase, Table
from Benchmarks.rows import surroundings
from Benchmarks.sections import RESULTS, wrapped
from PPIRLogic import Parameters, PointSet, RegistrationResult, Volume, read_volume, register, register_points
from PPIRLogic.disclosure.accounts import UNLIMITED, Budget
from PPIRLogic.disclosure.ledger import VOXEL_BITS
from PPIRLogic.registration.points.fit import FitSums, fit
from PPIRLogic.registration.simulate import RunningPeers, peers
from PPIRLogic.transforms.distances import rms_displacement

OPEN = Budget(1e6, 1e7, UNLIMITED - 1, UNLIMITED - 1)
_OUTLINE_LEVEL = 30


@dataclass(frozen=True)
class Measured:
    """One run. seconds: CPU seconds of party 1 and party 2; sent: bytes of party 1 and party 2 (mpc: and the dealer's
    share); opened: per level the shrink factor, numbers, bits, and numbers and bits as shares of what the level holds.
    """

    similarity: float
    iterations: int
    evaluations: int
    rmse: float
    seconds: tuple[float, float]
    sent: tuple[int, int]
    opened: tuple[tuple[int, int, int, float, float], ...]


# ------------------------------------------------------------------------------------------------ measuring


class _Clock:
    """CPU seconds of both parties between two looks."""

    def __init__(self, world: RunningPeers) -> None:
        self._pid = world.children[-1].process.pid
        self._start = time.process_time(), self._other()

    def _other(self) -> float:
        try:
            fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            return math.nan

    def seconds(self) -> tuple[float, float]:
        return time.process_time() - self._start[0], self._other() - self._start[1]


def _opened(ledger: list[dict[str, Any]], whole: dict[int, int]) -> tuple[tuple[int, int, int, float, float], ...]:
    """What party 1 learned, level by level; `whole`: numbers party 2 holds at each level."""
    out = []
    for factor, count in whole.items():
        rows = [r for r in ledger if r["to"] == "party 1" and r["level"] == factor]
        numbers, bits = sum(r["numbers"] for r in rows), sum(r["bits"] for r in rows)
        out.append((factor, numbers, bits, numbers / count, bits / count / VOXEL_BITS))
    return tuple(out)


def initial(table: Table) -> dict[str, Any]:
    """The initial transform that a table gives its lines, as an option of Parameters; none where it gives none."""
    if table.start is None or table.images is None:
        return {}
    moving, fill = (read_volume(p, role="moving") for p in (table.images[1], pairs.LUNG_MASKS[1]))
    parameters = Parameters(**table.start)
    with peers(Path(table.images[0]), mask=pairs.LUNG_MASKS[0], protocol=parameters.protocol, budget=OPEN) as world:
        result = register(moving, world.peer, mask=fill.array > 0, parameters=parameters, home=world.home)
    if result.error is not None:
        raise result.error
    return {"initial": result.transform}


def image_runs(
    table: Table, case: ImageCase, seeds: range, start: dict[str, Any]
) -> Iterator[tuple[Measured, sitk.Transform]]:
    """One registration per seed, between this process and a serving one. rmse is filled in by the caller."""
    assert table.images is not None
    fixed, moving = (read_volume(p, role="fixed") for p in table.images)
    with peers(Path(table.images[0]), protocol=case.protocol, budget=OPEN) as world:
        for seed in seeds:
            parameters = Parameters(**{**table.base, **case.options, **start}, protocol=case.protocol, seed=seed)
            clock = _Clock(world)
            result = register(moving, world.peer, parameters=parameters, home=world.home)
            seconds = clock.seconds()
            if result.error is not None:
                raise result.error
            yield (
                Measured(
                    _similarity(table, fixed, moving, result),
                    sum(v.iterations for v in result.levels),
                    sum(v.evaluations for v in result.levels),
                    math.nan,
                    seconds,
                    (result.bytes_sent + result.dealer_bytes_sent, result.bytes_received),
                    _opened(result.ledger, {v.factor: v.samples for v in result.levels}),
                ),
                result.transform,
            )


def _similarity(table: Table, fixed: Volume, moving: Volume, result: RegistrationResult) -> float:
    if table.similarity == "Dice":
        return pairs.lung_dice(result.transform)
    if table.similarity == "SSD":
        return _ssd(fixed.to_sitk(), moving.to_sitk(), result.transform)
    return abs(result.levels[-1].values[-1])


def _ssd(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> float:
    """Mean squared difference of intensities over 255, where the warped moving image lies."""
    inside = sitk.Image(moving.GetSize(), sitk.sitkFloat32) + 1
    inside.CopyInformation(moving)
    where, warped = (
        sitk.GetArrayFromImage(sitk.Resample(i, fixed, transform, sitk.sitkLinear, 0.0)) for i in (inside, moving)
    )
    gaps = (sitk.GetArrayFromImage(fixed) - warped)[where > 0.999] / 255
    return float(np.mean(np.square(gaps)))


def outline() -> NDArray[np.float64]:
    """193 points of the outline of the brain slice: the outermost bright voxel in as many directions, mm."""
    image = pairs.grey(pairs.SLICES[0])
    bright = np.argwhere(sitk.GetArrayViewFromImage(image) > _OUTLINE_LEVEL)[:, ::-1].astype(float)
    offsets = bright - bright.mean(axis=0)
    sector = np.floor((np.arctan2(offsets[:, 1], offsets[:, 0]) / (2 * np.pi) + 0.5) * 193).astype(int) % 193
    radius = np.linalg.norm(offsets, axis=1)
    chosen = [np.flatnonzero(sector == k)[np.argmax(radius[sector == k])] for k in range(193)]
    return bright[chosen]


def point_runs(case: PointCase, seeds: range) -> Iterator[Measured]:
    """One registration of the outline per seed."""
    fixed, angle = outline(), np.deg2rad(10)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fixed.txt"
        np.savetxt(file, fixed, fmt="%.17g")
        with peers(file, protocol=case.protocol, budget=OPEN, points=True) as world:
            for seed in seeds:
                moving = fixed @ turn.T + [13, 17] + np.random.default_rng(seed).normal(0, 1, fixed.shape)
                q, w = moving - moving.mean(axis=0), fixed - fixed.mean(axis=0)
                sums = FitSums(q.T @ w, (q**2).sum(), (w**2).sum(), 193, moving.mean(axis=0), fixed.mean(axis=0))
                clock = _Clock(world)
                result = register_points(
                    PointSet(moving), world.peer, protocol=case.protocol, home=world.home, threads=2
                )
                mapped = result.fit.transform.apply(fixed)
                yield Measured(
                    _rms(mapped - moving),
                    1,
                    1,
                    _rms(mapped - fit(sums, "rigid").transform.apply(fixed)),
                    clock.seconds(),
                    (result.bytes_sent + result.dealer_bytes_sent, result.bytes_received),
                    _opened(result.ledger, {1: fixed.size}),
                )


def _rms(gaps: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.square(gaps).sum(axis=1).mean()))


def measure(
    table: Table, line: Line, seeds: range, start: dict[str, Any], reference: list[sitk.Transform]
) -> list[Measured]:
    """All runs of a line; the first image line of a table, clear on the full image, becomes its reference."""
    if isinstance(line.case, PointCase):
        return list(point_runs(line.case, seeds))
    assert isinstance(line.case, ImageCase) and table.images is not None
    grid = read_volume(table.images[0], role="fixed").geometry
    out = []
    for run, transform in image_runs(table, line.case, seeds, start):
        if not reference:
            reference.append(transform)
        gap = rms_displacement(transform, reference[0], grid)
        out.append(Measured(**{**run.__dict__, "rmse": gap}))
    return out


# -------------------------------------------------------------------------------------------------- writing


def _spread(values: list[float], form: str) -> str:
    mean = statistics.fmean(values)
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{mean:{form}}" if sd == 0 else f"{mean:{form}} ± {sd:{form}}"


def cells(runs: list[dict[str, Any]]) -> list[str]:
    """The columns of one line from its runs (as `asdict` gives them)."""
    per_run = [r["evaluations"] for r in runs]
    seconds = [statistics.fmean(r["seconds"][k] / n for r, n in zip(runs, per_run, strict=True)) for k in (0, 1)]
    sent = [statistics.fmean(r["sent"][k] / n for r, n in zip(runs, per_run, strict=True)) / 1e6 for k in (0, 1)]
    levels = list(zip(*(r["opened"] for r in runs), strict=True))
    numbers = round(statistics.fmean(sum(v[1] for v in r["opened"]) for r in runs))
    bits = round(statistics.fmean(sum(v[2] for v in r["opened"]) for r in runs))
    share = [f"{100 * statistics.fmean(v[3] for v in level):.2g}" for level in levels]
    bit_share = [f"{100 * statistics.fmean(v[4] for v in level):.2g}" for level in levels]
    return [
        _spread([r["similarity"] for r in runs], ".4g"),
        f"{statistics.fmean(r['iterations'] for r in runs):.1f} ({statistics.fmean(per_run):.1f})",
        _spread([r["rmse"] for r in runs], ".2g"),
        f"{seconds[0]:.2g}, {seconds[1]:.2g}",
        f"{sent[0]:.2g}, {sent[1]:.2g}",
        f"{numbers} ({bits})",
        f"{' / '.join(share)} ({' / '.join(bit_share)})",
    ]


def _markdown(data: dict[str, Any]) -> str:
    lines = [
        "# The tables of the paper",
        "",
        "Written by `make bench-paper` (`python -m Benchmarks.paper --write-docs`). R. Taiello, M. Önen, F. Capano,"
        " O. Humbert, M. Lorenzi, Privacy Preserving Image Registration, Medical Image Analysis 2024, beside this"
        " software on our images. The images differ, so similarity and iterations are not to be compared across; each"
        " displacement RMSE is against clear on the same images.",
        "",
        "What differs in the measuring. Published: Intel i7-7800X, 12 threads, both parties simulated in one process,"
        " no network, per-iteration averages. Here: each party is a process of its own, over mutually authenticated TLS"
        " on loopback, two threads each; seconds are CPU seconds of each party per evaluation of the loss, with its"
        " share of the rest of the run (the clear row shows what remains without protection); MB are what each party"
        " sent, TLS not counted, setup of the levels included, per evaluation. Iterations are accepted steps,"
        " evaluations in brackets. RMSE to clear: mean ± standard deviation over the seeds (fresh keys"
        " each; urs: also other samples),"
        " against clear on the full image. Opened: numbers (bits) that party 1 learns of the fixed image or points, and"
        " their share of each level, coarse to fine, in per cent of its voxels (in brackets: of 12 bits for each); more"
        " than 100 % is possible for bits, and the owner's default budget would refuse such a run.",
        "",
        "fhe has the same optimiser path as clear, so its RMSE on the full image is 0; under urs and gms the distance"
        " to clear on the full image is the sampling's, not the protocol's.",
        "",
    ]
    for table in TABLES:
        lines += _table_lines(table, data.get(table.name, {}))
    return "\n".join(wrapped(lines))


def _table_lines(table: Table, measured: dict[str, Any]) -> list[str]:
    head = [
        "method",
        "",
        table.similarity,
        "iterations",
        "RMSE to clear, mm",
        "s p1, p2",
        "MB p1, p2",
        "opened",
        "share, %",
    ]
    lines = [f"## {table.title}", "", table.differs, "", _row(head), _row(["---"] * len(head))]
    for line in table.lines:
        if line.published:
            lines.append(_row([line.name, "published", *line.published, "", ""]))
        if line.name in measured:
            name = "" if line.published else line.name
            lines.append(_row([name, "here", *cells(measured[line.name]["runs"])]))
        else:
            state = "not measured" if line.case else "not offered"
            lines.append(_row(["" if line.published else line.name, "here", state, *[""] * 6]))
    notes = sorted({f"{m['date']}, commit {m['commit']}, {len(m['runs'])} runs" for m in measured.values()})
    machine = sorted({m["machine"] for m in measured.values()})
    return [*lines, "", *([f"Measured: {'; '.join(notes)}; {'; '.join(machine)}.", ""] if notes else [])]


def _row(values: list[str]) -> str:
    return "| " + " | ".join(values) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m Benchmarks.paper", description=__doc__)
    names = [t.name for t in TABLES]
    parser.add_argument("--only", default=",".join(names), help=f"tables out of {', '.join(names)}")
    parser.add_argument("--seeds", type=int, default=10, help="runs per method, each with keys and samples of its own")
    parser.add_argument(
        "--output", type=Path, default=Path("bench-output"), help="folder for paper.json, which is kept"
    )
    parser.add_argument(
        "--write-docs", action="store_true", help="write Docs/results/paper.md, with what paper.json has"
    )
    a = parser.parse_args()
    if unknown := set(a.only.split(",")) - set(names):
        parser.error(f"unknown tables: {', '.join(sorted(unknown))}")
    a.output.mkdir(parents=True, exist_ok=True)
    file = a.output / "paper.json"
    data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    where = surroundings(False)
    machine = f"{where['processor']}, {where['cores']} cores, load at the start {where['load_at_start']}"
    for table in (t for t in TABLES if t.name in a.only.split(",")):
        reference: list[sitk.Transform] = []
        start = initial(table)
        for line in (v for v in table.lines if v.case is not None):
            runs = [asdict(r) for r in measure(table, line, range(1, a.seeds + 1), start, reference)]
            entry = {"date": where["date"][:10], "commit": where["commit"][:12], "machine": machine, "runs": runs}
            data.setdefault(table.name, {})[line.name] = entry
            print(table.name, line.name, *cells(runs), sep="  ", flush=True)
            file.write_text(json.dumps(data, indent=1), encoding="utf-8")
    if a.write_docs:
        (RESULTS / "paper.md").write_text(_markdown(data), encoding="utf-8")


if __name__ == "__main__":
    main()
