"""Pictures that are whole and not read are not called damaged."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from PPIRLogic.errors import InputError
from PPIRLogic.images.reading import read_volume

GREY = np.random.default_rng(1).integers(0, 255, (6, 8)).astype(np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(path: Path, values: np.ndarray = GREY, colour: int = 0, more: bytes = b"") -> Path:
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    head = struct.pack(">2I5B", values.shape[1], values.shape[0], 8, colour, 0, 0, 0)
    parts = chunk(b"IHDR", head) + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


def write_tiff(path: Path, bits: int | None, compression: int = 1) -> Path:
    """One strip of 8 × 6 voxels; without the number of bits it is 1 by the format."""
    tags = {256: 8, 257: 6, 258: bits, 259: compression, 262: 1, 273: 200, 278: 6, 279: 6 * (bits or 1)}
    given = {tag: value for tag, value in tags.items() if value is not None}
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in given.items())
    head = b"II*\0" + struct.pack("<IH", 8, len(given)) + body + struct.pack("<I", 0)
    path.write_bytes(head.ljust(200, b"\0") + GREY.tobytes()[: 6 * (bits or 1)])
    return path


def said_of(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_volume(path)
    assert "damaged" not in str(caught.value)
    return str(caught.value)


def test_pictures_with_opacity(tmp_path: Path) -> None:
    assert np.array_equal(read_volume(write_png(tmp_path / "a.png")).array, GREY)
    with_alpha = np.stack([GREY, np.full_like(GREY, 255)], -1)
    assert "opacity" in said_of(write_png(tmp_path / "b.png", with_alpha, colour=4))
    assert "opacity" in said_of(write_png(tmp_path / "c.png", more=chunk(b"tRNS", b"\0\5")))


def test_tiff_of_bits(tmp_path: Path) -> None:
    assert np.array_equal(read_volume(write_tiff(tmp_path / "a.tif", 8)).array, GREY)
    assert "whole numbers of 1 bit, which are not read here" in said_of(write_tiff(tmp_path / "b.tif", 1))
    assert "whole numbers of 1 bit, which are not read here" in said_of(write_tiff(tmp_path / "c.tif", None))
    assert "whole numbers of 1 bit, which are not read here" in said_of(write_tiff(tmp_path / "d.tif", 1, 4))
    assert "whole numbers of 4 bits" in said_of(write_tiff(tmp_path / "e.tif", 4))
