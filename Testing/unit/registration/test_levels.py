"""The levels of the search, as both sides derive them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.registration.levels import default_factors, make_levels
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.parameters import Parameters

EYE = tuple(np.eye(3).ravel())
THICK = Geometry((120, 120, 30), (2.0, 2.0, 5.0), (0.0,) * 3, EYE)


@pytest.mark.parametrize(
    ("size", "spacing", "expected"),
    [
        ((240, 240, 30), (1.0, 1.0, 5.0), (4, 2, 1)),
        ((120, 120, 30), (2.0, 2.0, 5.0), (4, 2, 1)),
        ((120, 120, 20), (2.0, 2.0, 3.0), (4, 2, 1)),
        ((30, 120, 120), (5.0, 2.0, 2.0), (4, 2, 1)),
        ((181, 217, 180), (1.0, 1.0, 1.0), (4, 2, 1)),
        ((64, 64, 30), (1.0, 1.0, 1.0), (1,)),
    ],
)
def test_an_axis_of_thick_slices_costs_no_level(
    size: tuple[int, ...], spacing: tuple[float, ...], expected: tuple[int, ...]
) -> None:
    grid = Geometry(size, spacing, (0.0,) * 3, EYE)
    assert default_factors(grid, LOSSES["ncc"]) == expected


def test_a_shrink_factor_names_one_grid_of_an_image_whatever_is_asked_for() -> None:
    """Else a peer would buy a fresh budget with another grid."""
    grids: dict[int, set[tuple[int, ...]]] = {}
    for loss, transform, levels in itertools.product(
        ("ssd", "ncc", "mi"), ("rigid", "affine"), ((4, 2, 1), (4,), (2, 1))
    ):
        asked = Parameters(loss=loss, transform=transform, levels=levels).request("head", THICK, "", "")
        for level in make_levels(THICK, asked):
            grids.setdefault(level.factor, set()).add((*level.geometry.size, *level.geometry.spacing))
    assert {factor: len(found) for factor, found in grids.items()} == dict.fromkeys(grids, 1)
    assert (60, 60, 30, 4.0, 4.0, 5.0) in grids[2] and (30, 30, 30, 8.0, 8.0, 5.0) in grids[4]
