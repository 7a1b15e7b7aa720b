"""Writing of images, and where it fails."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from images_support import grid, volume

from PPIRLogic import files
from PPIRLogic.errors import InputError, OutputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.reading import read_volume
from PPIRLogic.images.volume import Volume
from PPIRLogic.images.writing import png_problem, write_raw, write_volume


@pytest.mark.parametrize("extension", [".mha", ".nii", ".nii.gz", ".nrrd"])
def test_write_and_read(tmp_path: Path, extension: str) -> None:
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    geometry = Geometry((7, 6, 5), (0.9, 1.1, 2.5), (-100.5, 20, 300), tuple(turn.ravel()))
    before = Volume(np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32), geometry)
    write_volume(before, tmp_path / f"bild ä{extension}")
    after = read_volume(tmp_path / f"bild ä{extension}")
    assert after.geometry.matches(geometry, 1e-3)
    assert np.array_equal(after.array, before.array)
    assert after.name == f"bild ä{extension}"
    assert [p.name for p in tmp_path.iterdir()] == [after.name]


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_raw_file_is_what_itk_would_write(tmp_path: Path, dimension: int) -> None:
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(dimension, dimension)))[0]
    size = (7, 6, 5)[:dimension]
    geometry = Geometry(size, (0.9, 1.1, 2.5)[:dimension], (-100.5, 20.0, 1 / 3)[:dimension], tuple(turn.ravel()))
    before = Volume(np.random.default_rng(0).normal(size=size[::-1]).astype(np.float32), geometry)
    write_raw(before, tmp_path / "raw.mha")
    write_volume(before, tmp_path / "itk.mha")
    for name in ("raw.mha", "itk.mha"):
        image = sitk.ReadImage(str(tmp_path / name))
        assert np.array_equal(sitk.GetArrayViewFromImage(image), before.array)
        assert np.allclose(image.GetDirection(), turn.ravel(), atol=1e-6) and image.GetSize() == size
        assert np.allclose(image.GetOrigin(), geometry.origin) and np.allclose(image.GetSpacing(), geometry.spacing)
    assert read_volume(tmp_path / "raw.mha").geometry == geometry  # every digit of a double
    with pytest.raises(OutputError, match=r"raw\.mha"):
        write_raw(before, tmp_path / "raw.mha")


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    image = volume(8, 7, 6)
    for name in ("a.foo", "a", "a.mhd", ".mha"):
        with pytest.raises(OutputError, match=r"must end in one of \.mha"):
            write_volume(image, tmp_path / name)
    with pytest.raises(OutputError, match=r"folder .* does not exist"):
        write_volume(image, tmp_path / "none" / "a.mha")
    (tmp_path / "sub.mha").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        write_volume(image, tmp_path / "sub.mha")
    with pytest.raises(OutputError, match="2D images only"):
        write_volume(image, tmp_path / "a.png")
    with pytest.raises(OutputError, match="0 to 65535"):
        write_volume(Volume(np.full((5, 5), -3.0, np.float32), grid(5, 5)), tmp_path / "a.png")
    assert [p.name for p in tmp_path.iterdir()] == ["sub.mha"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_full_disk_and_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    (tmp_path / "a.mha").write_bytes(b"old")
    original = Path.write_bytes

    def fail(temporary: Path, room: int) -> None:
        assert room > 8 * 7 * 6 * 4
        original(temporary, b"half")
        raise OSError(number, "no luck")

    monkeypatch.setattr(files, "_try_room", fail)
    with pytest.raises(OutputError, match="no luck"):
        write_volume(volume(8, 7, 6), tmp_path / "a.mha")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.mha", b"old")]


@pytest.mark.parametrize("loud", [True, False])
def test_half_written_file_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loud: bool) -> None:
    (tmp_path / "a.nii").write_bytes(b"old")
    original = sitk.WriteImage

    def half(image: sitk.Image, name: str) -> None:
        original(image, name)
        Path(name).write_bytes(Path(name).read_bytes()[:500])
        if loud:
            raise RuntimeError("ITK ERROR")

    monkeypatch.setattr(sitk, "WriteImage", half)
    with pytest.raises(OutputError, match="disk is full"):
        write_volume(volume(8, 7, 6), tmp_path / "a.nii")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.nii", b"old")]


def test_write_png_and_fields(tmp_path: Path) -> None:
    write_volume(Volume(np.array([[0.4, 254.6], [3, 4]], np.float32), grid(2, 2)), tmp_path / "a.png")
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.png"))).tolist() == [[0, 255], [3, 4]]
    field = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(4, 5, 6, 3)), isVector=True)
    write_volume(field, tmp_path / "field.nii.gz")
    assert sitk.ReadImage(str(tmp_path / "field.nii.gz")).GetNumberOfComponentsPerPixel() == 3


def test_a_png_is_not_black_for_an_image_of_fractions(tmp_path: Path) -> None:
    fractions = np.random.default_rng(2).random((5, 6)).astype(np.float32)
    path = tmp_path / "a.png"
    with pytest.raises(OutputError, match=r"to which values from .* would be rounded.*scale the image to 0 to 255"):
        write_volume(Volume(fractions, grid(6, 5)), path)
    assert "would be rounded" in png_problem(fractions * 60)
    assert not png_problem(fractions * 255) and not png_problem(np.rint(fractions * 3))
    write_volume(Volume(fractions, grid(6, 5)), path, rounded=True)
    assert set(np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(path))))) == {0, 1}


def test_a_grid_that_is_none_is_not_written(tmp_path: Path) -> None:
    image = Volume(np.arange(12.0).reshape(3, 4), Geometry((4, 3), (0, 1), (0, 0), (1, 0, 0, 1)))
    with pytest.raises(InputError, match="its spacing or its direction is 0"):
        write_volume(image, tmp_path / "a.nrrd")
    assert list(tmp_path.iterdir()) == []
