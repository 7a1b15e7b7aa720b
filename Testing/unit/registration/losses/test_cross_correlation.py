"""Local cross-correlation of two halves: window sums, the formula, and what a step opens."""

from __future__ import annotations

import numpy as np
import pytest
from halves_support import GRID, PLANE, SCALE, Array, columns_of, image, request
from scipy import ndimage

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.registration.disclosure_estimate import most_numbers
from PPIRLogic.registration.levels import make_levels
from PPIRLogic.registration.losses.cross_correlation import (
    FLOOR,
    FORCE,
    IMAGE_BITS,
    ROOT_BITS,
    SHIFT,
    TERM_BITS,
    UNIT_BITS,
    correlation,
    forces,
    window_size,
    window_sums,
)
from PPIRLogic.registration.terms import FIELD, GRADIENT, terms_by_stage

UNIT = 2.0**UNIT_BITS


def window_mean(picture: Array) -> Array:
    """Over the part of the window inside the image."""
    kernel = np.ones((5,) * picture.ndim)
    total = ndimage.convolve(picture, kernel, mode="constant")
    return np.asarray(total / ndimage.convolve(np.ones_like(picture), kernel, mode="constant"))


@pytest.mark.parametrize("shape", [(9, 12), (7, 8, 11), (3, 9)])
def test_window_sums_are_those_of_a_convolution(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(-(2**40), 2**40, shape)
    wanted = ndimage.convolve(values, np.ones((5,) * len(shape), np.int64), mode="constant")
    assert np.array_equal(window_sums(values), wanted)
    full = window_sums(np.full((5, 5), 2**62))
    assert full[2, 2] == 2**62 and full[0, 0] == 2**62  # 25 and 9 times, modulo 2^64


@pytest.mark.parametrize("grid", [GRID, PLANE], ids=["3D", "2D"])
def test_forces_are_those_of_the_published_formula(grid: Geometry) -> None:
    """(D/EF)·(J̄ − (D/E)Ī)·∇I in float64, with the floor in E and F."""
    shape = grid.array_shape
    i = image(shape, 1)
    j = 0.7 * ndimage.shift(i, 0.8, order=1, mode="nearest") + 0.1 * image(shape, 2)
    (one, _, gradient), (two, _, _) = columns_of(i), columns_of(j)
    i_bar, j_bar = i - window_mean(i), j - window_mean(j)
    floor = window_size(i.ndim) * FLOOR**2

    def sums(picture: Array) -> Array:
        return ndimage.convolve(picture, np.ones((5,) * i.ndim), mode="constant")

    d, e, f = sums(i_bar * j_bar), sums(i_bar**2) + floor, sums(j_bar**2) + floor
    wanted = d / (e * f) * (j_bar - d / e * i_bar) * gradient / SCALE
    rho = correlation(one, two)
    assert np.abs(rho / UNIT - d / np.sqrt(e * f)).max() < 4e-4
    found = forces(one, two, rho) / 2.0**TERM_BITS / SCALE / 2.0**-10
    assert np.abs(found - wanted).max() < 5e-3 * np.abs(wanted).max()
    assert np.sqrt(np.mean((found - wanted) ** 2)) < 1e-2 * np.sqrt(np.mean(wanted**2))
    assert np.abs(rho).max() <= UNIT + 1 and rho.mean() > 0.3 * UNIT  # and the images are alike, so there is something


def test_no_image_leaves_the_range_of_the_shift() -> None:
    """|D·P·Q| < 2^60, by Cauchy-Schwarz, for equal, opposite and extreme images."""
    rng = np.random.default_rng(5)
    pictures = [np.where(rng.random((20, 21)) < p, 1.0, -1.0) for p in (0.5, 0.02)] + [np.zeros((20, 21))]
    made = [columns_of(p)[0] for p in pictures]
    for one in made:
        for other in made:
            for sign in (1, -1):
                v = window_sums(one.image * other.image).astype(object) * one.root * other.root * sign
                assert max(abs(int(x)) for x in v.ravel()) < 2**60
    assert 2 * (IMAGE_BITS + ROOT_BITS) == 60 and SHIFT == 60 - UNIT_BITS


@pytest.mark.parametrize("stride", [5, 6, 8])
def test_a_step_opens_less_than_a_64th_of_what_is_published(stride: int) -> None:
    grid = Geometry((58, 79, 129), (2.7, 2.7, 2.5), (0.0,) * 3, tuple(np.eye(3).ravel()))
    level = make_levels(grid, request(stride=stride))[0]
    ours, published = (
        terms_by_stage(request(stride=stride, protocol=p), level)[GRADIENT] for p in ("mpc", "published")
    )
    assert sum(t.outputs for t in published) == 3 * len(level.samples)
    assert 64 * sum(t.outputs for t in ours) < sum(t.outputs for t in published)
    assert level.control_points is not None and level.control_points.bits >= 3  # of the projection's weights, per axis
    grant = most_numbers(request(stride=stride), grid)[0]
    field = sum(t.outputs for t in terms_by_stage(request(stride=stride), level)[FIELD])
    assert grant.most == 12 + 3 * grant.numbers_per_gradient + field
    assert grant.party2_learns == 3 * sum(t.outputs for t in ours)  # what party 2 learns
    assert ours[0].kind == FORCE and all(t.revealed_to_both for t in ours)
