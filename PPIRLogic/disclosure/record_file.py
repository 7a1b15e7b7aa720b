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
from PPIRLogic.files import make_private_directory

_BEGIN = b'{"time"'  # of every record
_PAUSE = 0.01  # seconds between two tries for a lock


def append_record(path: Path, record: dict[str, Any], sync: bool = True) -> None:
    """Append a record as it is: one whole line. See `append_line`."""
    append_line(path, json.dumps(record, separators=(",", ":")).encode() + b"\n", sync)


def append_line(path: Path, data: bytes, sync: bool = True) -> None:
    """Append one whole line and, by default, sync it; OutputError (nothing was answered) if the disk refuses it."""
    try:
        if not path.parent.is_dir():
            make_private_directory(path.parent)
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


def on_disk(write: Callable[[], None], kept_back: str = "nothing is disclosed") -> None:
    """Call `write`; OutputError that says what is kept back where the disk refuses it."""
    try:
        write()
    except OSError as error:
        raise OutputError(
            f"The ledger folder could not be written ({error.strerror or error}); {kept_back} that is not on record."
            " Free some space or check the folder's permissions."
        ) from error


def _private(path: str, flags: int) -> int:
    """Who disclosed what to whom is nobody else's business on this computer."""
    return os.open(path, flags, 0o600)


def _last_byte(file: Any, size: int) -> bytes:
    file.seek(size - 1)
    return bytes(file.read(1))


def read_whole(path: Path) -> bytes:
    """A file of records, empty if there is none; OutputError if it cannot be read."""
    try:
        return path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise OutputError(f"The account {path} cannot be read: {error.strerror}. Check its permissions.") from error


def read_records(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """All whole records with their line numbers; OutputError if one is damaged.

    A line that a crash tore (begun by us, without an end) was never synced, so nothing it stood for was answered.
    """
    records = []
    for number, line in enumerate((raw.strip() for raw in read_whole(path).split(b"\n")), 1):
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
        f"The record {path} is damaged at line {line}, so what was disclosed is not known. Put back a copy, or move"
        " the file away and run `ppir ledger --accept`, knowing that this peer's budget for the image then starts anew."
    )


class RecordFiles:
    """Files of plain records: whoever can write them can change what they say. What a site keeps is in a `Chain`."""

    def append(self, path: Path, record: dict[str, Any], sync: bool = True) -> None:
        """Append one record; OutputError if the disk refuses it."""
        append_record(path, record, sync)

    def read(self, path: Path) -> list[tuple[int, dict[str, Any]]]:
        """All records with their line numbers; OutputError if one is damaged."""
        return read_records(path)

    def session(self, path: Path, header: dict[str, Any]) -> SessionRecords:
        """A new session ledger."""
        self.append(path, header)
        return SessionRecords(self, path)


class SessionRecords:
    """The lines of one session ledger, written by one session."""

    def __init__(self, files: RecordFiles, path: Path) -> None:
        self._files, self._path = files, path

    def add(self, record: dict[str, Any], sync: bool = False) -> None:
        """Append one entry."""
        self._files.append(self._path, record, sync)

    def seal(self) -> None:
        """Put on record how long the ledger is, so that a cut at its end is found."""


PLAIN = RecordFiles()


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
        file = open(path, "a+b", opener=_private)  # noqa: SIM115 - closed below
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

    def __init__(self, folder: Path, service: str = "ppir serve") -> None:
        try:
            make_private_directory(folder)
            self._file = open(folder / "lock", "a+b", opener=_private)  # noqa: SIM115 - held until `release`
        except OSError as error:
            raise OutputError(f"The ledger folder {folder} cannot be used: {error.strerror}.") from error
        try:
            _try_lock(self._file)
        except OSError:
            self._file.close()
            raise OutputError(
                f"Another `{service}` uses the ledger in {folder}. Stop it, let it serve this image too"
                f" ({service} A B …), or give this one a folder of its own with --home."
            ) from None

    def release(self) -> None:
        self._file.close()
