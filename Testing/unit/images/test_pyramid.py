"""Levels of the pyramid: their grids, smoothing and shrinking."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.pyramid import (
    axis_factors,
    border_margin_mm,
    build_level,
    default_sigma_mm,
    level_geometry,
    margin_voxels,
    shrink,
    smooth,
)
from PPIRLogic.images.volume import Volume

IDENTITY = (1, 0, 0, 0, 1, 0, 0, 0, 1)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    dim = draw(st.sampled_from([2, 3]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return Geometry(
        tuple(rng.integers(2, 60, dim).tolist()),
        tuple(rng.uniform(0.3, 5, dim).tolist()),
        tuple(rng.uniform(-500, 500, dim).tolist()),
        tuple(np.linalg.qr(rng.normal(size=(dim, dim)))[0].ravel().tolist()),
    )


def coordinates(geometry: Geometry) -> Volume:
    """An image whose value is a linear function of the position, to tell where a voxel came from."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.size), indexing="ij"), -1)
    affine = geometry.index_to_physical()
    values = (index @ affine[:, :-1].T + affine[:, -1]) @ np.arange(1, geometry.dimension + 1)
    return Volume(values.T.astype(np.float32), geometry)


@settings(max_examples=60, deadline=None)
@given(geometries(), st.integers(1, 10))
def test_level_grid(geometry: Geometry, factor: int) -> None:
    factors = axis_factors(geometry, factor)
    level = level_geometry(geometry, factor)
    fine = geometry.to_sitk_reference()
    for size, coarse, f in zip(geometry.size, level.size, factors, strict=True):
        first, last = (f - 1) // 2, (f - 1) // 2 + f * (coarse - 1)
        assert last <= size - 1 < last + f  # within bounds, and no further voxel would fit
        assert abs(first - (size - 1 - last)) <= f / 2 + 1  # centred as well as fine voxels allow
        assert coarse >= min(size, 8)
        assert f == 1 or size >= 8
    # the first and last voxel centre are where SimpleITK sees the fine ones
    for corner in (np.zeros(geometry.dimension, int), np.array(level.size) - 1):
        index = [(f - 1) // 2 + f * int(i) for f, i in zip(factors, corner, strict=True)]
        expected = fine.TransformIndexToPhysicalPoint(index)
        assert np.allclose(level.index_to_physical() @ [*corner, 1.0], expected, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(geometries(), st.integers(1, 8))
def test_level_values_lie_where_the_grid_says(geometry: Geometry, factor: int) -> None:
    level = build_level(coordinates(geometry), factor, sigma_mm=0.0)
    assert level.geometry == level_geometry(geometry, factor)
    assert np.allclose(level.array, coordinates(level.geometry).array, atol=1e-2)
    assert level.array.flags.c_contiguous


def test_levels_become_isotropic() -> None:
    lung = Geometry((115, 157, 129), (1.366, 1.366, 2.5), (0, 0, 0), IDENTITY)
    assert axis_factors(lung, 1) == (1, 1, 1)
    assert axis_factors(lung, 2) == (2, 2, 1)
    assert axis_factors(lung, 4) == (4, 4, 2)
    flat = Geometry((100, 100, 5), (1, 1, 1), (0, 0, 0), IDENTITY)
    assert axis_factors(flat, 4) == (4, 4, 1)
    assert level_geometry(Geometry((20, 100, 100), (1, 1, 1), (0, 0, 0), IDENTITY), 8).size[0] >= 8


@settings(max_examples=40, deadline=None)
@given(geometries(), st.sampled_from([16, 8, 4, 2, 1]))
def test_thick_slices_keep_sixteen_and_equal_voxels_are_shrunk_alike(geometry: Geometry, factor: int) -> None:
    finest, level = min(geometry.spacing), level_geometry(geometry, factor)
    for size, spacing, coarse in zip(geometry.size, geometry.spacing, level.size, strict=True):
        assert coarse >= min(size, 16 if spacing > 1.3 * finest else 8)
    equal = Geometry(geometry.size, (2.0,) * geometry.dimension, geometry.origin, geometry.direction)
    for size, f in zip(equal.size, axis_factors(equal, factor), strict=True):
        fits = [g for g in range(1, factor + 1) if g == 1 or (g <= size and (size - (g - 1) // 2 - 1) // g + 1 >= 8)]
        assert f == max(fits), "as before thick slices were known"


@pytest.mark.parametrize("factor", [0, -1, 1.5, True])
def test_bad_factor(factor: int) -> None:
    with pytest.raises(InputError, match="pyramid factor must be a whole number"):
        axis_factors(Geometry((100, 100), (1, 1), (0, 0), (1, 0, 0, 1)), factor)


def test_bad_shrink_and_sigma() -> None:
    image = coordinates(Geometry((10, 12), (1, 1), (0, 0), (1, 0, 0, 1)))
    for factors in ((2,), (2, 0), (11, 1)):
        with pytest.raises(InputError, match="Cannot shrink 10×12 voxels"):
            shrink(image, factors)
    for sigma in (-1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="sigma must be a finite number"):
            smooth(image, sigma)


@pytest.mark.parametrize("sigma", [0.05, 0.4, 0.9, 1.5, 4.0])
def test_smoothing_keeps_a_constant(sigma: float) -> None:
    geometry = Geometry((20, 17, 3), (1, 0.7, 2.5), (0, 0, 0), IDENTITY)
    image = Volume(np.full(geometry.array_shape, 7.25, np.float32), geometry)
    smoothed = smooth(image, sigma)
    assert np.abs(smoothed.array - 7.25).max() < 1e-5
    assert smoothed.array.dtype == np.float32
    assert smoothed.geometry == geometry


@pytest.mark.parametrize("sigma", [0.3, 0.8, 1.2, 3.0])
def test_smoothing_has_that_width_on_every_axis(sigma: float) -> None:
    geometry = Geometry((41, 51, 45), (1.0, 0.8, 1.7), (0, 0, 0), IDENTITY)
    values = np.zeros(geometry.array_shape, np.float32)
    values[22, 25, 20] = 1000
    smoothed = smooth(Volume(values, geometry), sigma).array.astype(np.float64)
    assert smoothed.sum() == pytest.approx(1000, rel=2e-3)
    for axis, spacing, middle in ((2, 1.0, 20), (1, 0.8, 25), (0, 1.7, 22)):
        line = smoothed.sum(tuple(a for a in range(3) if a != axis)) / smoothed.sum()
        spread = math.sqrt(line @ ((np.arange(line.size) - middle) * spacing) ** 2)
        assert spread == pytest.approx(sigma, rel=0.04)  # the recursive filter is about 3 % narrow in its tails


def test_smoothing_continues_the_border() -> None:
    """Both ways of filtering agree, near the border too, with the image continued by its border values."""
    noise = sitk.GetImageFromArray(np.random.default_rng(0).random((24, 30)))
    geometry = Geometry((30, 24), (1, 1), (0, 0), (1, 0, 0, 1))
    image = Volume(sitk.GetArrayFromImage(sitk.DiscreteGaussian(noise, [4.0, 4.0])), geometry)
    padded = Volume(np.pad(image.array, 20, mode="edge"), Geometry((70, 64), (1, 1), (0, 0), (1, 0, 0, 1)))
    for sigma in (0.7, 2.0):
        expected = smooth(padded, sigma).array[20:-20, 20:-20]
        assert np.abs(smooth(image, sigma).array - expected).max() < 2e-3 * np.ptp(image.array)


def test_no_smoothing() -> None:
    image = coordinates(Geometry((10, 12), (1, 1), (0, 0), (1, 0, 0, 1)))
    assert smooth(image, 0.0) is image
    assert np.array_equal(build_level(image, 1).array, image.array)
    assert default_sigma_mm(image.geometry, 1) == 0
    assert default_sigma_mm(Geometry((9, 9), (2, 0.5), (0, 0), (1, 0, 0, 1)), 4) == 1.0


def test_margins() -> None:
    geometry = Geometry((200, 200, 40), (1, 1, 3), (0, 0, 0), IDENTITY)
    assert border_margin_mm(geometry, 4, 0.0) == 6.0
    assert border_margin_mm(geometry, 4, 5.0) == 15.0
    assert margin_voxels(level_geometry(geometry, 4), 6.0) == (2, 2, 2)
    assert margin_voxels(level_geometry(geometry, 4), 8.001) == (3, 3, 3)
    assert margin_voxels(geometry, 100.0) == (25, 25, 5)
    assert margin_voxels(geometry, 0.0) == (0, 0, 0)
