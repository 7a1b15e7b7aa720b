"""Arrays that are given by a caller: what NumPy would turn into some number is refused."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest

from PPIRLogic.arrays import real_array, single_precision
from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.points.pointset import PointSet
from PPIRLogic.registration.points.fixed_points import FixedPoints

GRID = Geometry((4, 3), (1.0, 1.0), (0.0, 0.0), (1, 0, 0, 1))
CORNERS: Any = [[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]]


@pytest.mark.parametrize(
    "values",
    [
        np.eye(3) + 1j,
        np.eye(3).astype(str),
        "points.csv",
        np.ma.masked_less(np.eye(3), 0.5),
        [[1, 2], [3]],
        np.zeros((3, 3), "M8[s]"),
        np.zeros((3, 3), [("a", "f4")]),
        None,
        [date(2020, 1, 1)] * 3,
    ],
    ids=["complex", "words", "path", "masked", "ragged", "dates", "records", "none", "objects"],
)
def test_what_is_no_array_of_real_numbers(values: Any) -> None:
    for call in (
        lambda: real_array(values, "The thing"),
        lambda: Volume(values, GRID, "thing"),
        lambda: PointSet(values, "thing"),
        lambda: FixedPoints("thing", values),
    ):
        with pytest.raises(InputError, match="thing"):
            call()


@pytest.mark.parametrize("kind", ["bool", "u1", "<i2", ">f4", "f8", "f2", "i8", "longdouble"])
def test_real_numbers_of_any_type_make_a_volume(kind: str) -> None:
    values = np.arange(12).reshape(3, 4) % 2
    assert np.array_equal(Volume(values.astype(kind), GRID).array, values)


def test_a_mask_that_hides_nothing_and_a_list_are_arrays() -> None:
    assert PointSet(np.ma.array(CORNERS)).points.tolist() == PointSet(CORNERS).points.tolist() == CORNERS


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(1e9, 1e9 + 200, 12),
        (2**60 + np.arange(12)).astype(np.int64),
        4_000_000_000 + np.arange(12, dtype=np.uint32),
    ],
    ids=["float64", "int64", "uint32"],
)
def test_differences_that_single_precision_loses(values: Any) -> None:
    with pytest.raises(InputError, match=r"'far' lie .* too close together for single precision"):
        Volume(values.reshape(3, 4), GRID, "far")


def test_values_beyond_single_precision() -> None:
    with pytest.raises(InputError, match="beyond single precision"):
        Volume(np.linspace(0, 1e300, 12).reshape(3, 4), GRID)  # type: ignore[arg-type]


def test_an_offset_that_single_precision_holds() -> None:
    values = np.linspace(30_000, 31_000, 12)
    assert np.allclose(single_precision(values, "x"), values, rtol=2**-23, atol=0)


def test_a_grid_of_another_kind() -> None:
    with pytest.raises(InputError, match="is a tuple"):
        Volume(np.zeros((3, 4)), (4, 3), "flat")  # type: ignore[arg-type]
