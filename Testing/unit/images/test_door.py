"""What is given in memory is checked as a file is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from PPIRLogic.errors import InputError
from PPIRLogic.images.door import as_mask, check_volume
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.party2.fixed_image import FixedImage
from PPIRLogic.registration.simulate import simulate

GRID = Geometry((5, 4, 3), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
VALUES = np.arange(60.0).reshape(3, 4, 5)
GOOD = Volume(VALUES, GRID, "good")


def with_nan() -> Volume:
    values = VALUES.copy()
    values[0, 0, :2] = np.nan, np.inf
    return Volume(values, GRID, "bad")


BAD: dict[str, tuple[Any, str]] = {
    "path": ("image.nrrd", "is a str. Give a Volume"),
    "array": (VALUES, "is a ndarray. Give a Volume"),
    "nan": (with_nan(), "2 voxels that are NaN or infinite"),
    "constant": (Volume(np.ones(VALUES.shape), GRID, "bad"), "is constant"),
    "sheared": (Volume(VALUES, Geometry(GRID.size, (1, 1, 2), (0, 0, 0), (1, 0.3, 0, 0, 1, 0, 0, 0, 1))), "sheared"),
    "spacing": (Volume(VALUES, Geometry(GRID.size, (1, 1, 0), GRID.origin, GRID.direction)), "must be positive"),
    "tiny voxels": (Volume(VALUES, Geometry(GRID.size, (1, 1, 1e-9), GRID.origin, GRID.direction)), "'spacing'"),
    "tiny values": (Volume(VALUES.astype(np.float32) * np.float32(1e-44), GRID), "from 0 to 5.79e-43.*Scale them"),
    "huge values": (Volume((VALUES - 30).astype(np.float32) * np.float32(1e37), GRID), "Scale them"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_volume_that_no_file_could_give(kind: str) -> None:
    volume, words = BAD[kind]
    with pytest.raises(InputError, match=words):
        check_volume(volume, "The image")
    with pytest.raises(InputError, match=words):
        register(volume, "127.0.0.1:1")
    with pytest.raises(InputError, match=words):
        FixedImage("atlas", volume)
    if kind != "path":  # simulate takes paths, too
        with pytest.raises(InputError, match=words):
            simulate(GOOD, volume)
        with pytest.raises(InputError, match=words):
            simulate(volume, GOOD)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int16, np.float32, np.float64])
def test_masks_of_every_type_are_the_same_mask(kind: type) -> None:
    inside = VALUES > 30
    factor = 1 if kind is bool else 200
    assert np.array_equal(as_mask((inside * factor).astype(kind), GOOD, "The mask"), inside)
    assert FixedImage("atlas", GOOD, inside.astype(kind)).mask.dtype == bool


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.ones((3, 4, 4)), r"shape \(3, 4, 4\), its image \(3, 4, 5\)"),
        (np.ones((5, 4, 3), bool), "order is z, y, x"),
        (np.zeros((3, 4, 5), np.uint8), "is empty"),
        (np.where(VALUES > 3, 1.0, 1e-7), "from 1e-07 to 1.*threshold"),
        (np.where(VALUES > 3, 1.0, np.nan), "NaN"),
        ("mask.nrrd", r"is given as a path\. Read it first, with read_mask"),
        (np.ones((3, 4, 5), complex), r"are of the type ndarray \(complex128\)\. Give an array of real numbers"),
        (np.ones((3, 4, 5), object), r"\(object\)\. Give an array of real numbers"),
        ([[1, 0], [1]], "rows differ in length"),
    ],
)
def test_a_mask_that_cannot_be_used(mask: Any, words: str) -> None:
    for use in (lambda: as_mask(mask, GOOD, "The mask"), lambda: FixedImage("a", GOOD, mask)):
        with pytest.raises(InputError, match=words):
            use()
    with pytest.raises(InputError, match=words):
        register(GOOD, "127.0.0.1:1", mask=mask)


def test_labels_in_floats_are_a_mask() -> None:
    assert as_mask(np.where(VALUES > 3, 2.0, 0.0) + (VALUES > 40), GOOD, "The mask").sum() == 56


def test_wrong_kinds_beside_the_image() -> None:
    with pytest.raises(InputError, match="host:port"):
        register(GOOD, 7443)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"it must be Parameters"):
        register(GOOD, "127.0.0.1:1", parameters={"loss": "ssd"})  # type: ignore[arg-type]
    assert Parameters().loss
