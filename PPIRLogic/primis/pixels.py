"""Images in, as the whole numbers that the codec takes; and what their owner should know before they are sealed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arguments import as_path
from PPIRLogic.errors import InputError
from PPIRLogic.images.checks import Damaged, Unusable, format_of
from PPIRLogic.images.checks.dicom_file import PHOTOMETRIC, Elements, read_dicom, text_of
from PPIRLogic.images.door import check_volume
from PPIRLogic.images.reading import is_in_colour, read_volume
from PPIRLogic.images.volume import Volume
from PPIRLogic.primis.extras import MAX_TAGS, MAX_VALUE, Extras, plain_grid
from PPIRLogic.primis.sealed_file import DTYPES, MAX_PIXELS, MAX_SIDE, MIN_SIDE
from PPIRLogic.primis.text_in_picture import looks_like_text

MIN_GREYS = 64  # that fractions must span to be rounded
_BURNED_IN = 0x00280301
TAGS = {  # what may be kept by name, and where DICOM has it
    "AcquisitionDate": 0x00080022, "BodyPartExamined": 0x00180015, "ImageLaterality": 0x00200062, "KVP": 0x00180060,
    "Manufacturer": 0x00080070, "Modality": 0x00080060, "PatientAge": 0x00101010, "PatientID": 0x00100020,
    "PatientName": 0x00100010, "PatientSex": 0x00100040, "SeriesDescription": 0x0008103E, "SliceThickness": 0x00180050,
    "StudyDate": 0x00080020, "StudyDescription": 0x00081030, "ViewPosition": 0x00185101, "WindowCenter": 0x00281050,
    "WindowWidth": 0x00281051,
}  # fmt: skip
_POSITION = 0x00200032
_NAMES_A_PERSON = ("AcquisitionDate", "PatientAge", "PatientID", "PatientName", "StudyDate", "SeriesDescription",
                   "StudyDescription")  # fmt: skip
TEXT_FOUND = (
    "WARNING: something in the picture looks like a line of text. If it names a person, the overview shows it, too:"
    " mask it before you seal the image."
)
TEXT_IN_PICTURE = (
    "Text that is burned into the picture, such as a name, is part of it: it can be read from the overview on. Look at"
    " the image before you share it."
)


@dataclass(frozen=True)
class Pixels:
    """What is sealed. values: uint8, uint16 or int16, (y, x) or (z, y, x). notes: for the owner, in words."""

    values: NDArray[Any]
    extras: Extras
    notes: tuple[str, ...] = field(default=())


def pixels_of(
    image: Volume | NDArray[Any] | str | os.PathLike[str], *, keep_tags: Sequence[str] = (), rounded: bool = False
) -> Pixels:
    """An image as the codec takes it: a file or DICOM series, a Volume, or an array of one of the three types.

    keep_tags: names of DICOM tags (`TAGS`) to seal with it. rounded: take fractions to the next whole number.
    InputError: what `read_volume` refuses, fractions (without `rounded`), values beyond 16 bits, a tag that is unknown
    or not there.

    >>> pixels_of(np.eye(4, dtype=np.uint8)).values.dtype
    dtype('uint8')
    """
    check_tag_names(keep_tags)
    if isinstance(image, np.ndarray):
        if keep_tags:
            raise InputError("Tags can be kept of a DICOM file or series alone, and this image is an array.")
        values = _checked_array(image)
        return Pixels(values, Extras(), tuple(_notes({}, (), values, False)))
    dicom, colour = None, False
    if isinstance(image, Volume):
        volume, what = check_volume(image, "The image"), f"The image {image.name!r}" if image.name else "The image"
    else:
        path = as_path(image, "The image's path")
        volume, what = read_volume(path, role="given"), f"The image '{path.name}'"
        dicom, colour = _first_dicom(path), is_in_colour(path)
    if keep_tags and dicom is None:
        raise InputError(f"{what} is no DICOM image, so that there is no tag {keep_tags[0]} to keep.")
    values, was_rounded = _whole_numbers(volume.array, rounded, what)
    plain = volume.geometry == plain_grid(values.shape)
    kept = {name: _kept(dicom or {}, name, what) for name in keep_tags}
    extras = Extras(None if plain else volume.geometry, kept, was_rounded)
    notes = [*_notes(dicom or {}, keep_tags, values, was_rounded)]
    if colour:
        notes.append("The file is in colour, with equal channels: one of them is sealed, as a grey image.")
    if values.ndim == 2 and text_of(dicom or {}, _POSITION):
        notes.append("A single slice is sealed as a picture: where it lies along its normal is not sealed.")
    return Pixels(values, extras, tuple(notes))


def check_tag_names(names: Sequence[str]) -> None:
    """InputError for a tag that cannot be kept by name."""
    for name in names:
        if name not in TAGS:
            raise InputError(f"A tag {str(name)!r:.40} cannot be kept. These can: {', '.join(TAGS)}.")
    if len(names) > MAX_TAGS:
        raise InputError(f"At most {MAX_TAGS} tags can be kept.")


def _checked_array(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.name not in DTYPES:
        raise InputError(
            f"The image is an array of {values.dtype.name}. Give one of {', '.join(DTYPES)}; a Volume is converted"
            " where its values are whole numbers."
        )
    sides = values.ndim in (2, 3) and all(MIN_SIDE <= n <= MAX_SIDE for n in values.shape)
    if not sides or values.size > MAX_PIXELS:
        raise InputError(
            f"The image is an array of shape {values.shape}. Give (y, x) or (z, y, x), {MIN_SIDE} to {MAX_SIDE} a side"
            f" and at most {MAX_PIXELS} in all."
        )
    return np.ascontiguousarray(values)


def _whole_numbers(array: NDArray[np.float32], rounded: bool, what: str) -> tuple[NDArray[Any], bool]:
    """The values in the smallest of the three types, and whether fractions were rounded for it."""
    whole = np.rint(array)
    low, high = float(whole.min()), float(whole.max())
    fractions = not np.array_equal(whole, array)
    if fractions and not rounded:
        raise InputError(
            f"{what} has fractions, from {float(array.min()):g} to {float(array.max()):g}, and codes hold whole"
            " numbers. Round them (--round; then there is no exact level), or scale and save it as whole numbers first."
        )
    if fractions and high - low < MIN_GREYS:
        raise InputError(
            f"{what} has values from {float(array.min()):g} to {float(array.max()):g}, of which rounding would leave"
            f" little. Scale it to a range of at least {MIN_GREYS} first, for instance to 0 to 4095."
        )
    for name in DTYPES:
        limits = np.iinfo(name)
        if limits.min <= low and high <= limits.max:
            return whole.astype(name), fractions
    raise InputError(
        f"{what} has values from {low:g} to {high:g}, and codes hold 16 bits: 0 to 65535, or -32768 to 32767. Scale it."
    )


def _first_dicom(path: Path) -> Elements | None:
    """The elements of the file, or of the first slice of the folder, where it is DICOM."""
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        try:
            found = format_of(file) if file.is_file() else None
            if found is not None and found.name == "DICOM":
                return read_dicom(file).elements
        except (Damaged, Unusable, OSError):  # said by `read_volume` where it matters
            continue
    return None


def _kept(elements: Elements, name: str, what: str) -> str:
    text = text_of(elements, TAGS[name])
    if not text:
        raise InputError(f"{what} has no tag {name} to keep.")
    return "".join(c if c.isprintable() else "?" for c in text).encode()[:MAX_VALUE].decode(errors="ignore")


def _notes(
    elements: Elements, keep_tags: Sequence[str], values: NDArray[Any], was_rounded: bool
) -> Iterator[str]:  # fmt: skip
    if text_of(elements, _BURNED_IN).upper() == "YES":
        yield "WARNING: this DICOM image says that text is burned into it (Burned In Annotation: YES)."
    elif looks_like_text(values):
        yield TEXT_FOUND
    yield TEXT_IN_PICTURE
    if text_of(elements, PHOTOMETRIC) == "MONOCHROME1":
        yield "The image is MONOCHROME1 (small values are bright). It is sealed inverted: large values are bright."
    if personal := [name for name in keep_tags if name in _NAMES_A_PERSON]:
        yield f"WARNING: {', '.join(personal)} may name a person. Everybody who can open the overview reads it."
    if was_rounded:
        yield "The image has fractions, which were rounded to whole numbers: there is no exact level."
