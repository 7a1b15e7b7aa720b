"""The unit tests lie as the modules do: Testing/unit/images/test_reading.py is of PPIRLogic/images/reading.py."""

from __future__ import annotations

from sample_data_support import ROOT

WHOLE_PACKAGES = {  # of several modules at once
    "test_deploy.py",
    "test_docs.py",
    "test_doctests.py",
    "test_exports.py",
    "test_layers.py",
    "test_mirror.py",
    "test_portability.py",
    "test_requirements.py",
    "images/test_damaged_files.py",
    "images/test_odd_dicom.py",
    "images/test_odd_headers.py",
    "images/test_odd_nifti.py",
    "images/test_odd_pictures.py",
    "points/test_odd_files.py",
    "registration/losses/test_least_squares.py",
    "report/test_report.py",
}


def test_every_unit_test_lies_where_its_module_does() -> None:
    here = ROOT / "Testing" / "unit"
    found = {p.relative_to(here) for p in here.rglob("test_*.py")}
    astray = [
        p.as_posix()
        for p in found
        if not (ROOT / "PPIRLogic" / p.parent / f"{p.stem.removeprefix('test_')}.py").exists()
    ]
    assert set(astray) == WHOLE_PACKAGES, "move the file, or name it among those of whole packages"
