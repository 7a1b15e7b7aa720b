"""Why a file is not taken, and how many bytes it really holds."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

_BLOCK = 2**20


class Damaged(Exception):
    """The file is not whole, or says something that is not of its format. The text says what, as part of a sentence."""


class Unusable(Exception):
    """The file is whole, but an image of it would be a guess. The text says why and what to do, in whole sentences."""


def length_of(file: IO[bytes], look: Callable[[bytes], object] = len) -> int:
    """Bytes from here to the end, each block of which is shown to `look`.

    Damaged where a compressed stream breaks off or fails its check value.
    """
    total = 0
    try:
        while block := file.read(_BLOCK):
            total += len(block)
            look(block)
    except (OSError, EOFError, zlib.error, ValueError):
        raise Damaged("its compressed data break off or do not pass their check") from None
    return total


def length_of_gzip(file: IO[bytes]) -> int:
    """The same of a gzip stream, unpacked; its check value is looked at."""
    return length_of(gzip.GzipFile(fileobj=file))  # type: ignore[arg-type]


def length_of_zlib(file: IO[bytes]) -> int:
    """The same of one zlib stream, which must end where the file ends."""
    stream, total = zlib.decompressobj(), 0
    try:
        while block := file.read(_BLOCK):
            total += len(stream.decompress(block))
        total += len(stream.flush())
    except zlib.error:
        raise Damaged("its compressed data do not pass their check") from None
    if not stream.eof or stream.unused_data:
        raise Damaged("its compressed data do not end where the file ends")
    return total


def check_length(announced: int, there: int) -> None:
    """Damaged unless a file holds exactly what its header announces."""
    if announced != there:
        raise Damaged(f"its header announces {announced} bytes of voxels and {there} are there")


def check_voxels(file: IO[bytes], announced: int, kind: np.dtype[Any] | None) -> int:
    """The same of the bytes from here to the end, whose number is given back; Unusable if one of the floats of `kind`
    is NaN or infinite."""
    bad = 0

    def look(block: bytes) -> None:
        nonlocal bad
        if kind is not None:
            bad += int(np.count_nonzero(~np.isfinite(np.frombuffer(block, kind, len(block) // kind.itemsize))))

    check_length(announced, there := length_of(file, look))
    if bad:
        raise Unusable(
            f"It has {bad} voxels that are NaN or infinite. Replace them (for instance by the background value; in a"
            " mask by 0)."
        )
    return there


def check_companion(file: Path, read: Callable[[IO[bytes]], int], skip: int = 0) -> int:
    """The length of a second file, after `skip` bytes; Unusable where there is none."""
    if not file.is_file():
        raise Unusable(
            f"Its data file '{file.name}', which belongs into the folder {file.parent}, is missing. Copy both."
        )
    with open(file, "rb") as data:
        data.seek(skip)
        return read(data)


def whole_number(word: str, name: str) -> int:
    """A header's whole number; Damaged if it is something else, such as a digit of another script."""
    if not re.fullmatch(r"-?[0-9]{1,18}", word):
        raise Damaged(f"its header says '{word[:20]}' for '{name}', which is no whole number")
    return int(word)


def real_numbers(words: Sequence[str], name: str) -> list[float]:
    """A header's numbers; Damaged if one of them is none, or not finite."""
    try:
        found = [float(word) for word in words]
    except ValueError:
        raise Damaged(f"its header has words where it needs numbers, in '{name}'") from None
    if not all(math.isfinite(value) for value in found):
        raise Damaged(f"its header has a number that is not finite, in '{name}'")
    return found


def check_spacing(spacing: Sequence[float]) -> None:
    """Unusable unless every spacing is positive and finite."""
    if not all(0 < v < float("inf") for v in spacing):
        shown = ", ".join(f"{v:g}" for v in spacing)
        raise Unusable(
            f"Its spacing is ({shown}) mm, so that the distance of its voxels is not known. Write the right one."
        )
