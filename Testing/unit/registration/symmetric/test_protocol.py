"""What is opened as the paper does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from halves_support import PLANE, level_of, pair_of

from PPIRLogic.registration.losses.cross_correlation import (
    IMAGE_BITS,
    ROOT_BITS,
    correlation,
    forces,
    window_sums,
)
from PPIRLogic.registration.symmetric.protocol import coarse_of_published
from PPIRLogic.registration.symmetric.shares import INVERSE_BITS, VOXEL_BITS


def test_the_published_openings_are_the_papers(cc_exchange: Callable[..., Any]) -> None:
    level = level_of(PLANE)
    first, second = pair_of(level)
    opened = cc_exchange(level.control_points, first, second)
    opened.both(lambda s: s.similarity())
    shares = opened.both(lambda s: s.published())
    factor, c2, c3 = (shares[0] + shares[1]).reshape(3, *first.image.shape)
    x, y = first.image / 2.0**IMAGE_BITS, second.image / 2.0**IMAGE_BITS
    e, f = (2.0 ** (2 * ROOT_BITS) / c.root.astype(float) ** 2 for c in (first, second))
    d = window_sums(first.image * second.image) / 4.0**IMAGE_BITS
    for found, wanted in (
        (factor / 4.0 ** (IMAGE_BITS + INVERSE_BITS), d / (e * f)),
        (c2 / 2.0**VOXEL_BITS, y - d / e * x),
        (c3 / 2.0**VOXEL_BITS, x - d / f * y),
    ):
        assert np.abs(found - wanted).max() < 2e-3 * np.abs(wanted).max()
    assert level.control_points is not None
    for rank, (own, other) in enumerate(((first, second), (second, first))):
        coarse = coarse_of_published(shares[0] + shares[1], rank, own, level.control_points)
        wanted = np.concatenate([level.control_points.box_sums(f) for f in forces(own, other, correlation(own, other))])
        assert np.abs(coarse - wanted).max() < 5e-3 * np.abs(wanted).max()
