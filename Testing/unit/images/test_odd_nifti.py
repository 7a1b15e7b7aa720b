"""NIfTI files whose voxels ITK would change without a word, or of a kind that is not read, are refused."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from PPIRLogic.errors import InputError
from PPIRLogic.images.reading import read_mask, read_volume

VALUES = np.random.default_rng(6).random((5, 6, 7))


def write(path: Path, values: np.ndarray = VALUES, **header: tuple[str, int, float | bytes]) -> Path:
    """As ITK writes it; then the header says these things: struct format, offset, value."""
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    if header:
        data = bytearray(path.read_bytes())
        for form, at, value in header.values():
            struct.pack_into("<" + form, data, at, value)
        path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_not_made_0(name: str, kind: type, value: float, tmp_path: Path) -> None:
    values = VALUES.astype(kind)
    whole = read_volume(write(tmp_path / name, values))
    values[0, :2, 0], values[-1, -1, -1] = value, value
    path = write(tmp_path / name, values)
    with pytest.raises(InputError, match="has 3 voxels that are NaN or infinite"):
        read_volume(path)
    with pytest.raises(InputError, match=r"The mask .* has 3 voxels that are NaN or infinite"):
        read_mask(path, whole)


def test_big_endian_floats_are_seen_as_what_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", VALUES.astype(np.float32))
    data = bytearray(path.read_bytes())
    for form, at in (("i", 0), ("8h", 40), ("2h", 70), ("8f", 76), ("3f", 108), ("2h", 252), ("18f", 256)):
        struct.pack_into(">" + form, data, at, *struct.unpack_from("<" + form, data, at))
    voxels = VALUES.astype(">f4")
    path.write_bytes(data[:352] + voxels.tobytes())
    assert np.array_equal(read_volume(path).array, VALUES.astype(np.float32))
    voxels[2, 2, 2] = np.nan
    path.write_bytes(data[:352] + voxels.tobytes())
    with pytest.raises(InputError, match="has 1 voxels that are NaN"):
        read_volume(path)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"slope": ("f", 112, np.nan)}, "scales the voxels by what is not a number"),
        ({"inter": ("f", 116, np.inf)}, "scales the voxels by what is not a number"),
        ({"slope": ("f", 112, 1e-17)}, r"scaled by 1e-17 \(scl_slope\)"),
        ({"slope": ("f", 112, 0.0), "inter": ("f", 116, 5.0)}, r"scaled by 0 .* shifted by 5 \(scl_inter\)"),
        ({"magic": ("4s", 344, b"ni1\0")}, "header of a pair"),
        ({"size": ("i", 0, 540)}, "NIfTI-2"),
        ({"intent": ("h", 68, 1005)}, "Its voxels are matrices"),
        ({"intent": ("h", 68, 1006)}, r"Its voxels are displacements \(intent code 1006\)"),
        ({"type": ("h", 70, 1)}, "single bits"),
        ({"type": ("h", 70, 1536)}, "floats of 128 bits"),
    ],
)
def test_headers(header: dict[str, tuple[str, int, float | bytes]], words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", (VALUES * 1000).astype(np.int16), **header)
    with pytest.raises(InputError, match=words):
        read_volume(path)


@pytest.mark.parametrize("name", ["a.nii", "a.hdr"])
@pytest.mark.parametrize("start", [-1.0, 1e15, 1e30, np.nan])
def test_voxels_that_begin_nowhere(name: str, start: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is damaged or cut short: its header"):
        read_volume(write(tmp_path / name, start=("f", 108, start)))


def test_scaled_voxels_are_read_by_the_standard(tmp_path: Path) -> None:
    values = (VALUES * 1000).astype(np.int16)
    path = write(tmp_path / "a.nii", values, slope=("f", 112, 0.5), inter=("f", 116, -7.0))
    assert np.array_equal(read_volume(path).array, (values * 0.5 - 7).astype(np.float32))
    path = write(tmp_path / "a.nii", values, slope=("f", 112, 0.0))
    assert np.array_equal(read_volume(path).array, values)


def test_a_file_that_is_packed_twice_is_not_called_damaged(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz")
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match="compressed twice") as caught:
        read_volume(path)
    assert "damaged" not in str(caught.value)
