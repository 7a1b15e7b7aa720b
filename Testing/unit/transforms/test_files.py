"""Transform files."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from PPIRLogic import files
from PPIRLogic.errors import InputError, OutputError
from PPIRLogic.transforms import KINDS, LinearTransform, read_transform, write_transform

CASES = [(kind, dim) for kind in KINDS for dim in (2, 3)]


def points(seed: int, dim: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(seed).uniform(-400, 400, (7, dim))


@pytest.mark.parametrize("extension", [".h5", ".hdf5", ".tfm", ".txt"])
@pytest.mark.parametrize(("kind", "dim"), CASES)
def test_files(tmp_path: Path, kind: str, dim: int, extension: str) -> None:
    start = LinearTransform.identity(kind, np.full(dim, 12.5))
    transform = start.updated(np.random.default_rng(0).normal(size=start.parameters), 20.0)
    path = tmp_path / f"bild ä{extension}"
    write_transform(transform, path)
    back = LinearTransform.from_sitk(read_transform(path), kind, transform.centre, dim)
    assert transform.max_displacement(back, points(0, dim)) < 1e-9
    assert list(tmp_path.iterdir()) == [path]


def test_composite_file(tmp_path: Path) -> None:
    chain = sitk.CompositeTransform([sitk.Euler2DTransform((1, 2), 0.3), sitk.TranslationTransform(2, (4, 5))])
    write_transform(chain, tmp_path / "a.h5")
    assert read_transform(tmp_path / "a.h5").TransformPoint((7, 8)) == pytest.approx(chain.TransformPoint((7, 8)))


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist or is a folder"):
        read_transform(tmp_path / "none.h5")
    with pytest.raises(InputError, match="does not exist or is a folder"):
        read_transform(tmp_path)
    (tmp_path / "a.tfm").touch()
    with pytest.raises(InputError, match="is an empty file"):
        read_transform(tmp_path / "a.tfm")
    for name in ("a.tfm", "a.foo"):
        (tmp_path / name).write_text("hello")
        with pytest.raises(InputError, match="cannot be read"):
            read_transform(tmp_path / name)


def test_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    item = sitk.Euler2DTransform()
    with pytest.raises(OutputError, match=r"must end in one of \.h5"):
        write_transform(item, tmp_path / "a.foo")
    with pytest.raises(OutputError, match=r"folder .* does not exist"):
        write_transform(item, tmp_path / "none" / "a.h5")
    path = tmp_path / "a.tfm"
    path.write_bytes(b"old")

    def half(transform: sitk.Transform, name: str) -> None:
        Path(name).write_text("#Insight Transform File V1.0\n")
        raise RuntimeError("ITK ERROR")

    with monkeypatch.context() as patch:
        patch.setattr(sitk, "WriteTransform", half)
        with pytest.raises(OutputError, match="disk is full"):
            write_transform(item, path)

    def no_room(temporary: Path, room: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_try_room", no_room)
    with pytest.raises(OutputError, match="No space left"):
        write_transform(item, path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.tfm", b"old")]
