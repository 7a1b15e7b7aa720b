"""The fit of point sets against other people's programs."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from PPIRLogic.errors import InputError
from PPIRLogic.points.pointset import PointLayout, PointSet
from PPIRLogic.registration.points.columns import PointColumns, fit_sums
from PPIRLogic.registration.points.fit import FitSums, fit
from PPIRLogic.secure.exact_range import check_range
from PPIRLogic.secure.fhe.parameters import PLAIN_MODULUS

Array = NDArray[np.float64]


def cloud(seed: int, count: int, dimension: int, extent: float = 80.0) -> Array:
    rng = np.random.default_rng(seed)
    return rng.uniform(-extent, extent, (count, dimension)) + rng.uniform(-300, 300, dimension)


def moved(fixed: Array, seed: int, noise: float, scale: float = 1.0) -> Array:
    rng = np.random.default_rng(seed + 1)
    d = fixed.shape[1]
    turn = Rotation.random(random_state=seed).as_matrix() if d == 3 else np.eye(2)
    if d == 2:
        a = rng.uniform(-3, 3)
        turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return scale * fixed @ turn.T + rng.uniform(-50, 50, d) + rng.normal(0, noise, fixed.shape)


def floats(fixed: Array, moving: Array) -> FitSums:
    cm, cf = moving.mean(axis=0), fixed.mean(axis=0)
    q, w = moving - cm, fixed - cf
    return FitSums(q.T @ w, float((q**2).sum()), float((w**2).sum()), len(q), cm, cf)


def opened(fixed: Array, moving: PointSet, layout: PointLayout) -> tuple[PointColumns, list[int]]:
    """The exact sums that any protocol opens."""
    columns = PointColumns(moving, layout)
    v = np.column_stack([layout.integers(fixed), layout.spreads(fixed)]).astype(object)
    s = columns.values.astype(object)
    d = layout.dimension
    cross = (s[:d] @ v[:, :d]).reshape(-1).tolist()
    return columns, [*cross, *(s[d] @ v[:, :d]).tolist(), int(s[d] @ v[:, d])]


def rms(a: Array, b: Array) -> float:
    return float(np.sqrt(np.square(a - b).sum(axis=1).mean()))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(3, 300), st.floats(0, 3))
def test_rotations_agree_with_scipy(seed: int, count: int, noise: float) -> None:
    fixed = cloud(seed, count, 3)
    moving = moved(fixed, seed, noise)
    ours = fit(floats(fixed, moving), "rigid")
    theirs, rssd = Rotation.align_vectors(moving - moving.mean(axis=0), fixed - fixed.mean(axis=0))
    assert np.allclose(ours.transform.matrix, theirs.as_matrix(), atol=1e-7)
    assert ours.residual_mm == pytest.approx(rssd / np.sqrt(count), abs=1e-4)
    assert np.linalg.det(ours.transform.matrix) == pytest.approx(1)


@pytest.mark.parametrize("dimension", [2, 3])
def test_transforms_agree_with_itk(dimension: int) -> None:
    fixed = cloud(5, 40, dimension)
    moving = moved(fixed, 5, 0.8)
    base: sitk.Transform = sitk.VersorRigid3DTransform() if dimension == 3 else sitk.Euler2DTransform()
    theirs = sitk.LandmarkBasedTransformInitializer(base, fixed.ravel().tolist(), moving.ravel().tolist())
    ours = fit(floats(fixed, moving), "rigid").transform.to_sitk()
    for p in fixed.tolist():
        assert np.allclose(ours.TransformPoint(p), theirs.TransformPoint(p), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([2, 3]), st.floats(0.5, 2))
def test_a_similarity_without_noise_comes_back(seed: int, dimension: int, scale: float) -> None:
    fixed = cloud(seed, 20, dimension)
    moving = moved(fixed, seed, 0.0, scale)
    found = fit(floats(fixed, moving), "similarity")
    assert rms(found.transform.apply(fixed), moving) < 1e-9 * 400 and not found.reflection
    assert np.linalg.det(found.transform.matrix) ** (1 / dimension) == pytest.approx(scale)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**31), st.sampled_from([2, 3]), st.sampled_from([3, 4, 193, 5000]),
    st.sampled_from(["rigid", "similarity"]), st.floats(20, 300),
)  # fmt: skip
def test_the_rounding_costs_less_than_a_hundred_thousandth_of_a_millimetre(
    seed: int, dimension: int, count: int, kind: str, extent: float
) -> None:
    fixed = cloud(seed, count, dimension, extent)
    moving = PointSet(moved(fixed, seed, 1.0))
    layout = PointLayout.of(fixed)
    columns, numbers = opened(fixed, moving, layout)
    found = fit(fit_sums(columns, moving, layout, numbers, kind), kind)
    reference = fit(floats(fixed, moving.points), kind)
    limit = 1e-5 if count >= 193 else 1e-3  # three points alone may lie almost on a line
    assert rms(found.transform.apply(fixed), reference.transform.apply(fixed)) < limit
    assert max(map(abs, numbers)) < PLAIN_MODULUS // 2
    largest = int(columns.absolute_sums().max()) << layout.bits
    check_range(largest, float(columns.norms().max()), int(columns.absolute_sums().max()))


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_mirror_image_is_told_and_stays_a_rotation(dimension: int) -> None:
    fixed = cloud(3, 30, dimension)
    moving = fixed * np.array([-1.0] + [1.0] * (dimension - 1))
    found = fit(floats(fixed, moving), "rigid")
    assert found.reflection and np.linalg.det(found.transform.matrix) == pytest.approx(1)
    assert found.mirrored_residual_mm < 1e-4 < 1 < found.residual_mm


def test_points_in_one_plane_are_fitted() -> None:
    fixed = cloud(3, 30, 3)
    fixed[:, 2] = 7.0
    moving = moved(fixed, 4, 0.0)
    assert rms(fit(floats(fixed, moving), "rigid").transform.apply(fixed), moving) < 1e-6


def test_sums_that_determine_no_rotation_are_refused() -> None:
    zero = np.zeros(3)
    with pytest.raises(InputError, match="correspond"):
        fit(FitSums(np.diag([5.0, 0, 0]), 5.0, 5.0, 4, zero, zero), "rigid")
    with pytest.raises(InputError, match="correspond"):
        fit(FitSums(np.diag([5.0, -5.0]), 10.0, 10.0, 4, np.zeros(2), np.zeros(2)), "rigid")


def test_four_landmarks_are_known_from_what_is_opened_and_many_points_are_not() -> None:
    """What Docs/privacy/ledger_and_budget.md says of small sets.

    Party 1's own centred points and ones span the space of four points.
    """
    for count, known in ((4, True), (193, False)):
        fixed = cloud(9, count, 3)
        moving = PointSet(moved(fixed, 9, 5.0))
        layout = PointLayout.of(fixed)
        columns, numbers = opened(fixed, moving, layout)
        sums = np.array(numbers[:-1], dtype=float).reshape(4, 3)  # three columns and ones, against x, y, z
        guess = np.linalg.pinv(columns.values.astype(float)) @ sums / layout.scale + np.array(layout.reference)
        error = rms(guess, fixed)
        aligned = rms(fit(floats(fixed, moving.points), "rigid").transform.apply(fixed), moving.points)
        assert (error < 1e-3) == known and (known or error > 0.1 * aligned)
