"""One DICOM file, read as far as its place and its length are concerned."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PPIRLogic.images.checks.reasons import Damaged, Unusable

Elements = dict[int, Any]  # tag to bytes, or to a list of items for a sequence
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_SHORT = (
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
    b"ST", b"TM", b"UI", b"UL", b"US",
)  # fmt: skip
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_IMPLICIT, _BIG_ENDIAN, _DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_NATIVE = (_IMPLICIT, "1.2.840.10008.1.2.1")
_STANDARD = "1.2.840.10008.1.2."  # syntaxes that are not named here are compressed: JPEG, JPEG 2000, JPEG-LS, RLE, ...
_DEEPEST = 16

PATIENT, STUDY = 0x00100020, 0x0020000D
_NOBODY = ("", "0", "anon", "anonymous", "anonymized", "anonymised", "none", "unknown", "patient")
SERIES, ORIENTATION, POSITION, SPACING = 0x0020000E, 0x00200037, 0x00200032, 0x00280030
OTHER_SPACINGS = (0x00181164, 0x00182010)
SLOPE, INTERCEPT, UNIT, TABLE = 0x00281053, 0x00281052, 0x00281054, 0x00283000
ROWS, COLUMNS, BITS, CHANNELS, FRAMES, PIXELS = 0x00280010, 0x00280011, 0x00280100, 0x00280002, 0x00280008, 0x7FE00010
PHOTOMETRIC, SIGNED, STORED, HIGH_BIT = 0x00280004, 0x00280103, 0x00280101, 0x00280102
KIND, MODALITY, ECHO, FRAME = 0x00080008, 0x00080060, 0x00180086, 0x00200052
SHARED_GROUPS, FRAME_GROUPS = 0x52009229, 0x52009230
PLANE_POSITION, PLANE_ORIENTATION, MEASURES, VALUES = 0x00209113, 0x00209116, 0x00289110, 0x00289145


@dataclass(frozen=True)
class DicomFile:
    """A whole file and its elements."""

    path: Path
    elements: Elements

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def frames(self) -> int:
        return int(text_of(self.elements, FRAMES) or 1)

    @property
    def series(self) -> str:
        """Which series it belongs to; empty for a directory of files."""
        return text_of(self.elements, SERIES)

    @property
    def subject(self) -> str:
        """A digest of whose image it is: the patient's, else the series'; '' if the file says neither."""
        patient = text_of(self.elements, PATIENT)
        told = "" if patient.lower() in _NOBODY else f"patient {patient}"
        told = told or (f"series {self.series}" if self.series else "")
        return hashlib.sha256(told.encode()).hexdigest()[:32] if told else ""

    @property
    def modality(self) -> str:
        """What kind of image it is, such as MR or CT; '' if the file does not say."""
        return text_of(self.elements, MODALITY)

    @property
    def frame(self) -> str:
        """The UID of its frame of reference; '' if it has none."""
        uid = text_of(self.elements, FRAME)
        return uid if is_uid(uid) else ""

    @property
    def is_image(self) -> bool:
        return ROWS in self.elements

    def whole(self, tag: int) -> int:
        """A number of two bytes; Damaged if there is none."""
        value = self.elements.get(tag, b"")
        if len(value) != 2:
            raise Damaged(f"it has no {tag >> 16:04X},{tag & 0xFFFF:04X}")
        return int.from_bytes(value, "little")


def is_uid(text: str) -> bool:
    """Whether it is a UID: up to 64 digits and dots.

    >>> is_uid("1.2.840.10008"), is_uid("1..2"), is_uid("")
    (True, False, False)
    """
    return len(text) <= 64 and re.fullmatch(r"[0-9]+(\.[0-9]+)*", text) is not None


def text_of(elements: Elements, tag: int) -> str:
    """An element that is text, without its padding; empty if there is none."""
    value = elements.get(tag, b"")
    return value.decode("latin-1").strip(" \0") if isinstance(value, bytes) else ""


def numbers_of(elements: Elements, tag: int) -> tuple[float, ...]:
    """The decimal numbers of an element; empty if there are none. Damaged if they are something else."""
    text = text_of(elements, tag)
    try:
        return tuple(float(v) for v in text.split("\\")) if text else ()
    except ValueError:
        raise Damaged(f"its element {tag >> 16:04X},{tag & 0xFFFF:04X} is not a number") from None


def is_dicom(head: bytes) -> bool:
    return head[128:132] == b"DICM"


def read_dicom(path: Path) -> DicomFile:
    """The elements of a file.

    Damaged: it breaks off, or its pixels are not as many as it says. Unusable: they are compressed.
    """
    data = path.read_bytes()
    try:
        meta, at = _dataset(data, 132, len(data), False, only_meta=True)
        syntax = text_of(meta, 0x00020010)
        _check_syntax(syntax, path.name)
        elements, at = _dataset(data, at, len(data), syntax == _IMPLICIT)
    except (struct.error, IndexError, RecursionError):
        raise Damaged("it breaks off within an element") from None
    file = DicomFile(path, elements)
    if ROWS in elements or PIXELS in elements:
        if not syntax:
            raise Damaged("it does not say its transfer syntax (0002,0010)")
        _check_pixels(file)
        del elements[PIXELS]  # a series is held as long as its slices are compared
    return file


def _check_syntax(syntax: str, name: str) -> None:
    """Unusable unless the pixels are written plainly: no compression of DICOM has a check value."""
    if syntax in ("", *_NATIVE):
        return  # a file of another kind, such as a directory, need not say it
    if syntax == _BIG_ENDIAN:
        how = "is written in big-endian order"
    elif syntax == _DEFLATED or syntax.startswith(_STANDARD):
        how = "is compressed, so that damage within it could not be seen"
    else:
        how = "has a transfer syntax that is not known here"
    raise Unusable(
        f"Its DICOM file '{name}' {how} ({syntax[:64]}). Export it uncompressed, as Explicit VR Little Endian"
        " (1.2.840.10008.1.2.1)."
    )


def _check_pixels(file: DicomFile) -> None:
    pixels = file.elements.get(PIXELS)
    if pixels is None:
        raise Damaged("its pixels are missing")
    bits, channels = file.whole(BITS), file.whole(CHANNELS)
    announced = file.whole(ROWS) * file.whole(COLUMNS) * channels * file.frames * bits // 8
    if len(pixels) != announced + announced % 2 or file.whole(STORED) > bits or bits not in (8, 16, 32):
        raise Damaged(f"its header announces {announced} bytes of pixels and {len(pixels)} are there")


def _dataset(
    data: bytes, at: int, end: int, implicit: bool, depth: int = 0, only_meta: bool = False
) -> tuple[Elements, int]:
    """The elements from `at` to `end` or to the end of an item, and where what follows begins."""
    found: Elements = {}
    last = -1
    while at < end:
        group, number = struct.unpack_from("<HH", data, at)
        tag = group << 16 | number
        if only_meta and group != 2:
            break
        if tag == _ITEM_END:
            return found, at + 8
        if tag <= last:
            raise Damaged("its elements are not in order")
        kind, length, at = _begin(data, at, implicit)
        if tag == PIXELS and length == _UNDEFINED:
            raise Damaged("its pixels are compressed and its transfer syntax says that they are not")
        if length == _UNDEFINED or kind == b"SQ":
            found[tag], at = _items(data, at, length, implicit or kind == b"UN", depth + 1)
        else:
            if at + length > len(data):
                raise Damaged(f"it breaks off within its element {group:04X},{number:04X}")
            found[tag] = data[at : at + length]
            at += length
        last = tag
    return found, at


def _begin(data: bytes, at: int, implicit: bool) -> tuple[bytes, int, int]:
    """The kind and length of the element at `at`, and where its value begins."""
    if implicit:
        return b"", struct.unpack_from("<I", data, at + 4)[0], at + 8
    kind = data[at + 4 : at + 6]
    if kind in _LONG:
        return kind, struct.unpack_from("<I", data, at + 8)[0], at + 12
    if kind not in _SHORT:
        raise Damaged("it holds an element of a kind that DICOM does not have")
    return kind, struct.unpack_from("<H", data, at + 6)[0], at + 8


def _items(data: bytes, at: int, length: int, implicit: bool, depth: int) -> tuple[list[Elements], int]:
    """The items of a sequence."""
    if depth > _DEEPEST:
        raise Damaged("its sequences are nested without end")
    items: list[Elements] = []
    end = len(data) if length == _UNDEFINED else at + length
    if end > len(data):
        raise Damaged("it breaks off within a sequence")
    while at < end:
        group, number, size = struct.unpack_from("<HHI", data, at)
        tag, at = group << 16 | number, at + 8
        if tag == _SEQUENCE_END:
            return items, at
        if tag != _ITEM or (size != _UNDEFINED and at + size > len(data)):
            raise Damaged("it breaks off within a sequence")
        item, at = _dataset(data, at, len(data) if size == _UNDEFINED else at + size, implicit, depth)
        items.append(item)
    if length == _UNDEFINED:
        raise Damaged("it breaks off within a sequence")
    return items, at


def frame_values(file: DicomFile, sequence: int, tag: int) -> Iterator[tuple[float, ...]]:
    """Of a file of several frames: the numbers of an element of a functional group, frame by frame."""
    shared = (file.elements.get(SHARED_GROUPS) or [{}])[0]
    for frame in file.elements.get(FRAME_GROUPS) or []:
        groups = frame.get(sequence) or shared.get(sequence) or [{}]
        yield numbers_of(groups[0], tag)
