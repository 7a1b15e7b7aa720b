"""Images of many patients: what is read, whose it is, and that no patient trains and judges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from PPIRLogic.errors import InputError
from PPIRLogic.primis.study import averaged, kept_apart, read_study


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


def folder_of(tmp_path: Path, table: str = "") -> Path:
    draw = np.random.default_rng(1)
    for k in range(4):
        write(tmp_path / "images" / f"{k}.png", draw.integers(0, 256, (40 + k, 60)).astype(np.uint8))
        write(tmp_path / "lungs_silver" / f"{k}.png", np.tri(40 + k, 60, dtype=np.uint8))
    if table:
        (tmp_path / "labels.csv").write_text(table)
    return tmp_path


def test_a_folder_with_a_table_and_masks(tmp_path: Path) -> None:
    study = read_study(folder_of(tmp_path, "image,patient,label\n0.png,a,x\n1.png,a,y\n3.png,b,x\n"), size=20)
    assert study.names == ("0.png", "1.png", "3.png") and study.patients == ("a", "a", "b")
    assert study.labels == ("x", "y", "x") and study.images.shape == (3, 20, 20) and study.images.dtype == np.uint8
    assert study.masks is not None and study.masks.any() and not study.masks.all()
    middle = study.part([2])
    assert middle.names == ("3.png",) and np.array_equal(middle.images[0], study.images[2])


def test_without_a_table_every_file_is_a_patient(tmp_path: Path) -> None:
    study = read_study(folder_of(tmp_path), size=16, most=3)
    assert study.patients == study.names == ("0.png", "1.png", "2.png") and study.labels == ()


def test_of_a_volume_the_middle_slice_over_its_own_greys(tmp_path: Path) -> None:
    volume = np.zeros((5, 30, 30), np.int16) - 1000
    volume[2] += np.arange(900, dtype=np.int16).reshape(30, 30)
    write(tmp_path / "images" / "a.nrrd", volume)
    write(tmp_path / "images" / "notes.txt.png.bak.tif", np.eye(30, dtype=np.uint8))
    study = read_study(tmp_path, size=30)
    assert study.names == ("a.nrrd", "notes.txt.png.bak.tif") and study.patients == study.names
    assert study.images[0].min() == 0 and study.images[0].max() == 255 and np.all(np.diff(study.images[0][:, 4]) > 5)


def test_no_patient_trains_and_judges() -> None:
    names = [f"{k:08d}" for k in range(2000)]
    apart = [kept_apart(n) for n in names]
    assert 0.27 < np.mean(apart) < 0.33 and apart == [kept_apart(n) for n in names]


def test_averaging_keeps_the_mean_and_the_places() -> None:
    ramp = np.add.outer(np.arange(30.0), np.zeros(30))
    small = averaged(ramp, 7)
    assert small.mean() == pytest.approx(ramp.mean()) and np.all(np.diff(small[:, 3]) > 4)
    assert np.array_equal(averaged(ramp, 30), ramp)


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "picture,who\n0.png,a\n")
    with pytest.raises(InputError, match="no column 'image'"):
        read_study(folder, size=20)
    (folder / "labels.csv").unlink()
    with pytest.raises(InputError, match="80 x 80 at least are needed"):
        read_study(folder, size=80)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no image"):
        read_study(tmp_path / "empty")
