"""The demonstration: two real image pairs, three protocols, every party a process of its own on loopback."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from PPIRLogic.cli.output import Arguments
from PPIRLogic.errors import InputError, OutputError, PeerError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.local_processes import start
from PPIRLogic.registration.simulate import RunningPeers, peers
from PPIRLogic.report import human_bytes
from PPIRLogic.transforms import read_transform
from PPIRLogic.transforms.distances import rms_displacement

DATA = Path(__file__).resolve().parents[1] / "sample_data"
PROTOCOLS = {  # by name: what a protocol needs beyond the package itself, and how to get it
    "clear": ((), ""),
    "fhe": (("tenseal",), "pip install 'ppir[fhe]'"),
    "mpc": (("torch", "crypten"), "pip install 'ppir[mpc]', then pip install --no-deps crypten==0.4.1"),
}


@dataclass(frozen=True)
class Pair:
    """One image pair: files in PPIRLogic/sample_data, and what to run."""

    name: str
    title: str
    fixed: str
    moving: str
    arguments: tuple[str, ...]
    landmarks: tuple[str, str] | None = None


PAIRS = (
    Pair(
        "brain2d",
        "2D brain MR slices (the published demonstration pair), affine, SSD",
        "BrainProtonDensitySliceBSplined10.png",
        "BrainProtonDensitySliceR10X13Y17S12.png",
        ("--loss", "ssd", "--initial", "identity"),
    ),
    Pair(
        "lung3d",
        "3D lung CT, two breath-holds of one patient, affine, NCC",
        "lung_baseline.mha",
        "lung_followup.mha",
        ("--loss", "ncc"),
        ("lung_baseline_landmarks.txt", "lung_followup_landmarks.txt"),
    ),
)


def run(a: Arguments) -> None:
    """The command."""
    run_demo(a.output, quick=a.quick)


def run_demo(output: Path, *, quick: bool = False) -> None:
    """Run all pairs under all protocols and write transforms, reports and pictures to `output`."""
    pairs = PAIRS[: 1 if quick else None]
    if not DATA.is_dir():
        raise InputError(f"The sample images are not at {DATA}, where they were installed. Install ppir again.")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The folder {output} cannot be made: {error.strerror}. Give another with --output."
        ) from None
    console = Console(width=None if sys.stdout.isatty() else 110)
    protocols = [p for p in PROTOCOLS if not lacking(p)]
    for protocol in PROTOCOLS:
        if protocol not in protocols:
            console.print(
                f"[bold]{protocol} is left out[/bold]: {' and '.join(lacking(protocol))} not installed here."
                f" To see it, too: {escape(PROTOCOLS[protocol][1])}",
                soft_wrap=True,  # a command to copy stays on one line
            )
    for pair in pairs:
        console.print(f"\n[bold]{pair.title}[/bold]")
        reports = {}
        for protocol in protocols:
            console.print(
                f"  {protocol}: starting party 2{' and the dealer' if protocol == 'mpc' else ''}, then party 1 …"
            )
            reports[protocol] = _run(pair, protocol, output)
        console.print(_table(pair, reports, output))
    console.print(f"\nPictures, transforms and reports are in [bold]{output.resolve()}[/bold]")
    for pair in pairs:
        shown = "fhe" if "fhe" in protocols else protocols[-1]
        console.print(f"  {(output / f'{pair.name}_{shown}.html').resolve()}")


def lacking(protocol: str) -> list[str]:
    """The Python packages that this protocol of the demonstration needs and that are not installed."""
    return [name for name in PROTOCOLS[protocol][0] if importlib.util.find_spec(name) is None]


def _run(pair: Pair, protocol: str, output: Path) -> dict[str, Any]:
    with peers(DATA / pair.fixed, protocol=protocol) as world:
        add_register(world, pair, protocol, output)
    return dict(json.loads((output / f"{pair.name}_{protocol}.json").read_text(encoding="utf-8")))


def add_register(world: RunningPeers, pair: Pair, protocol: str, output: Path) -> None:
    """Party 1 as `ppir register`, a process like the others."""
    stem = output / f"{pair.name}_{protocol}"
    options = ["--protocol", protocol, *pair.arguments, "--output", f"{stem}.h5", "--report", f"{stem}.json"]
    pictures = output / f"{pair.name}_pictures"
    pictures.mkdir(exist_ok=True)
    options += [
        "--pictures",
        str(pictures),
        "--warped",
        f"{stem}.nrrd",
        "--peer",
        world.peer.address,
        "--show-fixed",
        str(DATA / pair.fixed),
    ]
    if world.peer.dealer:
        options += ["--dealer", world.peer.dealer, "--dealer-fingerprint", world.peer.dealer_fingerprint]
    party_1 = start("party 1", world.home, "register", str(DATA / pair.moving), *options)
    try:
        while (event := party_1.next())["event"] != "result":
            if event["event"] in ("error", "ended"):
                raise PeerError(f"Party 1 ended: {event.get('text', 'without a word')}")
            if event["event"] == "progress" and event["stage"] in ("level", "evaluation"):
                _show(event)
        party_1.process.wait(60)
    finally:
        party_1.stop()
    if sys.stderr.isatty():
        print(file=sys.stderr)


def _show(event: dict[str, Any]) -> None:
    """One line that is written over; only where there is a terminal to write over it."""
    if not sys.stderr.isatty():
        return
    value = "" if event["value"] is None else f"evaluation {event['evaluation']:3d}  loss {event['value']:.5f}"
    line = (
        f"    level {event['level']}/{event['levels']}  {value}  {event['seconds']:.1f} s  {event['numbers']} numbers"
    )
    print(f"\r{line:78s}", end="", file=sys.stderr, flush=True)


def _table(pair: Pair, reports: dict[str, dict[str, Any]], output: Path) -> Table:
    table = Table("protocol", "seconds", "loss", "evals", "sent", "received", "disclosed", "mm to clear", box=SIMPLE)
    if pair.landmarks:
        table.add_column("landmarks mm")
    clear = read_transform(output / f"{pair.name}_clear.h5")
    fixed = reports["clear"]["fixed"]
    grid = Geometry(fixed["size"], fixed["spacing_mm"], fixed["origin_mm"], fixed["direction"])
    for protocol, report in reports.items():
        transform = read_transform(output / f"{pair.name}_{protocol}.h5")
        totals = report["totals"]
        row = [
            protocol,
            f"{totals['seconds']:.1f}",
            f"{report['levels'][-1]['values'][-1]:.6f}",
            "+".join(str(level["evaluations"]) for level in report["levels"]),
            human_bytes(totals["bytes_sent"] + totals["dealer_bytes_sent"]),
            human_bytes(totals["bytes_received"] + totals["dealer_bytes_received"]),
            "the image" if protocol == "clear" else f"{totals['numbers']} numbers",
            f"{rms_displacement(transform, clear, grid):.1e}",
        ]
        table.add_row(*row, *([f"{landmark_error(transform, pair.landmarks):.2f}"] if pair.landmarks else []))
    return table


def landmark_error(transform: sitk.Transform, files: tuple[str, str]) -> float:
    """Mean distance in mm between transformed fixed landmarks and moving landmarks."""
    fixed, moving = (np.loadtxt(DATA / name, skiprows=2) for name in files)
    mapped = np.array([transform.TransformPoint(p) for p in fixed.tolist()])
    return float(np.linalg.norm(mapped - moving, axis=1).mean())
