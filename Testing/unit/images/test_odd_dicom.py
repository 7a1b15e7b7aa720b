"""DICOM files that say something else than a reader takes, or that a series would silently lose, are refused."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from PPIRLogic.errors import InputError
from PPIRLogic.images.reading import read_volume

Element = tuple[str, bytes | str]
Change = Callable[[int], dict[int, Element]]
SPACING, SLOPE, INTERCEPT, HIGH_BIT, ORIENTATION, POSITION = (
    0x00280030, 0x00281053, 0x00281052, 0x00280102, 0x00200037, 0x00200032
)  # fmt: skip
CR = "1.2.840.10008.5.1.4.1.1.1"
PIXELS = np.random.default_rng(5).integers(0, 1000, (4, 6, 8)).astype("<u2")


def element(tag: int, kind: str, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    data += (b"\0" if kind in ("UI", "OB") else b" ") * (len(data) % 2)
    length = struct.pack("<HI", 0, len(data)) if kind in ("OB", "OW", "SQ") else struct.pack("<H", len(data))
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + kind.encode() + length + data


def write_slice(path: Path, number: int, changed: dict[int, Element], syntax: str = "1.2.840.10008.1.2.1") -> None:
    """A slice 5 mm after the one before. An element that is changed to '' with the kind '-' is left out."""

    def two(value: int) -> bytes:
        return struct.pack("<H", value)

    rows, columns = PIXELS[number].shape
    elements: dict[int, Element] = {
        0x00080016: ("UI", "1.2.840.10008.5.1.4.1.1.2"), 0x00080018: ("UI", f"1.2.3.{number + 1}"),
        0x00080060: ("CS", "CT"), 0x00100020: ("LO", "P1"), 0x0020000D: ("UI", "1.2"), 0x0020000E: ("UI", "1.2.3"),
        POSITION: ("DS", f"0\\0\\{5 * number}"), ORIENTATION: ("DS", "1\\0\\0\\0\\1\\0"),
        0x00280002: ("US", two(1)), 0x00280004: ("CS", "MONOCHROME2"), 0x00280010: ("US", two(rows)),
        0x00280011: ("US", two(columns)), SPACING: ("DS", "2\\3"), 0x00280100: ("US", two(16)),
        0x00280101: ("US", two(16)), HIGH_BIT: ("US", two(15)), 0x00280103: ("US", two(0)),
        0x7FE00010: ("OW", PIXELS[number].tobytes()), **changed,
    }  # fmt: skip
    meta = element(0x00020001, "OB", b"\0\1") + element(0x00020010, "UI", syntax)
    body = b"".join(element(tag, *elements[tag]) for tag in sorted(elements) if elements[tag][0] != "-")
    head = bytes(128) + b"DICM" + element(0x00020000, "UL", struct.pack("<I", len(meta)))
    path.write_bytes(head + meta + body)


def write_series(folder: Path, change: Change = lambda i: {}, name: str = "IM{}") -> Path:
    folder.mkdir()
    for number in range(len(PIXELS)):
        write_slice(folder / name.format(number), number, change(number))
    return folder


def only(number: int, tag: int, kind: str, value: bytes | str, else_value: bytes | str | None = None) -> Change:
    """The element in one slice, and another value or none in the others."""

    def change(i: int) -> dict[int, Element]:
        if i == number:
            return {tag: (kind, value)}
        return {} if else_value is None else {tag: (kind, else_value)}

    return change


def test_a_plain_series_is_read(tmp_path: Path) -> None:
    change: Change = lambda i: {SLOPE: ("DS", f"{i + 1}.5"), INTERCEPT: ("DS", "-1000")}  # noqa: E731
    found = read_volume(write_series(tmp_path / "s", change))
    assert found.geometry.spacing == (3.0, 2.0, 5.0)
    assert np.array_equal(found.array, PIXELS * np.arange(1.5, 5).reshape(4, 1, 1) - 1000)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i: {SPACING: ("-", "")}, "does not say how far apart its pixels"),
        (lambda i: {SPACING: ("DS", "")}, "does not say how far apart its pixels"),
        (lambda i: {SPACING: ("DS", "2")}, "does not say how far apart its pixels"),
        (lambda i: {SPACING: ("DS", "0\\0")}, "distance of its voxels is not known"),
        (lambda i: {SPACING: ("DS", "-2\\3")}, "distance of its voxels is not known"),
        (lambda i: {SPACING: ("-", ""), 0x00280034: ("IS", "2\\1")}, "does not say how far apart its pixels"),
        (lambda i: {SPACING: ("-", ""), 0x00181164: ("DS", "2\\3")}, r"3 × 2 mm apart .* 1 × 1 mm by"),
        (lambda i: {0x00080016: ("UI", CR), 0x00181164: ("DS", "4\\5")}, r"3 × 2 mm apart .* 5 × 4 mm by"),
        (only(2, SLOPE, "DS", "0", "1"), "slope of 'IM2' is '0'"),
        (only(2, SLOPE, "DS", "nan", "1"), "slope of 'IM2' is 'nan'"),
        (only(2, SLOPE, "DS", "1\\2", "1"), "slope of 'IM2' is"),
        (only(2, SLOPE, "DS", "1,5", "1"), "0028,1053 is not a number"),
        (only(2, SLOPE, "DS", "", "2"), "differ in rescaling.*'IM2'"),
        (lambda i: {0x00283000: ("SQ", b"")}, "by a table"),
        (lambda i: {0x00280101: ("US", b"\x0c\0")}, "lowest bits"),
        (only(2, POSITION, "DS", "0\\0\\nan"), "'IM2' does not say its position"),
        (only(3, 0x00100020, "LO", "P2"), "differ in patient.*'IM3'"),
        (only(3, 0x00080060, "CS", "MR"), "differ in modality: MR in 'IM3', CT in 3 of 4"),
        (only(3, 0x00080008, "CS", "ORIGINAL\\PRIMARY\\LOCALIZER"), "localizer in 'IM3', no localizer in 3 of"),
        (only(3, 0x00180086, "IS", "2", "1"), "differ in echo number: 2 in 'IM3', 1 in 3 of 4"),
        (only(3, 0x00200052, "UI", "1.9.2", "1.9.1"), r"differ in frame of reference: 1\.9\.2 in 'IM3'"),
        (only(3, 0x0020000D, "UI", "1.3", "1.2"), r"differ in study: 1\.3 in 'IM3', 1\.2 in 3 of 4"),
        (only(3, 0x00281054, "LO", "US", "HU"), "differ in unit of its values: US in 'IM3', HU in 3 of 4"),
        (only(3, 0x00280103, "US", b"\1\0"), r"16 of 16 bits, signed, MONOCHROME2 \(1 channel\) in 'IM3'"),
    ],
)  # fmt: skip
def test_a_series_that_would_be_read_as_another(change: Change, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        read_volume(write_series(tmp_path / "s", change))


@pytest.mark.parametrize(
    ("syntax", "words"),
    [
        ("1.2.840.10008.1.2.4.50", "is compressed"),
        ("1.2.840.10008.1.2.4.70", "is compressed"),
        ("1.2.840.10008.1.2.4.80", "is compressed"),
        ("1.2.840.10008.1.2.4.90", "is compressed"),
        ("1.2.840.10008.1.2.5", "is compressed"),
        ("1.2.840.10008.1.2.1.99", "is compressed"),
        ("1.2.840.10008.1.2.2", "is written in big-endian order"),
        ("1.2.3.4.5", "has a transfer syntax that is not known here"),
    ],
)
def test_pixels_without_a_check_value_are_refused(syntax: str, words: str, tmp_path: Path) -> None:
    write_slice(tmp_path / "a.dcm", 0, {}, syntax)
    for path in (tmp_path / "a.dcm", tmp_path):
        with pytest.raises(InputError, match=rf"'a\.dcm' {words}.*\({syntax}\)\. Export it uncompressed") as caught:
            read_volume(path)
        assert "damaged or" not in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_compressed_files_of_itk_are_refused(kind: str, tmp_path: Path) -> None:
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor(kind)
    writer.SetFileName(str(tmp_path / "a.dcm"))
    writer.Execute(sitk.GetImageFromArray(np.arange(2**14, dtype=np.uint16).reshape(128, 128)))
    with pytest.raises(InputError, match="is compressed"):
        read_volume(tmp_path / "a.dcm")


def test_compressed_pixels_under_a_plain_name(tmp_path: Path) -> None:
    write_slice(tmp_path / "a.dcm", 0, {0x7FE00010: ("-", "")})
    pieces = struct.pack("<HH2sHIHHIHHI", 0x7FE0, 0x10, b"OB", 0, 2**32 - 1, 0xFFFE, 0xE000, 0, 0xFFFE, 0xE0DD, 0)
    path = tmp_path / "a.dcm"
    path.write_bytes(path.read_bytes() + pieces)
    with pytest.raises(InputError, match="its pixels are compressed and its transfer syntax says that they are not"):
        read_volume(path)


@pytest.mark.parametrize("turn", ["nan\\0\\0\\0\\1\\0", "0\\0\\0\\0\\0\\0", "1\\0\\0\\1\\0\\0", "1\\0\\0"])
def test_a_single_picture_whose_orientation_is_none(turn: str, tmp_path: Path) -> None:
    write_slice(tmp_path / "a.dcm", 0, {ORIENTATION: ("DS", turn)})
    with pytest.raises(InputError, match=r"orientation of 'a\.dcm'"):
        read_volume(tmp_path / "a.dcm")


@pytest.mark.parametrize("name", ["IM{}", "{}.IMA", "1.2.840.{}"])
@pytest.mark.parametrize("how", ["empty", "zeros", "cut", "no preamble", "packed", "broken link"])
def test_the_last_slice_is_missed_though_it_no_longer_begins_as_dicom_does(name: str, how: str, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", name=name)
    last = folder / name.format(3)
    data = last.read_bytes()
    last.unlink()
    if how == "broken link":
        last.symlink_to(folder / "nowhere")
    elif how == "packed":
        last.with_name(last.name + ".gz").write_bytes(gzip.compress(data))
    else:
        last.write_bytes({"empty": b"", "zeros": bytes(400), "cut": data[:100], "no preamble": data[132:]}[how])
    with pytest.raises(InputError, match=r"is named like its slices"):
        read_volume(folder)


def test_other_files_beside_a_series_are_left_alone(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s")
    for name in ("README", "notes.txt", ".DS_Store", "Thumbs.db"):
        (folder / name).write_bytes(b"")
    assert read_volume(folder).array.shape == PIXELS.shape
