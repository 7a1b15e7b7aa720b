"""A folder of records is held by one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from PPIRLogic.disclosure.record_file import FolderLock
from PPIRLogic.errors import OutputError
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.registration.party2.server import Server

TAKES_THE_LOCK = """
import sys
from pathlib import Path
from PPIRLogic.errors import OutputError
from PPIRLogic.disclosure.record_file import FolderLock
try:
    lock = FolderLock(Path(sys.argv[1]))
except OutputError as error:
    print("refused:", error, flush=True)
else:
    print("held", flush=True)
sys.stdin.read()
"""


def other_process(folder: Path) -> subprocess.Popen[str]:
    """A process that takes the folder, says so, and ends with its input."""
    command = [sys.executable, "-c", TAKES_THE_LOCK, str(folder)]
    utf8 = {**os.environ, "PYTHONUTF8": "1"}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", env=utf8)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


TAKEN = r"Another `ppir serve` uses the ledger in .*Stop it, let it serve this image too.*--home"


def test_a_folder_is_held_once_until_it_is_released(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "ledger"
    lock = FolderLock(folder)
    for _ in range(2):  # being refused does not take it from its holder
        with pytest.raises(OutputError, match=TAKEN):
            FolderLock(folder)
    FolderLock(tmp_path / "other").release()
    lock.release()
    lock.release()  # once more is harmless
    FolderLock(folder).release()


def test_a_folder_is_held_by_one_process_however_that_ends(tmp_path: Path) -> None:
    with other_process(tmp_path) as holder:
        assert first_line(holder) == "held\n"
        with pytest.raises(OutputError, match=TAKEN):
            FolderLock(tmp_path)
        holder.kill()
    lock = FolderLock(tmp_path)
    with other_process(tmp_path) as late:
        line = first_line(late)
        assert line.startswith("refused: Another `ppir serve`") and "--home" in line
    lock.release()


def test_a_second_server_on_one_home_is_refused_until_the_first_stops(tmp_path: Path) -> None:
    """Each would grant the whole budget."""
    identity = load_or_create_identity(tmp_path, "B")
    first = Server("127.0.0.1:0", identity, tmp_path, [])
    try:
        with pytest.raises(OutputError, match=TAKEN):
            Server("127.0.0.1:0", identity, tmp_path, [])
    finally:
        first.stop()
    Server("127.0.0.1:0", identity, tmp_path, []).stop()
