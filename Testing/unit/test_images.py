"""Grids, reading and writing of images, intensities."""

from __future__ import annotations

import errno
import gzip
import locale
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from PPIRLogic import files
from PPIRLogic.errors import InputError, OutputError
from PPIRLogic.images import intensities
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.intensities import fill_outside, normalise, robust_range
from PPIRLogic.images.reading import read_mask, read_volume
from PPIRLogic.images.volume import Volume
from PPIRLogic.images.writing import write_raw, write_volume

IDENTITY = {2: (1, 0, 0, 1), 3: (1, 0, 0, 0, 1, 0, 0, 0, 1)}


def grid(*size: int, spacing: tuple[float, ...] | None = None) -> Geometry:
    dim = len(size)
    return Geometry(size, spacing or (1.0,) * dim, (0.0,) * dim, IDENTITY[dim])


def volume(*size: int, seed: int = 0) -> Volume:
    geometry = grid(*size)
    values = np.random.default_rng(seed).normal(100, 30, geometry.array_shape)
    return Volume(values.astype(np.float32), geometry, "test")


def save(array: Any, path: Path, vector: bool = False) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(np.asarray(array), isVector=vector), str(path))
    return path


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Oblique, anisotropic, left- and right-handed grids."""
    dim = draw(st.sampled_from([2, 3]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    direction = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return Geometry(
        tuple(rng.integers(2, 40, dim).tolist()),
        tuple(rng.uniform(0.3, 5, dim).tolist()),
        tuple(rng.uniform(-500, 500, dim).tolist()),
        tuple(direction.ravel().tolist()),
    )


# ------------------------------------------------------------------------------------------------ geometry


@settings(max_examples=50, deadline=None)
@given(geometries(), st.integers(0, 2**32 - 1))
def test_affines_agree_with_itk(geometry: Geometry, seed: int) -> None:
    image = geometry.to_sitk_reference()
    assert Geometry.from_sitk(image) == geometry
    index = np.random.default_rng(seed).uniform(-3, 50, geometry.dimension)
    point = image.TransformContinuousIndexToPhysicalPoint(index.tolist())
    homogeneous = geometry.index_to_physical() @ [*index, 1]
    assert np.allclose(homogeneous, point, atol=1e-9)
    assert np.allclose(geometry.physical_to_index() @ [*point, 1.0], index, atol=1e-8)
    middle = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in geometry.size])
    assert np.allclose(geometry.centre(), middle, atol=1e-9)
    assert geometry.corners().shape == (2**geometry.dimension, geometry.dimension)
    assert np.allclose(geometry.corners().mean(0), geometry.centre(), atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(geometries())
def test_dictionary_round_trip(geometry: Geometry) -> None:
    assert Geometry.from_dict(geometry.to_dict()) == geometry


def test_geometry_properties() -> None:
    geometry = grid(181, 217, 180, spacing=(1, 1, 2.5))
    assert geometry.describe() == "181×217×180 voxels, 1×1×2.5 mm"
    assert geometry.array_shape == (180, 217, 181)
    assert (geometry.dimension, geometry.voxels) == (3, 181 * 217 * 180)
    assert geometry.extent_mm() == (181.0, 217.0, 450.0)


def test_matches_counts_in_voxels() -> None:
    geometry = grid(100, 50)
    assert geometry.matches(Geometry((100, 50), (1, 1), (0.0009, 0), IDENTITY[2]))
    assert not geometry.matches(Geometry((100, 50), (1, 1), (0.002, 0), IDENTITY[2]))
    assert geometry.matches(Geometry((100, 50), (1, 1), (0.002, 0), IDENTITY[2]), tol=0.01)
    assert not geometry.matches(Geometry((100, 50), (1.001, 1), (0, 0), IDENTITY[2]))
    assert not geometry.matches(grid(100, 51))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("size", "10", "'size' must be a list of whole numbers"),
        ("size", [10, 10.0], "'size' must be a list of whole numbers"),
        ("size", [10, True], "'size' must be a list of whole numbers"),
        ("size", [10], "'size' has 1 entries"),
        ("size", [10] * 4, "'size' has 4 entries"),
        ("size", [10, 1], "'size' must have 2 to 4096"),
        ("size", [10, -5], "'size' must have 2 to 4096"),
        ("size", [10, 4097], "'size' must have 2 to 4096"),
        ("size", [10, 10**5000], "'size' must have 2 to 4096"),
        ("size", [4096] * 3, "at most 2^28"),
        ("spacing", [1, 0], "'spacing' must be positive"),
        ("spacing", [1, -1.0], "'spacing' must be positive"),
        ("spacing", [1, float("nan")], "'spacing' must hold finite"),
        ("spacing", [1, float("inf")], "'spacing' must hold finite"),
        ("spacing", [1, 1, 1], "'spacing' must have 2 entries"),
        ("spacing", None, "'spacing' must be a list of numbers"),
        ("spacing", [1, "1"], "'spacing' must be a list of numbers"),
        ("origin", [0, float("nan")], "'origin' must hold finite"),
        ("origin", [0, 10**5000], "'origin' must hold finite"),
        ("origin", [0], "'origin' must have 2 entries"),
        ("direction", [1, 0, 0], "'direction' must have 4 entries"),
        ("direction", [1, 0.01, 0, 1], "'direction' is not orthonormal"),
        ("direction", [0, 0, 0, 0], "'direction' is not orthonormal"),
        ("direction", [float("nan"), 0, 0, 1], "'direction' must hold finite"),
    ],
)
def test_from_dict_refuses(field: str, value: Any, words: str) -> None:
    good = grid(10, 12).to_dict()
    with pytest.raises(InputError) as caught:
        Geometry.from_dict({**good, field: value})
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


def test_from_dict_refuses_other_fields() -> None:
    good: dict[str, Any] = grid(10, 12).to_dict()
    with pytest.raises(InputError, match="missing: origin"):
        Geometry.from_dict({key: value for key, value in good.items() if key != "origin"})
    with pytest.raises(InputError, match="others"):
        Geometry.from_dict({**good, "more": 1})
    with pytest.raises(InputError, match="must be a mapping"):
        Geometry.from_dict([1, 2])  # type: ignore[arg-type]
    Geometry.from_dict({**good, "direction": [-1, 0, 0, 1]})  # left-handed


def test_volume_needs_a_fitting_array() -> None:
    with pytest.raises(InputError, match="does not fit"):
        Volume(np.zeros((5, 4), np.float32), grid(5, 4))
    other: Any = np.zeros((5, 4), np.float64).T
    turned = Volume(other, grid(5, 4))
    assert turned.array.dtype == np.float32
    assert turned.array.flags.c_contiguous


# ------------------------------------------------------------------------------------------------ reading


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


# ------------------------------------------------------------------------------------------------ masks


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


# ------------------------------------------------------------------------------------------------ writing


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


# ------------------------------------------------------------------------------------------------ intensities


def test_robust_range() -> None:
    image = Volume(np.arange(10000, dtype=np.float32).reshape(100, 100), grid(100, 100), "ramp")
    found = robust_range(image)
    assert found.low == pytest.approx(99.99, abs=0.01)
    assert found.high == pytest.approx(9899.01, abs=0.01)
    inside = image.array < 101
    assert robust_range(image, inside, (0, 100)).high == 100
    sparse = Volume(np.where(image.array == 5000, 9, 2).astype(np.float32), image.geometry, "dot")
    assert (robust_range(sparse).low, robust_range(sparse).high) == (2, 9)
    with pytest.raises(InputError, match="'dot' is constant inside its mask"):
        robust_range(sparse, inside)
    with pytest.raises(InputError, match="mask of 'ramp' is empty"):
        robust_range(image, np.zeros((100, 100), bool))
    with pytest.raises(InputError, match="Percentiles must rise"):
        robust_range(image, percentiles=(99, 1))


@settings(max_examples=20, deadline=None)
@given(st.floats(-1000, 1000), st.floats(0.1, 1000))
def test_normalise(low: float, width: float) -> None:
    low, high = float(np.float32(low)), float(np.float32(low + width))
    values = np.array([[low, high], [low - 10 * width, high + 10 * width]], np.float32)
    out = normalise(Volume(values, grid(2, 2)), intensities.Normalisation(low, high, "test"))
    assert np.allclose(out.array, np.array([[0, 1], [-0.5, 1.5]]), atol=1e-6)
    assert out.array.dtype == np.float32


def test_large_image_is_quick() -> None:
    image = Volume(np.random.default_rng(0).random((180, 217, 181), dtype=np.float32), grid(181, 217, 180))
    start = time.perf_counter()
    out = normalise(image, robust_range(image))
    assert time.perf_counter() - start < 2  # 0.1 s on an idle machine
    assert abs(float(out.array.mean()) - 0.5) < 0.01


def test_fill_outside() -> None:
    image = volume(8, 7, 6)
    mask = np.zeros((6, 7, 8), bool)
    mask[2:4, 2:5, 1:6] = True
    filled = fill_outside(image, mask)
    assert np.array_equal(filled.array[mask], image.array[mask])
    assert np.allclose(filled.array[~mask], image.array[mask].mean(), rtol=1e-6)
    with pytest.raises(InputError, match="is empty"):
        fill_outside(image, np.zeros((6, 7, 8), bool))
    with pytest.raises(InputError, match="has shape"):
        fill_outside(image, mask[0])


def test_reading_dicom_leaves_the_language_of_the_process_alone(tmp_path: Path) -> None:
    before = locale.setlocale(locale.LC_ALL)
    with pytest.raises(InputError):
        read_volume(tmp_path)  # a folder: the DICOM reader looks at it
    assert locale.setlocale(locale.LC_ALL) == before
