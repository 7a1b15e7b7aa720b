"""A file that was cut short or changed is refused, or read bit for bit: never as something else.

A format without check values cannot tell that the bytes of a voxel, or the digits of its place, are others than they
were. There, what is read is what the file says: that one voxel, or that one place, and nothing beside it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from PPIRLogic.errors import InputError
from PPIRLogic.images.reading import read_volume
from PPIRLogic.images.volume import Volume

CASES = 240  # for each format: a third cut short, a third changed in the first bytes, a third changed anywhere
SIZE = (9, 8, 7)


@dataclass(frozen=True)
class Sample:
    """A whole file. voxels: where its plain values lie, and of how many bytes one is. said: what else may be told
    otherwise by one byte, such as a digit of the origin."""

    path: Path
    voxels: tuple[int, int] | None = None
    said: tuple[tuple[int, int], ...] = ()
    read: Path | None = None  # a folder or a header, where it is not the file itself

    @property
    def whole(self) -> Path:
        return self.read or self.path


def image(dimension: int = 3) -> sitk.Image:
    values = np.random.default_rng(3).integers(0, 30000, SIZE[:dimension]).astype(np.uint16)
    made = sitk.GetImageFromArray(values)
    made.SetSpacing((0.75, 1.25, 2.5)[:dimension])
    made.SetOrigin((-11.5, 22.25, 7.125)[:dimension])
    return made


def spans(data: bytes, *patterns: str) -> tuple[tuple[int, int], ...]:
    """Where these parts of a header lie."""
    return tuple(match.span(1) for p in patterns for match in re.finditer(p.encode(), data))


def written(folder: Path, name: str, packed: bool = False, dimension: int = 3) -> Path:
    sitk.WriteImage(image(dimension), str(folder / name), packed)
    return folder / name


def nrrd(folder: Path) -> Sample:
    path = written(folder, "a.nrrd")
    data = path.read_bytes()
    said = spans(data, r"space directions: ([^\n]*)", r"space origin: ([^\n]*)", r"\nspace: ([^\n]*)")
    return Sample(path, (data.index(b"\n\n") + 2, 2), said)


def nrrd_header(folder: Path) -> Sample:
    path = written(folder, "b.nhdr")
    data = path.read_bytes()
    return Sample(path, None, spans(data, r"space directions: ([^\n]*)", r"space origin: ([^\n]*)"))


def nrrd_data(folder: Path) -> Sample:
    path = written(folder, "c.nhdr")
    return Sample(folder / "c.raw", (0, 2), (), path)


def nrrd_packed(folder: Path) -> Sample:
    path = written(folder, "d.nrrd", True)
    return Sample(path, None, spans(path.read_bytes(), r"space directions: ([^\n]*)", r"space origin: ([^\n]*)"))


META = tuple(rf"\n{name} = ([^\n]*)" for name in ("TransformMatrix", "Offset", "ElementSpacing"))


def meta(folder: Path) -> Sample:
    path = written(folder, "a.mha")
    data = path.read_bytes()
    return Sample(path, (data.index(b"LOCAL\n") + 6, 2), spans(data, *META))


def meta_packed(folder: Path) -> Sample:
    path = written(folder, "b.mha", True)
    return Sample(path, None, spans(path.read_bytes(), *META))


NIFTI = ((76, 108), (112, 120), (123, 124), (252, 328))  # spacing, scaling, units, place


def nifti(folder: Path) -> Sample:
    return Sample(written(folder, "a.nii"), (352, 2), NIFTI)


def nifti_floats(folder: Path) -> Sample:
    """One byte can make one of them NaN or infinite."""
    sitk.WriteImage(sitk.Cast(image(), sitk.sitkFloat32), str(folder / "f.nii"))
    return Sample(folder / "f.nii", (352, 4), NIFTI)


def nifti_packed(folder: Path) -> Sample:
    return Sample(written(folder, "a.nii.gz"))


def nifti_header(folder: Path) -> Sample:
    path = written(folder, "b.hdr")
    return Sample(path, None, NIFTI)


def nifti_data(folder: Path) -> Sample:
    path = written(folder, "c.hdr")
    return Sample(folder / "c.img", (0, 2), (), path)


def png(folder: Path) -> Sample:
    return Sample(written(folder, "a.png", dimension=2))


def tiff(folder: Path) -> Sample:
    path = written(folder, "a.tif", dimension=2)
    return Sample(path, (8, 2), ((8 + 2 * SIZE[0] * SIZE[1], path.stat().st_size),))  # the directory: resolution


def dicom_slice(folder: Path) -> Sample:
    """One of a series."""
    series = folder / "series"
    write_slices(series, [0.0, 2.0, 4.0, 6.0])
    path = series / "slice2.dcm"
    data = path.read_bytes()
    pixels = len(data) - 2 * SIZE[1] * SIZE[2]
    return Sample(path, None, ((pixels, len(data)),), series)


MAKERS = (
    nrrd, nrrd_header, nrrd_data, nrrd_packed, meta, meta_packed, nifti, nifti_floats, nifti_packed, nifti_header,
    nifti_data, png, tiff, dicom_slice,
)  # fmt: skip


def write_slices(
    folder: Path,
    positions: list[float],
    change: Callable[[int, sitk.Image], None] = lambda number, image: None,
) -> None:
    """DICOM slices of one series, 1.5 mm pixels, at these heights."""
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    values = np.random.default_rng(4).integers(0, 900, SIZE[1:]).astype(np.int16)
    for number, z in enumerate(positions):
        one = sitk.JoinSeries(sitk.GetImageFromArray(values + number))
        one.SetSpacing((1.5, 1.5, 2.0))
        for tag, text in {
            "0008|0060": "CT", "0008|0018": f"1.2.3.{number + 1}", "0020|000e": "1.2.3", "0020|000d": "1.2.4",
            "0020|0013": str(number), "0020|0032": f"5\\6\\{z}", "0020|0037": "1\\0\\0\\0\\1\\0",
        }.items():  # fmt: skip
            one.SetMetaData(tag, text)
        change(number, one)
        writer.SetFileName(str(folder / f"slice{number}.dcm"))
        writer.Execute(one)


def damage(data: bytes, case: int, rng: np.random.Generator) -> tuple[bytes, int | None]:
    """The data cut short, or with one byte changed; and which."""
    if case % 3 == 0:
        return data[: int(rng.integers(1, len(data)))], None
    at = int(rng.integers(0, min(len(data), 700) if case % 3 == 1 else len(data)))
    return data[:at] + bytes([data[at] ^ int(rng.integers(1, 256))]) + data[at + 1 :], at


def check(before: Volume, after: Volume, sample: Sample, at: int | None) -> None:
    """Whatever was read must be what the file says."""
    if at is not None and any(first <= at < last for first, last in sample.said):
        return
    assert after.geometry == before.geometry, at
    other = np.flatnonzero(after.array.ravel() != before.array.ravel())
    if sample.voxels is not None and at is not None and at >= sample.voxels[0]:
        assert other.tolist() in ([], [(at - sample.voxels[0]) // sample.voxels[1]]), at
    else:
        assert other.size == 0, at


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_a_damaged_file_is_refused_or_read_as_it_is(make: Callable[[Path], Sample], tmp_path: Path) -> None:
    sample = make(tmp_path)
    data, before = sample.path.read_bytes(), read_volume(sample.whole)
    rng = np.random.default_rng(7)
    refused = 0
    for case in range(CASES):
        changed, at = damage(data, case, rng)
        sample.path.write_bytes(changed)
        try:
            after = read_volume(sample.whole)
        except InputError as error:
            assert sample.whole.name in str(error)
            refused += 1
            continue
        assert at is not None, f"{sample.path.name}, cut to {len(changed)} of {len(data)} bytes, was read"
        check(before, after, sample, at)
    assert refused >= CASES // 3


# ------------------------------------------------------------------------------------ formats and geometry


def said_of(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_volume(path)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.vtk", "a.gipl", "a.mrc", "a.bmp", "a.jpg", "a.hdf5"])
def test_formats_that_cannot_be_checked_are_not_offered(name: str, tmp_path: Path) -> None:
    flat = sitk.Cast(image(2), sitk.sitkUInt8)
    sitk.WriteImage(flat if name.endswith(("bmp", "jpg")) else image(), str(tmp_path / name))
    assert "These are read: .nrrd" in said_of(tmp_path / name)


@pytest.mark.parametrize(("name", "lost"), [("a.hdr", "a.img"), ("b.nhdr", "b.raw"), ("c.mhd", "c.raw")])
def test_a_missing_data_file_is_named(name: str, lost: str, tmp_path: Path) -> None:
    path = written(tmp_path, name)
    (tmp_path / lost).unlink()
    said = said_of(path)
    assert f"'{lost}'" in said and "missing" in said and "damaged" not in said


def test_a_tiff_of_several_pages_does_not_say_their_distance(tmp_path: Path) -> None:
    assert "several pages" in said_of(written(tmp_path, "a.tif"))


def test_a_compressed_file_under_a_plain_name(tmp_path: Path) -> None:
    written(tmp_path, "a.nii.gz").rename(tmp_path / "a.nii")
    assert "Rename it to 'a.nii.gz'" in said_of(tmp_path / "a.nii")


def nifti_with(folder: Path, **values: tuple[str, int, tuple[float, ...]]) -> Path:
    """A NIfTI file whose header says these things: struct format, offset, values."""
    path = written(folder, "a.nii")
    data = bytearray(path.read_bytes())
    for form, at, numbers in values.values():
        struct.pack_into("<" + form, data, at, *numbers)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"sform": ("4f", 280, (-0.75, 0.0, 0.0, 60.0))}, ("qform", "sform", "mm apart", "48.5 mm")),
        ({"sform": ("4f", 312, (0.0, 0.4, 2.5, 7.125))}, ("shear", "right angle", "qform [", "sform [")),
        ({"sform": ("4f", 312, (0.0, 0.4, 2.5, 7.125)), "code": ("h", 252, (0,))}, ("shear", "no qform")),
        ({"codes": ("2h", 252, (0, 0))}, ("does not say how the image lies",)),
        ({"spacing": ("f", 88, (0.0,))}, ("spacing", "(0.75, 1.25, 0) mm")),
        ({"spacing": ("f", 88, (5.0,)), "code": ("h", 252, (0,))}, ("1.25, 5", "1.25, 2.5", "by its sform")),
        ({"magic": ("4s", 344, (b"\0\0\0\0",))}, ("Analyze 7.5",)),
    ],
)
def test_a_nifti_file_that_leaves_its_place_open(header: dict, words: tuple[str, ...], tmp_path: Path) -> None:
    said = said_of(nifti_with(tmp_path, **header))
    assert not [w for w in words if w not in said], said


def test_a_header_without_a_place_is_not_guessed(tmp_path: Path) -> None:
    voxels = np.arange(24, dtype=np.uint8).tobytes()
    bare = tmp_path / "a.nrrd"
    bare.write_bytes(b"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 4 6\nencoding: raw\n\n" + voxels)
    assert "how far apart" in said_of(bare)
    meta_file = tmp_path / "a.mha"
    header = b"NDims = 2\nDimSize = 4 6\nElementType = MET_UCHAR\n"
    meta_file.write_bytes(header + b"ElementDataFile = LOCAL\n" + voxels)
    assert "ElementSpacing" in said_of(meta_file)
    header += b"ElementSpacing = 2 3\n"
    meta_file.write_bytes(header + b"ElementDataFile = LOCAL\n" + voxels)
    assert "where its voxels lie" in said_of(meta_file)
    header += b"Offset = 5 6\nTransformMatrix = 1 0 0 1\n"
    meta_file.write_bytes(header + b"ElementDataFile = LOCAL\n" + voxels)
    assert read_volume(meta_file).geometry.origin == (5.0, 6.0)


# ------------------------------------------------------------------------------------------- DICOM series

EVEN = [0.0, 2.0, 4.0, 6.0, 8.0]


def changed(number: int, tag: str, text: str) -> Callable[[int, sitk.Image], None]:
    def change(at: int, one: sitk.Image) -> None:
        if at == number:
            one.SetMetaData(tag, text)

    return change


@pytest.mark.parametrize(
    ("positions", "change", "words"),
    [
        (EVEN, changed(2, "0020|0037", "1\\0\\0\\0\\0\\-1"), ("orientation", "slice2.dcm", "4 of 5")),
        ([0.0, 2.0, 4.0, 8.0], None, ("slice2.dcm", "slice3.dcm", "4 mm", "2 mm elsewhere", "missing")),
        ([0.0, 2.0, 2.0, 4.0], None, ("same place", "slice1.dcm", "slice2.dcm")),
        (EVEN, changed(3, "0020|0032", "7\\6\\6"), ("slice3.dcm", "shifted by 2 mm")),
    ],
)
def test_slices_that_are_not_one_volume(
    positions: list[float],
    change: Callable[[int, sitk.Image], None] | None,
    words: tuple[str, ...],
    tmp_path: Path,
) -> None:
    write_slices(tmp_path / "s", positions, *([change] if change else []))
    said = said_of(tmp_path / "s")
    assert not [w for w in words if w not in said], said


def test_a_slice_without_rescaling_among_others(tmp_path: Path) -> None:
    write_slices(tmp_path, EVEN)
    rescale(tmp_path / "slice3.dcm", {})
    said = said_of(tmp_path)
    assert "rescaling" in said and "slice3.dcm" in said


def test_a_damaged_or_strange_slice_is_named(tmp_path: Path) -> None:
    write_slices(tmp_path, EVEN)
    before = read_volume(tmp_path)
    (tmp_path / "README.txt").write_text("scanned on Monday")  # is passed over
    assert np.array_equal(read_volume(tmp_path).array, before.array)
    last = tmp_path / "slice4.dcm"
    last.write_bytes(last.read_bytes()[:-30])
    assert "slice4.dcm" in said_of(tmp_path)
    last.write_bytes(b"DICM")
    assert "slice4.dcm" in said_of(tmp_path)


def test_every_slice_is_rescaled_by_its_own_slope(tmp_path: Path) -> None:
    slopes = [1.0, 0.37, 2.5, 0.002, 1.0]
    write_slices(tmp_path, EVEN)
    for number, slope in enumerate(slopes):
        rescale(tmp_path / f"slice{number}.dcm", {0x1052: "0", 0x1053: str(slope)})
    raw = np.stack([stored(tmp_path / f"slice{k}.dcm") for k in range(5)])
    assert np.allclose(read_volume(tmp_path).array, raw * np.array(slopes)[:, None, None], rtol=1e-6)


def stored(path: Path) -> np.ndarray:
    """The stored numbers of a slice, at the end of its file."""
    return np.frombuffer(path.read_bytes()[-2 * SIZE[1] * SIZE[2] :], "<i2").reshape(SIZE[1:])


def rescale(path: Path, texts: dict[int, str], frames: int = 1) -> None:
    """Let these be the elements 0028,1052 (intercept) and 1053 (slope) of a slice; repeat its pixels."""
    pixels = 2 * SIZE[1] * SIZE[2]
    data = path.read_bytes()
    head, end = data[: -pixels - 8], data[-pixels:]
    for number in (0x1052, 0x1053, 0x1054):
        if (at := head.find(struct.pack("<HH", 0x28, number))) >= 0:
            head = head[:at] + head[at + 8 + struct.unpack_from("<I", head, at + 4)[0] :]
    for number, text in texts.items():
        value = text.encode() + b" " * (len(text) % 2)
        head += struct.pack("<HHI", 0x28, number, len(value)) + value
    path.write_bytes(head + struct.pack("<HHI", 0x7FE0, 0x10, frames * pixels) + frames * end)


def test_a_file_of_several_frames_without_positions(tmp_path: Path) -> None:
    write_slices(tmp_path, [0.0])
    path = tmp_path / "slice0.dcm"
    rescale(path, {}, 3)
    rows = struct.pack("<HHI", 0x28, 0x10, 2)
    path.write_bytes(path.read_bytes().replace(rows, struct.pack("<HHI", 0x28, 0x08, 2) + b"3 " + rows, 1))
    said = said_of(path)
    assert "3 frames" in said and "position" in said
