"""One measured figure as data, and how a list of them is written."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from Benchmarks.sections import RESULTS, begun, write_section

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "Resources" / "SampleData"
SHIPPED = ROOT / "PPIRLogic" / "sample_data"  # the pairs of the demonstration, which lie in the package
LIBRARIES = (
    "numpy", "numba", "SimpleITK", "cryptography", "pyOpenSSL", "tenseal", "torch", "crypten", "itk-elastix",
    "antspyx", "psutil",
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """How to measure. folder: where intermediate files go. peer_python: interpreter that has the peer packages."""

    folder: Path
    quick: bool
    peer_python: str


@dataclass(frozen=True)
class Row:
    """One line of the table. reached: None where nothing is demanded or it cannot be measured here."""

    figure: str
    what: str
    value: str
    must: str = "–"
    reached: bool | None = None
    data: dict[str, Any] = field(default_factory=dict)


Figure = Callable[[Options], Iterable[Row]]


def at_most(figure: str, what: str, value: float, limit: float, unit: str, **data: Any) -> Row:
    """A row for a value that must not exceed a limit."""
    text = f"{value:.3g} {unit}".strip()
    return Row(figure, what, text, f"≤ {limit:g} {unit}".strip(), value <= limit, {"value": value, **data})


def at_least(figure: str, what: str, value: float, limit: float, **data: Any) -> Row:
    """A row for a value that must not fall below a limit."""
    return Row(figure, what, f"{value:.5f}", f"≥ {limit:g}", value >= limit, {"value": value, **data})


def failed(figure: str, what: str, error: Exception) -> Row:
    """A row for a measurement that did not come to an end."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return Row(figure, what, f"not reached: {text[:300]}", "to run", False, {"error": text})


def attempt(figure: str, what: str, measure: Callable[..., Iterable[Row]], *arguments: Any) -> list[Row]:
    """The rows of one measurement; what it yielded and the error's text if it fails."""
    rows: list[Row] = []
    try:
        rows.extend(measure(*arguments))  # keeps what came before an error
    except Exception as error:
        rows.append(failed(figure, what, error))
    return rows


# ------------------------------------------------------------------------------------------ where and how


def surroundings(quick: bool) -> dict[str, Any]:
    """Date, commit, machine and library versions."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        "commit": _commit(),
        "quick": quick,
        "processor": processor(),
        "cores": _cores(),
        "memory_bytes": _memory(),
        "load_at_start": _load(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


def _commit() -> str:
    try:
        hash_ = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":!Docs")  # pages are being written
    except (OSError, subprocess.CalledProcessError):
        return "not known"
    return hash_ + (" with uncommitted changes" if changed else "")


def _git(*arguments: str) -> str:
    out = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    return out.stdout.strip()


def processor() -> str:
    """The processor's name: from Linux, from macOS, or what Python knows."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        if name:
            return name
    return platform.processor() or platform.machine()


def _cores() -> int:
    return os.cpu_count() or 1


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


# ------------------------------------------------------------------------------------------------ writing


def write_json(rows: list[Row], where: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps({**where, "rows": [asdict(r) for r in rows]}, indent=1, ensure_ascii=False) + "\n")


def table(rows: list[Row]) -> list[str]:
    """For readers; what each figure means is in Benchmarks/README.md."""
    return [
        "| what was measured | value | must reach | reached |",
        "|---|---|---|---|",
        *(f"| {_cell(r.what)} | {_cell(r.value)} | {r.must} | {reached_text(r)} |" for r in rows),
    ]


def write_figure(figure: str, title: str, rows: list[Row], where: dict[str, Any]) -> None:
    """The section of a figure in Docs/results/benchmarks.md; the other sections are kept."""
    libraries = ", ".join(f"{k} {v}" for k, v in where["libraries"].items() if v)
    head = f"{'A quick run, ' if where['quick'] else ''}{begun(where)}; Python {where['python']}, {libraries}."
    write_section(RESULTS / "benchmarks.md", f"figure {figure}", title, head[0].upper() + head[1:], table(rows))


def reached_text(row: Row) -> str:
    """yes, no, or a dash where nothing is demanded."""
    return {True: "yes", False: "no", None: "–"}[row.reached]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
