"""What is said where too little of the two images overlaps."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.registration.party1.level_runs.overlap import overlap_advice


def grid(*size: int) -> Geometry:
    return Geometry(size, (1.0,) * 3, (0.0,) * 3, tuple(np.eye(3).ravel()))


@pytest.mark.parametrize(
    ("initial", "said", "unsaid"),
    [
        ("identity", "--initial compare", "FILE"),
        (sitk.Euler3DTransform(), "--initial centres", "FILE"),
        ("centres", "--initial compare", "--initial centres"),
        ("compare", "--initial FILE", "--initial compare"),
    ],
)
def test_the_advice_is_what_was_not_tried(initial: object, said: str, unsaid: str) -> None:
    advice = overlap_advice(initial, grid(100, 100, 20), grid(100, 100, 100))
    assert said in advice and unsaid not in advice


def test_where_no_start_can_help_the_sides_should_change() -> None:
    advice = overlap_advice("centres", grid(100, 100, 8), grid(100, 100, 100))
    assert "8 % of the fixed grid's volume" in advice and "Let its site serve it," in advice
