"""MetaImage: the text header, and the length of the voxels after it or in one file beside it."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import IO

import numpy as np

from PPIRLogic.arrays import Array
from PPIRLogic.images.checks.reasons import (
    Damaged,
    Unusable,
    check_companion,
    check_length,
    check_spacing,
    length_of,
    length_of_zlib,
    real_numbers,
    whole_number,
)

_SIZE_OF = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4, "MET_LONG": 4,
    "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip
_PLACES = (("TransformMatrix", "Rotation", "Orientation"), ("Offset", "Position", "Origin"))
_ORDER = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_OTHERS = {
    "ObjectType", "NDims", "Comment", "ObjectSubType", "TransformType", "Name", "ID", "ParentID", "Color",
    "BinaryData", "CompressedData", "CompressedDataSize", "CompressionLevel", "CenterOfRotation",
    "AnatomicalOrientation", "ElementSpacing", "ElementSize", "DimSize", "HeaderSize", "Modality", "SequenceID",
    "ElementMin", "ElementMax", "ElementNumberOfChannels", "ElementType", "ElementDataFile", "DistanceUnits",
    "AcquisitionDate", "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset",
}  # fmt: skip
_FROM = {
    "R": (1.0, 0.0, 0.0), "L": (-1.0, 0.0, 0.0), "A": (0.0, 1.0, 0.0), "P": (0.0, -1.0, 0.0), "I": (0.0, 0.0, 1.0),
    "S": (0.0, 0.0, -1.0),
}  # fmt: skip
_OBLIQUE = 0.05  # cosine; the letters of an oblique image are those of the nearest axes
_LONGEST_HEADER = 2**20


def check_metaimage(path: Path) -> None:
    """Damaged or Unusable unless the header is whole and announces what the file holds."""
    with open(path, "rb") as file:
        fields = _fields(file)
        begin, announced = file.tell(), _announced(fields)
        _check_place(fields)
        _check_meaning(fields)
        if not _yes(fields, "BinaryData", "True"):
            raise Unusable("Its voxels are written as text. Save it as binary (BinaryData = True).")
        read = length_of_zlib if _yes(fields, "CompressedData", "False") else length_of
        data, skip = fields["ElementDataFile"], whole_number(fields.get("HeaderSize", "0"), "HeaderSize")
        if data.split()[:1] == ["LIST"] or len(data.split()) > 3 or "%" in data:
            raise Unusable("Its voxels are spread over several files. Save it as one .mha file.")
        if data.upper() != "LOCAL":
            if skip == -1:
                skip = max(0, check_companion(path.parent / data, length_of) - announced)
            there = check_companion(path.parent / data, read, skip)
        else:
            there = read(file)
            packed = str(file.tell() - begin)
            if read is length_of_zlib and fields.get("CompressedDataSize") != packed:
                raise Damaged(
                    f"its header announces another number of compressed bytes than the {packed} that are there"
                )
    check_length(announced, there)


def _fields(file: IO[bytes]) -> dict[str, str]:
    """The fields of the header; the file is left after the line ElementDataFile."""
    fields: dict[str, str] = {}
    while line := file.readline(_LONGEST_HEADER):
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        name, separator, value = (part.strip() for part in text.partition("="))
        if not separator or not name or not line.endswith(b"\n") or file.tell() > _LONGEST_HEADER:
            raise Damaged(f"its header holds the line '{text[:40]}'")
        if name in fields:
            raise Damaged(f"its header says '{name}' twice")
        fields[name] = value
        if name == "ElementDataFile":
            return fields
    raise Damaged("its header has no end (ElementDataFile)")


def _announced(fields: dict[str, str]) -> int:
    """Bytes of all voxels."""
    kind = fields.get("ElementType", "")
    size = _SIZE_OF.get(kind)
    if kind and size is None:
        raise Unusable(f"Its voxels are of the type '{kind[:20]}', which is not read here. Save it as MET_FLOAT.")
    sizes = fields.get("DimSize", "").split()
    channels = fields.get("ElementNumberOfChannels", "1")
    if (
        size is None
        or not all(re.fullmatch("[0-9]{1,18}", w) for w in (*sizes, channels))
        or fields.get("NDims") != str(len(sizes))
    ):
        raise Damaged("its header does not say ElementType, NDims and DimSize together")
    return size * int(channels) * math.prod(int(w) for w in sizes)


def _check_place(fields: dict[str, str]) -> None:
    """Damaged where a name is misspelt beside a missing one; Unusable where the spacing is not said."""
    names = (("ElementSpacing", "ElementSize"), *_PLACES, _ORDER, ("BinaryData",))
    known = {*_OTHERS, *(name for group in names for name in group)}
    strange = [name for name in fields if name not in known]
    missing = [group[0] for group in names if not set(group) & set(fields)]
    if strange and missing:
        raise Damaged(f"its header says '{strange[0][:40]}' and not '{missing[0]}'")
    if "ElementSpacing" in missing:
        raise Unusable("It does not say how far apart its voxels are (ElementSpacing). Save it with its spacing.")
    for group in _PLACES:
        if group[0] in missing:
            raise Unusable(f"It does not say where its voxels lie ({group[0]}). Save it with its place.")
        if len(given := [name for name in group if name in fields]) > 1:
            raise Unusable(f"It says twice where its voxels lie, by {' and '.join(given)}. Save it with one of them.")
    dim = int(fields["NDims"])
    spacing = real_numbers(fields.get("ElementSpacing", fields.get("ElementSize", "")).split(), "ElementSpacing")
    matrix, offset = (
        real_numbers([v for n in group for v in fields.get(n, "").split()], group[0]) for group in _PLACES
    )
    if (len(spacing), len(matrix), len(offset)) != (dim, dim * dim, dim):
        raise Damaged("its header does not give the place of its voxels in so many dimensions as it has")
    check_spacing(spacing)
    _check_voxel_size(fields, spacing)
    _check_letters(fields.get("AnatomicalOrientation", "").upper(), np.reshape(matrix, (dim, dim)))


def _check_voxel_size(fields: dict[str, str], spacing: list[float]) -> None:
    """Unusable where voxels are said to be smaller or larger than they are far apart: one of both may be a mistake."""
    size = real_numbers(fields.get("ElementSize", fields.get("ElementSpacing", "")).split(), "ElementSize")
    if len(size) != len(spacing) or not np.allclose(size, spacing, rtol=1e-4, atol=0):
        said = ", ".join(f"{v:g}" for v in spacing), ", ".join(f"{v:g}" for v in size)
        raise Unusable(
            f"Its spacing is ({said[0]}) mm by ElementSpacing and ({said[1]}) mm by ElementSize. Save it with the one"
            " that is meant."
        )


def _check_letters(letters: str, matrix: Array) -> None:
    """Unusable where the letters, which say from where each axis comes, contradict the matrix (a row for each axis)."""
    if len(letters) != 3 or matrix.shape != (3, 3) or not set(letters) <= set(_FROM):
        return  # such as ???
    along = [row @ _FROM[letter] for row, letter in zip(matrix, letters, strict=True)]
    if min(along) <= _OBLIQUE:
        raise Unusable(
            f"Its axes come from '{letters}' by AnatomicalOrientation and not by TransformMatrix. Save it with the one"
            " that is meant, or without AnatomicalOrientation."
        )


def _check_meaning(fields: dict[str, str]) -> None:
    """Unusable where the header says something of the voxels or of their place that ITK's reader passes over."""
    if (unit := fields.get("DistanceUnits", "?")).lower() not in ("mm", "?", ""):
        raise Unusable(f"Its distances are in '{unit[:20]}'. Save it in mm.")
    scale = [
        real_numbers([fields.get(f"ElementToIntensityFunction{name}", usual)], name)
        for name, usual in (("Slope", "1"), ("Offset", "0"))
    ]
    if scale != [[1.0], [0.0]]:
        raise Unusable(
            f"Its intensities are its voxels times {scale[0][0]:g} plus {scale[1][0]:g}, which is not applied here."
            " Save it with the intensities themselves."
        )
    if (what := fields.get("ObjectType", "Image")) != "Image":
        raise Unusable(f"It is no image but of the type '{what[:20]}'. Give an image.")
    orders = {_yes(fields, name, "False") for name in _ORDER if name in fields}
    if len(orders) > 1:
        raise Damaged("its header says two orders of bytes")
    if not orders and _SIZE_OF[fields["ElementType"]] > 1:
        raise Unusable(f"It does not say the order of its bytes ({_ORDER[0]}). Save it with it.")
    if fields["ElementDataFile"].upper() == "LOCAL" and fields.get("HeaderSize", "0") not in ("0", "-1"):
        raise Unusable("It leaves out bytes at the beginning of its voxels (HeaderSize). Save it without.")


def _yes(fields: dict[str, str], name: str, default: str) -> bool:
    word = fields.get(name, default).lower()
    if word not in ("true", "false", "1", "0", "t", "f"):
        raise Damaged(f"its header says '{name} = {word[:20]}'")
    return word[0] in "t1"
