"""Transform files in and out."""

from __future__ import annotations

import os

import SimpleITK as sitk

from PPIRLogic.arguments import as_path
from PPIRLogic.errors import InputError
from PPIRLogic.files import TRANSFORM_FILES, name_problem, shown_path, split_extension, write_atomically
from PPIRLogic.images.quiet_itk import quiet
from PPIRLogic.transforms.file_checks import hdf5_problem, problem_of
from PPIRLogic.transforms.linear import LinearTransform


def read_transform(path: str | os.PathLike[str]) -> sitk.Transform:
    """Read a transform file (.h5, .hdf5, .tfm, .txt, .mat). InputError: missing, empty, damaged or unreadable; MINC's
    .xfm, which is in RAS and which ITK takes for LPS.

    >>> read_transform("nowhere.h5")
    Traceback (most recent call last):
    PPIRLogic.errors.InputError: The transform 'nowhere.h5' does not exist or is a folder. Check the path.
    """
    file = as_path(path, "The transform's path")
    what = f"The transform '{shown_path(file)}'"
    if problem := name_problem(file):
        raise InputError(f"{what} cannot be opened: {problem}")
    if not file.is_file():
        raise InputError(f"{what} does not exist or is a folder. Check the path.")
    if file.stat().st_size == 0:
        raise InputError(f"{what} is an empty file. Write it again.")
    if file.suffix.lower() == ".xfm":
        raise InputError(
            f"{what} is MINC's, in RAS coordinates, which would be taken for LPS. Convert it to .tfm or .h5 in LPS."
        )
    if problem := hdf5_problem(file):
        raise InputError(f"{what} is damaged or cut short: {problem}. Copy it or write it again.")
    try:
        with quiet():
            transform = sitk.ReadTransform(str(file))
    except (RuntimeError, MemoryError):
        raise InputError(
            f"{what} cannot be read: it is not a transform file of ITK's, or is damaged. Write it as .h5 or .tfm."
        ) from None
    if problem := problem_of(file, transform):
        raise InputError(f"{what} is damaged or cut short: {problem}. Copy it or write it again.")
    return transform


def write_transform(transform: LinearTransform | sitk.Transform, path: str | os.PathLike[str]) -> None:
    """Write a transform file (TRANSFORM_FILES); `path` is either complete or untouched.

    InputError: not a transform. OutputError: unknown extension, missing or unwritable folder, full disk.

    >>> import tempfile
    >>> from pathlib import Path
    >>> shift = LinearTransform("translation", [[1, 0], [0, 1]], translation=[2, 3], centre=[0, 0])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_transform(shift, Path(folder) / "T.tfm")
    ...     read_transform(Path(folder) / "T.tfm").TransformPoint((1.0, 1.0))
    (3.0, 4.0)
    """
    extension = split_extension(as_path(path, "The transform's path"), TRANSFORM_FILES)
    item = transform.to_sitk() if isinstance(transform, LinearTransform) else transform
    if not isinstance(item, sitk.Transform):
        raise InputError(f"What is to be written is a {type(transform).__name__}. Give the transform of a result.")

    def write(name: str) -> None:
        sitk.WriteTransform(item, name)
        # not every ITK writer notices a full disk
        if sitk.ReadTransform(name).GetNumberOfParameters() != item.GetNumberOfParameters():
            raise RuntimeError("the file differs from what was written")

    # room for 25 characters per number in text files
    write_atomically(path, extension, write, 25 * (item.GetNumberOfParameters() + item.GetNumberOfFixedParameters()))
