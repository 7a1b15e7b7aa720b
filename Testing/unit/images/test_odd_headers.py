"""NRRD and MetaImage headers that say what ITK's readers pass over, or take for something else, are refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from PPIRLogic.errors import InputError
from PPIRLogic.images.reading import read_volume

VOXELS = np.random.default_rng(2).random((4, 5, 6)).astype("<f4")
DIRECTIONS = "space directions: (1,0,0) (0,2,0) (0,0,3)"
PLACE = f"space: LPS\n{DIRECTIONS}\nspace origin: (10,20,30)"


def write_nrrd(path: Path, place: str = PLACE, more: str = "", swap: tuple[str, str] = ("", "")) -> Path:
    header = f"NRRD0004\ntype: float\ndimension: 3\nsizes: 6 5 4\nencoding: raw\nendian: little\n{place}\n{more}"
    header = header.replace(*swap) if swap[0] else header
    path.write_bytes((header.rstrip() + "\n\n").encode() + VOXELS.tobytes())
    return path


TURN = "TransformMatrix = 1 0 0 0 1 0 0 0 1\n"
SHIFT = "Offset = 10 20 30\n"


def write_mha(
    path: Path, more: str = "", place: str = TURN + SHIFT, sizes: str = "6 5 4", swap: tuple[str, str] = ("", "")
) -> Path:
    header = (
        f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n{place}"
        f"ElementSpacing = 1 2 3\nDimSize = {sizes}\n{more}ElementType = MET_FLOAT\nElementDataFile = LOCAL\n"
    )
    header = header.replace(*swap) if swap[0] else header
    path.write_bytes(header.encode() + VOXELS.tobytes())
    return path


@pytest.mark.parametrize(
    ("place", "more", "words"),
    [
        (f"space: scanner-xyz\n{DIRECTIONS}\nspace origin: (0,0,0)", "", "which way its axes point.*scanner-xyz"),
        (f"space: 3D-left-handed\n{DIRECTIONS}\nspace origin: (0,0,0)", "", "which way its axes point"),
        (f"space dimension: 3\n{DIRECTIONS}\nspace origin: (0,0,0)", "", "has no 'space'"),
        (PLACE, 'space units: "cm" "cm" "cm"', "lengths are in 'cm'"),
        ("spacings: 1 2 3", 'units: "um" "um" "um"', "lengths are in 'um'"),
        ("spacings: 1 2 3", "", "does not say how far apart its voxels are and where they lie"),
        (PLACE, "spacings: 1 2 3", "gives its spacing twice"),
        (PLACE.replace("(0,0,3)", "(0,0,0)"), "", "distance of its voxels is not known"),
        (PLACE.replace("(0,0,3)", "(0,0,x)"), "", "words where it needs numbers"),
        (f"space: LPS\n{DIRECTIONS}\nspace origin: none", "", "one number of dimensions"),
        (f"space: LPS\n{DIRECTIONS}\nspace origin: (nan,0,0)", "", "not finite"),
        ("space: LPS\nspace directions: none (0,2,0) (0,0,3)\nspace origin: (0,0,0)", "", "one number of dimensions"),
        (PLACE, "kinds: domain domain time", "kind 'time'"),
        (PLACE, "kinds: vector domain domain", "kind 'vector'"),
        (PLACE, "data file: LIST\na.raw\nb.raw", "spread over several files"),
        (PLACE, "byte skip: abc", "no whole number"),
        (PLACE, "byte skip: \u00b2", "no whole number"),
    ],
)
def test_nrrd(place: str, more: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        read_volume(write_nrrd(tmp_path / "a.nrrd", place, more))


@pytest.mark.parametrize(
    ("swap", "words"),
    [
        (("raw", "ascii"), "written as text"),
        (("raw", "bzip2"), "encoding 'bzip2' is not read here"),
        (("raw", "hex"), "encoding 'hex' is not read here"),
        (("NRRD0004", "NRRD0009"), "version '0009' of NRRD"),
        (("type: float", "type: block\nblock size: 4"), "type 'block'"),
        (("type: float", "type: float16"), "type 'float16'"),
    ],
)
def test_what_is_not_read_of_nrrd_is_not_called_damaged(swap: tuple[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_volume(write_nrrd(tmp_path / "a.nrrd", swap=swap))
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("more", ["", 'space units: "mm" "mm" "mm"', "kinds: domain domain domain"])
def test_plain_nrrd_files_are_read(more: str, tmp_path: Path) -> None:
    found = read_volume(write_nrrd(tmp_path / "a.nrrd", more=more))
    assert np.array_equal(found.array, VOXELS) and found.geometry.origin == (10.0, 20.0, 30.0)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("DistanceUnits = cm\n", "distances are in 'cm'"),
        ("ElementToIntensityFunctionSlope = 2\n", "times 2 plus 0"),
        ("ElementToIntensityFunctionOffset = -1024\n", "times 1 plus -1024"),
        ("ElementByteOrderMSB = True\n", "two orders of bytes"),
        ("AnatomicalOrientation = RAS\n", "axes come from 'RAS' by AnatomicalOrientation and not by TransformMatrix"),
        ("ElementSize = 1 2 5\n", r"\(1, 2, 3\) mm by ElementSpacing and \(1, 2, 5\) mm by ElementSize"),
        ("Position = 4 5 6\n", "twice where its voxels lie, by Offset and Position"),
        ("HeaderSize = 10\n", "HeaderSize"),
        ("HeaderSize = abc\n", "HeaderSize"),
    ],
)
def test_metaimage(more: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        read_volume(write_mha(tmp_path / "a.mha", more))


@pytest.mark.parametrize(
    ("swap", "words"),
    [
        (("BinaryDataByteOrderMSB = False\n", ""), r"order of its bytes \(BinaryDataByteOrderMSB\)"),
        ((SHIFT, ""), r"where its voxels lie \(Offset\)"),
        ((TURN, ""), r"where its voxels lie \(TransformMatrix\)"),
        ((SHIFT, "Offset = nan 2 3\n"), "not finite, in 'Offset'"),
        ((TURN, TURN.replace("1\n", "nan\n")), "not finite, in 'TransformMatrix'"),
        (("= Image", "= Mesh"), "no image but of the type 'Mesh'"),
        (("MET_FLOAT", "MET_FLOAT_ARRAY"), "type 'MET_FLOAT_ARRAY', which is not read here"),
        (("= LOCAL", "= LIST 2\na.raw"), "spread over several files"),
    ],
)
def test_metaimage_that_leaves_something_open(swap: tuple[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        read_volume(write_mha(tmp_path / "a.mha", swap=swap))


@pytest.mark.parametrize("dimension", [2, 3])
def test_metaimage_of_itk_is_read_in_every_direction(dimension: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    turns = [np.eye(dimension)[list(p)] * (1, -1, 1)[:dimension] for p in itertools.permutations(range(dimension))]
    for turn in [*turns, *(np.linalg.qr(rng.normal(size=(dimension, dimension)))[0] for _ in range(20))]:
        image = sitk.GetImageFromArray(VOXELS[0] if dimension == 2 else VOXELS)
        image.SetDirection(turn.ravel())
        sitk.WriteImage(image, str(tmp_path / "a.mha"))
        assert np.allclose(read_volume(tmp_path / "a.mha").geometry.direction, turn.ravel())


def test_one_byte_has_no_order(tmp_path: Path) -> None:
    path = write_mha(tmp_path / "a.mha", swap=("BinaryDataByteOrderMSB = False\n", ""))
    path.write_bytes(path.read_bytes().replace(b"MET_FLOAT", b"MET_UCHAR").replace(b"6 5 4", b"6 5 16"))
    assert read_volume(path).array.tobytes() == np.frombuffer(VOXELS.tobytes(), np.uint8).astype("f4").tobytes()


def test_a_digit_of_another_script_is_no_size(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="DimSize"):
        read_volume(write_mha(tmp_path / "a.mha", sizes="\u00b2 5 4"))


@pytest.mark.parametrize(
    "more", ["", "DistanceUnits = mm\n", "AnatomicalOrientation = RAI\n", "HeaderSize = 0\n", "ElementSize = 1 2 3\n"]
)
def test_plain_metaimage_files_are_read(more: str, tmp_path: Path) -> None:
    found = read_volume(write_mha(tmp_path / "a.mha", more))
    assert np.array_equal(found.array, VOXELS) and found.geometry.spacing == (1.0, 2.0, 3.0)
