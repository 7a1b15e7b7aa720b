"""Reading of images, masks and DICOM folders; what is refused."""

from __future__ import annotations

import gzip
import locale
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from images_support import save, volume

from PPIRLogic.errors import InputError
from PPIRLogic.images.reading import read_mask, read_volume
from PPIRLogic.images.writing import write_volume
from PPIRLogic.points.files import read_points
from PPIRLogic.transforms.files import read_transform


def test_pictures(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 255, (20, 30)).astype(np.uint8)
    opaque = np.full_like(grey, 255)
    for name, stack in (("rgb.png", [grey] * 3), ("rgba.png", [grey] * 3 + [opaque])):
        read = read_volume(save(np.stack(stack, -1), tmp_path / name, vector=True))
        assert np.array_equal(read.array, grey)
        assert read.geometry.size == (30, 20)


def test_one_slice_becomes_2d(tmp_path: Path) -> None:
    image = volume(20, 30, 1).to_sitk()
    image.SetSpacing((0.5, 0.7, 5))
    image.SetOrigin((-3, 4, 99))
    image.SetDirection((0.6, -0.8, 0, 0.8, 0.6, 0, 0, 0, -1))
    sitk.WriteImage(image, str(tmp_path / "slice.mha"))
    flat = read_volume(tmp_path / "slice.mha")
    assert flat.geometry.size == (20, 30)
    for index in ((0, 0), (19, 29)):
        expected = image.TransformIndexToPhysicalPoint((*index, 0))[:2]
        assert np.allclose(flat.geometry.index_to_physical() @ [*index, 1], expected)
    image.SetDirection((1, 0, 0, 0, 0, -1, 0, 1, 0))
    sitk.WriteImage(image, str(tmp_path / "slice.mha"))
    with pytest.raises(InputError, match="not perpendicular to the z axis"):
        read_volume(tmp_path / "slice.mha")


def bad_file(kind: str, folder: Path) -> Path:
    path = folder / "a.mha"
    noise = np.random.default_rng(0).normal(size=(6, 7, 8))
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("hello")
    elif kind.startswith("cut"):
        path = folder / f"a{kind[3:]}"
        save(np.abs(noise[0] * 50).astype(np.uint8) if kind[3:] in (".jpg", ".png") else noise, path)
        path.write_bytes(path.read_bytes()[:-60])
    elif kind == "4d":
        sitk.WriteImage(sitk.JoinSeries([volume(5, 6, 7).to_sitk()] * 3), str(folder / "a.nrrd"))
        path = folder / "a.nrrd"
    elif kind == "colour":
        save(np.random.default_rng(0).integers(0, 255, (9, 8, 3)).astype(np.uint8), folder / "a.png", vector=True)
        path = folder / "a.png"
    elif kind == "transparent":
        picture = np.repeat(np.arange(80, dtype=np.uint8).reshape(8, 10, 1), 4, axis=2)
        path = save(picture, folder / "a.png", vector=True)
    elif kind == "vectors":
        save(np.repeat(noise[..., None], 3, axis=-1), path, vector=True)
    elif kind == "complex":
        sitk.WriteImage(sitk.GetImageFromArray(noise + 1j), str(folder / "a.nrrd"))
        path = folder / "a.nrrd"
    elif kind == "nan":
        noise[0, 0, :3] = np.nan, np.inf, -np.inf
        save(noise, path)
    elif kind == "thin":
        save(noise[:, :1], path)
    elif kind == "constant":
        save(np.full((6, 7, 8), 3.0), path)
    elif kind == "sheared":
        image = sitk.GetImageFromArray(noise)
        image.SetDirection((1, 0.3, 0, 0, 1, 0, 0, 0, 1))
        sitk.WriteImage(image, str(path))
    elif kind == "folder":
        path = folder
    return path


UNREADABLE = "cannot be read as an image"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "does not exist"),
        ("empty", "is an empty file"),
        ("text", UNREADABLE),
        ("cut.mha", UNREADABLE),
        ("cut.nii", UNREADABLE),
        ("cut.nii.gz", UNREADABLE),
        ("cut.nrrd", UNREADABLE),
        ("cut.png", UNREADABLE),
        ("cut.jpg", UNREADABLE),
        ("folder", "a folder without a DICOM series"),
        ("4d", "is 4D"),
        ("colour", "has 3 channels"),
        ("transparent", "has 4 channels"),
        ("vectors", "has 3 channels"),
        ("complex", "complex voxels"),
        ("nan", "has 3 voxels that are NaN or infinite"),
        ("thin", "an axis of one voxel (8×1×6)"),
        ("constant", "is constant"),
        ("sheared", "'direction' is not orthonormal"),
    ],
)
def test_bad_images_are_refused(tmp_path: Path, kind: str, words: str) -> None:
    path = bad_file(kind, tmp_path)
    with pytest.raises(InputError) as caught:
        read_volume(path, role="fixed")
    message = str(caught.value)
    assert words in message
    assert message.startswith(f"The fixed image '{path}'")
    assert caught.value.__cause__ is None


def test_nifti_cut_before_compression(tmp_path: Path) -> None:
    write_volume(volume(8, 9, 10), tmp_path / "a.nii")
    data = (tmp_path / "a.nii").read_bytes()
    with gzip.open(tmp_path / "a.nii.gz", "wb") as file:
        file.write(data[:-4])
    with pytest.raises(InputError, match=UNREADABLE):
        read_volume(tmp_path / "a.nii.gz")


def write_dicom(folder: Path, uid: str, positions: list[float]) -> None:
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    pixels = np.random.default_rng(0).integers(0, 500, (10, 12)).astype(np.int16)
    for number, z in enumerate(positions):
        image = sitk.GetImageFromArray(pixels + number)
        image = sitk.JoinSeries(image)
        image.SetSpacing((0.8, 0.8, 2.0))
        image.SetOrigin((5.0, 6.0, z))
        for tag, text in {
            "0008|0060": "CT",
            "0008|0018": f"{uid}.{number + 1}",
            "0020|000e": uid,
            "0020|000d": "1.2.3.4",
            "0020|0013": str(number),
            "0020|0032": f"5\\6\\{z}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }.items():
            image.SetMetaData(tag, text)
        writer.SetFileName(str(folder / f"{uid}-{number}.dcm"))
        writer.Execute(image)


def test_dicom_folder(tmp_path: Path) -> None:
    write_dicom(tmp_path / "one", "1.2.826.0.1", [0.0, 2.0, 4.0, 6.0])
    read = read_volume(tmp_path / "one")
    assert read.geometry.size == (12, 10, 4)
    assert np.allclose(read.geometry.spacing, (0.8, 0.8, 2))
    assert np.allclose(read.geometry.origin, (5, 6, 0))
    write_dicom(tmp_path / "one", "1.2.826.0.2", [0.0, 2.0])
    with pytest.raises(InputError, match=r"2 DICOM series.*sub-folder"):
        read_volume(tmp_path / "one")


def test_dicom_with_a_gap(tmp_path: Path) -> None:
    write_dicom(tmp_path / "gap", "1.2.826.0.3", [0.0, 2.0, 6.0, 8.0])
    with pytest.raises(InputError, match="not evenly spaced"):
        read_volume(tmp_path / "gap")


def test_itk_warnings_come_back(tmp_path: Path) -> None:
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    with pytest.raises(InputError):
        read_volume(bad_file("text", tmp_path))
    assert sitk.ProcessObject.GetGlobalWarningDisplay() == before


def test_mask(tmp_path: Path) -> None:
    image = volume(8, 7, 6)
    values = np.zeros((6, 7, 8), np.int16)
    values[1, 2, 3], values[4, 5, 6] = -1, 7
    mask = read_mask(save(values, tmp_path / "m.nii.gz"), image)
    assert mask.dtype == np.bool_
    assert np.argwhere(mask).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert read_mask(save(np.ones((6, 7, 8), np.uint8), tmp_path / "m.nrrd"), image).all()


def test_bad_masks(tmp_path: Path) -> None:
    image = volume(8, 7, 6)
    with pytest.raises(InputError, match=r"mask .* does not exist"):
        read_mask(tmp_path / "none.mha", image)
    with pytest.raises(InputError, match="empty: no voxel"):
        read_mask(save(np.zeros((6, 7, 8), np.uint8), tmp_path / "m.mha"), image)
    with pytest.raises(InputError, match="2 voxels that are NaN"):
        values = np.ones((6, 7, 8), np.float32)
        values[0, 0, :2] = np.nan
        read_mask(save(values, tmp_path / "m.mha"), image)
    with pytest.raises(InputError) as caught:
        read_mask(save(np.ones((6, 7, 9), np.uint8), tmp_path / "m.mha"), image)
    assert "9×7×6 voxels" in str(caught.value)
    assert "8×7×6 voxels" in str(caught.value)
    moved = sitk.GetImageFromArray(np.ones((6, 7, 8), np.uint8))
    moved.SetOrigin((0, 0, 0.5))
    sitk.WriteImage(moved, str(tmp_path / "m.mha"))
    with pytest.raises(InputError, match="not on the grid"):
        read_mask(tmp_path / "m.mha", image)


def test_reading_dicom_leaves_the_language_of_the_process_alone(tmp_path: Path) -> None:
    before = locale.setlocale(locale.LC_ALL)
    with pytest.raises(InputError):
        read_volume(tmp_path)  # a folder: the DICOM reader looks at it
    assert locale.setlocale(locale.LC_ALL) == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes")
def test_a_pipe_or_a_device_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nrrd")
    for path in (tmp_path / "pipe.nrrd", Path("/dev/zero")):
        for read in (read_volume, read_points, read_transform):
            with pytest.raises(InputError, match="not a file but a pipe or a device"):
                read(path)


def test_a_role_that_is_none() -> None:
    with pytest.raises(InputError, match="role 'banana': it must be moving, fixed or given"):
        read_volume("a.nrrd", role="banana")


def test_what_only_the_reader_refuses_is_not_called_cut_short(tmp_path: Path) -> None:
    """A whole NRRD file with a field that has no meaning here."""
    path = save(np.arange(336, dtype=np.int16).reshape(6, 7, 8), tmp_path / "a.nrrd")
    path.write_bytes(path.read_bytes().replace(b"\nendian:", b"\ncenters: cell cell\nendian:"))
    with pytest.raises(InputError, match="uses a part of its format that is not read here"):
        read_volume(path)


def test_what_kind_of_image_a_file_says_it_is(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.arange(64, dtype=np.uint16).reshape(8, 8))
    image.SetMetaData("0008|0060", "CT")
    sitk.WriteImage(image, str(tmp_path / "slice.dcm"))
    assert read_volume(tmp_path / "slice.dcm").modality == "CT"
    sitk.WriteImage(image, str(tmp_path / "slice.nrrd"))
    assert read_volume(tmp_path / "slice.nrrd").modality == ""
