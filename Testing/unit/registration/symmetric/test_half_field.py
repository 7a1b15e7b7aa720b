"""The halves' fields and the whole that they make."""

from __future__ import annotations

import numpy as np
from halves_support import PLANE, wave

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.registration.symmetric.half_field import HalfField, whole
from PPIRLogic.transforms import DiffeoTransform, LinearTransform
from PPIRLogic.transforms.displacement_field import (
    composed,
    exponential,
    inverse_error_mm,
)


def test_the_whole_leads_from_fixed_to_moving_points() -> None:
    """φ₁∘φ₂⁻¹: a middle point's two images correspond, in this direction and in no other."""
    velocities = wave(PLANE, 3.0, 1), wave(PLANE, 2.0, 2)
    first, second = (HalfField.identity(PLANE).moved(v) for v in velocities)
    found = whole(LinearTransform.identity("affine", PLANE.centre()), first, second)
    reached = composed(found.field, second.field, PLANE)  # middle → fixed → moving
    inside = (slice(None), slice(8, -8), slice(8, -8))
    assert np.abs(reached - first.field)[inside].max() < 0.15
    turned = composed(found.field, first.field, PLANE)
    assert np.abs(turned - second.field)[inside].max() > 1.0  # so that the test can fail
    assert inverse_error_mm(found.field, found.inverse, PLANE).mean() < 0.05
    swapped = whole(found.affine, second, first)
    assert np.abs(swapped.field - found.inverse)[inside].max() < 0.15
    assert isinstance(found, DiffeoTransform) and found.statistics()["jacobian"]["folded_percent"] == 0


def test_a_half_is_its_levels_flows_and_goes_back() -> None:
    coarse = Geometry((30, 25), (2.0, 3.0), (-6.5, 2.75), PLANE.direction)
    start = HalfField.identity(coarse).moved(wave(coarse, 3.0, 3))
    half = start.on_grid(PLANE).moved(wave(PLANE, 1.0, 4))
    flow = exponential(wave(PLANE, 1.0, 4), PLANE)
    assert np.allclose(half.field, composed(start.on_grid(PLANE).field, flow, PLANE))
    assert inverse_error_mm(half.field, half.inverse, PLANE).mean() < 0.02
