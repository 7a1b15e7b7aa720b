"""A small CT series of a made-up patient, as a scanner writes it, and transforms by formulas that share no code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from PPIRLogic import Geometry, LinearTransform, Volume, read_volume
from PPIRLogic.dicom.results import check_dicom, write_dicom

CT = "1.2.840.10008.5.1.4.1.1.2"
ROOT_UID = "1.2.826.0.1.3680043.8.498"
FRAME, SERIES, STUDY = f"{ROOT_UID}.1", f"{ROOT_UID}.2", f"{ROOT_UID}.3"


def write_series(folder: Path, frame: str = FRAME, shape: tuple[int, int, int] = (6, 20, 24)) -> Path:
    """One file per slice: 1.5 × 2 × 3 mm, whole Hounsfield units."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset

    folder.mkdir()
    z, y, x = np.indices(shape)
    values = (400 * np.exp(-((x - 12) ** 2 + (y - 9) ** 2 + 4 * (z - 3) ** 2) / 60) - 200).round().astype(int)
    for number, plane in enumerate(values):
        ds = Dataset()
        ds.SpecificCharacterSet = "ISO_IR 100"
        ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Müller^Ü", "P7", "19600101", "F"
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = STUDY, SERIES, f"{ROOT_UID}.4.{number + 1}"
        ds.SOPClassUID, ds.Modality, ds.Manufacturer = CT, "CT", "Scanners"
        ds.StudyDate = ds.StudyTime = ds.ReferringPhysicianName = ds.StudyID = ds.AccessionNumber = ""
        ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber, ds.KVP = 3, number + 1, 1, 120
        ds.ImageType, ds.PatientPosition, ds.RescaleType = ["ORIGINAL", "PRIMARY", "AXIAL"], "HFS", "HU"
        ds.XRayTubeCurrent = 200 + number  # differs from slice to slice
        ds.add_new(0x00091010, "LO", "private")
        ds.PositionReferenceIndicator = ""
        if frame:
            ds.FrameOfReferenceUID = frame
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [-10.5, -20.0, 5.0 + 3 * number], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness = [2.0, 1.5], 3.0
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = *plane.shape, 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        ds.PixelData = (plane + 1024).astype("<u2").tobytes()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        ds.save_as(folder / f"IM{number + 1:03d}.dcm", enforce_file_format=True)
    return folder


def write_enhanced(file: Path, shape: tuple[int, int, int] = (6, 20, 24)) -> Path:
    """One Enhanced MR file of several frames."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset

    def group(keyword: str, **values: Any) -> tuple[str, Any]:
        item = Dataset()
        for name, value in values.items():
            setattr(item, name, value)
        return keyword, [item]

    ds, shared, frames = Dataset(), Dataset(), []
    for keyword, item in (
        group("PixelMeasuresSequence", PixelSpacing=[2.0, 1.5], SliceThickness=3.0, SpacingBetweenSlices=3.0),
        group("PlaneOrientationSequence", ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        group("PixelValueTransformationSequence", RescaleSlope=1, RescaleIntercept=0, RescaleType="US"),
    ):
        setattr(shared, keyword, item)
    for number in range(shape[0]):
        frame = Dataset()
        keyword, item = group("PlanePositionSequence", ImagePositionPatient=[-10.5, -20.0, 5.0 + 3 * number])
        setattr(frame, keyword, item)
        frames.append(frame)
    ds.PatientName, ds.PatientID, ds.Modality = "Doe^J", "P8", "MR"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = STUDY, SERIES, f"{ROOT_UID}.5"
    ds.SOPClassUID, ds.FrameOfReferenceUID = "1.2.840.10008.5.1.4.1.1.4.1", FRAME
    ds.NumberOfFrames, ds.Rows, ds.Columns = shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], frames
    ds.PixelData = np.random.default_rng(1).integers(0, 900, shape).astype("<u2").tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.save_as(file, enforce_file_format=True)
    return file


AFFINE = LinearTransform(
    "affine", [[1.1, 0.1, 0], [0, 0.9, 0.05], [0.02, 0, 1]], translation=[1, 2, -1], centre=[0, 0, 0]
)


def grid() -> Geometry:
    """Of a fixed image: axial, right-handed."""
    return Geometry((12, 10, 8), (2.0, 2.5, 2.0), (-5.0, -18.0, 8.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def spline(on: Geometry | None = None) -> tuple[LinearTransform, sitk.Transform]:
    """An affine transform, and the same after a spline of some mm."""
    bumps = sitk.BSplineTransformInitializer((on or grid()).to_sitk_reference(), [3, 3, 3])
    draw = np.random.default_rng(5).uniform(-4, 4, len(bumps.GetParameters()))
    bumps.SetParameters(draw.tolist())
    return AFFINE, sitk.CompositeTransform([AFFINE.to_sitk(), bumps])  # the last one acts first


def warped(volume: Volume, transform: sitk.Transform, on: Geometry) -> Volume:
    image = sitk.Resample(volume.to_sitk(), on.to_sitk_reference(), transform, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    return Volume.from_sitk(image)


def write_results_of(
    folder: Path, transform: sitk.Transform, linear: LinearTransform, on: Geometry, frame: str = ""
) -> Path:
    """A made-up moving series in folder/moving, what was found in folder/out."""
    series = write_series(folder / "moving")
    volume = read_volume(series)
    source = check_dicom(series, volume, folder / "out")
    write_dicom(transform, linear, warped(volume, transform, on), source, folder / "out", fixed_frame=frame)
    return folder / "out"


def matrix_of(item: Any) -> NDArray[np.float64]:
    return np.array([float(v) for v in item.FrameOfReferenceTransformationMatrix]).reshape(4, 4)


def source_to_registered(ds: Any, frame: str, point: Any) -> NDArray[np.float64]:
    """A Spatial Registration object applied as the standard says: the matrices of the item of this frame."""
    (item,) = [i for i in ds.RegistrationSequence if i.FrameOfReferenceUID == frame]
    at = np.array([*point, 1.0])
    for step in item.MatrixRegistrationSequence[0].MatrixSequence:
        at = matrix_of(step) @ at
    return at[:3]


def registered_to_source(ds: Any, frame: str, point: Any) -> NDArray[np.float64]:
    """A Deformable Spatial Registration object applied as the standard says: post · (pre · x + u), u trilinear."""
    (item,) = [i for i in ds.DeformableRegistrationSequence if i.SourceFrameOfReferenceUID == frame]
    (grid,) = item.DeformableRegistrationGridSequence
    nx, ny, nz = grid.GridDimensions
    vectors = np.frombuffer(grid.VectorGridData, "<f4").reshape(nz, ny, nx, 3)
    turn = np.array([float(v) for v in grid.ImageOrientationPatient])
    axes = np.stack([turn[:3], turn[3:], np.cross(turn[:3], turn[3:])], axis=1)
    at = (matrix_of(item.PreDeformationMatrixRegistrationSequence[0]) @ [*point, 1.0])[:3]
    origin = np.array([float(v) for v in grid.ImagePositionPatient])
    index = np.linalg.solve(axes, at - origin) / np.array(grid.GridResolution)
    low = np.floor(index).astype(int)
    moved = at.copy()
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(corner, index - low, 1 - (index - low)))
        i, j, k = low + corner
        if weight:
            moved += weight * vectors[k, j, i]
    return (matrix_of(item.PostDeformationMatrixRegistrationSequence[0]) @ [*moved, 1.0])[:3]
