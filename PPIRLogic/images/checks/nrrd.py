"""NRRD: the text header, and the length of the voxels after it or in one file beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO

from PPIRLogic.images.checks.reasons import (
    Damaged,
    Unusable,
    check_companion,
    check_length,
    check_spacing,
    length_of,
    length_of_gzip,
    real_numbers,
    whole_number,
)

_BYTES = {
    1: ("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"),
    2: ("short", "short int", "signed short", "signed short int", "int16", "int16_t", "ushort", "unsigned short",
        "unsigned short int", "uint16", "uint16_t"),
    4: ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"),
    8: ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t",
        "ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t", "double"),
}  # fmt: skip
_SIZE_OF = {name: size for size, names in _BYTES.items() for name in names}
_FIELDS = {
    "type", "dimension", "sizes", "encoding", "endian", "content", "old min", "oldmin", "old max", "oldmax", "min",
    "max", "data file", "datafile", "byte skip", "byteskip", "line skip", "lineskip", "sample units", "sampleunits",
    "block size", "blocksize", "number", "space", "space dimension", "space units", "space origin", "measurement frame",
    "space directions", "spacings", "thicknesses", "axis mins", "axismins", "axis maxs", "axismaxs", "centers",
    "centerings", "labels", "units", "kinds",
}  # fmt: skip
_LENGTH_BY_ENCODING = {"raw": length_of, "gzip": length_of_gzip, "gz": length_of_gzip}
_VERSIONS = b"12345"
_IN_SPACE = ("domain", "space", "none", "???")  # kinds of an axis along which voxels lie in space
_MILLIMETRES = ("mm", "millimeter", "millimeters", "millimetre", "millimetres", "", "none", "???")
_OF_THE_BODY = (
    "left-posterior-superior", "lps", "right-anterior-superior", "ras", "left-anterior-superior", "las",
)  # fmt: skip
_LONGEST_HEADER = 2**20


def check_nrrd(path: Path) -> None:
    """Damaged or Unusable unless the header is whole and announces what the file holds."""
    with open(path, "rb") as file:
        fields = _fields(file)
        name = fields.get("data file", fields.get("datafile"))
        if name is not None and (name.startswith("LIST") or len(name.split()) > 3):
            raise Unusable("Its voxels are spread over several files. Save it as one .nrrd file.")
        announced, read = _announced(fields), _reader(fields)
        _check_place(fields)
        skip, lines = (
            whole_number(fields.get(f"{k} skip", fields.get(f"{k}skip", "0")), f"{k} skip") for k in ("byte", "line")
        )
        if lines or skip < 0:
            raise Unusable("It leaves out lines or an unknown number of bytes of its data file. Save it as one file.")
        if name is not None:
            there = check_companion(path.parent / name, read, skip)
        else:
            file.read(skip)
            there = read(file)
    check_length(announced, there)


def _reader(fields: dict[str, str]) -> Callable[[IO[bytes]], int]:
    """By which the bytes of the voxels are counted."""
    encoding = fields.get("encoding", "").lower()
    if not encoding:
        raise Damaged("its header does not say how its voxels are written (encoding)")
    if encoding in ("txt", "text", "ascii"):
        raise Unusable("Its voxels are written as text. Save it as binary (encoding raw or gzip).")
    if encoding not in _LENGTH_BY_ENCODING:
        raise Unusable(f"Its encoding '{encoding[:20]}' is not read here. Save it with encoding raw or gzip.")
    return _LENGTH_BY_ENCODING[encoding]


def _fields(file: IO[bytes]) -> dict[str, str]:
    """The fields of the header; the file is left where the voxels begin."""
    if (version := file.readline(64).rstrip())[7:] not in [b"%c" % v for v in _VERSIONS]:
        raise Unusable(f"It is of the version '{version[4:].decode('latin-1')[:20]}' of NRRD; 1 to 5 are read here.")
    fields: dict[str, str] = {}
    while (line := file.readline(_LONGEST_HEADER)) and line.strip(b"\r\n"):
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        name, separator, value = text.partition(":")
        if text.startswith("#") or (separator and value.startswith("=")):
            continue
        if not separator or not value.startswith(" ") or name.lower() not in _FIELDS:
            raise Damaged(f"its header holds the line '{text[:40]}'")
        if name.lower() in fields or file.tell() > _LONGEST_HEADER:
            raise Damaged(f"its header says '{name}' twice or is too long")
        fields[name.lower()] = value.strip()
        if name.lower() in ("data file", "datafile") and value.strip().startswith("LIST"):
            break  # names of files follow
    return fields


def _announced(fields: dict[str, str]) -> int:
    """Bytes of all voxels."""
    kind, sizes = fields.get("type", ""), _whole(fields, "sizes")
    if not kind or 0 in sizes or [len(sizes)] != _whole(fields, "dimension"):
        raise Damaged("its header does not say type, dimension and sizes together")
    size = _SIZE_OF.get(kind.lower())
    if size is None:
        raise Unusable(f"Its voxels are of the type '{kind[:20]}', which is not read here. Save it as short or float.")
    if size > 1 and fields.get("endian") not in ("little", "big"):
        raise Damaged("its header does not say the order of bytes (endian)")
    return size * math.prod(sizes)


def _whole(fields: dict[str, str], name: str) -> list[int]:
    words = fields.get(name, "").split()
    if not words or any(w.startswith("-") for w in words):
        raise Damaged(f"its header has no whole numbers for '{name}'")
    return [whole_number(w, name) for w in words]


def _check_place(fields: dict[str, str]) -> None:
    """Unusable where the header does not say how far apart its voxels are, in mm, and which way its axes point."""
    _check_units(fields)
    if "space directions" not in fields:
        raise Unusable(
            "It does not say how far apart its voxels are and where they lie ('space directions', 'space origin'). Save"
            " it with its place."
        )
    if "spacings" in fields:
        raise Unusable("It gives its spacing twice, by 'space directions' and by 'spacings'. Save it with the first.")
    _check_kinds(fields)
    _check_directions(fields)


def _check_kinds(fields: dict[str, str]) -> None:
    """Unusable where an axis of time points, colours or vectors is taken for one of space, or the other way round."""
    kinds = fields.get("kinds", "").lower().split()
    directions = re.findall(r"none|\([^()]*\)", fields["space directions"])
    in_space = [kind for kind, direction in zip(kinds, directions, strict=False) if direction != "none"]
    strange = [kind for kind in kinds if kind in ("time", "list")] + [k for k in in_space if k not in _IN_SPACE]
    if strange:
        raise Unusable(f"One of its axes is of the kind '{strange[0][:20]}'. Save one grey image, or one time point.")


def _check_units(fields: dict[str, str]) -> None:
    """Unusable where a length is not in mm: ITK takes every number for mm."""
    words = [
        word for name in ("space units", "units") for word in re.findall(r'"([^"]*)"|(\S+)', fields.get(name, ""))
    ]  # fmt: skip
    for word in (quoted or bare for quoted, bare in words):
        if word.strip().lower() not in _MILLIMETRES:
            raise Unusable(f"Its lengths are in '{word[:20]}'. Save it in mm.")


def _check_directions(fields: dict[str, str]) -> None:
    """Damaged or Unusable unless there are as many axes as the space has dimensions, in a space that is of the body."""
    if "space origin" not in fields or not {"space", "space dimension"} & set(fields):
        raise Damaged("its header says 'space directions' without 'space' and 'space origin'")
    vectors = re.findall(r"\(([^()]*)\)", fields["space directions"])
    origins = re.findall(r"\(([^()]*)\)", fields["space origin"])
    numbers = [real_numbers(v.split(","), "space directions and origin") for v in (*vectors, *origins)]
    if len(origins) != 1 or {len(v) for v in numbers} != {len(vectors)}:
        raise Damaged("its 'space directions' and 'space origin' do not have one number of dimensions")
    check_spacing([math.hypot(*v) for v in numbers[: len(vectors)]])
    space = fields.get("space", "").lower()
    if len(vectors) == 3 and space not in _OF_THE_BODY:
        said = f"its 'space' is '{space[:20]}'" if space else "it has no 'space'"
        raise Unusable(f"It does not say which way its axes point: {said}. Save it as left-posterior-superior.")
