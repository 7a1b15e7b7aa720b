"""Image files, DICOM series and masks in, each checked."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from PPIRLogic.arguments import as_path
from PPIRLogic.errors import InputError
from PPIRLogic.files import name_problem, shown_path
from PPIRLogic.images.checks import READABLE, Damaged, Unusable, format_of
from PPIRLogic.images.checks.dicom_file import CHANNELS, DicomFile, read_dicom
from PPIRLogic.images.checks.dicom_slices import (
    DicomSlice,
    check_alike,
    check_pixel_spacing,
    check_values,
    order_of,
    pixel_spacing,
    slices_of,
)
from PPIRLogic.images.door import as_mask, check_volume
from PPIRLogic.images.geometry import ORTHONORMAL_TOLERANCE, Geometry, short_list
from PPIRLogic.images.quiet_itk import quiet
from PPIRLogic.images.volume import Volume

ROLES = ("moving", "fixed", "given")
_MASK_TOLERANCE = 1e-2  # voxels; formats that keep float32 headers (NIfTI) differ from the others by about 1e-3
_SLICE_TOLERANCE = 0.05  # of the slice distance; DICOM positions are decimal strings


def read_volume(path: str | os.PathLike[str], *, role: str = "moving") -> Volume:
    """Read a grey 2D or 3D image: a file of a format in READABLE, or a folder that holds one DICOM series.

    `role` ('moving', 'fixed', or 'given' where there is but one) is for messages. A 3D file of one slice becomes 2D if
    its normal is the z axis.
    InputError, saying which file and what to do: missing, empty, damaged or unreadable file, several series, slices
    that differ or are not evenly spaced, a place that the file does not say or says twice, 4D, colour, complex, NaN or
    infinite voxels, an axis of one voxel, a constant image, a direction that is not orthonormal.

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
    if role not in ROLES:
        raise InputError(f"read_volume cannot be called with role {role!r:.60}: it must be moving, fixed or given.")
    file = as_path(path, f"The {role} image's path")
    what = f"The {role} image '{shown_path(file)}'"
    volume = Volume.from_sitk(_read_image(file, what), name=file.name)
    found = _first_dicom(file)
    if found is None:
        return check_volume(volume, what)
    return replace(check_volume(volume, what), subject=found.subject, modality=found.modality, frame=found.frame)


def _first_dicom(path: Path) -> DicomFile | None:
    """A file or folder that was read, or its first file, if it is DICOM."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return next((found for file in files if (found := _dicom_of(file)) is not None), None)


def read_mask(path: str | os.PathLike[str], volume: Volume) -> NDArray[np.bool_]:
    """Read a mask for `volume`: bool array of shape volume.array.shape, true where the file is non-zero.

    InputError: everything `read_volume` refuses but a constant image; a grid other than the volume's; nothing
    inside; fractions of several sizes, of which nobody said where the inside begins.

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
    if not isinstance(volume, Volume):
        raise InputError(f"The mask's image is a {type(volume).__name__}. Give a Volume: the image that it belongs to.")
    file = as_path(path, "The mask's path")
    what = f"The mask '{shown_path(file)}'"
    image = _read_image(file, what)
    grid = Geometry.from_sitk(image)
    if not grid.matches(volume.geometry, _MASK_TOLERANCE):
        raise InputError(
            f"{what} is not on the grid of the image '{volume.name}'. Mask: {_place(grid)}. "
            f"Image: {_place(volume.geometry)}. Resample the mask to the image (nearest neighbour)."
        )
    return as_mask(sitk.GetArrayViewFromImage(image), volume, what)


def _place(grid: Geometry) -> str:
    """Size, spacing, origin and direction, for telling two grids apart."""
    origin = ", ".join(f"{v:.6g}" for v in grid.origin)
    direction = ", ".join(f"{v:.4g}" for v in grid.direction)
    return f"{grid.describe()}, origin ({origin}) mm, direction ({direction})"


def _read_image(path: Path, what: str) -> sitk.Image:
    """A scalar 2D or 3D image with a valid grid, or InputError. Voxel values are not looked at."""
    if problem := name_problem(path):
        raise InputError(f"{what} cannot be opened: {problem}")
    if not os.path.exists(path):
        raise InputError(f"{what} does not exist. Check the path.")
    with quiet():
        try:
            image = _read_series(path, what) if path.is_dir() else _read_file(path, what)
        except Unusable as reason:
            raise InputError(f"{what} cannot be used. {reason}") from None
        except Damaged as reason:
            raise _unreadable(what, f"it is damaged or cut short: {reason}") from None
        except MemoryError:
            raise InputError(f"{what} cannot be read: there is not enough memory. Close other programs.") from None
        except RuntimeError:
            why = "it uses a part of its format that is not read here, or is damaged where its length does not tell"
            raise _unreadable(what, why) from None
        except OSError as error:
            raise InputError(f"{what} cannot be read: {error.strerror or error}.") from None
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
    found = format_of(path)
    if found is None:
        raise _unreadable(what, f"its format is not known here, or it is damaged. These are read: {READABLE}")
    reader = sitk.ImageFileReader()
    reader.SetImageIO(found.reader)
    reader.SetFileName(str(path))
    if found.name == "DICOM":
        return _read_slices([read_dicom(path)], what)
    found.check(path)
    reader.ReadImageInformation()
    # from the header alone, so that a long 4D series is refused without loading it
    _check_kind(reader.GetSize(), reader.GetPixelID(), what)
    return reader.Execute()


def _unreadable(what: str, why: str) -> InputError:
    return InputError(
        f"{what} cannot be read as an image: {why}. Export it again, for instance as .nrrd, .nii.gz, .mha or DICOM."
    )


def _read_series(folder: Path, what: str) -> sitk.Image:
    """The one DICOM series in `folder`."""
    paths = sorted(folder.iterdir())
    found = [f for p in paths if (f := _dicom_of(p)) is not None and (f.series or f.is_image)]
    if not found:
        raise InputError(f"{what} is a folder without a DICOM series. Give an image file or a folder of DICOM files.")
    if (series := len({file.series for file in found})) > 1:
        raise InputError(
            f"{what} is a folder with {series} DICOM series. "
            "Put the one to use into a sub-folder of its own and give that folder."
        )
    if other := next((file for file in found if not file.is_image), None):
        raise InputError(f"{what} is a folder with a DICOM file that holds no image, '{other.name}'. Take it out.")
    if strange := _like_a_slice(paths, {file.name for file in found}):
        raise Damaged(
            f"'{shown_path(strange)}' is named like its slices and is no DICOM file. Take it out if it is none"
        )
    return _read_slices(found, what)


def _like_a_slice(paths: Sequence[Path], slices: set[str]) -> str:
    """A file that is called as the slices are but for its digits, and is none: empty, cut short, packed or a link to
    nowhere; '' if there is none. Without it a series would be shorter, which nothing else would tell."""
    shapes = {_shape(name) for name in slices}
    others = (p.name for p in paths if p.name not in slices and not p.is_dir())
    return next((name for name in others if _shape(name) in shapes), "")


def _shape(name: str) -> str:
    """A file name with every number as '#', without the endings of packed and unfinished files."""
    return re.sub(r"\d+", "#", re.sub(r"\.(gz|zip|bz2|part|tmp|crdownload)$", "", name.lower()))


def _dicom_of(path: Path) -> DicomFile | None:
    """A file of a folder, if it is DICOM; Damaged, naming it, if it is one that is not whole."""
    if not path.is_file():
        return None
    if problem := name_problem(path):
        raise Unusable(f"It holds the file {shown_path(path.name)!r}, which cannot be opened: {problem}")
    found = format_of(path)
    if found is None or found.name != "DICOM":
        if path.name.lower().endswith(".dcm"):
            raise Damaged(f"'{path.name}' does not begin as a DICOM file does")
        return None
    try:
        return read_dicom(path)
    except Damaged as reason:
        raise Damaged(f"'{path.name}': {reason}") from None


def _read_slices(files: list[DicomFile], what: str) -> sitk.Image:
    """Slices, or the one file, as an image; each slice is rescaled by its own slope, in float."""
    check_alike(files)
    for file in files:
        check_values(file)
    slices = slices_of(files)
    if len(slices) > 1:
        order = order_of(slices)
        if len(files) > 1:
            files = [files[i] for i in order]
            slices = [slices[i] for i in order]
    spacing = pixel_spacing(files[0])
    image = _by_gdcm(files)
    check_pixel_spacing(spacing, image.GetSpacing())
    _check_kind(image.GetSize(), image.GetPixelID(), what)
    if len(slices) > 1:
        _check_places(slices, image)
    return image


def _by_gdcm(files: list[DicomFile]) -> sitk.Image:
    if len(files) == 1:
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(files[0].path))
        return reader.Execute()
    series = sitk.ImageSeriesReader()
    series.SetImageIO("GDCMImageIO")
    series.SetFileNames([str(file.path) for file in files])
    if files[0].whole(CHANNELS) == 1:
        series.SetOutputPixelType(sitk.sitkFloat32)  # else all slices are cut to the type of the first
    return series.Execute()


def _check_places(slices: list[DicomSlice], image: sitk.Image) -> None:
    """Damaged unless every slice of the image that was read lies where its file says."""
    grid = Geometry.from_sitk(image)
    if grid.dimension != 3 or grid.size[2] != len(slices):
        raise Damaged(f"{len(slices)} slices are there and {grid.size[2:] or 1} were read")
    for number, one in enumerate(slices):
        expected = image.TransformIndexToPhysicalPoint((0, 0, number))
        if not math.dist(one.position, expected) <= _SLICE_TOLERANCE * grid.spacing[2]:
            raise Unusable(
                f"Its DICOM slice {one.label} lies at {one.position} mm and would be read at {expected} mm. Export the"
                " series as one file per slice, in order."
            )


def _check_kind(size: Sequence[int], pixel: int, what: str) -> None:
    """InputError for 4D, complex and label-map images, and an axis of one voxel other than z."""
    if len(size) not in (2, 3):
        raise InputError(f"{what} is {len(size)}D. Only 2D and 3D images can be used: extract one time point or frame.")
    if pixel in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64):
        raise InputError(f"{what} has complex voxels. Give its magnitude.")
    if 1 in size[:2]:
        raise InputError(f"{what} has an axis of one voxel ({short_list(tuple(size))}). Give a 2D image or a volume.")


def is_in_colour(path: Path) -> bool:
    """Whether a file that can be read has several channels, which are equal then; False for folders and DICOM."""
    found = format_of(path) if path.is_file() else None
    if found is None or found.name == "DICOM":
        return False
    reader = sitk.ImageFileReader()
    reader.SetImageIO(found.reader)
    reader.SetFileName(str(path))
    with quiet():
        reader.ReadImageInformation()
    return int(reader.GetNumberOfComponents()) > 1


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
