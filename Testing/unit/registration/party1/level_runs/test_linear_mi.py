"""Rigid steps of a transform that may stretch."""

from __future__ import annotations

import numpy as np
import pytest

from PPIRLogic.registration.party1.level_runs.linear_mi import rigid_steps, within
from PPIRLogic.transforms import LinearTransform
from PPIRLogic.transforms.linear import rotation_of

SCALE = 60.0


@pytest.mark.parametrize("kind", ["affine", "similarity"])
@pytest.mark.parametrize("dimension", [2, 3])
def test_a_step_within_them_turns_and_shifts_and_does_not_stretch(kind: str, dimension: int) -> None:
    start = LinearTransform.identity(kind, [0.0] * dimension)
    axis = np.array([0.3, -0.2, 0.5])[: 3 if dimension == 3 else 1]
    turned = LinearTransform(kind, rotation_of(axis), start.translation, start.centre)
    generator = np.random.default_rng(dimension)
    d = turned.parameters
    half = generator.normal(size=(d, 2 * d))
    gradient, hessian = generator.normal(size=d), half @ half.T
    directions = rigid_steps(turned)
    assert directions.shape == (d, {2: 3, 3: 6}[dimension])
    moved = {}
    for name, (g, h) in {"free": (gradient, hessian), "rigid": within(directions, gradient, hessian)}.items():
        step = -np.linalg.solve(h, g)
        step *= 0.5 / np.linalg.norm(step)  # mm
        moved[name] = np.linalg.svd(turned.updated(step, SCALE).matrix, compute_uv=False)
    assert np.abs(moved["rigid"] - 1).max() < 1e-4 < np.abs(moved["free"] - 1).max()
