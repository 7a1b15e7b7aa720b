"""Images, their grids, and reading and writing them.

Everything physical is in mm in the LPS coordinate system (the one of DICOM and ITK). Tuples that describe a grid are
in ITK order (x, y[, z]); arrays are in the reverse order, (z, y, x) or (y, x).
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import locale
import math
import os
import secrets
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from PPIRLogic.errors import InputError, OutputError

Array = NDArray[np.float64]

_MIN_SIZE, _MAX_SIZE, _MAX_VOXELS = 2, 4096, 2**28
_MIN_SPACING, _MAX_SPACING = 1e-9, 1e6  # mm; what lies outside would overflow or vanish in later arithmetic
_MAX_ORIGIN = 1e9  # mm
_ORTHONORMAL = 1e-3
_MASK_TOLERANCE = 1e-2  # voxels; formats that keep float32 headers (NIfTI) differ from the others by about 1e-3
_SLICE_TOLERANCE = 0.05  # of the slice distance; DICOM positions are decimal strings
_PERCENTILE_VOXELS = 2_000_000
_HEADER_ROOM = 2**16  # bytes
_FIELDS = ("size", "spacing", "origin", "direction")
_SWITCH = threading.RLock()
WRITABLE_IMAGES = (".mha", ".nii", ".nii.gz", ".nrrd", ".png", ".tif", ".tiff")


@dataclass(frozen=True)
class Geometry:
    """A voxel grid: where each voxel centre lies. Public: it is exchanged with the other side.

    size: voxels per axis, ITK order (x, y[, z]). spacing: mm per axis. origin: mm, LPS, centre of voxel 0.
    direction: row-major dim×dim matrix whose columns are the axes of the grid. The constructor only normalises
    types; `from_dict` validates.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(int(n) for n in self.size))
        for field in _FIELDS[1:]:
            object.__setattr__(self, field, tuple(float(v) for v in getattr(self, field)))

    @classmethod
    def from_sitk(cls, image: sitk.Image) -> Geometry:
        """The grid of a SimpleITK image."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> Geometry:
        """Build from what `to_dict` gave, possibly on the other side of the network.

        InputError (naming the field): wrong type or length, dimension not 2 or 3, a size outside 2..4096 or too many
        voxels, a spacing that is not positive and finite, an origin that is not finite, a direction that is not
        orthonormal within 1e-3 (left-handed ones are fine).
        """
        if not isinstance(mapping, Mapping):
            raise InputError(f"A grid must be a mapping of {', '.join(_FIELDS)}, not {type(mapping).__name__}.")
        if any(key not in _FIELDS for key in mapping) or len(mapping) != len(_FIELDS):
            missing = [field for field in _FIELDS if field not in mapping]
            raise InputError(
                f"A grid has exactly the fields {', '.join(_FIELDS)}"
                + (f"; missing: {', '.join(missing)}." if missing else "; there are others in this one.")
            )
        size = _checked_sizes(mapping["size"])
        dim = len(size)
        spacing = _checked_floats(mapping["spacing"], "spacing", dim, _MAX_SPACING)
        if min(spacing) < _MIN_SPACING:
            raise InputError(f"Grid field 'spacing' must be positive (mm), not {_short(spacing)}.")
        origin = _checked_floats(mapping["origin"], "origin", dim, _MAX_ORIGIN)
        direction = _checked_floats(mapping["direction"], "direction", dim * dim, 2.0)
        matrix = np.reshape(direction, (dim, dim))
        if np.abs(matrix.T @ matrix - np.eye(dim)).max() > _ORTHONORMAL:
            raise InputError(
                "Grid field 'direction' is not orthonormal: the axes of the grid are sheared or scaled. "
                "Resample the image to a grid with right angles."
            )
        return cls(size, spacing, origin, direction)

    def to_dict(self) -> dict[str, list[int] | list[float]]:
        """Plain lists, fit for JSON or msgpack."""
        return {field: list(getattr(self, field)) for field in _FIELDS}

    @property
    def dimension(self) -> int:
        """2 or 3."""
        return len(self.size)

    @property
    def disclosed(self) -> int:
        """How many numbers this grid tells."""
        return sum(len(getattr(self, field)) for field in _FIELDS)

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return math.prod(self.size)

    @property
    def array_shape(self) -> tuple[int, ...]:
        """Shape of the array: (z, y, x) or (y, x)."""
        return self.size[::-1]

    def index_to_physical(self) -> Array:
        """Affine (dim, dim+1), [D·diag(spacing) | origin]: index (x, y[, z]) → LPS mm."""
        matrix = np.reshape(self.direction, (self.dimension, self.dimension)) * np.asarray(self.spacing)
        return np.column_stack([matrix, self.origin])

    def physical_to_index(self) -> Array:
        """Affine (dim, dim+1): LPS mm → continuous index (x, y[, z]); the inverse of `index_to_physical`."""
        forward = self.index_to_physical()
        inverse = np.linalg.inv(forward[:, :-1])
        return np.column_stack([inverse, -inverse @ forward[:, -1]])

    def centre(self) -> Array:
        """(dim,) LPS mm: the middle of the grid, index (size − 1)/2."""
        return self._physical((np.asarray(self.size) - 1) / 2)

    def corners(self) -> Array:
        """(2^dim, dim) LPS mm: the centres of the corner voxels."""
        return self._physical(np.array(list(itertools.product(*((0, n - 1) for n in self.size))), dtype=np.float64))

    def extent_mm(self) -> tuple[float, ...]:
        """Edge lengths of the field of view per axis, size·spacing, mm."""
        return tuple(n * s for n, s in zip(self.size, self.spacing, strict=True))

    def matches(self, other: Geometry, tol: float = 1e-3) -> bool:
        """True if both grids have the same size and no voxel centre differs by more than `tol` voxels."""
        if self.size != other.size:
            return False
        # an affine difference is largest at a corner
        return float(np.abs(self.corners() - other.corners()).max()) <= tol * min(self.spacing)

    def to_sitk_reference(self) -> sitk.Image:
        """An empty uint8 image on this grid, to resample onto."""
        image = sitk.Image(list(self.size), sitk.sitkUInt8)
        self.stamp(image)
        return image

    def stamp(self, image: sitk.Image) -> None:
        """Give `image` this spacing, origin and direction."""
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction)

    def describe(self) -> str:
        """Short text such as '181×217×180 voxels, 1×1×1 mm'."""
        return f"{_short(self.size)} voxels, {_short(self.spacing)} mm"

    def _physical(self, index: Array) -> Array:
        affine = self.index_to_physical()
        return index @ affine[:, :-1].T + affine[:, -1]


def _short(values: Sequence[float]) -> str:
    return "×".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)


def _checked_sizes(value: Any) -> tuple[int, ...]:
    """`value` as sizes of a 2D or 3D grid, or InputError."""
    if not isinstance(value, (list, tuple)) or any(type(n) is not int for n in value):
        raise InputError("Grid field 'size' must be a list of whole numbers.")
    if len(value) not in (2, 3):
        raise InputError(f"Grid field 'size' has {len(value)} entries; only 2D and 3D images can be used.")
    if any(not _MIN_SIZE <= n <= _MAX_SIZE for n in value) or math.prod(value) > _MAX_VOXELS:
        raise InputError(
            f"Grid field 'size' must have {_MIN_SIZE} to {_MAX_SIZE} voxels per axis and at most 2^28 in all, "
            f"not {'×'.join(str(n) if abs(n) < 10**9 else '…' for n in value)}."
        )
    return tuple(value)


def _checked_floats(value: Any, field: str, count: int, limit: float) -> tuple[float, ...]:
    """`value` as `count` finite numbers of magnitude at most `limit`, or InputError."""
    if not isinstance(value, (list, tuple)) or any(type(v) not in (int, float) for v in value):
        raise InputError(f"Grid field '{field}' must be a list of numbers.")
    if len(value) != count:
        raise InputError(f"Grid field '{field}' must have {count} entries, not {len(value)}.")
    if not all(abs(v) <= limit for v in value):  # also false for NaN; compares huge ints without overflow
        raise InputError(f"Grid field '{field}' must hold finite numbers of at most {limit:g}.")
    return tuple(float(v) for v in value)


@dataclass(frozen=True, eq=False)
class Volume:
    """A grey image: `array` float32, C-contiguous, (z, y, x) or (y, x), on the grid `geometry`."""

    array: NDArray[np.float32]
    geometry: Geometry
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "array", np.ascontiguousarray(self.array, dtype=np.float32))
        if self.array.shape != self.geometry.array_shape:
            raise InputError(f"An array of shape {self.array.shape} does not fit a grid of {self.geometry.describe()}.")

    @classmethod
    def from_sitk(cls, image: sitk.Image, name: str = "") -> Volume:
        """A scalar 2D or 3D SimpleITK image as a Volume (pixels converted to float32). InputError otherwise."""
        if image.GetNumberOfComponentsPerPixel() != 1 or image.GetDimension() not in (2, 3):
            raise InputError(f"Only grey 2D and 3D images can be used; '{name}' is not one.")
        return cls(sitk.GetArrayFromImage(image).astype(np.float32, copy=False), Geometry.from_sitk(image), name)

    def to_sitk(self) -> sitk.Image:
        """A float32 SimpleITK image on the same grid (a copy)."""
        image = sitk.GetImageFromArray(self.array, isVector=False)
        self.geometry.stamp(image)
        return image


# ---------------------------------------------------------------------------------------------------- reading


def read_volume(path: str | os.PathLike[str], *, role: str = "moving") -> Volume:
    """Read a grey 2D or 3D image: any file that ITK reads, or a folder that holds one DICOM series.

    `role` ('moving', 'fixed') is for messages. A 3D file of one slice becomes 2D if its normal is the z axis.
    InputError, saying which file and what to do: missing, empty or unreadable file, several series, 4D, colour,
    complex, NaN or infinite voxels, an axis of one voxel, a constant image, a direction that is not orthonormal.
    """
    what = f"The {role} image '{os.fspath(path)}'"
    volume = Volume.from_sitk(_read_image(Path(path), what), name=Path(path).name)
    bad = int(volume.array.size - np.count_nonzero(np.isfinite(volume.array)))
    if bad:
        raise InputError(
            f"{what} has {bad} voxels that are NaN or infinite. Replace them (for instance by the background value)."
        )
    if volume.array.min() == volume.array.max():
        raise InputError(f"{what} is constant: every voxel has the same value. Check that it is the right file.")
    return volume


def read_mask(path: str | os.PathLike[str], volume: Volume) -> NDArray[np.bool_]:
    """Read a mask for `volume`: bool array of shape volume.array.shape, true where the file is non-zero.

    InputError: everything `read_volume` refuses but a constant image; a grid other than the volume's; nothing inside.
    """
    what = f"The mask '{os.fspath(path)}'"
    image = _read_image(Path(path), what)
    grid = Geometry.from_sitk(image)
    if not grid.matches(volume.geometry, _MASK_TOLERANCE):
        raise InputError(
            f"{what} is not on the grid of the image '{volume.name}'. Mask: {_place(grid)}. "
            f"Image: {_place(volume.geometry)}. Resample the mask to the image (nearest neighbour)."
        )
    values = sitk.GetArrayViewFromImage(image)
    bad = int(values.size - np.count_nonzero(np.isfinite(values)))
    if bad:
        raise InputError(f"{what} has {bad} voxels that are NaN or infinite. Set them to 0 (outside) or 1 (inside).")
    mask: NDArray[np.bool_] = values != 0
    if not mask.any():
        raise InputError(f"{what} is empty: no voxel is inside. Inside is every value other than zero.")
    return mask


def _place(grid: Geometry) -> str:
    """Size, spacing, origin and direction, for telling two grids apart."""
    origin = ", ".join(f"{v:.6g}" for v in grid.origin)
    direction = ", ".join(f"{v:.4g}" for v in grid.direction)
    return f"{grid.describe()}, origin ({origin}) mm, direction ({direction})"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep ITK's readers from printing warnings: what matters is checked here and raised as an error.

    The switches are one for the whole process, so that only one thread at a time may turn them.
    """
    with _SWITCH, _no_standard_error():
        before = sitk.ProcessObject.GetGlobalWarningDisplay()
        spoken = locale.setlocale(locale.LC_ALL)
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        try:
            yield
        finally:
            sitk.ProcessObject.SetGlobalWarningDisplay(before)
            with contextlib.suppress(locale.Error):
                locale.setlocale(locale.LC_ALL, spoken)  # the DICOM reader leaves "C" behind


@contextlib.contextmanager
def _no_standard_error() -> Iterator[None]:
    """libpng and HDF5 write to the C library's standard error past every switch; nothing where there is none."""
    try:
        kept = os.dup(2)
    except OSError:
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _read_image(path: Path, what: str) -> sitk.Image:
    """A scalar 2D or 3D image with a valid grid, or InputError. Voxel values are not looked at."""
    if not path.exists():
        raise InputError(f"{what} does not exist. Check the path.")
    with _quiet():
        image = _read_series(path, what) if path.is_dir() else _read_file(path, what)
    image = _drop_slice(_to_grey(image, what), what)
    try:
        Geometry.from_dict(Geometry.from_sitk(image).to_dict())
    except InputError as error:
        raise InputError(f"{what} cannot be used. {error}") from None
    return image


def _read_file(path: Path, what: str) -> sitk.Image:
    if path.stat().st_size == 0:
        raise InputError(f"{what} is an empty file. Copy or export it again.")
    if not os.access(path, os.R_OK):
        raise InputError(f"{what} may not be read by this user. Change its permissions.")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except (RuntimeError, MemoryError):
        raise _unreadable(what) from None
    # from the header alone, so that a long 4D series is refused without loading it
    _check_kind(reader.GetSize(), reader.GetPixelID(), what)
    name = path.name.lower()
    if (name.endswith((".nii", ".nii.gz")) and not _complete_nifti(path)) or (
        name.endswith((".jpg", ".jpeg")) and not _complete_jpeg(path)
    ):
        raise _unreadable(what)
    try:
        return reader.Execute()
    except (RuntimeError, MemoryError):
        raise _unreadable(what) from None


def _complete_nifti(path: Path) -> bool:
    """Whether a NIfTI file holds all the bytes that its header announces: ITK fills what is missing with zeros."""
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else open(path, "rb") as file:
            header = file.read(348)
            order = "<" if header[:4] in (b"\x5c\x01\0\0", b"\x1c\x02\0\0") else ">"
            second = header[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c")  # NIfTI-2: header of 540 bytes
            bits, *dims = struct.unpack_from(order + "h8q" if second else order + "h2x", header, 14 if second else 72)
            dims = dims or list(struct.unpack_from(order + "8h", header, 40))
            (start,) = struct.unpack_from(order + ("q" if second else "f"), header, 168 if second else 108)
            missing = int(start) + math.prod(dims[1 : 1 + dims[0]]) * bits // 8 - len(header)
            while missing > 0 and (block := file.read(min(missing, 2**20))):
                missing -= len(block)
    except (OSError, EOFError, ValueError, OverflowError, struct.error, zlib.error):
        return False
    return missing <= 0


def _complete_jpeg(path: Path) -> bool:
    """Whether an end marker follows the last start of a scan: ITK fills what is missing with grey."""
    data = path.read_bytes()
    return data.find(b"\xff\xd9", max(0, data.rfind(b"\xff\xda"))) >= 0


def _unreadable(what: str) -> InputError:
    return InputError(
        f"{what} cannot be read as an image: the format is not known or the file is damaged or cut short. "
        "Export it again, for instance as .nrrd, .nii.gz, .mha or DICOM."
    )


def _read_series(folder: Path, what: str) -> sitk.Image:
    """The one DICOM series in `folder`."""
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise InputError(f"{what} is a folder without a DICOM series. Give an image file or a folder of DICOM files.")
    if len(series) > 1:
        raise InputError(
            f"{what} is a folder with {len(series)} DICOM series. "
            "Put the one to use into a sub-folder of its own and give that folder."
        )
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0]))
    reader.MetaDataDictionaryArrayUpdateOn()
    try:
        image = reader.Execute()
    except (RuntimeError, MemoryError):
        raise _unreadable(what) from None
    _check_kind(image.GetSize(), image.GetPixelID(), what)
    _check_slices(reader, image, what)
    return image


def _check_slices(reader: sitk.ImageSeriesReader, image: sitk.Image, what: str) -> None:
    """InputError unless each slice lies where an even spacing puts it (a gap would bend the image unnoticed)."""
    grid = Geometry.from_sitk(image)
    slices = grid.size[2] if grid.dimension == 3 else 1
    if slices < 3 or len(reader.GetFileNames()) != slices:
        return
    for number in range(slices):
        if not reader.HasMetaDataKey(number, "0020|0032"):
            return
        position = [float(v) for v in reader.GetMetaData(number, "0020|0032").split("\\")]
        expected = image.TransformIndexToPhysicalPoint((0, 0, number))
        if not math.dist(position, expected) <= _SLICE_TOLERANCE * grid.spacing[2]:
            raise InputError(
                f"{what}: its DICOM slices are not evenly spaced (slice {number + 1} of {slices} is out of place). "
                "A slice is missing or doubled, or several scans share one series; give one complete scan."
            )


def _check_kind(size: Sequence[int], pixel: int, what: str) -> None:
    """InputError for 4D, complex and label-map images, and an axis of one voxel other than z."""
    if len(size) not in (2, 3):
        raise InputError(f"{what} is {len(size)}D. Only 2D and 3D images can be used: extract one time point or frame.")
    if pixel in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64):
        raise InputError(f"{what} has complex voxels. Give its magnitude.")
    if 1 in size[:2]:
        raise InputError(f"{what} has an axis of one voxel ({_short(tuple(size))}). Give a 2D image or a volume.")


def _to_grey(image: sitk.Image, what: str) -> sitk.Image:
    """The image itself, or the one channel of a colour picture whose channels are all equal."""
    channels = image.GetNumberOfComponentsPerPixel()
    if channels == 1:
        return image
    values = sitk.GetArrayViewFromImage(image)
    colours = channels - 1 if channels in (2, 4) else channels  # an even number: the last one is opacity
    picture = channels in (2, 3, 4) and image.GetPixelID() in (sitk.sitkVectorUInt8, sitk.sitkVectorUInt16)
    grey = picture and all(np.array_equal(values[..., 0], values[..., k]) for k in range(1, colours))
    opaque = colours == channels or bool((values[..., -1] == values.flat[channels - 1]).all())
    if not (grey and opaque):
        raise InputError(f"{what} has {channels} channels (colour or vectors). Give a grey image of one channel.")
    return sitk.VectorIndexSelectionCast(image, 0)


def _drop_slice(image: sitk.Image, what: str) -> sitk.Image:
    """A 3D image of one slice as a 2D image, if its normal is the z axis; others unchanged."""
    if image.GetDimension() == 2 or image.GetSize()[2] != 1:
        return image
    direction = np.reshape(image.GetDirection(), (3, 3))
    if np.abs(np.abs(direction[:, 2]) - (0, 0, 1)).max() > _ORTHONORMAL:
        raise InputError(
            f"{what} has one slice, which is not perpendicular to the z axis, so that it cannot be used as a 2D image. "
            "Give an axial slice or a volume of several slices."
        )
    collapse = sitk.ExtractImageFilter.DIRECTIONCOLLAPSETOIDENTITY
    flat = sitk.Extract(image, (*image.GetSize()[:2], 0), (0, 0, 0), collapse)
    flat.SetOrigin(image.GetOrigin()[:2])
    flat.SetDirection(tuple(direction[:2, :2].ravel()))
    return flat


# ---------------------------------------------------------------------------------------------------- writing


def split_extension(path: str | os.PathLike[str], allowed: Sequence[str]) -> str:
    """The extension of `path` (lower case, '.nii.gz' in one piece) if it is among `allowed`; OutputError if not."""
    name = Path(path).name.lower()
    found = [extension for extension in allowed if name.endswith(extension) and len(name) > len(extension)]
    if not found:
        raise OutputError(f"Cannot write '{os.fspath(path)}': the name must end in one of {', '.join(allowed)}.")
    return max(found, key=len)


def write_atomically(path: str | os.PathLike[str], extension: str, write: Callable[[str], None], room: int) -> None:
    """Call `write(temporary name)`, which ends in `extension` and lies in the same folder, then move it to `path`.

    `room`: about how many bytes the file will have. OutputError if the folder is missing or not writable, the disk is
    full or the writing fails; then `path` is as it was before and nothing is left behind.
    """
    target = Path(path)
    folder = target.parent
    if not folder.is_dir():
        raise OutputError(f"Cannot write '{target}': the folder '{folder}' does not exist. Create it first.")
    if target.is_dir():
        raise OutputError(f"Cannot write '{target}': it is a folder. Give a file name.")
    temporary = folder / f".{secrets.token_hex(8)}.part{extension}"
    try:
        _try_room(temporary, room + _HEADER_ROOM)
        write(str(temporary))
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(
            f"Cannot write '{target}': {error.strerror or error}. "
            "Free some space, or choose a folder that this user may write to."
        ) from None
    except (RuntimeError, MemoryError):
        raise OutputError(
            f"Cannot write '{target}': the disk is full, or the format {extension} cannot hold this. "
            "Free some space or choose another format."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _try_room(temporary: Path, room: int) -> None:
    """Fill a new file with `room` zero bytes; OSError with the system's own words where that fails.

    A full disk must be found here: several writers of ITK do not report it, and the one for HDF5 may end the process.
    """
    block = bytes(min(room, 2**22))
    with open(temporary, "xb") as file:
        for start in range(0, room, len(block)):
            file.write(block[: room - start])


def write_volume(volume: Volume | sitk.Image, path: str | os.PathLike[str]) -> None:
    """Write an image; `path` is either complete or untouched.

    The format follows the extension (WRITABLE_IMAGES). A .png holds whole numbers: a grey 2D image with all values in
    0..65535 is rounded to them. OutputError: unknown extension, missing or unwritable folder, full disk, or an image
    that the format cannot hold.
    """
    extension = split_extension(path, WRITABLE_IMAGES)
    image = volume.to_sitk() if isinstance(volume, Volume) else volume
    if extension in (".png", ".tif", ".tiff") and image.GetDimension() != 2:
        raise OutputError(f"Cannot write '{os.fspath(path)}': {extension} holds 2D images only. Use .nrrd or .nii.gz.")
    if extension == ".png":
        image = _whole_numbers(image, path)

    def write(name: str) -> None:
        with _quiet():
            sitk.WriteImage(image, name)
            written = sitk.ReadImage(name)
        # not every ITK writer notices a full disk
        if not np.array_equal(
            sitk.GetArrayViewFromImage(written), sitk.GetArrayViewFromImage(image), equal_nan=_is_float(image)
        ):
            raise RuntimeError("the file differs from what was written")

    write_atomically(path, extension, write, sitk.GetArrayViewFromImage(image).nbytes)


def write_raw(volume: Volume, path: str | os.PathLike[str]) -> None:
    """A temporary .mha for another process: float32, not compressed, read by `read_volume`. Faster than `write_volume`
    and without its safety net; OutputError where the disk is full."""
    g = volume.geometry
    directions = np.reshape(g.direction, (g.dimension, g.dimension)).T
    fields = {
        "ObjectType": "Image", "NDims": g.dimension, "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False", "TransformMatrix": _words(directions.ravel()), "Offset": _words(g.origin),
        "ElementSpacing": _words(g.spacing), "DimSize": " ".join(map(str, g.size)), "ElementType": "MET_FLOAT",
        "ElementDataFile": "LOCAL",
    }  # fmt: skip
    try:
        with open(path, "xb") as file:
            file.write("".join(f"{name} = {value}\n" for name, value in fields.items()).encode())
            file.write(np.ascontiguousarray(volume.array, "<f4").data)
    except OSError as error:
        raise OutputError(f"Cannot write '{os.fspath(path)}': {error.strerror or error}. Free some space.") from None


def _words(numbers: Iterable[float]) -> str:
    return " ".join(repr(float(v)) for v in numbers)


def _is_float(image: sitk.Image) -> bool:
    return "float" in image.GetPixelIDTypeAsString()


def _whole_numbers(image: sitk.Image, path: str | os.PathLike[str]) -> sitk.Image:
    """A grey image as uint8, or uint16 where uint8 does not hold it."""
    if image.GetPixelID() in (sitk.sitkUInt8, sitk.sitkUInt16):
        return image
    values = np.rint(sitk.GetArrayViewFromImage(image))
    if image.GetNumberOfComponentsPerPixel() != 1 or not (values.min() >= 0 and values.max() <= 65535):
        raise OutputError(
            f"Cannot write '{os.fspath(path)}': .png holds grey values from 0 to 65535. Use .nrrd, .mha or .nii.gz."
        )
    rounded = sitk.GetImageFromArray(values.astype(np.uint8 if values.max() <= 255 else np.uint16))
    rounded.CopyInformation(image)
    return rounded


# ---------------------------------------------------------------------------------------------------- intensities


@dataclass(frozen=True)
class Normalisation:
    """The intensities that become 0 (`low`) and 1 (`high`), and how they were found."""

    low: float
    high: float
    method: str


def robust_range(
    volume: Volume, mask: NDArray[np.bool_] | None = None, percentiles: tuple[float, float] = (1.0, 99.0)
) -> Normalisation:
    """The two percentiles of the intensities (inside `mask`, shape volume.array.shape, if given).

    Deterministic; beyond two million voxels every n-th one counts. Where both percentiles coincide, minimum and
    maximum. InputError: bad percentiles, nothing inside the mask, constant intensities.
    """
    lower, upper = percentiles
    if not 0 <= lower < upper <= 100:
        raise InputError(f"Percentiles must rise and lie between 0 and 100, not {lower:g}, {upper:g}.")
    values = volume.array.ravel() if mask is None else volume.array[mask]
    if values.size == 0:
        raise InputError(f"The mask of '{volume.name}' is empty: no voxel is inside.")
    sample = values[:: -(-values.size // _PERCENTILE_VOXELS)]
    low, high = (float(v) for v in np.percentile(sample, percentiles))
    if low < high:
        return Normalisation(low, high, f"percentiles {lower:g}-{upper:g}")
    low, high = float(values.min()), float(values.max())
    if not low < high:
        where = "" if mask is None else " inside its mask"
        raise InputError(f"The image '{volume.name}' is constant{where}: there is nothing to register.")
    return Normalisation(low, high, "minimum-maximum")


def normalise(volume: Volume, normalisation: Normalisation) -> Volume:
    """Map low → 0 and high → 1 linearly, clipped to [−0.5, 1.5]."""
    scale = 1.0 / (normalisation.high - normalisation.low)
    array = volume.array - np.float32(normalisation.low)
    array *= np.float32(scale)
    np.clip(array, -0.5, 1.5, out=array)
    return Volume(array, volume.geometry, volume.name)


def fill_outside(volume: Volume, mask: NDArray[np.bool_]) -> Volume:
    """Every voxel outside `mask` (shape volume.array.shape) gets the mean of the voxels inside ('owner fill').

    InputError: another shape, or nothing inside.
    """
    if mask.shape != volume.array.shape:
        raise InputError(f"The mask of '{volume.name}' has shape {mask.shape}, the image {volume.array.shape}.")
    inside = volume.array[mask]
    if inside.size == 0:
        raise InputError(f"The mask of '{volume.name}' is empty: no voxel is inside.")
    mean = np.float32(inside.mean(dtype=np.float64))
    return Volume(np.where(mask, volume.array, mean), volume.geometry, volume.name)
