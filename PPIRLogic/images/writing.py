"""Images out, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from PPIRLogic.arguments import as_path
from PPIRLogic.errors import InputError, OutputError
from PPIRLogic.files import split_extension, write_atomically
from PPIRLogic.images.quiet_itk import quiet
from PPIRLogic.images.volume import Volume

_MIN_GREYS = 64  # between which fractions are rounded without much loss
WRITABLE_IMAGES = (".mha", ".nii", ".nii.gz", ".nrrd", ".png", ".tif", ".tiff")


def write_volume(volume: Volume | sitk.Image, path: str | os.PathLike[str], *, rounded: bool = False) -> None:
    """Write an image; `path` is either complete or untouched.

    The format follows the extension (WRITABLE_IMAGES). A .png holds whole numbers: a grey 2D image with all values in
    0..65535 is rounded to them, but not if little would be left (0 to 1), unless `rounded` is true. InputError: not an
    image, or on no grid. OutputError: unknown extension, missing or unwritable folder, full disk, or an image that the
    format cannot hold.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from PPIRLogic import Geometry
    >>> grid = Geometry((4, 3), (1.0, 1.0), (0.0, 0.0), (1, 0, 0, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_volume(Volume(np.linspace(0, 100, 12).reshape(3, 4), grid), Path(folder) / "image.png")
    ...     sitk.ReadImage(str(Path(folder) / "image.png"))[1, 0]
    9
    """
    extension = split_extension(as_path(path, "The image's path"), WRITABLE_IMAGES)
    image = volume.to_sitk() if isinstance(volume, Volume) else volume
    if not isinstance(image, sitk.Image):
        raise InputError(f"What is to be written is a {type(volume).__name__}. Give a Volume, or a SimpleITK image.")
    if extension in (".png", ".tif", ".tiff") and image.GetDimension() != 2:
        raise OutputError(f"Cannot write '{os.fspath(path)}': {extension} holds 2D images only. Use .nrrd or .nii.gz.")
    if extension == ".png":
        image = _whole_numbers(image, path, rounded)

    def write(name: str) -> None:
        with quiet():
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


def png_problem(values: NDArray[Any]) -> str:
    """Why a .png cannot hold grey values, and what to do; empty if it can."""
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 65535:
        return f".png holds grey values from 0 to 65535, not {low:g} to {high:g}. Use .nrrd, .mha or .nii.gz."
    if high - low < _MIN_GREYS and (values != np.rint(values)).any():
        return (
            f".png holds whole numbers, to which values from {low:g} to {high:g} would be rounded. Use .nrrd, .mha or"
            " .nii.gz, or scale the image to 0 to 255."
        )
    return ""


def _whole_numbers(image: sitk.Image, path: str | os.PathLike[str], rounded: bool) -> sitk.Image:
    """A grey image as uint8, or uint16 where uint8 does not hold it."""
    if image.GetPixelID() in (sitk.sitkUInt8, sitk.sitkUInt16):
        return image
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise OutputError(f"Cannot write '{os.fspath(path)}': .png holds grey images only. Use .nrrd or .nii.gz.")
    values = sitk.GetArrayViewFromImage(image)
    if problem := png_problem(np.rint(values) if rounded else values):
        raise OutputError(f"Cannot write '{os.fspath(path)}': {problem}")
    values = np.rint(values)
    made = sitk.GetImageFromArray(values.astype(np.uint8 if values.max() <= 255 else np.uint16))
    made.CopyInformation(image)
    return made
