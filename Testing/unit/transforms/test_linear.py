"""Linear transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from PPIRLogic.errors import InputError
from PPIRLogic.transforms import KINDS, LinearTransform, parameter_count
from PPIRLogic.transforms.linear import TYPED

CASES = [(kind, dim) for kind in KINDS for dim in (2, 3)]


@st.composite
def transforms(draw: st.DrawFn) -> LinearTransform:
    kind, dim = draw(st.sampled_from(CASES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    start = LinearTransform.identity(kind, rng.uniform(-300, 300, dim))
    step = rng.normal(size=start.parameters)
    step[:-dim] *= draw(
        st.sampled_from([0.0, 0.02, 0.3]) if kind == "affine" else st.sampled_from([0.0, 1e-9, 0.3, 2.0])
    )
    step[-dim:] *= 40
    return start.updated(step, 1.0)


def points(seed: int, dim: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(seed).uniform(-400, 400, (7, dim))


@settings(max_examples=80, deadline=None)
@given(transforms(), st.integers(0, 1000))
def test_itk_maps_the_same(transform: LinearTransform, seed: int) -> None:
    x = points(seed, transform.dimension)
    item = transform.to_sitk()
    assert np.allclose(transform.apply(x), [item.TransformPoint(p.tolist()) for p in x], atol=1e-8)
    affine = transform.affine()
    assert np.allclose(transform.apply(x), x @ affine[:, :-1].T + affine[:, -1], atol=1e-8)


@settings(max_examples=80, deadline=None)
@given(transforms(), st.integers(0, 1000))
def test_round_trip_about_another_centre(transform: LinearTransform, seed: int) -> None:
    x = points(seed, transform.dimension)
    for centre in (transform.centre, x[0]):
        for item in (transform.to_sitk(), sitk.CompositeTransform([transform.to_sitk()])):
            back = LinearTransform.from_sitk(item, transform.kind, centre, transform.dimension)
            assert back.kind == transform.kind
            assert np.array_equal(back.centre, centre)
            assert transform.max_displacement(back, x) < 1e-7


@settings(max_examples=80, deadline=None)
@given(transforms(), st.floats(1, 200), st.integers(0, 1000))
def test_basis_is_the_derivative_of_updated(transform: LinearTransform, scale: float, seed: int) -> None:
    x = points(seed, transform.dimension)
    basis = transform.basis(scale)
    assert basis.shape == (transform.parameters, transform.dimension, transform.dimension + 1)
    step = 1e-5
    for k, row in enumerate(basis):
        delta = np.zeros(transform.parameters)
        delta[k] = step
        plus, minus = transform.updated(delta, scale), transform.updated(-delta, scale)
        numeric = (plus.apply(x) - minus.apply(x)) / (2 * step)
        analytic = (x - transform.centre) @ row[:, :-1].T + row[:, -1]
        assert np.abs(numeric - analytic).max() < 1e-5 * max(1, np.abs(analytic).max())


@pytest.mark.parametrize(("kind", "dim"), CASES)
def test_a_unit_of_any_parameter_is_about_a_millimetre(kind: str, dim: int) -> None:
    start = LinearTransform.identity(kind, np.zeros(dim))
    directions = np.random.default_rng(0).normal(size=(500, dim))
    sphere = 80 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    for k in range(start.parameters):
        delta = np.zeros(start.parameters)
        delta[k] = 1.0
        assert 0.9 < start.updated(delta, 80.0).max_displacement(start, sphere) < 1.02


def test_parameter_counts() -> None:
    assert [parameter_count(kind, 2) for kind in KINDS] == [2, 3, 4, 6]
    assert [parameter_count(kind, 3) for kind in KINDS] == [3, 6, 7, 12]
    with pytest.raises(InputError, match="Unknown kind of transform 'bent'"):
        parameter_count("bent", 3)
    with pytest.raises(InputError, match="not 4D"):
        parameter_count("rigid", 4)


def test_parameter_order() -> None:
    turn = LinearTransform.identity("rigid", [0, 0, 0]).updated([0, 0, np.pi / 2, 1, 2, 3], 1.0)
    assert np.allclose(turn.apply([[1, 0, 0]]), [[1, 3, 3]])  # about z, x goes to y
    grow = LinearTransform.identity("similarity", [1, 1]).updated([0, np.log(2), 0, 0], 1.0)
    assert np.allclose(grow.apply([[2, 3]]), [[3, 5]])
    skew = LinearTransform.identity("affine", [0, 0]).updated([0, 0.5, 0, 0, 0, 0], 1.0)
    assert np.allclose(skew.apply([[0, 2]]), [[1, 2]])


def test_rotations_do_not_drift() -> None:
    rng = np.random.default_rng(0)
    for kind, dim in (("rigid", 2), ("rigid", 3), ("similarity", 3)):
        transform = LinearTransform.identity(kind, np.zeros(dim))
        for _ in range(500):
            transform = transform.updated(rng.normal(size=transform.parameters), 20.0)
        scale = abs(np.linalg.det(transform.matrix)) ** (1 / dim)
        gram = transform.matrix.T @ transform.matrix / scale**2
        assert np.abs(gram - np.eye(dim)).max() < 1e-13
        assert np.linalg.det(transform.matrix) > 0
        assert kind == "similarity" or abs(scale - 1) < 1e-14


@pytest.mark.parametrize(("kind", "dim"), CASES)
def test_tiny_steps_survive_itk(kind: str, dim: int) -> None:
    start = LinearTransform.identity(kind, np.zeros(dim))
    transform = start.updated(np.full(start.parameters, 1e-9), 1.0)
    back = LinearTransform.from_sitk(transform.to_sitk(), kind, np.zeros(dim), dim)
    assert transform.max_displacement(back, points(0, dim)) < 1e-9


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_turn(axis: int) -> None:
    delta = np.zeros(6)
    delta[axis] = np.pi
    turn = LinearTransform.identity("rigid", [10, 20, 30]).updated(delta, 1.0)
    x = points(0, 3)
    assert np.allclose(turn.apply(x), [turn.to_sitk().TransformPoint(p.tolist()) for p in x])


def test_bad_values() -> None:
    start = LinearTransform.identity("rigid", [0, 0, 0])
    for delta in ([0] * 5, [np.nan] * 6):
        with pytest.raises(InputError, match="has 6 finite parameters"):
            start.updated(delta, 1.0)
    for scale in (0.0, -1.0, np.nan):
        with pytest.raises(InputError, match="positive number of mm"):
            start.basis(scale)
    with pytest.raises(InputError, match="matrix of a transform holds values that are not finite"):
        LinearTransform("affine", np.full((2, 2), np.nan), np.zeros(2), np.zeros(2))
    with pytest.raises(InputError, match="do not have one dimension"):
        LinearTransform("affine", np.eye(2), np.zeros(3), np.zeros(2))
    with pytest.raises(InputError, match="Unknown kind"):
        LinearTransform("bent", np.eye(2), np.zeros(2), np.zeros(2))


def test_every_linear_class_of_itk() -> None:
    euler = sitk.Euler3DTransform((10, 20, 30), 0.1, -0.2, 0.3, (4, 5, 6))
    versor = sitk.VersorTransform((0, 0, 1), 0.4, (1, 2, 3))
    shift = sitk.TranslationTransform(3, (7, 8, 9))
    several = sitk.CompositeTransform([euler, versor, shift])
    wrapped = sitk.Transform(euler)
    for item in (euler, versor, shift, several, wrapped, sitk.Transform(3, sitk.sitkIdentity), euler.GetInverse()):
        found = LinearTransform.from_sitk(item, "rigid", (1, 1, 1), 3)
        x = points(3, 3)
        assert np.allclose(found.apply(x), [item.TransformPoint(p.tolist()) for p in x], atol=1e-8)


def test_what_a_kind_cannot_represent() -> None:
    centre = (0.0, 0.0, 0.0)
    affine = sitk.AffineTransform(3)
    affine.SetMatrix((1, 0.1, 0, 0, 1, 0, 0, 0, 1))
    with pytest.raises(InputError, match=r"more than kind 'rigid' can represent\. Choose affine,"):
        LinearTransform.from_sitk(affine, "rigid", centre, 3)
    affine.SetMatrix((2, 0, 0, 0, 2, 0, 0, 0, 2))
    with pytest.raises(InputError, match="Choose similarity or affine"):
        LinearTransform.from_sitk(affine, "translation", centre, 3)
    affine.SetMatrix((-1, 0, 0, 0, 1, 0, 0, 0, 1))
    with pytest.raises(InputError, match="Choose affine"):
        LinearTransform.from_sitk(affine, "similarity", centre, 3)
    assert LinearTransform.from_sitk(affine, "affine", centre, 3).matrix[0, 0] == -1
    with pytest.raises(InputError, match="Choose rigid or similarity or affine"):
        LinearTransform.from_sitk(sitk.Euler3DTransform(centre, 0.1), "translation", centre, 3)
    affine.SetMatrix((1, 4e-7, 0, 0, 1, 0, 0, 0, 1))
    assert LinearTransform.from_sitk(affine, "translation", centre, 3).kind == "translation"


def test_transforms_that_do_not_fit() -> None:
    centre = (0.0, 0.0, 0.0)
    with pytest.raises(InputError, match="transform is 2D but the images are 3D"):
        LinearTransform.from_sitk(sitk.Euler2DTransform(), "rigid", centre, 3)
    for item in (sitk.DisplacementFieldTransform(3), sitk.BSplineTransform(3)):
        with pytest.raises(InputError, match="is not linear"):
            LinearTransform.from_sitk(item, "affine", centre, 3)
        with pytest.raises(InputError, match="is not linear"):
            LinearTransform.from_sitk(sitk.CompositeTransform([sitk.AffineTransform(3), item]), "affine", centre, 3)
    singular = sitk.ScaleTransform(3, (1, 1, 1e-9))
    with pytest.raises(InputError, match="cannot be inverted"):
        LinearTransform.from_sitk(singular, "affine", centre, 3)
    broken = sitk.TranslationTransform(3, (0, float("nan"), 0))
    with pytest.raises(InputError, match="not finite"):
        LinearTransform.from_sitk(broken, "affine", centre, 3)
    with pytest.raises(InputError, match="Unknown kind"):
        LinearTransform.from_sitk(singular, "bent", centre, 3)


@pytest.mark.parametrize("kind", ["rigid", "similarity"])
def test_a_rotation_typed_with_four_decimals_is_taken_within_its_tolerance(kind: str) -> None:
    turn = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.3, -0.2, 0.1, (5.0, 0.0, 2.0))
    typed = sitk.AffineTransform(3)
    typed.SetMatrix([round(v, 4) for v in turn.GetMatrix()])
    typed.SetTranslation(turn.GetTranslation())
    with pytest.raises(InputError, match="more than kind"):
        LinearTransform.from_sitk(typed, kind, (0, 0, 0), 3)
    found = LinearTransform.from_sitk(typed, kind, (0, 0, 0), 3, TYPED)
    assert np.abs(found.matrix - np.reshape(turn.GetMatrix(), (3, 3))).max() < 1e-4
    assert np.linalg.norm(found.matrix, 2) == pytest.approx(1, abs=1e-4 if kind == "similarity" else 1e-12)
    typed.SetMatrix([round(v, 2) for v in turn.GetMatrix()])
    with pytest.raises(InputError, match="more than kind"):
        LinearTransform.from_sitk(typed, kind, (0, 0, 0), 3, TYPED)
