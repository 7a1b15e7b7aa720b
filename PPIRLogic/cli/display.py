"""How a run is shown on a terminal, and how its results are written."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from pathlib import Path
from typing import Any, Protocol, Self

from PPIRLogic.cli.common import home_of
from PPIRLogic.cli.output import Arguments, note, print_line
from PPIRLogic.dicom.results import write_dicom
from PPIRLogic.dicom.source_series import SourceSeries
from PPIRLogic.errors import DoubtfulError, OutputError
from PPIRLogic.images.volume import Volume
from PPIRLogic.images.writing import write_volume
from PPIRLogic.progress import Progress as Step
from PPIRLogic.registration.result import RegistrationResult
from PPIRLogic.report import build_report, human_bytes, pictures_of, save_pictures, write_html, write_report
from PPIRLogic.transforms import write_transform


class Display(Protocol):
    """Shows the progress of a run while it is entered."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def __call__(self, step: Step) -> None: ...


class JsonLines:
    """A progress callback: one JSON object per step."""

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def __call__(self, step: Step) -> None:
        values = {k: (None if isinstance(v, float) and math.isnan(v) else v) for k, v in step.__dict__.items()}
        print_line(json.dumps({"event": "progress", **values}))


def display_of(a: Arguments) -> Display:
    """What shows a run: bars for a person, lines for a program, which needs nothing that draws."""
    if a.json:
        return JsonLines()
    from PPIRLogic.cli.bars import Bars

    return Bars()


def write_results(
    a: Arguments,
    result: RegistrationResult,
    moving: Volume,
    fixed: Volume | None,
    series: SourceSeries | None = None,
) -> None:
    """Write transform, warped image, DICOM objects and report; then the summary, and the error of a run that
    ended early.

    Until the transform is where it is wanted, a copy lies in this site's folder: its numbers are spent.
    """
    _write_safely(result, a.output, home_of(a))
    if a.inverse is not None:
        write_transform(result.inverse(), a.inverse)
    if a.warped is not None:
        write_volume(result.warp(moving), a.warped, rounded=True)  # what is lost by it was said before the run
    if series is not None:
        _write_dicom(a, result, moving, series)
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


def _write_dicom(a: Arguments, result: RegistrationResult, moving: Volume, series: SourceSeries) -> None:
    remark = "ended early: not the final transform" if not result.complete else ""
    remark = remark or ("IN DOUBT: see the report of the run" if result.doubts else "")
    frame, given = result.fixed_frame, result.fixed_frame != ""
    made = write_dicom(
        result.transform, result.linear, result.warp(moving), series, a.dicom, fixed_frame=frame, remark=remark
    )
    if not given:
        note(
            a,
            "the owner of the fixed image does not disclose its frame of reference: the DICOM objects name"
            f" {made}, which was made here and stands for it.",
        )


def _write_report(a: Arguments, result: RegistrationResult, moving: Volume, fixed: Volume | None) -> None:
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


def _summary(a: Arguments, result: RegistrationResult) -> None:
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
        "dicom": str(a.dicom) if a.dicom else None,
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
        + (f"\ndicom      {a.dicom}" if a.dicom else "")
        + (f"\nreport     {a.report.with_suffix('.html')}" if a.report else "")
    )
