"""Whole-file, private and bounded reads and writes: nothing half-written, nothing readable by others."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from PPIRLogic.errors import OutputError

FIELD_FILES = (".h5", ".hdf5")  # of displacement fields: as text, one would take gigabytes
TRANSFORM_FILES = (*FIELD_FILES, ".tfm", ".txt")
_HEADER_ROOM = 2**16  # bytes


_MAX_NAME_BYTES = 255  # bytes, of every common file system


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path for a message; what is not UTF-8 in its name becomes a question mark in a diamond."""
    return os.fsencode(path).decode("utf-8", "replace")


def name_problem(path: str | os.PathLike[str]) -> str:
    """Why ITK, or the system, cannot open a file (or folder) of this name, and what to do; empty if it can.

    >>> name_problem("~/image.nrrd")
    "'~' was not replaced by the home folder. Write the whole path."
    """
    text = os.fspath(path)
    if (
        "\0" in text
        or len(os.fsencode(text)) >= 4096
        or any(len(os.fsencode(part)) > _MAX_NAME_BYTES for part in Path(text).parts)
    ):
        return f"a name may have at most {_MAX_NAME_BYTES} bytes, none of them 0. Give it a shorter name."
    try:
        text.encode()
    except UnicodeEncodeError:
        return "its name, or that of a folder above it, is not UTF-8. Rename it, with letters from a to z."
    if text.startswith("~") and not Path(text).exists():
        return "'~' was not replaced by the home folder. Write the whole path."
    if os.path.exists(text) and not os.path.isfile(text) and not os.path.isdir(text):
        return "it is not a file but a pipe or a device. Give a file."
    return ""


def split_extension(path: str | os.PathLike[str], allowed: Sequence[str]) -> str:
    """The extension of `path` (lower case, '.nii.gz' in one piece) if it is among `allowed`; OutputError if not."""
    name = Path(path).name.lower()
    found = [extension for extension in allowed if name.endswith(extension) and len(name) > len(extension)]
    if not found:
        raise OutputError(f"Cannot write '{os.fspath(path)}': the name must end in one of {', '.join(allowed)}.")
    return max(found, key=len)


def write_atomically(path: str | os.PathLike[str], extension: str, write: Callable[[str], None], room: int) -> None:
    """Call `write(temporary name)`, which ends in `extension` and lies in the same folder, then move it to `path`.

    `room`: about how many bytes the file will have. OutputError if the folder is missing or not writable, the disk is
    full or the writing fails; then `path` is as it was before and nothing is left behind.
    """
    target = Path(path)
    folder = target.parent
    if not folder.is_dir():
        raise OutputError(f"Cannot write '{target}': the folder '{folder}' does not exist. Create it first.")
    if target.is_dir():
        raise OutputError(f"Cannot write '{target}': it is a folder. Give a file name.")
    temporary = folder / f".{secrets.token_hex(8)}.part{extension}"
    try:
        _try_room(temporary, room + _HEADER_ROOM)
        write(str(temporary))
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(
            f"Cannot write '{target}': {error.strerror or error}. "
            "Free some space, or choose a folder that this user may write to."
        ) from None
    except (RuntimeError, MemoryError):
        raise OutputError(
            f"Cannot write '{target}': the disk is full, or the format {extension} cannot hold this. "
            "Free some space or choose another format."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _try_room(temporary: Path, room: int) -> None:
    """Fill a new file with `room` zero bytes; OSError with the system's own words where that fails.

    A full disk must be found here: several writers of ITK do not report it, and the one for HDF5 may end the process.
    """
    block = bytes(min(room, 2**22))
    with open(temporary, "xb") as file:
        for start in range(0, room, len(block)):
            file.write(block[: room - start])


def make_private_directory(path: Path) -> None:
    """Create `path` so that only this user can look into it, where the system has that.

    A parent that has to be created is private, too; one that exists (perhaps the user's own folder) stays as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.mkdir(exist_ok=True, mode=0o700)
    if os.name == "posix":
        # mkdir's mode is not applied to a folder that exists.
        with contextlib.suppress(PermissionError):
            path.chmod(0o700)


def tighten(*paths: Path, below: bool = True) -> None:
    """Take from others what they may do with these files and folders (and what is below), where a system has that."""
    if os.name != "posix":
        return
    for path in [p for one in paths for p in (one, *(one.rglob("*") if below else ()))]:
        with contextlib.suppress(OSError):  # it is gone, or another user's
            mode = path.lstat().st_mode
            if mode & 0o077 and not stat.S_ISLNK(mode):
                path.chmod(stat.S_IMODE(mode) & 0o700)


def write_private_file(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step: a crash leaves the old or the new file, readable by its owner only.

    Raises OSError where the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        # Without this a power cut could bring the old directory entry back.
        with contextlib.suppress(OSError):
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def remove_left_over(folder: Path, seconds: float = 3600.0) -> None:
    """Remove what a process that was killed within `write_private_file` left below `folder`, so many seconds ago."""
    for path in folder.rglob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > seconds:
                path.unlink()


def read_bounded(path: Path, limit: int) -> bytes:
    """The content of `path`; ValueError if it is longer than `limit` bytes, OSError if it cannot be read."""
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"longer than {limit} bytes")
    return content
