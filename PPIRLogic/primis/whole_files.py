"""Small files read with a limit, and files written whole or not at all, with what forbids it said beforehand."""

from __future__ import annotations

import os
from pathlib import Path

from PPIRLogic.arguments import as_path
from PPIRLogic.errors import InputError, OutputError
from PPIRLogic.files import name_problem, shown_path, split_extension, write_atomically
from PPIRLogic.images.writing import WRITABLE_IMAGES

AnyPath = str | os.PathLike[str]


def read_small(given: AnyPath | bytes, most: int, what: str) -> bytes:
    """The bytes that were given, or those of a file; InputError, beginning with `what`: missing, or longer."""
    if isinstance(given, bytes):
        if len(given) > most:
            raise InputError(f"{what} has {len(given)} bytes, and none has more than {most}.")
        return given
    path = as_path(given, f"{what}'s path")
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise InputError(f"{what} '{shown_path(path)}' cannot be read: {error.strerror}. Check the path.") from None
    if len(data) > most:
        raise InputError(f"{what} '{shown_path(path)}' has more than {most} bytes, which none has. Is it another file?")
    return data


def refuse_unwritable(target: Path, overwrite: bool = False) -> Path:
    """The path of the file beside an opened image; InputError or OutputError where the two cannot be written."""
    split_extension(target, WRITABLE_IMAGES)
    beside = target.with_name(target.name + ".json")
    for file in (target, beside):
        refuse_existing(file, overwrite)
    return beside


def refuse_existing(path: Path, overwrite: bool) -> None:
    """InputError for a file that exists, unless it may be replaced; OutputError for one whose folder does not."""
    if problem := name_problem(path):
        raise InputError(f"The file '{shown_path(path)}' cannot be written: {problem}")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"Cannot write '{shown_path(path)}': its folder does not exist. Create it first.")
    if not os.access(path.absolute().parent, os.W_OK):
        raise OutputError(f"Cannot write '{shown_path(path)}': its folder cannot be written to. Choose another.")
    if path.exists() and not overwrite:
        raise InputError(
            f"The file '{shown_path(path)}' exists. Choose another name, or replace it with --force (in Python:"
            " overwrite=True)."
        )


def write_whole(path: Path, data: bytes, *, private: bool = False) -> None:
    """A file, whole or not at all; OutputError where it cannot be written. private: for its owner alone (0600)."""

    def write(name: str) -> None:
        if private and os.name == "posix":
            os.chmod(name, 0o600)
        with open(name, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    write_atomically(path, path.suffix, write, len(data))
