"""Tables that the make targets write: sections of Docs/results/robustness.md, each with its date and commit."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "Docs" / "results" / "robustness.md"
sys.path.insert(0, str(ROOT))  # a script's own folder is on the path, the repository is not


def memory_mb() -> float:
    """This process's memory now, where the system tells; otherwise the most it ever had.

    What was freed but kept by the C library's allocator is given back first, where that can be asked for.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def surroundings() -> dict[str, Any]:
    """Date, commit and machine, to be taken when a measurement begins."""
    from Benchmarks.rows import surroundings as found

    return found(False)


def write_section(name: str, title: str, where: dict[str, Any], lines: list[str]) -> None:
    """Replace the section of this name, or add it at the end."""
    from Benchmarks import sections

    sections.write_section(PAGE, name, title, f"Written by the make target; {sections.begun(where)}.", lines)
