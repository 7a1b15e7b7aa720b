"""Collects what the attacks found: `--attacks-table FILE` prints the table and writes it down, with date and commit."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "system")]
pytest.register_assert_rewrite("parties", "views", "thief")

from recording import ROWS, Record, table  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--attacks-table", type=Path, help="write the table of attacks to this file")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    path = session.config.getoption("--attacks-table")
    if path is not None and exitstatus == 0:
        commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
        text = table(time.strftime("%Y-%m-%d"), commit.stdout.strip() or "unknown")
        path.write_text(text, encoding="utf-8")
        print("\n" + text)


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """record(attack, result on the unprotected variant, result on ours): one row of the table."""

    def write(attack: str, unprotected: str, ours: str) -> None:
        ROWS[attack] = (unprotected, ours, request.node.nodeid)

    return write
