"""One owner's half: a step that would fold is shortened or refused."""

from __future__ import annotations

import numpy as np
import pytest
from halves_support import PLANE, half_image

from PPIRLogic.registration.symmetric.half_image import MIN_JACOBIAN
from PPIRLogic.transforms.displacement_field import (
    jacobian_determinant,
)


@pytest.mark.parametrize("height, moves", [(3.0, True), (40.0, True), (4000.0, False)])
def test_a_step_that_would_fold_is_shortened_or_refused(height: float, moves: bool) -> None:
    """Neighbouring control points pulled in opposite directions: a longer pull folds sooner."""
    half = half_image()
    here, there = half.level.control_points.counts if half.level.control_points else (0, 0)
    half._step = np.zeros((2, here, there))
    half._step[0, here // 2, 3:-3:2] = height
    half._step[0, here // 2, 4:-3:2] = -height
    unlimited = half.start.displaced(half._dense(half._quantised(half._step)))
    assert (jacobian_determinant(unlimited, PLANE).min() > MIN_JACOBIAN) == (height < 10)
    half.try_step(1.0)
    assert jacobian_determinant(half._field, PLANE).min() > MIN_JACOBIAN
    assert bool(half.trial.any()) == moves
    half.keep()
    assert np.array_equal(half.finished().field, half._field)
