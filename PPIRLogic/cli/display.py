"""How a run is shown on a terminal, and how its results are written."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from PPIRLogic.cli.common import home_of
from PPIRLogic.cli.output import note, print_line
from PPIRLogic.errors import DoubtfulError, OutputError
from PPIRLogic.images.volume import Volume
from PPIRLogic.images.writing import write_volume
from PPIRLogic.progress import Progress as Step
from PPIRLogic.registration.result import RegistrationResult
from PPIRLogic.report import build_report, human_bytes, pictures_of, save_pictures, write_html, write_report
from PPIRLogic.transforms import write_transform


class RunDisplay:
    """A progress callback: bars with level, evaluation, value, seconds and bytes, or JSON lines."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._console = Console(file=sys.stderr)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=24),
            TextColumn("{task.fields[state]}", markup=False), TimeElapsedColumn(), console=self._console,
            disable=as_json,
        )  # fmt: skip
        self._task = self._bars.add_task("connecting", total=None, state="")

    def __enter__(self) -> RunDisplay:
        self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.stop()

    def __call__(self, step: Step) -> None:
        if self._json:
            values = {k: (None if isinstance(v, float) and math.isnan(v) else v) for k, v in step.__dict__.items()}
            print_line(json.dumps({"event": "progress", **values}))
            return
        if step.stage in ("opened", "waiting", "reconnecting", "note", "started"):
            self._console.print(step.detail, highlight=False, markup=False)  # a peer's words may be in it
        if step.stage == "level":
            self._bars.update(
                self._task, description=f"level {step.level}/{step.levels} (1/{step.factor})", total=step.levels,
                completed=step.level - 1,
            )  # fmt: skip
        elif step.stage == "finished":
            self._bars.update(self._task, description="finished", completed=self._bars.tasks[0].total)
        state = f"{human_bytes(step.bytes_sent)} up  {human_bytes(step.bytes_received)} down  {step.numbers} numbers"
        if step.stage == "evaluation":
            state = f"evaluation {step.evaluation}  loss {step.value:.6f}  {state}"
        self._bars.update(self._task, state=state)


def write_results(a: argparse.Namespace, result: RegistrationResult, moving: Volume, fixed: Volume | None) -> None:
    """Write transform, warped image and report; then the summary, and the error of a run that ended early.

    Until the transform is where it is wanted, a copy lies in this site's folder: its numbers are spent.
    """
    _write_safely(result, a.output, home_of(a))
    if a.inverse is not None:
        write_transform(result.inverse(), a.inverse)
    if a.warped is not None:
        write_volume(result.warp(moving), a.warped, rounded=True)  # what is lost by it was said before the run
    if a.report is not None or a.pictures is not None:
        _write_report(a, result, moving, fixed)
    _summary(a, result)
    if a.accept_doubtful:
        for doubt in result.doubts:
            note(a, doubt)
    if result.error is not None:
        raise result.error
    if result.doubts and not a.accept_doubtful:
        raise DoubtfulError(f"The result is in doubt. {result.doubt}")


def _write_safely(result: RegistrationResult, output: Path, home: Path) -> None:
    spare = home / f"transform-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.h5"
    with contextlib.suppress(OutputError, OSError):
        if home.is_dir():
            write_transform(result.transform, spare)
    try:
        write_transform(result.transform, output)
    except OutputError as error:
        kept = f" The transform was kept as {spare}." if spare.is_file() else ""
        raise OutputError(f"{error}{kept}") from None
    with contextlib.suppress(OSError):
        spare.unlink(missing_ok=True)


def _write_report(a: argparse.Namespace, result: RegistrationResult, moving: Volume, fixed: Volume | None) -> None:
    report = build_report(
        result, transform_file=str(a.output), warped_file=str(a.warped) if a.warped else None,
        inverse_file=str(a.inverse) if a.inverse else None, moving=moving,
    )  # fmt: skip
    pictures = pictures_of(result, moving, fixed)
    if a.report is not None:
        write_report(report, a.report)
        write_html(report, a.report.with_suffix(".html"), pictures=pictures)
    if a.pictures is not None:
        save_pictures(pictures, a.pictures, report=report)


def _summary(a: argparse.Namespace, result: RegistrationResult) -> None:
    values: dict[str, Any] = {
        "complete": result.complete,
        "seconds": round(result.seconds, 3),
        "bytes_sent": result.bytes_sent,
        "bytes_received": result.bytes_received,
        "numbers": result.numbers,
        "reconnections": result.reconnections,
        "doubts": result.doubts,
        "value": result.levels[-1].values[-1] if result.levels and result.levels[-1].values else None,
        "transform": str(a.output),
        "inverse": str(a.inverse) if a.inverse else None,
        "warped": str(a.warped) if a.warped else None,
        "report": str(a.report) if a.report else None,
    }
    if a.json:
        print_line(json.dumps({"event": "result", **values}))
        return
    shown = sum(row["numbers"] for row in result.ledger if row["to"] == "party 2")
    done = "ended, in doubt" if result.doubts else "done"
    state = done if result.complete else "ended early; the best transform so far was kept"
    print_line(
        f"{state}: {result.seconds:.1f} s, {human_bytes(result.bytes_sent)} sent, {human_bytes(result.bytes_received)}"
        f" received, {result.numbers - shown} numbers of the fixed image disclosed"
        + (f", {shown} of the moving image to the other side" if shown else "")
        + (f", reconnected {result.reconnections} times" if result.reconnections else "")
        + f"\ntransform  {a.output}"
        + (f"\ninverse    {a.inverse}" if a.inverse else "")
        + (f"\nwarped     {a.warped}" if a.warped else "")
        + (f"\nreport     {a.report.with_suffix('.html')}" if a.report else "")
    )
