"""Append-only files of JSON lines, synced to disk, and the lock of the folder that holds them."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PPIRLogic.errors import OutputError

_BEGIN = b'{"time"'  # of every record
_PAUSE = 0.01  # seconds between two tries for a lock


def append_record(path: Path, record: dict[str, Any], sync: bool = True) -> None:
    """Append one whole line and, by default, sync it; OutputError (nothing was answered) if the disk refuses it."""
    data = (json.dumps(record, separators=(",", ":")) + "\n").encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b", buffering=0, opener=_private) as file:
            before = file.seek(0, os.SEEK_END)
            if before and _last_byte(file, before) != b"\n":
                data = b"\n" + data  # a crash tore the line before; keep it apart
            try:
                if file.write(data) != len(data):
                    raise OSError("the disk is full")
                if sync:
                    os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                raise
    except OSError as error:
        raise OutputError(
            f"The ledger {path.name} could not be written ({error.strerror or error}); nothing is disclosed that is"
            " not on record. Free some space or check the folder's permissions."
        ) from error


def _private(path: str, flags: int) -> int:
    """Who disclosed what to whom is nobody else's business on this computer."""
    return os.open(path, flags, 0o600)


def _last_byte(file: Any, size: int) -> bytes:
    file.seek(size - 1)
    return bytes(file.read(1))


def read_records(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """All whole records with their line numbers; OutputError if one is damaged.

    A line that a crash tore (begun by us, without an end) was never synced, so nothing it stood for was answered.
    """
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise OutputError(f"The account {path} cannot be read: {error.strerror}. Check its permissions.") from error
    records = []
    for number, line in enumerate((raw.strip() for raw in lines), 1):
        begun = line.startswith(_BEGIN) or _BEGIN.startswith(line)
        if not line or (begun and b"}" not in line):
            continue
        try:
            record = json.loads(line)
        except ValueError:
            raise damaged(path, number) from None
        if not isinstance(record, dict):
            raise damaged(path, number)
        records.append((number, record))
    return records


def damaged(path: Path, line: int) -> OutputError:
    return OutputError(
        f"The account {path} is damaged at line {line}, so what was disclosed is not known. Put back a copy, or move"
        " the file away knowing that this peer's budget for the image then starts anew."
    )


def _try_lock(file: Any) -> None:
    """Lock an open file for this handle; OSError while another one has it."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def locked_file(path: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Holds a lock file, against threads and other processes; `wait` is called while it is taken, and may raise.

    OutputError if the file cannot be opened.
    """
    try:
        file = open(path, "a+b")  # noqa: SIM115 - closed below
    except OSError as error:
        raise OutputError(f"The ledger folder {path.parent} cannot be used: {error.strerror}.") from error
    with file:
        while True:
            try:
                _try_lock(file)
                break
            except (BlockingIOError, PermissionError):
                wait()
                time.sleep(_PAUSE)
            except OSError as error:
                raise OutputError(f"The file {path} cannot be locked: {error.strerror}.") from error
        yield


class FolderLock:
    """Holds a folder for one process: two that count apart from each other would each grant the whole budget.

    The operating system releases it when the process ends, however it ends.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(folder / "lock", "a+b")  # noqa: SIM115 - held until `release`
        except OSError as error:
            raise OutputError(f"The ledger folder {folder} cannot be used: {error.strerror}.") from error
        try:
            _try_lock(self._file)
        except OSError:
            self._file.close()
            raise OutputError(
                f"Another `ppir serve` uses the ledger in {folder}. Stop it, let it serve this image too"
                " (ppir serve A B …), or give this one a folder of its own with --home."
            ) from None

    def release(self) -> None:
        self._file.close()
