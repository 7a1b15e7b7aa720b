"""PNG and TIFF: the check values of every chunk; the one page and its strips."""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import Any

from PPIRLogic.images.checks.reasons import Damaged, Unusable, check_length

_GREY_WITH_OPACITY = 4  # type of colour, in the first chunk
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_FORMS = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 6: "b", 7: "s", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS, _ORIENTATION, _CHANNELS, _COUNTS = (
    256, 257, 258, 259, 262, 273, 274, 277, 279
)  # fmt: skip
_RESOLUTION, _PLANES, _SAMPLES = (282, 283, 296), 284, 339
_WHOLE = (
    _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS, _ORIENTATION, _CHANNELS, _COUNTS, _PLANES, _SAMPLES
)  # fmt: skip


def check_png(path: Path) -> None:
    """Damaged unless every chunk passes its check value and the last one is there. Unusable: grey with opacity."""
    data = path.read_bytes()
    at, kind, kinds = 8, b"", set()
    while kind != b"IEND":
        if len(data) < at + 12:
            raise Damaged("its last chunks are missing")
        length, kind = struct.unpack_from(">I4s", data, at)
        if zlib.crc32(data[at + 4 : at + 8 + length]) != int.from_bytes(data[at + 8 + length : at + 12 + length]):
            raise Damaged("one of its chunks does not pass its check")
        if kind[:1].isupper() and kind not in _CRITICAL:
            raise Damaged("it holds a chunk that is not of this format")
        kinds.add(kind)
        at += 12 + length
    if b"tRNS" in kinds or data[25] == _GREY_WITH_OPACITY:
        raise Unusable("It is a picture with opacity (transparent parts). Save it as plain grey, without.")


def check_tiff(path: Path) -> None:
    """Damaged or Unusable unless the file is one page of grey or colour, whole, not compressed or with check values."""
    data = path.read_bytes()
    order = "<" if data[:2] == b"II" else ">"
    try:
        tags = _page(data, order)
        strips = list(zip(tags[_OFFSETS], tags[_COUNTS], strict=True))
        width, height, compression = tags[_WIDTH][0], tags[_HEIGHT][0], tags.get(_COMPRESSION, (1,))[0]
        bits, channels, form = tags.get(_BITS, (1,))[0], tags.get(_CHANNELS, (1,))[0], tags.get(_SAMPLES, (1,))[0]
        photometric = tags[_PHOTOMETRIC][0]
    except (struct.error, KeyError, ValueError):
        raise Damaged("its directory is not whole") from None
    if (bits, form) not in ((8, 1), (8, 2), (16, 1), (16, 2), (32, 1), (32, 2), (32, 3), (64, 3)):
        form_word = {1: "whole", 2: "whole", 3: "decimal"}.get(form, "other")
        raise Unusable(
            f"Its voxels are {form_word} numbers of {bits} bit{'s' * (bits != 1)}, which are not read here. Save them"
            " with 8 or 16 bits."
        )
    if photometric not in (1, 2) or (photometric == 2) != (channels in (3, 4)) or tags.get(_PLANES, (1,))[0] != 1:
        raise Unusable("It is not a plain grey or RGB picture. Save it as .png, .nrrd or .nii.gz.")
    if tags.get(_ORIENTATION, (1,))[0] != 1 or sum(t in tags for t in _RESOLUTION) not in (0, 3):
        raise Unusable("It does not plainly say how it lies. Save it as .nrrd or .nii.gz.")
    if any(offset + count > len(data) for offset, count in strips):
        raise Damaged("a part of its voxels is missing")
    check_length(math.prod((width, height, bits, channels)) // 8, sum(_strip(data, s, compression) for s in strips))


def _page(data: bytes, order: str) -> dict[int, tuple[Any, ...]]:
    """The values of all tags of the one page."""
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    if struct.unpack_from(order + "I", data, start + 2 + 12 * count)[0]:
        raise Unusable(
            "It is a TIFF of several pages, which does not say how far apart they are. Save it as .nrrd or .nii.gz"
            " with its spacing."
        )
    tags: dict[int, tuple[Any, ...]] = {}
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, form, number = struct.unpack_from(order + "HHI", data, at)
        if tags and tag <= max(tags):
            raise Damaged("its directory is out of order")
        if form not in _FORMS:
            raise Damaged("its directory is not whole")
        letters = f"{order}{number}s" if form in (2, 7) else order + _FORMS[form] * min(number, 2**24)
        place = at + 8
        if struct.calcsize(letters) > 4:
            (place,) = struct.unpack_from(order + "I", data, place)
        tags[tag] = struct.unpack_from(letters, data, place)
        if tag in _WHOLE and form not in (3, 4):
            raise Damaged("its directory is not whole")
    return tags


def _strip(data: bytes, strip: tuple[int, int], compression: int) -> int:
    """The length of one strip, unpacked."""
    offset, count = strip
    if compression == 1:
        return count
    if compression not in (8, 32946):
        raise Unusable("Its compression has no check value. Save it without compression, or as .png or .nrrd.")
    try:
        return len(zlib.decompress(data[offset : offset + count]))
    except zlib.error:
        raise Damaged("its compressed data do not pass their check") from None
