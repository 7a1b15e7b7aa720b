"""NRRD and MetaImage headers that say what ITK's readers pass over, or take for something else, are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from PPIRLogic.errors import InputError
from PPIRLogic.images.reading import read_volume

VOXELS = np.random.default_rng(2).random((4, 5, 6)).astype("<f4")
DIRECTIONS = "space directions: (1,0,0) (0,2,0) (0,0,3)"
PLACE = f"space: LPS\n{DIRECTIONS}\nspace origin: (10,20,30)"


def write_nrrd(path: Path, place: str = PLACE, more: str = "") -> Path:
    header = f"NRRD0004\ntype: float\ndimension: 3\nsizes: 6 5 4\nencoding: raw\nendian: little\n{place}\n{more}"
    path.write_bytes((header.rstrip() + "\n\n").encode() + VOXELS.tobytes())
    return path


def write_mha(path: Path, more: str = "", place: str = "Offset = 10 20 30\n", sizes: str = "6 5 4") -> Path:
    header = (
        f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n{place}"
        f"ElementSpacing = 1 2 3\nDimSize = {sizes}\n{more}ElementType = MET_FLOAT\nElementDataFile = LOCAL\n"
    )
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
        ("spacings: 1 nan 3", "", "distance of its voxels is not known"),
        ("spacings: 1 2", "", "a spacing for every axis"),
        ("spacings: a b c", "", "words where it needs numbers"),
        (f"space: LPS\n{DIRECTIONS}\nspace origin: none", "", "one number of dimensions"),
        (f"space: LPS\n{DIRECTIONS}\nspace origin: (nan,0,0)", "", "not finite"),
        ("space: LPS\nspace directions: none (0,2,0) (0,0,3)\nspace origin: (0,0,0)", "", "one number of dimensions"),
        (PLACE, "kinds: domain domain time", "kind 'time'"),
        (PLACE, "byte skip: abc", "no whole number"),
        (PLACE, "byte skip: \u00b2", "no whole number"),
    ],
)
def test_nrrd(place: str, more: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        read_volume(write_nrrd(tmp_path / "a.nrrd", place, more))


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
        ("AnatomicalOrientation = RAS\n", "no TransformMatrix"),
        ("HeaderSize = 10\n", "HeaderSize"),
        ("HeaderSize = abc\n", "HeaderSize"),
        ("TransformMatrix = 1 0 0 0 1 0 0 0 nan\n", "not finite"),
    ],
)
def test_metaimage(more: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        read_volume(write_mha(tmp_path / "a.mha", more))


def test_metaimage_with_an_origin_that_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not finite, in 'Offset'"):
        read_volume(write_mha(tmp_path / "a.mha", place="Offset = nan 2 3\n"))


def test_a_digit_of_another_script_is_no_size(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="DimSize"):
        read_volume(write_mha(tmp_path / "a.mha", sizes="\u00b2 5 4"))


@pytest.mark.parametrize("more", ["", "DistanceUnits = mm\n", "AnatomicalOrientation = RAI\n", "HeaderSize = 0\n"])
def test_plain_metaimage_files_are_read(more: str, tmp_path: Path) -> None:
    found = read_volume(write_mha(tmp_path / "a.mha", more))
    assert np.array_equal(found.array, VOXELS) and found.geometry.spacing == (1.0, 2.0, 3.0)
