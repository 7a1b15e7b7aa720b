"""Image files, DICOM series and masks in, each checked."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import ORTHONORMAL_TOLERANCE, Geometry, short_list
from PPIRLogic.images.quiet_itk import quiet
from PPIRLogic.images.volume import Volume

_MASK_TOLERANCE = 1e-2  # voxels; formats that keep float32 headers (NIfTI) differ from the others by about 1e-3
_SLICE_TOLERANCE = 0.05  # of the slice distance; DICOM positions are decimal strings


def read_volume(path: str | os.PathLike[str], *, role: str = "moving") -> Volume:
    """Read a grey 2D or 3D image: any file that ITK reads, or a folder that holds one DICOM series.

    `role` ('moving', 'fixed') is for messages. A 3D file of one slice becomes 2D if its normal is the z axis.
    InputError, saying which file and what to do: missing, empty or unreadable file, several series, 4D, colour,
    complex, NaN or infinite voxels, an axis of one voxel, a constant image, a direction that is not orthonormal.

    >>> import tempfile
    >>> from PPIRLogic import write_volume
    >>> grid = Geometry((4, 3), (1.0, 1.0), (0.0, 0.0), (1, 0, 0, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_volume(Volume(np.arange(12.0).reshape(3, 4), grid), Path(folder) / "image.nrrd")
    ...     volume = read_volume(Path(folder) / "image.nrrd")
    >>> volume.name, volume.array.shape, volume.array.max()
    ('image.nrrd', (3, 4), np.float32(11.0))
    >>> read_volume("nowhere.nrrd")
    Traceback (most recent call last):
    PPIRLogic.errors.InputError: The moving image 'nowhere.nrrd' does not exist. Check the path.
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

    >>> import tempfile
    >>> from PPIRLogic import write_volume
    >>> grid = Geometry((4, 3), (1.0, 1.0), (0.0, 0.0), (1, 0, 0, 1))
    >>> volume, inside = Volume(np.arange(12.0).reshape(3, 4), grid), np.zeros((3, 4))
    >>> inside[1, 1:3] = 255
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_volume(Volume(inside, grid), Path(folder) / "mask.nrrd")
    ...     mask = read_mask(Path(folder) / "mask.nrrd", volume)
    >>> mask.dtype, int(mask.sum())
    (dtype('bool'), 2)
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


def _read_image(path: Path, what: str) -> sitk.Image:
    """A scalar 2D or 3D image with a valid grid, or InputError. Voxel values are not looked at."""
    if not path.exists():
        raise InputError(f"{what} does not exist. Check the path.")
    with quiet():
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
        raise InputError(f"{what} has an axis of one voxel ({short_list(tuple(size))}). Give a 2D image or a volume.")


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
    if np.abs(np.abs(direction[:, 2]) - (0, 0, 1)).max() > ORTHONORMAL_TOLERANCE:
        raise InputError(
            f"{what} has one slice, which is not perpendicular to the z axis, so that it cannot be used as a 2D image. "
            "Give an axial slice or a volume of several slices."
        )
    collapse = sitk.ExtractImageFilter.DIRECTIONCOLLAPSETOIDENTITY
    flat = sitk.Extract(image, (*image.GetSize()[:2], 0), (0, 0, 0), collapse)
    flat.SetOrigin(image.GetOrigin()[:2])
    flat.SetDirection(tuple(direction[:2, :2].ravel()))
    return flat
