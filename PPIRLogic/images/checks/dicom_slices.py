"""Whether DICOM slices, or the frames of one file, are one volume: alike, and evenly spaced along their normal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from PPIRLogic.arrays import Array
from PPIRLogic.images.checks import dicom_file as tags
from PPIRLogic.images.checks.dicom_file import DicomFile, frame_values, numbers_of, text_of
from PPIRLogic.images.checks.reasons import Damaged, Unusable, check_spacing

_SLICE_TOLERANCE = 0.05  # of the slice distance; DICOM positions are decimal strings
_DIRECTION_DIGITS, _SPACING_DIGITS = 3, 4


@dataclass(frozen=True)
class DicomSlice:
    """A slice or frame: what it is called, and where it lies (LPS mm)."""

    label: str
    position: tuple[float, ...]
    orientation: tuple[float, ...]


def check_alike(files: Sequence[DicomFile]) -> None:
    """Unusable, naming the file, unless all slices have one size, orientation, spacing and kind of voxels.

    Their rescale slopes may differ (PET): each slice is rescaled by its own. But all have one, or none.
    """
    compare: tuple[tuple[str, Callable[[DicomFile], Hashable]], ...] = (
        ("size", lambda f: (f.whole(tags.COLUMNS), f.whole(tags.ROWS))),
        ("number of frames", lambda f: f.frames),
        ("orientation", lambda f: _rounded(numbers_of(f.elements, tags.ORIENTATION), _DIRECTION_DIGITS)),
        ("pixel spacing", lambda f: _rounded(numbers_of(f.elements, tags.SPACING), _SPACING_DIGITS)),
        ("kind of pixels", _kind_of_pixels),
        ("rescaling (slope and intercept)", _rescaling),
        ("unit of its values", lambda f: text_of(f.elements, tags.UNIT)),
        ("patient (shown as a digest)", lambda f: f.subject[:8]),
        ("study", lambda f: text_of(f.elements, tags.STUDY)),
        ("modality", lambda f: text_of(f.elements, tags.MODALITY)),
        ("kind of image", lambda f: "localizer" if "LOCALIZER" in text_of(f.elements, tags.KIND) else "no localizer"),
        ("echo number", lambda f: text_of(f.elements, tags.ECHO)),
        ("frame of reference", lambda f: text_of(f.elements, tags.FRAME)),
    )  # fmt: skip
    for what, value in compare:
        values = [value(f) for f in files]
        usual, count = Counter(values).most_common(1)[0]
        if count == len(files):
            continue
        other = next(i for i, v in enumerate(values) if v != usual)
        raise Unusable(
            f"Its DICOM slices differ in {what}: {_shown(values[other])} in '{files[other].name}', {_shown(usual)} in"
            f" {count} of {len(files)}. It may be a localizer, or several scans share one series. Put the"
            " slices of one scan into a folder of their own and give that folder."
        )


def _kind_of_pixels(file: DicomFile) -> str:
    stored, bits, channels, signed = (file.whole(t) for t in (tags.STORED, tags.BITS, tags.CHANNELS, tags.SIGNED))
    return (
        f"{stored} of {bits} bits, {'signed' if signed else 'unsigned'}, {text_of(file.elements, tags.PHOTOMETRIC)}"
        f" ({channels} channel{'s' * (channels != 1)})"
    )


def _rescaling(file: DicomFile) -> str:
    names = (("a slope", tags.SLOPE), ("an intercept", tags.INTERCEPT))
    return " and ".join(name for name, tag in names if text_of(file.elements, tag))


def check_values(file: DicomFile) -> None:
    """Damaged or Unusable where the readers would take the pixels for other values than the file means."""
    for name, tag in (("slope", tags.SLOPE), ("intercept", tags.INTERCEPT)):
        said = numbers_of(file.elements, tag)
        if len(said) > 1 or not np.isfinite(said).all() or (tag == tags.SLOPE and 0.0 in said):
            raise Damaged(f"the rescale {name} of '{file.name}' is '{text_of(file.elements, tag)[:20]}'")
    if tags.TABLE in file.elements and not text_of(file.elements, tags.SLOPE):
        raise Unusable(
            f"Its DICOM file '{file.name}' gives its values by a table (0028,3000), which is not applied here. Export"
            " it with a rescale slope."
        )
    if tags.HIGH_BIT in file.elements and file.whole(tags.HIGH_BIT) != file.whole(tags.STORED) - 1:
        raise Unusable(
            f"Its DICOM file '{file.name}' does not keep its values in the lowest bits (0028,0102). Export it again."
        )
    turn = numbers_of(file.elements, tags.ORIENTATION)
    if turn and not _is_rotation(turn):
        raise Damaged(f"the orientation of '{file.name}' is not two axes at right angles")


def _is_rotation(orientation: Sequence[float]) -> bool:
    if len(orientation) != 6:
        return False
    axes = np.reshape(orientation, (2, 3))
    return bool(np.abs(axes @ axes.T - np.eye(2)).max() <= 10.0**-_DIRECTION_DIGITS)


def slices_of(files: Sequence[DicomFile]) -> list[DicomSlice]:
    """The slices of a series, or the frames of the one file."""
    if len(files) == 1 and files[0].frames > 1:
        return _frames(files[0])
    return [
        DicomSlice(f"'{f.name}'", numbers_of(f.elements, tags.POSITION), numbers_of(f.elements, tags.ORIENTATION))
        for f in files
    ]


def _frames(file: DicomFile) -> list[DicomSlice]:
    places = list(frame_values(file, tags.PLANE_POSITION, tags.POSITION))
    turns = list(frame_values(file, tags.PLANE_ORIENTATION, tags.ORIENTATION))
    scales = set(zip(
        frame_values(file, tags.VALUES, tags.SLOPE), frame_values(file, tags.VALUES, tags.INTERCEPT), strict=True
    ))  # fmt: skip
    spacings = {_rounded(v, _SPACING_DIGITS) for v in frame_values(file, tags.MEASURES, tags.SPACING)}
    if len(places) != file.frames or not all(len(p) == 3 for p in places):
        raise Unusable(
            f"It is a DICOM file of {file.frames} frames that does not give the position of each, so that their"
            " distance is not known. Export it as one file per slice, or as .nrrd or .nii.gz with its spacing."
        )
    if len(scales) > 1 or len(spacings) != 1:
        raise Unusable("Its DICOM frames differ in spacing or in rescale slope. Export it as one file per slice.")
    return [DicomSlice(f"frame {i}", p, t) for i, (p, t) in enumerate(zip(places, turns, strict=True), 1)]


def order_of(slices: Sequence[DicomSlice]) -> list[int]:
    """The slices in the order of their places, by number. Unusable, naming slices, unless they lie evenly along their
    normal."""
    lost = next((s for s in slices if not _is_placed(s)), None)
    if lost is not None:
        raise Unusable(
            f"Its DICOM slice {lost.label} does not say its position and orientation, so that the distance of the"
            " slices is not known. Export the series again with them, or as .nrrd or .nii.gz with its spacing."
        )
    if len({_rounded(s.orientation, _DIRECTION_DIGITS) for s in slices}) > 1:
        raise Unusable("Its DICOM frames differ in orientation. Export the frames of one orientation only.")
    first, second = np.reshape(slices[0].orientation, (2, 3))
    normal = np.cross(first, second)
    if abs(np.linalg.norm(normal) - 1) > 10.0**-_DIRECTION_DIGITS:
        raise Damaged("its orientation is not two axes at right angles")
    return _check_steps(slices, normal / np.linalg.norm(normal))


def _is_placed(one: DicomSlice) -> bool:
    place = (*one.position, *one.orientation)
    return len(one.position) == 3 and len(one.orientation) == 6 and bool(np.isfinite(place).all())


def _check_steps(slices: Sequence[DicomSlice], normal: Array) -> list[int]:
    along = np.array([np.dot(s.position, normal) for s in slices])
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    usual = float(np.median(steps))
    beside = np.array([s.position for s in slices])[order]
    beside = beside - np.outer(along[order], normal)
    for i, step in enumerate(steps):
        one, two = slices[order[i]], slices[order[i + 1]]
        names = f"{one.label} ({along[order[i]]:.6g} mm) and {two.label} ({along[order[i + 1]]:.6g} mm)"
        if step <= _SLICE_TOLERANCE * usual:
            raise Unusable(f"Two of its DICOM slices lie at the same place: {names}. Remove one of them.")
        if abs(step - usual) > _SLICE_TOLERANCE * usual:
            raise Unusable(
                f"Its DICOM slices are not evenly spaced: between {names} are {step:.4g} mm, {usual:.4g} mm elsewhere."
                " A slice is missing, or several scans share one series; give one complete scan."
            )
        if (shift := float(np.linalg.norm(beside[i + 1] - beside[0]))) > _SLICE_TOLERANCE * usual * (i + 1):
            raise Unusable(
                f"Its DICOM slices are not stacked at right angles: {two.label} is shifted by {shift:.4g} mm within its"
                " plane (a tilted gantry shears the image). Resample it to a grid with right angles."
            )
    return [int(i) for i in order]


def pixel_spacing(file: DicomFile) -> tuple[float, ...]:
    """How far apart rows and columns are, mm. Unusable if the file does not say it."""
    said = next(frame_values(file, tags.MEASURES, tags.SPACING), ()) or _said_spacing(file)
    if len(said) != 2:
        raise Unusable(
            "Its DICOM file does not say how far apart its pixels are (0028,0030). Save it with its spacing."
        )
    check_spacing(said)
    return said


def check_pixel_spacing(said: Sequence[float], taken: Sequence[float]) -> None:
    """Unusable unless the `pixel_spacing` of a file is what the reader took (mm, x and y)."""
    if not np.allclose(said[::-1], taken[:2], rtol=10.0**-_SPACING_DIGITS, atol=0):
        raise Unusable(
            f"Its pixels lie {said[1]:g} × {said[0]:g} mm apart by one element of its DICOM file and"
            f" {taken[0]:g} × {taken[1]:g} mm by what the reader takes, which may be the spacing at the detector."
            " Export it with the one that is meant as pixel spacing (0028,0030)."
        )


def _said_spacing(file: DicomFile) -> tuple[float, ...]:
    """Rows and columns, mm, by the first element that gives them."""
    return next((said for tag in (tags.SPACING, *tags.OTHER_SPACINGS) if (said := numbers_of(file.elements, tag))), ())


def _rounded(values: Sequence[float], digits: int) -> tuple[float, ...]:
    return tuple(round(v, digits) + 0.0 for v in values)


def _shown(value: Hashable) -> str:
    if isinstance(value, tuple):
        sign = " × " if len(value) < 3 else ", "
        return sign.join(f"{v:g}" if isinstance(v, float) else str(v) for v in value) or "none"
    return str(value) or "none"
