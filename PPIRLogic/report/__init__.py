"""What a run did, for people and for programs: a JSON report, an HTML page, pictures. Written at party 1.

    report = build_report(result, transform_file="t.tfm", warped_file="warped.nrrd", moving=moving)
    write_report(report, "report.json")
    write_html(report, "report.html", pictures=pictures_of(result, moving))

The report is described field by field in `report_schema.json` (`schema()`). It holds no image content and no file
path but those given; the pictures do show the moving image, which is party 1's own. Party 1 never has the fixed
image: `Pictures.fixed` is only for trials where one machine holds both. Everything the peer chose (its name, its
image's name, its error texts) is escaped on the page, which runs no script and loads nothing.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from PPIRLogic.errors import OutputError
from PPIRLogic.files import write_atomically
from PPIRLogic.report.build import CONVENTION, LIBRARIES, SCHEMA_VERSION, Report, build_report, schema
from PPIRLogic.report.figures import convergence
from PPIRLogic.report.page import render
from PPIRLogic.report.pictures import Pictures, figures_of, pictures_of
from PPIRLogic.report.slices import Plane
from PPIRLogic.report.wording import GEOMETRY, KINDS, REASONS, STOPS, human_bytes, human_seconds

__all__ = [
    "CONVENTION",
    "GEOMETRY",
    "KINDS",
    "LIBRARIES",
    "REASONS",
    "SCHEMA_VERSION",
    "STOPS",
    "Pictures",
    "Plane",
    "Report",
    "build_report",
    "human_bytes",
    "human_seconds",
    "pictures_of",
    "save_pictures",
    "schema",
    "write_html",
    "write_report",
]


def write_report(report: Report, path: str | os.PathLike[str]) -> None:
    """Write the report as JSON. OutputError if that fails; then `path` is as it was before."""
    _write(path, (json.dumps(report, indent=2, allow_nan=False) + "\n").encode("ascii"))


def _write(path: str | os.PathLike[str], data: bytes) -> None:
    """`data` as a whole file, or OutputError and nothing."""

    def write(name: str) -> None:
        with open(name, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    try:
        write_atomically(path, Path(path).suffix, write, len(data))
    except OSError as error:  # the folder itself cannot be looked at
        raise OutputError(
            f"Cannot write '{os.fspath(path)}': {error.strerror or error}. Choose a folder that this user may write to."
        ) from None


def write_html(report: Report, path: str | os.PathLike[str], *, pictures: Pictures | None = None) -> None:
    """Write one HTML page that needs nothing else: for screen and paper, without scripts or outside references.

    OutputError if that fails; MissingDependencyError without matplotlib. Then `path` is as it was before.
    """
    _write(path, render(report, pictures).encode("utf-8", "replace"))


def save_pictures(
    pictures: Pictures | None, folder: str | os.PathLike[str], *, report: Report | None = None
) -> list[Path]:
    """The page's figures as PNG files in `folder`, which must exist; returns their paths. OutputError if that fails.

    With the fixed image: checkerboard_before, checkerboard_after, difference_before, difference_after; without:
    moving_before, moving_after. With a report also convergence.
    """
    drawn = figures_of(pictures) if pictures is not None else []
    curve = convergence(report) if report is not None else None
    paths = []
    for picture in [*drawn, *([curve] if curve else [])]:
        paths.append(Path(folder) / f"{picture.name}.png")
        _write(paths[-1], picture.png)
    return paths
