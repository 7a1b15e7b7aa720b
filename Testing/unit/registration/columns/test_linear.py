"""Party 1's columns against SimpleITK's resampling and finite differences, on awkward grids."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from PPIRLogic.errors import FixedPointError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.intensities import INTENSITY_CENTRE
from PPIRLogic.images.interpolation import MovingImage
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.columns.linear import LinearColumns, choose_scales, scan_columns, widest_scales
from PPIRLogic.registration.columns.masked import ProductColumns
from PPIRLogic.registration.columns.scales import LIMIT, Scales
from PPIRLogic.registration.losses.private_mask import pairs
from PPIRLogic.secure.layout import CHUNK, GROUP
from PPIRLogic.secure.product import Link
from PPIRLogic.transforms import LinearTransform

SCALE_MM = 20.0
FINE = 2.0**24
LINK = Link(cast(Any, None), b"", 2, lambda: None)


def turned(*angles: float) -> NDArray[np.float64]:
    """A rotation about the axes in turn; with a reflection it is left-handed."""
    if len(angles) == 1:
        c, s = np.cos(angles[0]), np.sin(angles[0])
        return np.array([[c, -s], [s, c]])
    transform = sitk.Euler3DTransform()
    transform.SetRotation(*angles)
    return np.reshape(transform.GetMatrix(), (3, 3))


def grid(
    size: tuple[int, ...], spacing: tuple[float, ...], axes: NDArray[np.float64], centre: tuple[float, ...]
) -> Geometry:
    affine = axes * np.array(spacing)
    origin = np.array(centre) - affine @ ((np.array(size) - 1) / 2)
    return Geometry(size, spacing, tuple(origin), tuple(axes.ravel()))


def texture(geometry: Geometry, seed: int) -> Volume:
    """Smooth noise in [0, 1] on a grid."""
    noise = np.random.default_rng(seed).standard_normal(geometry.array_shape).astype(np.float32)
    image = sitk.DiscreteGaussian(sitk.GetImageFromArray(noise), 1.5)
    array = sitk.GetArrayFromImage(image)
    return Volume((array - array.min()) / np.ptp(array), geometry)


def scene(dimension: int) -> tuple[Volume, Geometry, LinearTransform]:
    """A moving image, a fixed grid that reaches beyond it, and an affine transform; all oblique, 3D left-handed."""
    if dimension == 3:
        mirror = np.diag([1.0, 1.0, -1.0])
        moving = grid((30, 26, 15), (1.1, 0.9, 2.3), turned(0.3, -0.2, 0.5) @ mirror, (11.0, -7.0, 5.0))
        fixed = grid((24, 28, 17), (1.3, 1.0, 1.9), turned(-0.4, 0.1, 0.2) @ mirror, (9.0, -6.0, 6.0))
        matrix = np.array([[1.05, 0.04, -0.03], [-0.06, 0.97, 0.05], [0.02, -0.05, 1.03]])
        shift = np.array([1.7, -1.1, 0.6])
    else:
        moving = grid((60, 44), (0.8, 1.3), turned(0.6) @ np.diag([-1.0, 1.0]), (3.0, 20.0))
        fixed = grid((50, 61), (1.1, 0.9), turned(-0.3), (5.0, 18.0))
        matrix, shift = np.array([[1.04, 0.1], [-0.08, 0.95]]), np.array([0.9, -1.3])
    transform = LinearTransform("affine", matrix, shift, fixed.centre())
    return texture(moving, dimension), fixed, transform


def columns_of(
    moving: MovingImage,
    fixed: Geometry,
    transform: LinearTransform,
    scales: Scales,
    samples: NDArray[np.int32] | None = None,
    use: NDArray[np.bool_] | None = None,
    active: NDArray[np.int64] | None = None,
    watch: bool = False,
) -> LinearColumns:
    order = np.arange(fixed.voxels, dtype=np.int32) if samples is None else samples
    chunks = np.arange(-(-order.size // CHUNK)) if active is None else active
    used = np.ones(order.size, bool) if use is None else use
    return LinearColumns(moving, fixed, order, used, chunks, transform, SCALE_MM, scales, watch)


def collect(source: Any) -> NDArray[np.int32]:
    """All columns, (columns, groups·GROUP)."""
    out = np.empty((source.columns, source.groups * GROUP), np.int32)
    scan_columns(source, LINK, lambda group, worker, block: out.__setitem__(
        (slice(None), slice(group * GROUP, (group + 1) * GROUP)), block
    ))  # fmt: skip
    return out


def fine(parameters: int, steepest: float = 2.0**12) -> Scales:
    return Scales(np.full(parameters, steepest), FINE)


def continuous_index(volume: Volume, fixed: Geometry, transform: LinearTransform) -> NDArray[np.float64]:
    """Where each voxel of the fixed grid lands in the moving one, (voxels, dim), ITK order."""
    index = np.array(np.unravel_index(np.arange(fixed.voxels), fixed.array_shape))[::-1].T
    to_mm, to_index = fixed.index_to_physical(), volume.geometry.physical_to_index()
    points = transform.apply(index @ to_mm[:, :-1].T + to_mm[:, -1])
    return points @ to_index[:, :-1].T + to_index[:, -1]


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("margin", [0, 2])
def test_overlap_is_where_the_point_lies_inside_and_all_else_is_zero(dimension: int, margin: int) -> None:
    volume, fixed, transform = scene(dimension)
    moving = MovingImage(volume, (margin,) * dimension)
    got = collect(columns_of(moving, fixed, transform, fine(transform.parameters)))
    where, high = continuous_index(volume, fixed, transform), np.array(volume.geometry.size) - 1 - margin
    inside = ((where >= margin) & (where <= high)).all(axis=1)
    assert 0.2 < inside.mean() < 0.98
    assert np.array_equal(got[-1, : fixed.voxels], inside)
    assert not got[:, : fixed.voxels][:, ~inside].any() and not got[:, fixed.voxels :].any()


@pytest.mark.parametrize(("cubic", "method"), [(False, sitk.sitkLinear), (True, sitk.sitkBSpline)])
@pytest.mark.parametrize("dimension", [2, 3])
def test_value_is_simpleitks_resampling(dimension: int, cubic: bool, method: int) -> None:
    volume, fixed, transform = scene(dimension)
    moving = MovingImage(volume, (0,) * dimension, cubic=cubic)
    got = collect(columns_of(moving, fixed, transform, fine(transform.parameters)))
    resampled = sitk.Resample(volume.to_sitk(), fixed.to_sitk_reference(), transform.to_sitk(), method, -9.0)
    expected = sitk.GetArrayFromImage(resampled).ravel()
    inside = got[-1, : fixed.voxels] == 1
    value = got[-2, : fixed.voxels] / FINE + INTENSITY_CENTRE
    assert np.abs(value - expected)[inside].max() < 2e-6


@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize("kind", ["translation", "rigid", "similarity", "affine"])
@pytest.mark.parametrize("dimension", [2, 3])
def test_columns_are_the_derivatives_of_the_value(dimension: int, kind: str, cubic: bool) -> None:
    volume, fixed, affine = scene(dimension)
    rotation = turned(*([0.2] if dimension == 2 else [0.1, -0.15, 0.2]))
    matrix = {"translation": np.eye(dimension), "rigid": rotation, "similarity": 1.1 * rotation}
    transform = LinearTransform(kind, matrix.get(kind, affine.matrix), affine.translation, affine.centre)
    moving, scales = MovingImage(volume, (0,) * dimension, cubic=cubic), fine(transform.parameters)
    got = collect(columns_of(moving, fixed, transform, scales))
    assert np.abs(got[: transform.parameters]).max() < LIMIT
    for k in range(transform.parameters):
        step = np.eye(transform.parameters)[k] * 2e-3
        ends = [collect(columns_of(moving, fixed, transform.updated(s * step, SCALE_MM), scales)) for s in (-1, 1)]
        both = (ends[0][-1] == 1) & (ends[1][-1] == 1) & (got[-1] == 1)
        slope = (ends[1][-2] - ends[0][-2])[both] / FINE / 4e-3
        error = np.abs(got[k, both] / scales.steepest[k] - slope)
        assert np.median(error) < 2e-4  # half a unit of the integers
        assert np.mean(error > 2e-3 + 2e-3 * np.abs(slope)) < 0.03  # those that cross into another cell on the way


@pytest.mark.parametrize("dimension", [2, 3])
def test_own_sums_are_those_of_the_columns(dimension: int) -> None:
    volume, fixed, transform = scene(dimension)
    source = columns_of(MovingImage(volume, (1,) * dimension), fixed, transform, fine(transform.parameters), watch=True)
    got = collect(source).astype(object)
    assert np.array_equal(source.gram.astype(object), got @ got.T)
    assert np.array_equal(source.absolute_sums().astype(object), np.abs(got).sum(axis=1))
    assert np.array_equal(source.peaks().astype(object), np.abs(got).max(axis=1))
    assert np.allclose(source.norms() ** 2, np.diag(got @ got.T).astype(float))


def test_samples_left_out_are_zero_and_active_chunks_are_packed() -> None:
    volume, fixed, transform = scene(3)
    moving, scales = MovingImage(volume, (0, 0, 0)), fine(12)
    order = np.random.default_rng(0).permutation(np.tile(np.arange(fixed.voxels, dtype=np.int32), 8))
    use = np.random.default_rng(1).random(order.size) < 0.5
    assert -(-order.size // CHUNK) == 12
    whole = collect(columns_of(moving, fixed, transform, scales, order, use))
    unused = collect(columns_of(moving, fixed, transform, scales, order))
    assert np.array_equal(whole[:, : order.size], np.where(use, unused[:, : order.size], 0))
    active = np.array([1, 3, 4, 6, 7, 8, 9, 10, 11])
    packed = collect(columns_of(moving, fixed, transform, scales, order, use, active))
    for slot, chunk in enumerate(active):
        part = whole[:, chunk * CHUNK : (chunk + 1) * CHUNK]
        assert np.array_equal(packed[:, slot * CHUNK : (slot + 1) * CHUNK], part)
    assert not packed[:, len(active) * CHUNK :].any()


def test_rows_outside_the_moving_mask_are_zero() -> None:
    volume, fixed, transform = scene(3)
    mask = np.random.default_rng(2).random(volume.array.shape) < 0.5
    free = collect(columns_of(MovingImage(volume, (0, 0, 0)), fixed, transform, fine(12)))[:, : fixed.voxels]
    bound = collect(columns_of(MovingImage(volume, (0, 0, 0), mask), fixed, transform, fine(12)))[:, : fixed.voxels]
    nearest = np.floor(continuous_index(volume, fixed, transform) + 0.5).astype(int)
    inside = free[-1] == 1
    kept = np.zeros(fixed.voxels, bool)
    kept[inside] = mask[tuple(nearest[inside].T[::-1])]
    assert 0.1 < kept.mean() < 0.9
    assert np.array_equal(bound, np.where(kept, free, 0))


def test_columns_beyond_16_bits_saturate() -> None:
    volume, fixed, transform = scene(2)
    moving = MovingImage(volume, (0, 0))
    small = collect(columns_of(moving, fixed, transform, Scales(np.full(6, 2.0**12), 2.0**14)))
    large = collect(columns_of(moving, fixed, transform, Scales(np.full(6, 2.0**20), 2.0**14)))
    assert np.abs(small[:6]).max() < LIMIT == np.abs(large[:6]).max()
    expected = np.clip(small[:6].astype(np.int64) * 256, -LIMIT, LIMIT)
    assert np.abs(large[:6] - expected).max() <= 129  # the rounding of the coarser one
    assert np.mean(np.abs(large[:6, : fixed.voxels]) == LIMIT) > 0.1
    assert np.array_equal(small[6:], large[6:])


@pytest.mark.parametrize("dimension", [2, 3])
def test_widest_scales_cannot_saturate_and_chosen_ones_are_powers_of_two(dimension: int) -> None:
    volume, fixed, transform = scene(dimension)
    moving = MovingImage(volume, (0,) * dimension)
    widest = widest_scales(moving, fixed, transform, SCALE_MM)
    scan = columns_of(moving, fixed, transform, widest, watch=True)
    collect(scan)
    assert scan.peaks()[:-2].min() > 30 and scan.peaks()[:-2].max() < LIMIT
    chosen = choose_scales(scan, fixed.voxels, 2.0**34)
    for scale in chosen.all():
        assert np.log2(scale) == int(np.log2(scale))
    again = columns_of(moving, fixed, transform, chosen, watch=True)
    collect(again)
    peaks = again.peaks()[:-2]
    assert peaks.max() <= LIMIT / 2 + 1 and peaks.min() > LIMIT / 8  # a power of two of room, and one for the rounding


def test_chosen_scales_keep_sums_within_the_limit() -> None:
    volume, fixed, transform = scene(3)
    moving, limit = MovingImage(volume, (0, 0, 0)), 2.0**20
    scan = columns_of(moving, fixed, transform, widest_scales(moving, fixed, transform, SCALE_MM), watch=True)
    collect(scan)
    again = columns_of(moving, fixed, transform, choose_scales(scan, fixed.voxels, limit))
    collect(again)
    assert again.absolute_sums()[:-1].max() <= 1.01 * limit / 4


def test_a_flat_moving_image_has_no_scales() -> None:
    volume, fixed, transform = scene(2)
    flat = MovingImage(Volume(np.full_like(volume.array, 0.3), volume.geometry), (0, 0))
    scan = columns_of(flat, fixed, transform, fine(6), watch=True)
    collect(scan)
    with pytest.raises(FixedPointError, match="no gradient"):
        choose_scales(scan, fixed.voxels, 2.0**34)


def test_products_of_columns_are_rounded_products() -> None:
    volume, fixed, transform = scene(2)
    inner = columns_of(MovingImage(volume, (0, 0)), fixed, transform, Scales(np.full(6, 2.0**12), 2.0**14))
    source = ProductColumns(inner)
    got = collect(source)
    own, scales = got[:8].astype(np.int64), source.column_scales()
    assert np.array_equal(own, collect(inner)) and source.columns == 8 + 36
    for k, (i, j) in enumerate(pairs(8)):
        shift = 0 if j == 7 else 14
        expected = np.clip(np.floor(own[i] * own[j] / 2**shift + 0.5), -LIMIT, LIMIT)
        assert np.array_equal(got[8 + k], expected)
        assert scales[8 + k] == scales[i] * scales[j] / 2**shift
    assert np.array_equal(source.absolute_sums(), np.abs(got.astype(np.int64)).sum(axis=1))
    assert np.allclose(source.norms(), np.linalg.norm(got.astype(float), axis=1))
