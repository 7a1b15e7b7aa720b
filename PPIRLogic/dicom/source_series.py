"""The series that the moving image came from: the headers that derived objects name."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from PPIRLogic.arguments import as_path
from PPIRLogic.errors import InputError, MissingDependencyError
from PPIRLogic.files import shown_path
from PPIRLogic.images.checks import format_of
from PPIRLogic.version import __version__

MANUFACTURER = "PPIRExtension contributors"
_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_STUDY = ("StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber")
_MORE_OF_STUDY = ("IssuerOfPatientID", "PatientAge", "StudyDescription", "PatientIdentityRemoved",
                  "DeidentificationMethod")  # fmt: skip


def load_pydicom() -> ModuleType:
    """The package pydicom; MissingDependencyError saying how to install it."""
    try:
        import pydicom
    except ImportError:
        raise MissingDependencyError(
            "DICOM objects are written with the package pydicom, which is not installed. Install it with"
            " pip install 'ppir[dicom]', or leave --dicom out."
        ) from None
    return pydicom


@dataclass(frozen=True)
class SourceSeries:
    """The headers of one DICOM series without pixels, in the order of the files' names.

    >>> series = read_source_series("MOVING_SERIES")  # doctest: +SKIP
    >>> series.frame, len(series.headers)  # doctest: +SKIP
    ('1.2.826.0.1.3680043.8.498.1', 180)
    """

    headers: tuple[Any, ...]

    @property
    def first(self) -> Any:
        return self.headers[0]

    @property
    def frame(self) -> str:
        """The UID of its frame of reference."""
        return str(self.first.FrameOfReferenceUID)

    def references(self) -> list[Any]:
        """One item for every file: its class and UID."""
        return [_reference(header) for header in self.headers]


def read_source_series(path: str | os.PathLike[str]) -> SourceSeries:
    """The headers of the file, or of the folder of one series, that `read_volume` read.

    InputError: not DICOM, no frame of reference (radiographs have none) or several, no UIDs to refer to.
    MissingDependencyError: pydicom is not installed.

    >>> read_source_series("nowhere.nrrd")
    Traceback (most recent call last):
    PPIRLogic.errors.InputError: 'nowhere.nrrd' is not a DICOM file or a folder of one DICOM series. ...
    """
    file = as_path(path, "The path of the DICOM series")
    paths = sorted(file.iterdir()) if file.is_dir() else [file]
    found = [p for p in paths if p.is_file() and (kind := format_of(p)) is not None and kind.name == "DICOM"]
    what = f"'{shown_path(file)}'"
    if not found:
        raise InputError(
            f"{what} is not a DICOM file or a folder of one DICOM series. DICOM objects name the series of the moving"
            " image: register from its DICOM files, or leave --dicom out."
        )
    headers = tuple(header for p in found if "Rows" in (header := _header(p)))
    for keyword, words in (
        ("FrameOfReferenceUID", "frame of reference (0020,0052)"),
        ("StudyInstanceUID", "study UID (0020,000D)"),
        ("SeriesInstanceUID", "series UID (0020,000E)"),
    ):
        values = {str(header.get(keyword, "")) for header in headers}
        if len(values) != 1 or "" in values:
            raise InputError(f"{what}: its files have no common {words}, which a DICOM object must name.")
    return SourceSeries(headers)


def _header(path: Path) -> Any:
    pydicom = load_pydicom()
    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except (pydicom.errors.InvalidDicomError, OSError, ValueError, KeyError, NotImplementedError):
        raise InputError(f"The header of '{shown_path(path)}' cannot be read. Export the series again.") from None


def _reference(header: Any) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return item


def series_reference(source: SourceSeries) -> Any:
    """An item of the Referenced Series Sequence."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.SeriesInstanceUID = source.first.SeriesInstanceUID
    item.ReferencedInstanceSequence = source.references()
    return item


def code_item(value: str, meaning: str) -> Any:
    """An item of a code sequence, by the codes of DICOM itself."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def new_uid() -> str:
    """A UID below 2.25: a random UUID of the system's own generator. It tells nothing."""
    from pydicom.uid import generate_uid

    return str(generate_uid(prefix=None))


def stamp_patient_and_study(dataset: Any, source: SourceSeries) -> None:
    """The patient and the study of the source: what is derived stays with them. Required elements may be empty."""
    first = source.first
    for keyword in ("SpecificCharacterSet", *_MORE_OF_STUDY):
        if keyword in first:
            dataset[keyword] = first[keyword]
    for keyword in (*_PATIENT, *_STUDY):
        setattr(dataset, keyword, first.get(keyword, ""))


def stamp_instance(dataset: Any, sop_class: str, series: str, number: int) -> None:
    """What is new of each object: UIDs, times, its place in its series, and who made it."""
    now = datetime.datetime.now()  # the local time, as DICOM wants it
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID = sop_class, new_uid(), series
    dataset.InstanceNumber = number
    dataset.InstanceCreationDate = dataset.ContentDate = now.strftime("%Y%m%d")
    dataset.InstanceCreationTime = dataset.ContentTime = now.strftime("%H%M%S")


def stamp_equipment(dataset: Any) -> None:
    """This software as the maker of an object."""
    dataset.Manufacturer, dataset.ManufacturerModelName = MANUFACTURER, "PPIRExtension"
    dataset.DeviceSerialNumber, dataset.SoftwareVersions = "none", __version__


def save(dataset: Any, path: Path) -> None:
    """Write a whole DICOM file, Explicit VR Little Endian."""
    pydicom = load_pydicom()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
