"""A transform file that was cut short is refused, or gives the whole transform."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from PPIRLogic.errors import InputError
from PPIRLogic.transforms import read_transform


def transforms() -> dict[str, sitk.Transform]:
    rng = np.random.default_rng(0)
    made: dict[str, sitk.Transform] = {
        "affine": sitk.AffineTransform(3),
        "rigid": sitk.VersorRigid3DTransform(),
        "euler": sitk.Euler3DTransform(),
        "similarity": sitk.Similarity2DTransform(),
        "shift": sitk.TranslationTransform(2),
        "spline": sitk.BSplineTransform(2),
    }
    for transform in made.values():
        own = np.array(transform.GetParameters())
        transform.SetParameters((own + 0.1 * rng.normal(size=own.size)).tolist())
    made["composite"] = sitk.CompositeTransform([made["affine"], made["rigid"]])
    return made


@pytest.mark.parametrize("ending", [".tfm", ".txt", ".h5", ".mat"])
@pytest.mark.parametrize("name", transforms())
def test_a_transform_that_was_cut_short(name: str, ending: str, tmp_path: Path) -> None:
    if ending == ".mat" and name == "composite":
        pytest.skip("this format cannot hold it")
    path = tmp_path / f"T{ending}"
    sitk.WriteTransform(transforms()[name], str(path))
    data, whole = path.read_bytes(), read_transform(path)
    for length in np.unique(np.linspace(0, len(data) - 1, 60).astype(int)):
        path.write_bytes(data[:length])
        try:
            got = read_transform(path)
        except InputError as error:
            assert str(path) in str(error)
        else:
            assert got.GetParameters() == whole.GetParameters(), length
            assert got.GetFixedParameters() == whole.GetFixedParameters(), length


def test_a_cut_transform_is_told_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "T.tfm"
    sitk.WriteTransform(transforms()["affine"], str(path))
    lines = path.read_text().splitlines(keepends=True)
    for text, words in (
        ("".join(lines).rstrip(), "last line has no end"),
        ("".join(v for v in lines if not v.startswith("FixedP")), "lacks its Parameters or FixedParameters"),
        ("".join(lines).replace("Parameters: ", "Parameters: 1 ", 1), "holds 13 Parameters"),
        ("".join(lines).replace("FixedP", "FixxedP"), "FixxedParameters"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=r"damaged or cut short") as caught:
            read_transform(path)
        assert words in str(caught.value), text


def test_a_transform_of_mincs_is_in_other_coordinates(tmp_path: Path) -> None:
    path = tmp_path / "T.xfm"
    sitk.WriteTransform(transforms()["affine"], str(path))
    with pytest.raises(InputError, match="in RAS coordinates"):
        read_transform(path)


def changed_hdf5(path: Path, places: list[int]) -> str:
    """What becomes of reading an HDF5 file after one bit at each place was turned: 'refused', or what it gives."""
    sitk.WriteTransform(transforms()["affine"], str(path))
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= 0x80
    path.write_bytes(data)
    try:
        return read_transform(path).GetName()
    except InputError as error:
        assert str(path) in str(error)
        return "refused"


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_hdf5_file_does_not_end_the_process(seed: int, tmp_path: Path) -> None:
    places = np.random.default_rng(seed).integers(96, 4000, 40).tolist()
    assert changed_hdf5(tmp_path / "T.h5", places) in ("refused", "AffineTransform")


def test_an_hdf5_file_of_another_length(tmp_path: Path) -> None:
    path = tmp_path / "T.h5"
    sitk.WriteTransform(transforms()["affine"], str(path))
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(InputError, match=r"says that it has \d+ bytes and \d+ are there"):
        read_transform(path)
