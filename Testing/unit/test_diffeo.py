"""Displacement fields and diffeomorphic transforms: against ITK, against exact flows, and there and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from PPIRLogic.errors import PolicyError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.intensities import normalise, robust_range
from PPIRLogic.images.interpolation import MovingImage
from PPIRLogic.images.pyramid import smooth
from PPIRLogic.images.reading import read_volume
from PPIRLogic.registration.columns.deformable import BSplineScales, DeformableWarp
from PPIRLogic.registration.levels import make_levels
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party2.policy import Policy
from PPIRLogic.registration.rules import grid_problem, request_problem
from PPIRLogic.registration.terms import numbers_by_stage
from PPIRLogic.registration.transform_kinds import TRANSFORMS
from PPIRLogic.transforms import DiffeoTransform, LinearTransform
from PPIRLogic.transforms.displacement_field import (
    Field,
    composed,
    exponential,
    inverse_error_mm,
    inverted,
    jacobian_determinant,
    resampled,
    smoothed,
    zero_field,
)

MOVING = Path(__file__).resolve().parents[2] / "Resources" / "SampleData" / "BrainProtonDensitySliceBorder20.png"
OBLIQUE = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
GRIDS = (
    Geometry((40, 36, 32), (1.3, 1.0, 2.0), (3.0, 4.0, 5.0), OBLIQUE),
    Geometry((60, 50), (1.0, 1.5), (-7.0, 2.0), (1.0, 0.0, 0.0, 1.0)),
)
grids = pytest.mark.parametrize("grid", GRIDS, ids=["3D", "2D"])


def wave(grid: Geometry, height_mm: float, seed: int = 1) -> Field:
    """A smooth random field that is at most so long and dies out towards the border."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(grid.dimension, *grid.array_shape)).astype(np.float32)
    for axis, size in enumerate(grid.array_shape):
        shape = [1] * (grid.dimension + 1)
        shape[axis + 1] = size
        noise *= (np.sin(np.pi * (np.arange(size) + 0.5) / size) > 0.5).reshape(shape)
    field = smoothed(noise, grid, 5.0)
    return field * np.float32(height_mm / np.sqrt(np.square(field).sum(axis=0)).max())


def points_of(grid: Geometry) -> np.ndarray:
    index = np.indices(grid.array_shape).reshape(grid.dimension, -1)[::-1]
    affine = grid.index_to_physical()
    return (affine[:, :-1] @ index + affine[:, -1:]).reshape(grid.dimension, *grid.array_shape)


def affine_of(grid: Geometry) -> LinearTransform:
    return LinearTransform.identity("affine", grid.centre())


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


@grids
def test_many_small_steps_fold_nowhere_and_go_back(grid: Geometry) -> None:
    """Together they move points further than their sum could without folding, were they added."""
    found, added = DiffeoTransform.identity(affine_of(grid), grid), zero_field(grid)
    for _ in range(6):
        velocity = wave(grid, 2.0)
        found, added = found.moved(velocity), added + velocity
    assert jacobian_determinant(added, grid).min() < 0
    statistics = found.finished(grid).statistics()
    assert statistics["jacobian"]["smallest"] > 0 and statistics["jacobian"]["folded_percent"] == 0
    assert statistics["largest_mm"] > 6 and statistics["inverse_error_voxels"]["mean"] < 0.15


@grids
def test_files_hold_the_transform_and_its_inverse(grid: Geometry, tmp_path: Path) -> None:
    affine = LinearTransform("affine", np.eye(grid.dimension) * 1.1, np.arange(1.0, grid.dimension + 1), grid.centre())
    found = DiffeoTransform.identity(affine, grid).moved(wave(grid, 4.0)).finished(grid)
    paths = tmp_path / "t.h5", tmp_path / "i.h5"
    for path, transform in zip(paths, (found.to_sitk(), found.inverse_to_sitk()), strict=True):
        sitk.WriteTransform(transform, str(path))
    there, back = (sitk.ReadTransform(str(p)) for p in paths)
    moved = 0.0
    for index in np.random.default_rng(5).integers(8, np.array(grid.size) - 8, (40, grid.dimension)).tolist():
        x = np.array(grid.to_sitk_reference().TransformIndexToPhysicalPoint(index))
        y = np.array(there.TransformPoint(x.tolist()))
        wanted = affine.apply(x + found.field[(slice(None), *reversed(index))])
        assert np.allclose(y, wanted, atol=1e-4)
        assert np.linalg.norm(np.array(back.TransformPoint(y.tolist())) - x) < 0.2
        moved = max(moved, float(np.linalg.norm(y - affine.apply(x))))
    assert moved > 1


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


def test_the_gradient_is_that_of_the_warped_image() -> None:
    """Against differences, half a voxel apart, of the image warped by φ∘(x + h·e): not that of the moving image."""
    moving = read_volume(MOVING, role="moving")
    grid, image = moving.geometry, smooth(normalise(moving, robust_range(moving)), 3.0)
    use = np.zeros(grid.array_shape, bool)
    use[30:-30, 30:-30] = True
    affine = LinearTransform("affine", np.array([[0.9, 0.2], [-0.3, 1.1]]), np.array([2.0, -1.0]), grid.centre())
    field = wave(grid, 12.0)
    scales = BSplineScales(2.0**14, 2.0**14)

    def columns(u: Field, composed_with: bool = True) -> np.ndarray:
        found, peak = DeformableWarp(MovingImage(image, (0, 0)), grid, affine, use, 1, composed_with).columns(u, scales)
        assert peak * scales.gradient < 4095  # nothing saturates
        return found.astype(np.float64)

    here = columns(field)
    inside = here[1] > 0
    for axis in range(2):
        shift = zero_field(grid)
        shift[axis] = 0.5
        ahead, behind = (columns(composed(field, sign * shift, grid))[0] for sign in (1, -1))
        wanted = ((ahead - behind) / scales.intensity)[inside]
        found, other = (columns(field, c)[2 + axis][inside] / scales.gradient for c in (True, False))
        assert np.abs(found - wanted).mean() < 0.12 * np.abs(wanted).mean()
        assert np.abs(other - wanted).mean() > 0.3 * np.abs(wanted).mean()


# -------------------------------------------------------------------------------------------- what is opened

LUNG = Geometry((115, 157, 129), (1.366, 1.366, 2.5), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))
HEAD = Geometry((181, 217, 180), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))


@pytest.mark.parametrize("fixed", [LUNG, HEAD], ids=["lung", "head"])
def test_an_iteration_opens_less_than_a_64th_of_the_dense_force(fixed: Geometry) -> None:
    """At every level, of 3 numbers per voxel; value included."""
    request = Parameters(transform="diffeo", loss="lncc", levels=(8, 4, 2, 1)).request("x", fixed, "", "")
    assert request.stride == 5 and request.iterations == (10, 10, 8, 2) == TRANSFORMS["diffeo"].default_iterations(
        (8, 4, 2, 1)
    )
    for level in make_levels(fixed, request):
        value, gradient = numbers_by_stage(request, level)
        assert value == 3
        assert 64 * (value + gradient) <= 3 * np.prod(level.geometry.size)


def test_settings_that_do_not_go_together_are_named() -> None:
    def problem(fixed: Geometry = LUNG, **changes: object) -> str:
        settings = {"transform": "diffeo", "levels": (4, 2), "iterations": (2, 1), **changes}
        request = Parameters(**settings).request("x", fixed, "", "")  # type: ignore[arg-type]
        return request_problem(request) or grid_problem(request, fixed)

    assert problem() == ""
    assert "one count of iterations per level" in problem(iterations=(1,))
    assert "every voxel" in problem(sampling="urs", percent=20.0)
    assert "private fixed mask" in problem(fixed_mask="private")
    assert "larger than the fixed" in problem(loss="lncc", radius_mm=30.0)
    assert "fewer than two cells" in problem(stride=20)
    assert "fhe_verified" in problem(protocol="fhe_verified")
    assert problem(loss="mi") == problem(loss="mi", sampling="urs", percent=20.0) == ""
    request = Parameters(transform="diffeo", levels=(4, 2), iterations=(2,)).request("x", LUNG, "", "")
    with pytest.raises(PolicyError, match="iterations"):
        Policy().check(request, "peer", False)
    with pytest.raises(PolicyError, match="transform 'diffeo' is not permitted"):
        Policy(transforms=frozenset({"affine"})).check(request, "peer", False)
