"""The work of `ppir primis show`: a picture of each level of a sealed image that this site can open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PPIRLogic.cli.common import Interruptible, home_of
from PPIRLogic.cli.output import Arguments, say
from PPIRLogic.errors import OutputError
from PPIRLogic.files import shown_path


def run_show(a: Arguments) -> None:
    from PPIRLogic.report.sealed import decibels
    from PPIRLogic.report.wording import human_bytes

    with Interruptible(a) as run:
        rows = show(a.file, a.output, home=home_of(a), grant=a.grant, cancel=run.token)
    for row in rows:
        text = f"{row.level:15s} {human_bytes(row.so_far):>9s}  {decibels(row.psnr):>8s}  {row.picture}"
        fields = {"level": row.level, "bytes": row.bytes, "so_far": row.so_far, "exact": not row.note}
        say(a, "level", text, **fields, psnr=_finite(row.psnr), picture=str(row.picture))
    page = a.output / "levels.html"
    say(a, "page", f"page            {page}", file=str(page))


def show(file: Path, folder: Path, *, home: Path, grant: Path | None = None, cancel: Any = None) -> list[Any]:
    """Open each level that a grant, or this site's own key, opens, and draw it. Errors: as `unseal`, OutputError."""
    from PPIRLogic.primis import inspect, unseal
    from PPIRLogic.report.sealed import write_levels

    best = unseal(file, home=home, grant=grant, cancel=cancel)
    header = inspect(file)
    lower = header.levels[: header.levels.index(best.level)]
    opened = [unseal(file, home=home, grant=grant, level=level, cancel=cancel) for level in lower]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {shown_path(folder)} cannot be made: {error.strerror}.") from None
    return write_levels([*opened, best], header, folder)


def _finite(value: float) -> float | None:
    return round(value, 2) if abs(value) < 1e9 else None
