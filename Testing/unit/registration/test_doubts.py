"""What speaks against the transform of a run that ended."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.doubts import share_covered, share_inside
from PPIRLogic.registration.level_record import StartsRecord
from PPIRLogic.registration.result import CheckRecord, LevelRecord, RegistrationResult
from PPIRLogic.transforms import LinearTransform

LEVEL = LevelRecord(1, [24, 24], [1.0, 1.0], 576, evaluations=6, iterations=4, reason="step", steps_mm=[3.0, 2.5])
GRID = Geometry((20, 10), (1.0, 2.0), (5.0, -3.0), (1, 0, 0, 1))


def result(
    matrix: Any = ((1, 0), (0, 1)), covered: float = 0.9, inside: float = 0.9, **level: Any
) -> RegistrationResult:
    out = RegistrationResult.__new__(RegistrationResult)
    out.check = None
    out.levels, out.covered, out.inside = [LEVEL, replace(LEVEL, **level)], covered, inside
    out.linear = LinearTransform("affine", matrix, np.zeros(2), np.zeros(2))
    return out


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (result(), None),
        (result(np.diag([0.45, 0.5])), "stretches by 0.50, 0.45 along two directions"),
        (result(np.diag([2.1, 2.0])), "far from 1"),
        (result(np.diag([0.8, 1.3])), "unevenly"),
        (result(np.diag([0.9, 1.3])), None),
        (result(np.diag([0.9, 1.3]), covered=0.2), "unevenly, by 1.30, 0.90, and the moving image covers 20 %"),
        (result(np.diag([0.95, 1.1]), covered=0.2), None),
        (result(np.diag([-1.0, 1.0])), "mirrors"),
        (result(np.diag([0.0, 1.0])), "flattens"),
        (result(covered=0.2, inside=0.24), "20 % of the fixed grid .* 24 % of what the moving image shows"),
        (result(covered=0.1, inside=1.0), None),  # a quarter of a head, wholly inside the whole head
        (result(reason="evaluations"), "still moved: .* 2.5 mm long, and a voxel has 1 mm"),
        (result(reason="evaluations", steps_mm=[3.0, 0.9]), None),
        (result(reason="evaluations", steps_mm=[]), None),
        (result(reason="evaluations", steps_mm=[0.5] * 9 + [7.2, 0.9]), "still moved: .* 7.2 mm long"),
        (result(reason="evaluations", steps_mm=[7.2] * 9 + [0.9, 0.8, 0.9]), None),
        (result(smallest_jacobian=-0.01), "folds"),
        (result(smallest_jacobian=0.2), None),
    ],
)
def test_each_sign_of_a_wrong_transform_is_said(found: RegistrationResult, said: str | None) -> None:
    if said is None:
        assert found.doubts == []
    else:
        (text,) = found.doubts
        assert re.search(said, text)
        assert found.doubt == text


def test_shares_of_the_two_grids() -> None:
    still = LinearTransform.identity("rigid", GRID.centre())
    half = replace(still, translation=np.array([10.0, 0.0]))
    assert share_covered(GRID, GRID, still) == 1.0
    assert share_covered(GRID, GRID, half) == pytest.approx(0.5, abs=0.06)
    bright = np.zeros((10, 20), np.float32)
    bright[:, 15:] = 1.0  # the moving image shows something at its right end only
    moving = Volume(bright, GRID)
    assert share_inside(moving, GRID, still) == 1.0
    assert share_inside(moving, GRID, half) == 1.0  # moved by half of the grid, its right end is still in
    assert share_inside(moving, GRID, replace(still, translation=np.array([-10.0, 0.0]))) == 0.0
    flat = replace(still, kind="affine", matrix=np.diag([0.0, 1.0]))
    assert share_inside(moving, GRID, flat) == 0.0


def checked(**values: Any) -> RegistrationResult:
    out = result()
    out.check = CheckRecord(**{**RIGHT, **values})
    return out


def test_a_start_that_could_not_be_bettered_is_right_if_its_check_says_so() -> None:
    for sharp, said in ((0.48, False), (0.1, True)):
        found = checked(sharp=sharp)
        found.levels = [replace(LEVEL, iterations=0, reason="damping")]
        assert any("No step was accepted" in doubt for doubt in found.doubts) == said


RIGHT: dict[str, Any] = {
    "factor": 8, "samples": 8000, "info": 1.2, "share": 0.9, "sharp": 0.48, "rise": 0.39, "pooled": False,
    "detail": 0.38,
}  # fmt: skip


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (checked(), None),
        (checked(detail=None), None),
        (checked(sharp=0.2), "on average 0.2, of a right one at least 0.26"),
        (checked(rise=-0.05), "best place around it -0.05"),
        (checked(detail=0.1), "Edges do not lie on edges"),
        (checked(start_info=1.5), None),
        (checked(start_info=1.7), "went astray"),
        (checked(pooled=True, info=0.27, sharp=0.11, rise=0.06, detail=0.2), None),
        (checked(pooled=True, info=0.27, sharp=0.11, rise=0.06, detail=0.2, start_info=0.271), None),
        (checked(pooled=True, info=0.27, sharp=0.11, rise=0.06, detail=0.2, start_info=0.28), "went astray"),
        (checked(pooled=True, info=0.27, sharp=0.05, rise=0.06, detail=0.2), "on average"),
        (checked(pooled=True, info=0.2, sharp=0.065, rise=0.03, detail=0.3), None),  # little, but nearly all is sharp
        (checked(pooled=True, info=0.4, sharp=0.065, rise=0.03, detail=0.3), "on average"),
    ],
)
def test_an_end_is_better_than_what_lies_around_it(found: RegistrationResult, said: str | None) -> None:
    if said is None:
        assert found.doubts == []
    else:
        (text,) = found.doubts
        assert re.search(said, text)


def test_two_places_that_fit_alike_are_said() -> None:
    found = result()
    found.starts = StartsRecord(8, 400, 5, "identity", rival="half turn")
    (text,) = found.doubts
    assert "begun from 'half turn'" in text and "--initial" in text
    found.starts = StartsRecord(8, 400, 5, "identity")
    assert found.doubts == []
