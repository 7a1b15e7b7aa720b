"""Images into the codec's whole numbers: what is taken, what is refused, what the owner is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image, ImageDraw, ImageFont
from primis_support import picture

from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.images.writing import write_raw
from PPIRLogic.primis.pixels import TEXT_FOUND, TEXT_IN_PICTURE, pixels_of

GRID_OF = (1.0, 1.0), (0.0, 0.0), (1, 0, 0, 1)
GRID = Geometry((56, 40), (0.5, 0.25), (-3.0, 7.0), (0, 1, -1, 0))


def dicom(path: Path, values: np.ndarray, **tags: str) -> Path:
    """A DICOM file with these elements; MONOCHROME1 is written into it afterwards, as ITK does not."""
    image = sitk.GetImageFromArray(values)
    known = {"Modality": "0008|0060", "BurnedIn": "0028|0301", "PatientName": "0010|0010", "ViewPosition": "0018|5101"}
    for name, value in tags.items():
        if name in known:
            image.SetMetaData(known[name], value)
    sitk.WriteImage(image, str(path), False)
    if tags.get("Photometric"):
        path.write_bytes(path.read_bytes().replace(b"MONOCHROME2 ", tags["Photometric"].ljust(12).encode()))
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
@pytest.mark.parametrize("shape", [(40, 56), (3, 40, 56)])
def test_whole_numbers_come_in_the_smallest_type_unchanged(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    values = picture(dtype, shape)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "image.nrrd"))
    grid = Geometry(shape[::-1], (1.0,) * len(shape), (0.0,) * len(shape), np.eye(len(shape)).ravel())
    write_raw(Volume(values, grid), tmp_path / "raw.mha")
    for given in (values, Volume(values, grid), tmp_path / "image.nrrd", tmp_path / "raw.mha"):
        found = pixels_of(given)
        assert found.values.dtype == dtype and np.array_equal(found.values, values)
        assert found.extras.pack() == b"\0" and found.notes == (TEXT_IN_PICTURE,)


def test_the_place_in_space_is_kept() -> None:
    assert pixels_of(Volume(picture(), GRID)).extras.geometry == GRID


def test_a_grey_picture_in_colour_is_said(tmp_path: Path) -> None:
    grey, colour = tmp_path / "grey.png", tmp_path / "colour.png"
    values = picture()
    Image.fromarray(values).save(grey)
    Image.fromarray(np.stack([values] * 3, axis=-1)).save(colour)
    assert pixels_of(grey).notes == (TEXT_IN_PICTURE,)
    found = pixels_of(colour)
    assert np.array_equal(found.values, values) and "in colour, with equal channels" in found.notes[-1]


def test_text_in_the_pixels_is_warned_of() -> None:
    image = Image.fromarray(picture(shape=(160, 160)) // 3)
    assert pixels_of(np.asarray(image)).notes == (TEXT_IN_PICTURE,)
    ImageDraw.Draw(image).text((4, 4), "DOE^JANE 1970-01-01", fill=255, font=ImageFont.load_default(12))
    for found in (pixels_of(np.asarray(image)), pixels_of(Volume(np.asarray(image), Geometry((160, 160), *GRID_OF)))):
        assert found.notes == (TEXT_FOUND, TEXT_IN_PICTURE) and "the overview" in TEXT_FOUND


def test_fractions_are_refused_or_rounded_as_asked() -> None:
    fine = Volume(picture("uint16") + np.float32(0.25), GRID)
    with pytest.raises(InputError, match=r"has fractions, from .* there is no exact level"):
        pixels_of(fine)
    found = pixels_of(fine, rounded=True)
    assert found.extras.rounded and found.values.dtype == "uint16" and "no exact level" in found.notes[-1]
    whole = pixels_of(Volume(picture(), GRID), rounded=True)
    assert not whole.extras.rounded and whole.notes == (TEXT_IN_PICTURE,)
    with pytest.raises(InputError, match="rounding would leave little"):
        pixels_of(Volume(picture() / np.float32(255), GRID), rounded=True)


@pytest.mark.parametrize("offset", [70_000, -40_000])
def test_more_than_16_bits_are_refused(offset: int) -> None:
    with pytest.raises(InputError, match="codes hold 16 bits"):
        pixels_of(Volume(picture().astype(np.float32) + offset, GRID))
    with pytest.raises(InputError, match="codes hold 16 bits"):
        pixels_of(Volume(picture().astype(np.float32) * 300 - 10, GRID))


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint32", "bool", "complex64", "float64"])
def test_arrays_of_another_type_are_refused(dtype: str) -> None:
    with pytest.raises(InputError, match=f"array of {dtype}"):
        pixels_of(np.ones((8, 8), dtype))


@pytest.mark.parametrize("shape", [(8,), (1, 8), (8, 4097), (2, 2, 2, 2), (0, 8)])
def test_arrays_of_impossible_sizes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="array of shape"):
        pixels_of(np.zeros(shape, np.uint8))


def test_colour_damage_and_what_is_not_there_are_refused(tmp_path: Path) -> None:
    colour = np.zeros((16, 16, 3), np.uint8)
    colour[..., 0], colour[2:5, 3:9, 1] = 9, 200
    sitk.WriteImage(sitk.GetImageFromArray(colour, isVector=True), str(tmp_path / "colour.png"))
    sitk.WriteImage(sitk.GetImageFromArray(picture()), str(tmp_path / "whole.png"))
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    for name, words in (
        ("colour.png", "3 channels"),
        ("cut.png", "damaged or cut short"),
        ("no.png", "does not exist"),
    ):
        with pytest.raises(InputError, match=words):
            pixels_of(tmp_path / name)
    for given in (None, 7, [[1, 2], [3, 4]]):
        with pytest.raises(InputError, match="Give a file's path"):
            pixels_of(given)  # type: ignore[arg-type]


def test_monochrome1_is_sealed_with_bright_values_large_and_said(tmp_path: Path) -> None:
    values = picture("uint16")
    plain = pixels_of(dicom(tmp_path / "two.dcm", values))
    turned = pixels_of(dicom(tmp_path / "one.dcm", values, Photometric="MONOCHROME1"))
    assert np.array_equal(turned.values, 65535 - plain.values.astype(np.int64))
    assert any("MONOCHROME1" in note for note in turned.notes) and not any("MONO" in note for note in plain.notes)


def test_burned_in_text_is_warned_of(tmp_path: Path) -> None:
    for said, count in (("YES", 2), ("NO", 1)):
        notes = pixels_of(dicom(tmp_path / f"{said}.dcm", picture(), BurnedIn=said, Modality="CR")).notes
        assert len(notes) == count and TEXT_IN_PICTURE in notes
    assert notes[0] == TEXT_IN_PICTURE and "overview" in TEXT_IN_PICTURE


def test_that_the_place_of_a_single_slice_is_left_out_is_said(tmp_path: Path) -> None:
    slice_ = dicom(tmp_path / "a.dcm", picture()[None], Modality="CT")
    assert pixels_of(slice_).values.ndim == 2 and "along its normal is not sealed" in pixels_of(slice_).notes[-1]
    assert pixels_of(dicom(tmp_path / "b.dcm", picture(), Modality="CR")).notes == (TEXT_IN_PICTURE,)


def test_no_tag_is_kept_but_those_that_are_named(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", picture(), Modality="CR", PatientName="Nobody^Else", ViewPosition="PA")
    assert pixels_of(path).extras.tags == {}
    found = pixels_of(path, keep_tags=["Modality", "ViewPosition"])
    assert found.extras.tags == {"Modality": "CR", "ViewPosition": "PA"} and found.notes == (TEXT_IN_PICTURE,)
    named = pixels_of(path, keep_tags=["PatientName"])
    assert any("PatientName may name a person" in note for note in named.notes)
    assert not any("Nobody" in note for note in named.notes)


def test_a_tag_that_cannot_be_kept_is_said(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", picture(), Modality="CR")
    for image, tag, words in (
        (path, "PixelData", "cannot be kept. These can"), (path, "KVP", "has no tag KVP"),
        (picture(), "Modality", "this image is an array"), (Volume(picture(), GRID), "Modality", "is no DICOM image"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            pixels_of(image, keep_tags=[tag])
