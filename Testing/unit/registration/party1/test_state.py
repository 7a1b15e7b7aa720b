"""Where a run starts, and what it says about it."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.progress import CancelToken, Progress
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.state import RunState

GRID = Geometry((20, 20, 20), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def run_from(initial: sitk.Transform, transform: str) -> tuple[RunState, list[Progress]]:
    steps: list[Progress] = []
    moving = Volume(np.random.default_rng(1).random((20, 20, 20)), GRID)
    parameters = Parameters(transform=transform, initial=initial)
    return RunState(moving, None, parameters, steps.append, CancelToken()), steps


def test_a_rotation_typed_with_four_decimals_is_made_one_and_said() -> None:
    turn = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.3, -0.2, 0.1, (5.0, 0.0, 2.0))
    typed = sitk.AffineTransform(3)
    typed.SetMatrix([round(v, 4) for v in turn.GetMatrix()])
    run, steps = run_from(typed, "rigid")
    found = run.first_transform(GRID)
    assert np.allclose(found.matrix @ found.matrix.T, np.eye(3), atol=1e-12)
    assert [s.stage for s in steps] == ["note"] and "but for its rounding" in steps[0].detail
    run, steps = run_from(turn, "rigid")
    run.first_transform(GRID)
    assert steps == [], "an exact one needs no word"


@pytest.mark.parametrize("transform", ["rigid", "translation"])
def test_what_is_more_than_rounding_is_refused(transform: str) -> None:
    typed = sitk.AffineTransform(3)
    typed.SetMatrix([1.0004 if transform == "translation" else 1.01, 0, 0, 0, 1, 0, 0, 0, 1])
    run, steps = run_from(typed, transform)
    with pytest.raises(InputError, match="more than kind"):
        run.first_transform(GRID)
    assert steps == []


def test_rows_of_padding_take_no_part() -> None:
    values = np.random.default_rng(1).uniform(-1000, 1000, GRID.array_shape).astype(np.float32)
    mask = np.zeros(GRID.array_shape, bool)
    mask[4:16] = True
    values[:, :6] = -3024.0
    padded = values == -3024.0

    def rows(image: np.ndarray, inside: np.ndarray | None, use: str) -> np.ndarray | None:
        parameters = Parameters(mask=use)
        return RunState(Volume(image, GRID), inside, parameters, lambda _: None, CancelToken()).rows

    assert np.array_equal(rows(values, None, "fill"), ~padded)
    assert np.array_equal(rows(values, mask, "fill"), ~(padded & mask)), "outside of the mask is filled"
    assert np.array_equal(rows(values, mask, "rows"), mask & ~padded)
    clean = np.where(padded, 0, values).astype(np.float32)
    assert rows(clean, None, "fill") is None and np.array_equal(rows(clean, mask, "rows"), mask)
