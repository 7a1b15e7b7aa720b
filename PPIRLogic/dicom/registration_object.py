"""A transform as a DICOM Spatial Registration or Deformable Spatial Registration object (PS3.3 C.20.2, C.20.3).

Both objects have a registered frame of reference, here the fixed image's, and a source, here the moving image's. The
matrix of the linear object maps source to registered points: the inverse of our transform, which maps fixed to moving
points. The deformable object maps registered to source points, as ours does: post · (pre · x + u(x)), with pre the
identity, u on the grid of the fixed image and post the affine part.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk

from PPIRLogic.arrays import Array
from PPIRLogic.dicom.source_series import (
    SourceSeries,
    code_item,
    new_uid,
    series_reference,
    stamp_equipment,
    stamp_instance,
    stamp_patient_and_study,
)
from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.transforms.displacement_field import Field
from PPIRLogic.transforms.linear import LinearTransform

SPATIAL_REGISTRATION = "1.2.840.10008.5.1.4.1.1.66.1"
DEFORMABLE_SPATIAL_REGISTRATION = "1.2.840.10008.5.1.4.1.1.66.3"
NOT_DISCLOSED = "The owner did not disclose the frame; this UID was made here"  # 64 characters at most
_SAME = 1e-6  # of a matrix of rotation, which DICOM keeps in 16 characters a number


def registration_object(
    transform: sitk.Transform,
    linear: LinearTransform,
    grid: Geometry,
    source: SourceSeries,
    fixed_frame: str,
    disclosed: bool,
    description: str = "",
) -> Any:
    """A pydicom Dataset of one of the two kinds.

    transform: fixed to moving points, LPS mm. linear: its affine part, or all of it. grid: of the fixed image.
    fixed_frame: the UID for its frame of reference; `disclosed`: it is the owner's, else one that was made here, which
    the object says. InputError: a 2D transform, of which DICOM does not know where it lies.
    """
    if grid.dimension != 3:
        raise InputError("DICOM frames of reference are 3D. A 2D registration cannot be written as a DICOM object.")
    affine, deformable = homogeneous(linear), not transform.IsLinear()
    ds = _common(source, SPATIAL_REGISTRATION if not deformable else DEFORMABLE_SPATIAL_REGISTRATION)
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = fixed_frame, ""
    ds.ContentDescription = (description or ("registered" if disclosed else NOT_DISCLOSED))[:64]
    note = "" if disclosed else NOT_DISCLOSED
    if deformable:
        field = _field_of(transform, affine, grid)
        ds.DeformableRegistrationSequence = [
            _deformable_item(fixed_frame, None, note),
            _deformable_item(source.frame, source, note, affine, field, grid),
        ]
    else:
        ds.RegistrationSequence = [
            _linear_item(fixed_frame, None, np.eye(4), note),
            _linear_item(source.frame, source, np.asarray(np.linalg.inv(affine), np.float64), note),
        ]
    return ds


def homogeneous(linear: LinearTransform) -> Array:
    """(4, 4): a linear 3D transform, fixed to moving points, LPS mm.

    >>> shift = LinearTransform("translation", np.eye(3), translation=[1, 2, 3], centre=[0, 0, 0])
    >>> homogeneous(shift)[:3, 3].tolist()
    [1.0, 2.0, 3.0]
    """
    out = np.eye(4)
    out[:3, :3] = linear.matrix
    out[:3, 3] = linear.apply(np.zeros((1, 3)))[0]
    return out


def _common(source: SourceSeries, sop_class: str) -> Any:
    from pydicom.dataset import Dataset

    ds = Dataset()
    stamp_patient_and_study(ds, source)
    stamp_instance(ds, sop_class, new_uid(), 1)
    stamp_equipment(ds)
    ds.Modality, ds.SeriesNumber, ds.SeriesDescription = "REG", 1, "PPIR registration"
    ds.ContentLabel, ds.ContentCreatorName, ds.Laterality = "PPIR", "", ""
    ds.ReferencedSeriesSequence = [series_reference(source)]
    return ds


def _matrix_item(matrix: Array) -> Any:
    from pydicom.dataset import Dataset
    from pydicom.valuerep import DSfloat

    item = Dataset()
    item.FrameOfReferenceTransformationMatrix = [DSfloat(float(v) + 0.0, auto_format=True) for v in matrix.ravel()]
    item.FrameOfReferenceTransformationMatrixType = _kind_of(matrix[:3, :3])
    return item


def _kind_of(matrix: Array) -> str:
    """What DICOM calls a matrix of this form."""
    square = matrix.T @ matrix
    size = float(np.trace(square)) / 3
    if np.linalg.det(matrix) <= 0 or np.abs(square - size * np.eye(3)).max() > _SAME * size:
        return "AFFINE"
    return "RIGID" if abs(size - 1) <= _SAME else "RIGID_SCALE"


def _linear_item(frame: str, source: SourceSeries | None, matrix: Array, note: str) -> Any:
    from pydicom.dataset import Dataset

    step, item = Dataset(), Dataset()
    step.MatrixSequence = [_matrix_item(matrix)]
    step.FrameOfReferenceTransformationComment = note if source is None else ""
    step.RegistrationTypeCodeSequence = [code_item("125024", "Image Content-based Alignment")]
    item.FrameOfReferenceUID = frame
    if source is not None:
        item.ReferencedImageSequence = source.references()
    item.MatrixRegistrationSequence = [step]
    return item


def _deformable_item(
    frame: str,
    source: SourceSeries | None,
    note: str,
    affine: Array | None = None,
    field: Field | None = None,
    grid: Geometry | None = None,
) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.SourceFrameOfReferenceUID = frame
    if source is not None:
        item.ReferencedImageSequence = source.references()
    item.FrameOfReferenceTransformationComment = note if source is None else ""
    item.RegistrationTypeCodeSequence = [code_item("125024", "Image Content-based Alignment")]
    if affine is not None and field is not None and grid is not None:
        item.DeformableRegistrationGridSequence = [_grid_item(field, grid)]
        item.PreDeformationMatrixRegistrationSequence = [_matrix_item(np.eye(4))]
        item.PostDeformationMatrixRegistrationSequence = [_matrix_item(affine)]
    return item


def _grid_item(field: Field, grid: Geometry) -> Any:
    """The vectors x fastest, each in mm along the axes of the patient. DICOM's third axis is the cross product of the
    first two, so the slices of a left-handed grid are taken from the other end."""
    from pydicom.dataset import Dataset
    from pydicom.valuerep import DSfloat

    direction, origin = np.reshape(grid.direction, (3, 3)), np.asarray(grid.origin)
    vectors = np.moveaxis(field, 0, -1)
    if np.linalg.det(direction) < 0:
        origin = origin + direction[:, 2] * grid.spacing[2] * (grid.size[2] - 1)
        vectors = vectors[::-1]
    item = Dataset()
    item.ImagePositionPatient = [DSfloat(float(v), auto_format=True) for v in origin]
    item.ImageOrientationPatient = [DSfloat(float(v) + 0.0, auto_format=True) for v in direction[:, :2].T.ravel()]
    item.GridDimensions, item.GridResolution = list(grid.size), list(grid.spacing)
    item.VectorGridData = np.ascontiguousarray(vectors, "<f4").tobytes()
    return item


def _field_of(transform: sitk.Transform, affine: Array, grid: Geometry) -> Field:
    """(3, z, y, x) mm: u with transform(x) = A(x + u(x)), at every voxel of the grid."""
    to_field = sitk.TransformToDisplacementFieldFilter()
    to_field.SetReferenceImage(grid.to_sitk_reference())
    to_field.SetOutputPixelType(sitk.sitkVectorFloat64)
    image = to_field.Execute(transform)
    moved = sitk.GetArrayViewFromImage(image)  # of memory that is the image's
    back, to_mm = np.linalg.inv(affine), grid.index_to_physical()
    y, x = np.indices(grid.array_shape[1:])
    out = np.empty((3, *grid.array_shape), np.float32)
    for z in range(len(moved)):  # a slice at a time: in double precision all of it may be gigabytes
        at = np.stack([x, y, np.full_like(x, z)], axis=-1) @ to_mm[:, :3].T + to_mm[:, 3]
        out[:, z] = np.moveaxis((at + moved[z]) @ back[:3, :3].T + back[:3, 3] - at, -1, 0)
    return out
