"""The result of a registration as DICOM: a registration object and the warped image as a derived series."""

from __future__ import annotations

import os
import secrets
import shutil
from typing import Any

import SimpleITK as sitk

from PPIRLogic.arguments import as_path
from PPIRLogic.dicom.derived_series import derived_class, write_derived_series
from PPIRLogic.dicom.registration_object import registration_object
from PPIRLogic.dicom.source_series import SourceSeries, new_uid, read_source_series, save
from PPIRLogic.errors import InputError, OutputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.transforms.linear import LinearTransform

REGISTRATION_FILE, WARPED_FOLDER = "registration.dcm", "warped"


def check_dicom(moving: str | os.PathLike[str], volume: Volume, folder: str | os.PathLike[str]) -> SourceSeries:
    """The series that DICOM results will name. Said before a run: InputError for an image that is not DICOM, is 2D or
    has no frame of reference; OutputError for a folder that holds something or cannot be made."""
    target = as_path(folder, "The folder for DICOM objects")
    if not target.resolve().parent.is_dir() or not os.access(target.resolve().parent, os.W_OK):
        raise OutputError(f"The folder '{target}' cannot be made: the one above it is not there or not writable.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"'{target}' exists and is not an empty folder. DICOM objects get a folder of their own.")
    source = read_source_series(moving)
    if volume.geometry.dimension != 3:
        raise InputError("DICOM frames of reference are 3D. A 2D registration cannot be written as a DICOM object.")
    derived_class(source)
    return source


def write_dicom(
    transform: sitk.Transform,
    linear: LinearTransform,
    warped: Volume,
    source: SourceSeries,
    folder: str | os.PathLike[str],
    *,
    fixed_frame: str = "",
    remark: str = "",
) -> str:
    """Write `registration.dcm` and the series `warped/slice-NNNN.dcm` into a new or empty folder, all or nothing.

    transform: fixed to moving points, LPS mm; linear: its affine part. warped: the moving image on the fixed grid.
    fixed_frame: the frame of reference that the fixed image's owner disclosed; '' for one that is made here, which the
    object says. remark: what speaks against the result, for the object's description. Returns the UID of the fixed
    frame of reference that the objects name. Errors: InputError, OutputError.

    >>> series = read_source_series("MOVING_SERIES")  # doctest: +SKIP
    >>> result = register(moving, "hospital-b.example:7443")  # doctest: +SKIP
    >>> write_dicom(result.transform, result.linear, result.warp(moving), series, "RESULT")  # doctest: +SKIP
    '2.25.299911201594120674710640893785021053691'
    """
    target, made = as_path(folder, "The folder for DICOM objects"), fixed_frame or new_uid()
    grid: Geometry = warped.geometry
    found = registration_object(transform, linear, grid, source, made, bool(fixed_frame), remark)
    temporary = target.resolve().with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        (temporary / WARPED_FOLDER).mkdir(parents=True)
        save(found, temporary / REGISTRATION_FILE)
        write_derived_series(warped, source, temporary / WARPED_FOLDER, made, _derivation(found, bool(fixed_frame)))
        if target.is_dir():
            target.rmdir()  # an empty one, or OSError
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(
            f"DICOM objects cannot be written to '{target}': {error.strerror or error}. Give an empty folder with room."
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return made


def _derivation(found: Any, disclosed: bool) -> str:
    frame = "the frame of reference of the other site" if disclosed else (
        "a frame of reference that was made here, since the other site did not disclose its own"
    )  # fmt: skip
    uid = found.SOPInstanceUID
    return (
        f"Resampled (linear, 0 outside) by registration {uid} onto the grid of a fixed image of another site, in"
        f" {frame}. No intensity is of that image."
    )
