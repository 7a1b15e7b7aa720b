"""Displacement fields: against ITK and against exact flows."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from fields_support import GRIDS, affine_of, grids, wave

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.transforms import DiffeoTransform
from PPIRLogic.transforms.displacement_field import (
    composed,
    exponential,
    inverse_error_mm,
    inverted,
    jacobian_determinant,
    resampled,
    zero_field,
)


def points_of(grid: Geometry) -> np.ndarray:
    index = np.indices(grid.array_shape).reshape(grid.dimension, -1)[::-1]
    affine = grid.index_to_physical()
    return (affine[:, :-1] @ index + affine[:, -1:]).reshape(grid.dimension, *grid.array_shape)


@grids
def test_composition_is_what_itk_composes(grid: Geometry) -> None:
    outer, inner = wave(grid, 4.0), wave(grid, 3.0, seed=2)
    both = composed(outer, inner, grid)
    transforms = [
        sitk.CompositeTransform(DiffeoTransform(affine_of(grid), grid, f, f).to_sitk()) for f in (outer, inner)
    ]
    random = np.random.default_rng(3)
    for _ in range(50):
        index = [int(random.integers(4, n - 4)) for n in grid.size]
        start = grid.to_sitk_reference().TransformIndexToPhysicalPoint(index)
        wanted = transforms[0].TransformPoint(transforms[1].TransformPoint(start))
        assert np.allclose(np.add(start, both[(slice(None), *reversed(index))]), wanted, atol=1e-4)


@grids
def test_exponential_of_a_linear_velocity_is_the_matrix_exponential(grid: Geometry) -> None:
    """v = M(x − c): exp(v) moves x to c + e^M(x − c), exactly, as linear fields are interpolated without error."""
    dim = grid.dimension
    m = 0.2 * np.tri(dim) - 0.3 * np.tri(dim, k=-1).T
    power, series = np.eye(dim), np.zeros((dim, dim))
    for k in range(1, 20):
        power = power @ m / k
        series += power
    offset = points_of(grid) - grid.centre().reshape(dim, *[1] * dim)
    velocity = np.tensordot(m, offset, 1).astype(np.float32)
    inside = (slice(None), *[slice(n // 2 - 5, n // 2 + 5) for n in grid.array_shape])
    wanted = np.tensordot(series, offset, 1)
    found = exponential(velocity, grid)
    scale = np.abs(wanted[inside]).max()
    assert np.abs(found - wanted)[inside].max() < 0.005 * scale  # squaring begins from I + M/2^n
    assert np.abs(velocity - wanted)[inside].max() > 0.02 * scale  # so that the test can fail
    assert np.array_equal(exponential(zero_field(grid), grid), zero_field(grid))


@grids
def test_the_flow_of_the_negative_velocity_is_the_inverse(grid: Geometry) -> None:
    velocity = wave(grid, 5.0)
    forward, back = exponential(velocity, grid), exponential(-velocity, grid)
    error, naive = inverse_error_mm(forward, back, grid), inverse_error_mm(forward, -forward, grid)
    assert error.mean() < 0.02 and error.max() < 0.3
    assert naive.mean() > 5 * error.mean()
    before, mended = (inverse_error_mm(w, forward, grid) for w in (back, inverted(forward, grid, back, 10)))
    assert mended.mean() < 0.1 * before.mean()


@pytest.mark.parametrize("size, spacing", [((30, 28, 26), (1.3, 1.0, 2.0)), ((50, 40), (1.0, 1.5))])
def test_jacobian_determinant_is_itks(size: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    """On grids along the axes: ITK's filter leaves directions out. At the border ITK halves one-sided differences."""
    dim = len(size)
    grid = Geometry(size, spacing, (1.0,) * dim, tuple(np.eye(dim).ravel()))
    field = wave(grid, 6.0)
    image = sitk.GetImageFromArray(np.moveaxis(field, 0, -1), isVector=True)
    image.SetSpacing(spacing)
    wanted = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image))
    inside = (slice(1, -1),) * dim
    assert np.abs(jacobian_determinant(field, grid) - wanted)[inside].max() < 1e-5
    assert np.ptp(wanted) > 0.3


def test_jacobian_determinant_knows_directions_and_borders() -> None:
    """A linear field has the same determinant everywhere, whatever the grid."""
    grid = GRIDS[0]
    m = np.array([[0.1, 0.3, 0.0], [-0.2, 0.05, 0.1], [0.0, 0.2, -0.3]])
    field = np.tensordot(m, points_of(grid), 1).astype(np.float32)
    assert np.allclose(jacobian_determinant(field, grid), np.linalg.det(np.eye(3) + m), atol=1e-4)
    fold = np.tensordot(np.diag([-1.5, 0.0, 0.0]), points_of(grid), 1).astype(np.float32)
    assert jacobian_determinant(fold, grid).max() < 0


def test_elastic_smoothing_keeps_the_inverse_right() -> None:
    grid = GRIDS[0]
    plain, smooth = DiffeoTransform.identity(affine_of(grid), grid), DiffeoTransform.identity(affine_of(grid), grid)
    for seed in range(5):
        plain, smooth = plain.moved(wave(grid, 2.0, seed)), smooth.moved(wave(grid, 2.0, seed), 2.0)
    rough, even = (np.ptp(jacobian_determinant(t.field, grid)) for t in (plain, smooth))
    assert even < 0.8 * rough
    assert inverse_error_mm(smooth.field, smooth.inverse, grid).mean() < 0.02


@grids
def test_a_coarse_field_moves_on_to_a_finer_grid(grid: Geometry) -> None:
    found = DiffeoTransform.identity(affine_of(grid), grid).moved(wave(grid, 4.0))
    finer = Geometry(tuple(2 * n for n in grid.size), tuple(s / 2 for s in grid.spacing), grid.origin, grid.direction)
    there = found.on_grid(finer)
    inside = (slice(None), *[slice(0, -1)] * grid.dimension)
    assert np.allclose(resampled(there.field, finer, grid)[inside], found.field[inside], atol=1e-3)
    assert inverse_error_mm(there.field, there.inverse, finer).mean() < 0.02
    assert found.on_grid(grid) is found
