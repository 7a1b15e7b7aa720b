"""Makes the package `host` importable, and gives each test a fresh host."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
_HERE = str(Path(__file__).parent)
if _HERE not in sys.path:
    sys.path.insert(0, _HERE)

if any(find_spec(name) is None for name in ("slicer", "PySide6")):
    collect_ignore_glob = ["*.py"]


@pytest.fixture
def slicer_host() -> Iterator[ModuleType]:
    """The package `host`, reset; the test fails if an exception left a slot and the test did not take it away."""
    import host

    host.reset()
    yield host
    left = list(host.uncaught)
    host.reset()
    assert not left, f"Exceptions left slots: {left}"


_MEASURED: list[str] = []


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a worker of pytest-xdist measured."""
    _MEASURED.extend(getattr(node, "workeroutput", {}).get("measured", []))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if "ppir_support" in sys.modules:
        figures = sys.modules["ppir_support"].figures
        getattr(session.config, "workeroutput", {})["measured"] = figures
        _MEASURED.extend(figures)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Where the pictures of the panels are, and what was measured."""
    pictures = Path(os.environ.get("PPIR_PICTURES", Path(__file__).resolve().parents[2] / "build" / "pictures"))
    taken = sorted(pictures.glob("*.png"))
    terminalreporter.write_line(f"pictures of the panels, at 100 % and 150 %: {pictures} ({len(taken)} files)")
    for line in _MEASURED:
        terminalreporter.write_line(line)
