"""B-splines: weights, refinement, Jacobian and bending energy against ITK and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.pyramid import axis_factors, level_geometry
from PPIRLogic.transforms import BSplineTransform, LinearTransform, read_transform, write_transform
from PPIRLogic.transforms.bending_energy import BendingEnergy, jacobian
from PPIRLogic.transforms.bspline import cells_of, control_point_spacing, level_axes
from PPIRLogic.transforms.bspline_basis import ControlPointAxis, gather, spread

Array = NDArray[np.float64]
OBLIQUE = np.array([[0.8, 0.6, 0.0], [-0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])  # left-handed too


def grid(dimension: int) -> Geometry:
    direction = OBLIQUE[:dimension, :dimension]
    return Geometry((31, 26, 22)[:dimension], (1.5, 2.0, 2.5)[:dimension], (3.0, -40.0, 7.0)[:dimension],
                    direction.ravel())  # fmt: skip


def bent(dimension: int, size_mm: float = 1.5, seed: int = 3) -> BSplineTransform:
    g = grid(dimension)
    matrix = np.eye(dimension) + 0.05 * np.arange(dimension**2).reshape(dimension, dimension) / dimension
    affine = LinearTransform("affine", matrix, np.full(dimension, 2.5), g.centre())
    zero = BSplineTransform.zero(affine, g, cells_of(g, 12.0, 1))
    random = np.random.default_rng(seed).normal(0, size_mm, zero.coefficients.shape)
    return BSplineTransform(affine, g, random)


def displacements(transform: BSplineTransform, factor: int = 1) -> Array:
    """u at the voxels of a level, (dim, …grid)."""
    g = transform.geometry
    axes = level_axes(g, axis_factors(g, factor), level_geometry(g, factor).size, transform.cells)
    return np.stack([spread(c, axes, [a.weights for a in axes]) for c in transform.coefficients])


def points(geometry: Geometry) -> Array:
    """Voxel centres, (n, dim) LPS mm, in array order."""
    index = np.indices(geometry.array_shape)[::-1].reshape(geometry.dimension, -1)
    affine = geometry.index_to_physical()
    return (affine[:, :-1] @ index + affine[:, -1:]).T


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_displacements_are_those_of_itk(dimension: int, factor: int) -> None:
    transform = bent(dimension)
    where = points(level_geometry(transform.geometry, factor))
    u = displacements(transform, factor).reshape(dimension, -1).T
    bspline, whole = transform.bspline(), transform.to_sitk()
    for x, shift in zip(where.tolist()[::7], u[::7], strict=True):
        np.testing.assert_allclose(np.subtract(bspline.TransformPoint(x), x), shift, atol=1e-9)
        np.testing.assert_allclose(whole.TransformPoint(x), transform.affine.apply([x + shift])[0], atol=1e-9)


@pytest.mark.parametrize("dimension", [2, 3])
def test_refinement_changes_nothing(dimension: int) -> None:
    transform = bent(dimension)
    fine = transform.refined()
    assert fine.cells == tuple(2 * m for m in transform.cells)
    np.testing.assert_allclose(displacements(fine), displacements(transform), atol=1e-12)


@pytest.mark.parametrize("dimension", [2, 3])
def test_jacobian_is_that_of_itk(dimension: int) -> None:
    transform = bent(dimension)
    g = transform.geometry
    found = jacobian(transform.coefficients, transform.axes(), control_point_spacing(g, transform.cells), g.direction)
    bspline, step = transform.bspline(), 1e-3
    for x, j in list(zip(points(g).tolist(), found.reshape(-1), strict=True))[5::41]:
        ends = np.array(
            [
                np.subtract(bspline.TransformPoint((x + e).tolist()), bspline.TransformPoint((x - e).tolist()))
                for e in step * np.eye(dimension)
            ]
        )
        assert j == pytest.approx(np.linalg.det(ends / (2 * step)), abs=1e-5)


@pytest.mark.parametrize("dimension", [2, 3])
def test_bending_energy_is_the_mean_of_squared_curvatures(dimension: int) -> None:
    """Against second differences of ITK's own transform, averaged over the domain by midpoints."""
    transform = bent(dimension)
    g, bspline, h = transform.geometry, transform.bspline(), 0.05
    energy = BendingEnergy(transform.cells, control_point_spacing(g, transform.cells)).value(transform.coefficients)
    random = np.random.default_rng(0)
    index = random.uniform(0, np.array(g.size) - 1, (1500, dimension))
    affine, d = g.index_to_physical(), np.reshape(g.direction, (dimension, dimension))
    total = 0.0
    for x in index @ affine[:, :-1].T + affine[:, -1]:
        for a in range(dimension):
            for b in range(dimension):
                ends = [
                    np.array(bspline.TransformPoint((x + h * (s * d[:, a] + t * d[:, b])).tolist()))
                    for s, t in ((1, 1), (1, -1), (-1, 1), (-1, -1))
                ]
                total += float(np.square((ends[0] - ends[1] - ends[2] + ends[3]) / (4 * h * h)).sum())
    assert energy == pytest.approx(total / len(index), rel=0.1)  # 1500 random points


def test_bending_energy_is_symmetric_and_blind_to_affine_maps() -> None:
    g = grid(3)
    cells = cells_of(g, 12.0, 1)
    form = BendingEnergy(cells, control_point_spacing(g, cells))
    random = np.random.default_rng(1)
    shape = tuple(m + 3 for m in reversed(cells))
    a, b = random.normal(size=shape), random.normal(size=shape)
    assert np.sum(a * form.apply(b)) == pytest.approx(np.sum(b * form.apply(a)))
    ramp = sum(np.indices(shape).astype(float))
    assert abs(form.value(ramp[None])) < 1e-12 * form.value(a[None])
    unit = np.zeros(shape)
    unit[2, 3, 1] = 1
    assert form.apply(unit)[2, 3, 1] == pytest.approx(form.diagonal()[2, 3, 1])


@settings(max_examples=50, deadline=None)
@given(st.integers(4, 80), st.integers(1, 4), st.data())
def test_gather_is_the_transpose_of_spread_and_integers_sum_to_one(voxels: int, step: int, data: st.DataObject) -> None:
    cells = data.draw(st.integers(1, max(1, voxels // 2)))
    first = (step - 1) // 2
    axis = ControlPointAxis(voxels, cells, first, step, (voxels - first - 1) // step + 1)
    random = np.random.default_rng(voxels)
    values, control_points = random.normal(size=axis.size), random.normal(size=axis.control_points)
    left = np.sum(values * spread(control_points, (axis,), [axis.weights]))
    assert left == pytest.approx(np.sum(control_points * gather(values, (axis,), [axis.weights])))
    whole = axis.integers(8)
    assert (whole.sum(axis=1) == 256).all() and (whole >= 0).all()
    np.testing.assert_allclose(whole / 256, axis.weights, atol=1.6 / 256)
    assert axis.start.min() >= 0 and axis.start.max() + 3 < axis.control_points


@pytest.mark.parametrize("extension", [".h5", ".tfm"])
@pytest.mark.parametrize("dimension", [2, 3])
def test_files_hold_the_composite(dimension: int, extension: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    transform = bent(dimension)
    path = tmp_path / f"t{extension}"
    write_transform(transform.to_sitk(), path)
    read = read_transform(path)
    for x in points(transform.geometry).tolist()[::17]:
        np.testing.assert_allclose(read.TransformPoint(x), transform.to_sitk().TransformPoint(x), atol=1e-9)


def test_the_grid_covers_the_image_with_whole_cells_that_can_be_halved() -> None:
    g = Geometry((115, 157, 129), (1.366, 1.366, 2.5), (0.0, 0.0, 0.0), np.eye(3).ravel())
    cells = cells_of(g, 10.0, 2)
    assert all(m % 4 == 0 for m in cells)
    assert all(8 < h < 12 for h in control_point_spacing(g, cells))
    transform = BSplineTransform.zero(LinearTransform.identity("affine", g.centre()), g, cells)
    transform.coefficients[:] = 1.0  # moves every point of the image, corner voxels too, by 1 mm on each axis
    bspline: sitk.Transform = transform.bspline()
    for x in g.corners().tolist():
        np.testing.assert_allclose(np.subtract(bspline.TransformPoint(x), x), 1.0)
