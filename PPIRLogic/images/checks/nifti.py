"""NIfTI, one file or a pair: the binary header, the length of the voxels, and whether both places it gives agree."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from PPIRLogic.arrays import Array
from PPIRLogic.images.checks.reasons import Damaged, Unusable, check_companion, check_spacing, check_voxels

_BITS = {
    2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64, 2304: 32,
}  # fmt: skip
_HEADER, _LATEST_START = 348, 2**40  # bytes
_FLOATS = {16: "f4", 64: "f8"}
_UNREAD = {1: "single bits", 1536: "floats of 128 bits", 1792: "complex numbers", 2048: "complex numbers"}
_NO_GREY = {1004: "matrices", 1005: "matrices", 1006: "displacements"}  # of 1006 ITK turns the signs of some voxels
_MIN_SCALE = 2.3e-16  # ITK takes less for nothing
_PLACE_TOLERANCE = 0.1  # voxels
_SHEAR_TOLERANCE = 1e-3  # cosine of the angle between two axes
_SPACING_TOLERANCE = 1e-3
_MAX_CODE = 5
_ADVICE = "Set both to the one that is meant, or resample the image to a grid with right angles."


@dataclass(frozen=True)
class _Header:
    """What is looked at."""

    magic: bytes
    order: str
    intent: int
    kind: int
    bits: int
    sizes: tuple[int, ...]
    pixdim: tuple[float, ...]
    start: int
    slope: tuple[float, float]
    units: int
    codes: tuple[int, int]
    quaternion: tuple[float, ...]
    offset: tuple[float, ...]
    sform: Array

    @property
    def is_single(self) -> bool:
        """Whether the voxels are in the same file."""
        return not self.magic.startswith(b"ni")

    def check_voxels(self, data: IO[bytes]) -> int:
        """Their length; ITK's reader makes 0 of floats that are not finite, which nobody would notice."""
        kind = np.dtype(self.order + _FLOATS[self.kind]) if self.kind in _FLOATS else None
        return check_voxels(data, math.prod(self.sizes) * self.bits // 8, kind)


def is_nifti(head: bytes) -> bool:
    """Whether a file begins like a header of NIfTI (or of Analyze 7.5, which has the same length)."""
    return head[:4] in (b"\x5c\x01\0\0", b"\x1c\x02\0\0", b"\0\0\x01\x5c", b"\0\0\x02\x1c")


def check_nifti(path: Path) -> None:
    """Damaged or Unusable unless the header is whole, its file holds what it announces, and its places agree."""
    file = header_file(path)
    try:
        with open(file, "rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        if packed and not file.name.lower().endswith(".gz"):
            raise Unusable(f"It is compressed (gzip) though its name does not say so. Rename it to '{file.name}.gz'.")
        with gzip.open(file, "rb") if packed else open(file, "rb") as data:
            read: Any = data
            head = read.read(_HEADER + 4)
            header = _header(head)
            _check_header(header, file)
            if header.is_single:
                read.seek(header.start)
                header.check_voxels(read)
            elif _HEADER < len(head) < _HEADER + 4:
                raise Damaged("the end of its header is missing")
    except (OSError, EOFError, struct.error, OverflowError, ValueError, zlib.error):
        raise Damaged("its header is not whole, or its compressed data do not pass their check") from None
    if not header.is_single:
        _check_pair(file, header)
    _check_place(header)


def header_file(path: Path) -> Path:
    """Of a pair: the file with the header."""
    for data, head in ((".img", ".hdr"), (".img.gz", ".hdr.gz")):
        if path.name.lower().endswith(data):
            found = path.with_name(path.name[: -len(data)] + head)
            if not found.is_file():
                raise Damaged(f"its header '{found.name}', which belongs beside it, is missing")
            return found
    return path


def _check_pair(file: Path, header: _Header) -> None:
    """The same of the voxels in the file beside the header."""

    def unpacked(data: IO[bytes]) -> int:
        whole: Any = gzip.GzipFile(fileobj=data)
        whole.seek(header.start)
        return header.check_voxels(whole)

    stem = file.name[: file.name.lower().rindex(".hdr")]
    packed = file.with_name(stem + ".img.gz")
    if packed.is_file():
        check_companion(packed, unpacked)
    else:
        check_companion(file.with_name(stem + ".img"), header.check_voxels, header.start)


def _header(data: bytes) -> _Header:
    if data[:2] == b"\x1f\x8b":
        raise Unusable("It is compressed twice (gzip in gzip). Unpack it once.")
    if data[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c"):
        raise Unusable("It is a NIfTI-2 file; NIfTI-1 is read here. Save it as NIfTI-1 (.nii.gz) or .nrrd.")
    order = "<" if data[1:4] == b"\x01\0\0" else ">"

    def get(form: str, at: int) -> Any:
        return struct.unpack_from(order + form, data, at)

    dims, (kind, bits) = get("8h", 40), get("2h", 70)
    return _Header(
        magic=data[344:348], order=order, intent=get("h", 68)[0], kind=kind, bits=bits,
        sizes=tuple(dims[1 : 1 + dims[0]]) if 1 <= dims[0] <= 7 else (),
        pixdim=get("8f", 76), start=int(get("f", 108)[0]), slope=get("2f", 112), units=get("B", 123)[0],
        codes=get("2h", 252),
        quaternion=get("3f", 256), offset=get("3f", 268), sform=np.reshape(get("12f", 280), (3, 4)),
    )  # fmt: skip


def _check_header(h: _Header, file: Path) -> None:
    if h.magic == bytes(4):
        raise Unusable("It is an Analyze 7.5 file, which does not say how the image lies. Save it as .nii.gz or .nrrd.")
    if h.magic not in (b"n+1\0", b"ni1\0"):
        raise Damaged("its header does not end as one of this format")
    if not h.is_single and not file.name.lower().endswith((".hdr", ".hdr.gz")):
        raise Unusable(
            "It is the header of a pair (.hdr with .img), without voxels. Give it the ending .hdr, beside its .img, or"
            " save both as one .nii.gz."
        )
    if h.intent in _NO_GREY:
        raise Unusable(f"Its voxels are {_NO_GREY[h.intent]} (intent code {h.intent}). Give a grey image.")
    if h.kind in _UNREAD:
        raise Unusable(f"Its voxels are {_UNREAD[h.kind]}, which are not read here. Save it as float32.")
    if _BITS.get(h.kind) != h.bits or not h.sizes or min(h.sizes) < 1:
        raise Damaged("its header does not say type, dimension and sizes together")
    if not (_HEADER if h.is_single else 0) <= h.start <= _LATEST_START:
        raise Damaged("its header says that the voxels begin where they cannot")
    if h.units & 7 > 3 or not all(0 <= c <= _MAX_CODE for c in h.codes):
        raise Damaged("its header holds codes that are not of this format")
    if not all(math.isfinite(v) for v in h.slope):
        raise Damaged("its header scales the voxels by what is not a number")
    slope, intercept = h.slope
    if (slope == 0 != intercept) or any(0 < abs(v) < _MIN_SCALE for v in h.slope):
        raise Unusable(
            f"Its voxels are to be scaled by {slope:g} (scl_slope) and shifted by {intercept:g} (scl_inter), which the"
            " readers apply differently. Save it with the intensities themselves, slope 1 and shift 0."
        )


def _check_place(h: _Header) -> None:
    """Unusable where qform and sform say different things, where one is sheared, or where there is none."""
    dim = min(3, len(h.sizes))
    check_spacing(h.pixdim[1 : 1 + dim])
    spacing = np.array([*h.pixdim[1 : 1 + dim], *[1.0] * (3 - dim)])
    by_qform, by_sform = h.codes[0] > 0, h.codes[1] > 0
    if not by_qform and not by_sform:
        raise Unusable("It does not say how the image lies: its qform and its sform have the code 0. Set one of them.")
    qform = _qform(h, spacing) if by_qform else None
    if by_sform:
        _check_axes(h.sform, spacing, dim, qform)
    if qform is not None and by_sform:
        sizes = np.array([*h.sizes[:dim], *[1] * (3 - dim)])
        corners = np.stack(np.meshgrid(*[(0, n - 1) for n in sizes], indexing="ij"), -1).reshape(-1, 3)
        apart = np.linalg.norm(corners @ (qform - h.sform)[:, :3].T + (qform - h.sform)[:, 3], axis=1).max()
        if not apart <= _PLACE_TOLERANCE * spacing[:dim].min():
            raise Unusable(
                f"Its qform and its sform lie up to {apart:.4g} mm apart: {_both(qform, h.sform)}. {_ADVICE}"
            )


def _qform(h: _Header, spacing: Array) -> Array:
    """The affine (3, 4), RAS mm, of the quaternion."""
    b, c, d = h.quaternion
    rest = 1.0 - (b * b + c * c + d * d)
    if not rest >= -1e-4 or h.pixdim[0] not in (-1.0, 0.0, 1.0):
        raise Damaged("its qform is not a rotation")
    if rest < 0:
        b, c, d = (v / math.sqrt(1.0 - rest) for v in (b, c, d))
    a = math.sqrt(max(0.0, rest))
    turn = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ])  # fmt: skip
    turn[:, 2] *= -1.0 if h.pixdim[0] < 0 else 1.0
    return np.column_stack([turn * spacing, h.offset])


def _check_axes(sform: Array, spacing: Array, dim: int, qform: Array | None) -> None:
    """Unusable unless the axes of the sform are at right angles and as long as the spacing."""
    lengths = np.linalg.norm(sform[:, :3], axis=0)
    if not (np.isfinite(sform).all() and lengths[:dim].min() > 0):
        raise Damaged("its sform is not a grid")
    axes = sform[:, :dim] / lengths[:dim]
    worst = float(np.abs(axes.T @ axes - np.eye(dim)).max())
    if worst > _SHEAR_TOLERANCE:
        beside = "and it has no qform" if qform is None else _both(qform, sform)
        raise Unusable(
            f"Its sform has a shear: two axes are {math.degrees(math.asin(min(1.0, worst))):.3g} degrees away from a"
            f" right angle ({beside}). A tilted CT gantry does this. Resample the image to a grid with right angles"
            " (orthonormal axes)."
        )
    if np.abs(lengths[:dim] / spacing[:dim] - 1).max() > _SPACING_TOLERANCE:
        said = ", ".join(f"{v:g}" for v in spacing[:dim]), ", ".join(f"{v:g}" for v in lengths[:dim])
        raise Unusable(f"Its spacing is ({said[0]}) mm by pixdim and ({said[1]}) mm by its sform. {_ADVICE}")


def _both(qform: Array, sform: Array) -> str:
    rows = ["; ".join(" ".join(f"{v:.4g}" for v in row) for row in affine) for affine in (qform, sform)]
    return f"qform [{rows[0]}], sform [{rows[1]}]"
