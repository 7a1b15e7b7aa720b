"""The warped moving image as a derived DICOM series: one file per slice, on the grid of the fixed image."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.dicom.source_series import (
    SourceSeries,
    code_item,
    new_uid,
    save,
    stamp_equipment,
    stamp_instance,
    stamp_patient_and_study,
)
from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume

_MR, _CT = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2"
_SINGLE_FRAME = {  # what a file of several frames becomes, one file per slice
    "1.2.840.10008.5.1.4.1.1.4.1": _MR,
    "1.2.840.10008.5.1.4.1.1.2.1": _CT,
}
_OF_MR = {"ScanningSequence": "RM", "SequenceVariant": "NONE", "ScanOptions": "", "MRAcquisitionType": "",
          "RepetitionTime": None, "EchoTime": None, "EchoTrainLength": None}  # fmt: skip
_OF_CT = {"KVP": None, "AcquisitionNumber": None}
_OF_CLASS: dict[str, dict[str, Any]] = {_MR: _OF_MR, _CT: _OF_CT}
_NOT_COPIED = {  # of one slice, of the series or of its place: made anew, or not true of the derived image
    "ImageType", "InstanceCreationDate", "InstanceCreationTime", "InstanceCreatorUID", "SOPInstanceUID",
    "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "SeriesDate", "SeriesTime", "ContentDate", "ContentTime",
    "FrameOfReferenceUID", "PositionReferenceIndicator", "ImagePositionPatient", "ImageOrientationPatient",
    "SliceLocation", "SliceThickness", "SpacingBetweenSlices", "PatientPosition", "PatientOrientation",
    "GantryDetectorTilt", "InstanceNumber", "IconImageSequence", "ReferencedImageSequence", "SourceImageSequence",
    "DerivationDescription", "DerivationCodeSequence", "ImageComments", "ImagesInAcquisition", "Rows", "Columns",
}  # fmt: skip
_KEPT_OF_PIXELS = {"WindowCenter", "WindowWidth", "LossyImageCompression", "LossyImageCompressionRatio",
                   "LossyImageCompressionMethod", "BurnedInAnnotation"}  # fmt: skip
_INT16, _UINT16 = (-(2**15), 2**15 - 1), (0, 2**16 - 1)


def derived_class(source: SourceSeries) -> str:
    """The class of the slices. InputError for files of several frames other than Enhanced MR and Enhanced CT."""
    sop_class = str(source.first.SOPClassUID)
    if int(source.first.get("NumberOfFrames", 1) or 1) == 1:
        return sop_class
    if sop_class not in _SINGLE_FRAME:
        raise InputError(
            "The moving image is a DICOM file of several frames, of a kind of which no derived series is written here"
            f" ({sop_class}). Export it as one file per slice."
        )
    return _SINGLE_FRAME[sop_class]


def write_derived_series(
    warped: Volume, source: SourceSeries, folder: Path, fixed_frame: str, description: str
) -> None:
    """Write one file per slice into a folder that exists.

    warped: a 3D image on the fixed grid, of intensities of the source alone. description: how it was derived. Patient
    and study are the source's; what is the same in all its files stays, private elements do not.
    """
    sop_class = derived_class(source)
    stored, slope, intercept = _stored(warped.array, source)
    base = _base(source, sop_class, warped.geometry, fixed_frame, description)
    if slope != 1 or intercept != 0 or sop_class != _MR:  # plain MR images have no rescaling
        base.RescaleSlope, base.RescaleIntercept = _ds(slope), _ds(intercept)
        base.RescaleType = source.first.get("RescaleType", "HU" if sop_class == _CT else "US")
    base.PixelRepresentation = int(stored.dtype == np.int16)
    series = new_uid()
    for number, pixels in enumerate(stored):
        ds = deepcopy(base)
        stamp_instance(ds, sop_class, series, number + 1)
        place = warped.geometry.index_to_physical() @ [0, 0, number, 1]
        ds.ImagePositionPatient = [_ds(v) for v in place]
        ds.PixelData = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).tobytes()
        ds["PixelData"].VR = "OW"
        save(ds, folder / f"slice-{number + 1:04d}.dcm")


def _ds(value: float) -> Any:
    from pydicom.valuerep import DSfloat

    return DSfloat(float(value) + 0.0, auto_format=True)


def _base(source: SourceSeries, sop_class: str, grid: Geometry, fixed_frame: str, description: str) -> Any:
    """All elements that the slices share."""
    from pydicom.dataset import Dataset

    ds = Dataset()
    if sop_class == str(source.first.SOPClassUID):
        for element in _constant_elements(source):
            ds[element.tag] = deepcopy(element)
    stamp_patient_and_study(ds, source)
    for keyword, value in _OF_CLASS.get(sop_class, {}).items():
        if keyword not in ds:
            setattr(ds, keyword, value)
    if "Manufacturer" not in ds:
        stamp_equipment(ds)
    ds.Modality = source.first.get("Modality", "OT")
    ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if sop_class == _CT else "OTHER"]
    if "Laterality" not in ds:
        ds.Laterality = ""
    ds.SeriesNumber, ds.SeriesDescription = (
        None,
        f"PPIR warped {source.first.get('SeriesDescription', '')}"[:64].strip(),
    )
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator, ds.PatientPosition = fixed_frame, "", ""
    ds.DerivationDescription = description
    ds.DerivationCodeSequence = [code_item("113085", "Spatial resampling")]
    ds.SourceImageSequence = source.references()
    for item in ds.SourceImageSequence:
        item.PurposeOfReferenceCodeSequence = [code_item("121322", "Source image for image processing operation")]
    direction = np.reshape(grid.direction, (3, 3))
    ds.ImageOrientationPatient = [_ds(v) for v in direction[:, :2].T.ravel()]
    ds.PixelSpacing = [_ds(grid.spacing[1]), _ds(grid.spacing[0])]
    ds.SliceThickness = _ds(grid.spacing[2])
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = grid.size[1], grid.size[0], 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    return ds


def _constant_elements(source: SourceSeries) -> list[Any]:
    """Those that all files of the series have alike, less what is private, of pixels, overlays or places."""
    kept = []
    for element in source.first:
        group, keyword = element.tag.group, element.keyword
        if element.tag.is_private or not keyword or keyword in _NOT_COPIED or group in (0x0002, 0x7FE0, 0x5200):
            continue
        if group & 0xFF00 in (0x5000, 0x6000) or (group == 0x0028 and keyword not in _KEPT_OF_PIXELS):
            continue
        if all(header.get(element.tag) == element for header in source.headers[1:]):
            kept.append(element)
    return kept


def _scales(header: Any) -> set[tuple[float, float]]:
    """Slope and intercept of a file; of one of several frames, those of the frames."""
    groups = [*header.get("SharedFunctionalGroupsSequence", []), *header.get("PerFrameFunctionalGroupsSequence", [])]
    items = [item for group in groups for item in group.get("PixelValueTransformationSequence", [])] or [header]
    return {(float(v.get("RescaleSlope", 1) or 1), float(v.get("RescaleIntercept", 0) or 0)) for v in items}


def _stored(values: NDArray[np.float32], source: SourceSeries) -> tuple[NDArray[Any], float, float]:
    """The values as whole numbers of 16 bits, and their slope and intercept: those of the source where it has one of
    each and they fit, else such that the range of the values takes all 16 bits."""
    told = {scale for header in source.headers for scale in _scales(header)}
    low, high = float(values.min()), float(values.max())
    if len(told) == 1:
        ((slope, intercept),) = told
        ends = sorted(((low - intercept) / slope, (high - intercept) / slope))
        for kind, (least, most) in ((np.uint16, _UINT16), (np.int16, _INT16)):
            if least <= round(ends[0]) and round(ends[1]) <= most:
                return np.rint((values - intercept) / slope).astype(kind), slope, intercept
    slope = (high - low) / _UINT16[1] or 1.0
    slope = float(f"{slope:.9g}") * (1 + 1e-8)  # as it is written, in 16 characters, and never too small for the range
    slope, intercept = float(f"{slope:.9g}"), float(f"{low:.9g}")
    return (
        np.clip(np.rint((values.astype(np.float64) - intercept) / slope), *_UINT16).astype(np.uint16),
        slope,
        intercept,
    )
