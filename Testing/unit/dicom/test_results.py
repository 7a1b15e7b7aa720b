"""DICOM out: directions, frames of reference, grids, values; read back by pydicom and formulas of the standard, by ITK
and by Debian's readers where they are installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_support import (
    AFFINE,
    CT,
    FRAME,
    ROOT_UID,
    SERIES,
    STUDY,
    grid,
    registered_to_source,
    source_to_registered,
    spline,
    warped,
    write_enhanced,
    write_results_of,
    write_series,
)

from PPIRLogic import LinearTransform, read_volume
from PPIRLogic.dicom.registration_object import NOT_DISCLOSED
from PPIRLogic.dicom.results import check_dicom, write_dicom
from PPIRLogic.errors import InputError, OutputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume

FIXED_FRAME = f"{ROOT_UID}.77"
LEFT_HANDED = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, -1.0)
GRID = grid()
TURNED = Geometry((12, 10, 8), (2.0, 2.5, 2.0), (-5.0, -18.0, 20.0), LEFT_HANDED)
ANGLE = 0.2
RIGID = LinearTransform(
    "rigid",
    [[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]],
    translation=[3, -2, 1.5],
    centre=[2, 1, 4],
)


@pytest.mark.parametrize(("linear", "kind"), [(RIGID, "RIGID"), (AFFINE, "AFFINE")], ids=["rigid", "affine"])
def test_the_matrix_maps_the_moving_frame_to_the_fixed_one(tmp_path: Path, linear: LinearTransform, kind: str) -> None:
    """Our transform maps fixed to moving points; the object's matrix leads back from each of them."""
    out = write_results_of(tmp_path, linear.to_sitk(), linear, GRID, FIXED_FRAME)
    ds = pydicom.dcmread(out / "registration.dcm")
    assert ds.FrameOfReferenceUID == FIXED_FRAME
    assert {i.FrameOfReferenceUID for i in ds.RegistrationSequence} == {FIXED_FRAME, FRAME}
    point = np.array([4.0, -7.0, 11.0])
    moved = linear.apply(point[None])[0]
    assert np.linalg.norm(moved - point) > 1
    assert np.allclose(source_to_registered(ds, FRAME, moved), point, atol=1e-6)
    assert np.allclose(source_to_registered(ds, FIXED_FRAME, point), point)
    types = [i.MatrixRegistrationSequence[0].MatrixSequence[0] for i in ds.RegistrationSequence]
    assert [t.FrameOfReferenceTransformationMatrixType for t in types] == ["RIGID", kind]


@pytest.mark.parametrize("on", [GRID, TURNED], ids=["axial", "left-handed"])
def test_the_field_maps_the_fixed_frame_to_the_moving_one(tmp_path: Path, on: Geometry) -> None:
    _, transform = spline(on)
    out = write_results_of(tmp_path, transform, AFFINE, on, FIXED_FRAME)
    ds = pydicom.dcmread(out / "registration.dcm")
    for index in ((0, 0, 0), (11, 9, 7), (4, 2, 5)):
        point = on.index_to_physical() @ [*index, 1.0]
        assert np.allclose(registered_to_source(ds, FRAME, point), transform.TransformPoint(point.tolist()), atol=1e-4)
    between = on.index_to_physical() @ [4.5, 2.5, 5.5, 1.0]
    assert np.allclose(registered_to_source(ds, FRAME, between), transform.TransformPoint(between.tolist()), atol=0.2)
    size = np.linalg.norm(np.subtract(transform.TransformPoint(between.tolist()), AFFINE.apply(between[None])[0]))
    assert size > 0.4, "the spline would not be seen"


def test_a_frame_that_is_not_disclosed_is_made_and_said(tmp_path: Path) -> None:
    first = pydicom.dcmread(write_results_of(tmp_path, RIGID.to_sitk(), RIGID, GRID) / "registration.dcm")
    (tmp_path / "again").mkdir()
    second = pydicom.dcmread(write_results_of(tmp_path / "again", RIGID.to_sitk(), RIGID, GRID) / "registration.dcm")
    assert first.FrameOfReferenceUID.startswith("2.25.") and first.FrameOfReferenceUID != second.FrameOfReferenceUID
    assert first.ContentDescription == NOT_DISCLOSED
    step = first.RegistrationSequence[0].MatrixRegistrationSequence[0]
    assert step.FrameOfReferenceTransformationComment == NOT_DISCLOSED


def test_the_warped_series_is_what_was_resampled(tmp_path: Path) -> None:
    """Read by ITK as any series: grid and values of the warped image, whose unit is the source's."""
    out = write_results_of(tmp_path, AFFINE.to_sitk(), AFFINE, TURNED, FIXED_FRAME)
    back = read_volume(out / "warped")
    moving = read_volume(tmp_path / "moving")
    expected = warped(moving, AFFINE.to_sitk(), TURNED)
    order = slice(None, None, -1)  # ITK puts slices along their normal, of which this grid runs against
    assert np.allclose(back.array[order], expected.array, atol=0.5 + 1e-3)
    assert float(np.ptp(back.array)) > 100
    assert np.allclose(sorted(back.geometry.corners().tolist()), sorted(TURNED.corners().tolist()), atol=1e-4)
    assert (back.subject, back.modality) == (moving.subject, moving.modality)


def test_the_warped_series_names_its_source_and_nothing_stale(tmp_path: Path) -> None:
    out = write_results_of(tmp_path, AFFINE.to_sitk(), AFFINE, GRID)
    registration = pydicom.dcmread(out / "registration.dcm")
    slices = [pydicom.dcmread(p) for p in sorted((out / "warped").iterdir())]
    assert len(slices) == GRID.size[2] and len({s.SOPInstanceUID for s in slices}) == GRID.size[2]
    one = slices[3]
    assert (one.SOPClassUID, one.StudyInstanceUID, str(one.PatientName)) == (CT, STUDY, "Müller^Ü")
    assert one.SeriesInstanceUID not in (SERIES, registration.SeriesInstanceUID)
    assert one.FrameOfReferenceUID == registration.FrameOfReferenceUID != FRAME
    assert [i.ReferencedSOPInstanceUID for i in one.SourceImageSequence] == [f"{ROOT_UID}.4.{n}" for n in range(1, 7)]
    assert registration.SOPInstanceUID in one.DerivationDescription and list(one.ImageType[:2]) == [
        "DERIVED",
        "SECONDARY",
    ]
    assert one.KVP == 120 and "XRayTubeCurrent" not in one, "what differs among slices is true of none of these"
    assert not [e for e in one if e.tag.is_private]
    (series,) = registration.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == SERIES and len(series.ReferencedInstanceSequence) == 6


def test_values_that_the_scale_of_the_source_does_not_hold_get_one_of_their_own(tmp_path: Path) -> None:
    series = write_series(tmp_path / "moving")
    source = check_dicom(series, read_volume(series), tmp_path / "out")
    values = np.random.default_rng(2).normal(0, 1e6, GRID.array_shape)
    write_dicom(RIGID.to_sitk(), RIGID, Volume(values, GRID), source, tmp_path / "out")
    back = read_volume(tmp_path / "out" / "warped").array
    assert np.abs(back - values).max() <= np.ptp(values) / 65535


def test_an_enhanced_file_becomes_slices_of_the_usual_class(tmp_path: Path) -> None:
    file = write_enhanced(tmp_path / "moving.dcm")
    volume = read_volume(file)
    source = check_dicom(file, volume, tmp_path / "out")
    expected = warped(volume, RIGID.to_sitk(), GRID)
    write_dicom(RIGID.to_sitk(), RIGID, expected, source, tmp_path / "out")
    one = pydicom.dcmread(tmp_path / "out" / "warped" / "slice-0004.dcm")
    assert (one.SOPClassUID, one.Modality, one.PatientID) == ("1.2.840.10008.5.1.4.1.1.4", "MR", "P8")
    assert "PerFrameFunctionalGroupsSequence" not in one and "NumberOfFrames" not in one
    back = read_volume(tmp_path / "out" / "warped").array
    assert np.abs(back - expected.array).max() <= 0.5 + 1e-3, "in whole units, as the frames are"
    assert "RescaleSlope" not in one, "which plain MR images do not have"


def test_what_cannot_be_written_is_refused_before_a_run(tmp_path: Path) -> None:
    series = write_series(tmp_path / "moving")
    volume = read_volume(series)
    with pytest.raises(InputError, match="not a DICOM file"):
        (tmp_path / "image.nrrd").write_text("NRRD0004")
        check_dicom(tmp_path / "image.nrrd", volume, tmp_path / "out")
    with pytest.raises(InputError, match="frame of reference"):
        check_dicom(write_series(tmp_path / "no_frame", frame=""), volume, tmp_path / "out")
    with pytest.raises(OutputError, match="not an empty folder"):
        check_dicom(series, volume, series)
    with pytest.raises(OutputError, match="above it"):
        check_dicom(series, volume, tmp_path / "nowhere" / "out")
    flat = Volume(np.eye(4), Geometry((4, 4), (1.0, 1.0), (0.0, 0.0), (1, 0, 0, 1)))
    with pytest.raises(InputError, match="3D"):
        check_dicom(series, flat, tmp_path / "out")


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("PPIRLogic.dicom.results.write_derived_series", full)
    with pytest.raises(OutputError, match="No space left"):
        write_results_of(tmp_path, RIGID.to_sitk(), RIGID, GRID)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["moving"]
