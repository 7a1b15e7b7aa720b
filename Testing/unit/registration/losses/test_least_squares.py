"""ssd and ncc from sums alone, against the same losses computed on the arrays."""

from __future__ import annotations

import numpy as np
import pytest
from least_squares_support import LOSSES, D, N, Scene, direct

from PPIRLogic.errors import OverlapError
from PPIRLogic.registration.losses.ncc import NCC
from PPIRLogic.registration.losses.private_mask import with_private_mask
from PPIRLogic.registration.losses.ssd import SSD


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_value_and_overlap_are_those_of_the_arrays(name: str) -> None:
    for seed in range(3):
        scene = Scene(seed)
        found = LOSSES[name].evaluate(scene.sums(LOSSES[name]))
        assert np.isclose(found.value, direct(scene, name), rtol=1e-10)
        assert found.overlap == scene.overlap.sum()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradient_is_that_of_finite_differences(name: str) -> None:
    """Up to the positive factor between the value and the least-squares form that is minimised."""
    scene, loss = Scene(1), LOSSES[name]
    found = loss.evaluate(scene.sums(loss))
    j = scene.j[scene.overlap > 0]
    factor = 2 / j.size if name == "ssd" else 2 / (j.size * j.var())
    for k in range(D):
        step = np.eye(D)[k] * 1e-5 / np.abs(scene.s[k]).max()
        slope = (direct(scene.at(step), name) - direct(scene.at(-step), name)) / (2 * step[k])
        assert np.isclose(found.gradient[k] * factor, slope, rtol=1e-5, atol=1e-9)


def test_ssd_has_the_hessian_of_its_quadratic() -> None:
    scene = Scene(2)
    found = SSD().evaluate(scene.sums(SSD()))
    theta = np.linalg.solve(found.hessian, -found.gradient)
    least = SSD().evaluate(scene.at(theta).sums(SSD()))
    assert np.abs(least.gradient).max() < 1e-9 * np.abs(found.gradient).max()
    predicted = found.value + (2 * found.gradient @ theta + theta @ found.hessian @ theta) / found.overlap
    assert np.isclose(least.value, predicted, rtol=1e-10)


def test_ncc_model_is_least_squares_with_gain_and_offset_projected_out() -> None:
    scene = Scene(3)
    found = NCC().evaluate(scene.sums(NCC()))
    use = scene.overlap > 0
    basis = np.column_stack([scene.i[use], np.ones(use.sum())])
    (gain, offset), *_ = np.linalg.lstsq(basis, scene.j[use], rcond=None)
    rest = gain * scene.s[:, use] - (gain * scene.s[:, use]) @ basis @ np.linalg.pinv(basis)
    assert np.allclose(found.hessian, rest @ rest.T, rtol=1e-9)
    residual = scene.j[use] - gain * scene.i[use] - offset
    assert np.allclose(found.gradient, -gain * scene.s[:, use] @ residual, rtol=1e-9)


@pytest.mark.parametrize(("gain", "offset"), [(2.5, 0.0), (1.0, 0.4), (-0.3, -1.0)])
def test_ncc_does_not_see_gain_and_offset_of_either_image(gain: float, offset: float) -> None:
    scene = Scene(4)
    before = NCC().evaluate(scene.sums(NCC()))
    moving, fixed = Scene(4), Scene(4)
    moving.i, moving.s = (gain * scene.i + offset) * scene.overlap, gain * scene.s
    fixed.j = gain * scene.j + offset
    for changed, power in ((moving, 0), (fixed, 2)):
        after = NCC().evaluate(changed.sums(NCC()))
        assert np.isclose(after.value, before.value, rtol=1e-9)
        assert np.allclose(after.gradient, before.gradient * gain**power, rtol=1e-8)
        assert np.allclose(after.hessian, before.hessian * gain**power, rtol=1e-8)
    assert SSD().evaluate(fixed.sums(SSD())).value != pytest.approx(SSD().evaluate(scene.sums(SSD())).value)


def test_ncc_runs_from_one_to_zero() -> None:
    scene = Scene(5)
    scene.j = -3 * scene.i + 1
    assert abs(NCC().evaluate(scene.sums(NCC())).value) < 1e-9
    scene.j = np.random.default_rng(0).standard_normal(N)
    assert 0.9 < NCC().evaluate(scene.sums(NCC())).value <= 1


@pytest.mark.parametrize("which", ["i", "j"])
def test_a_constant_image_is_an_overlap_error(which: str) -> None:
    scene = Scene(6)
    setattr(scene, which, np.full(N, 0.25) * scene.overlap)
    with pytest.raises(OverlapError):
        NCC().evaluate(scene.sums(NCC()))


@pytest.mark.parametrize(("name", "numbers"), [("ssd", D + 2), ("ncc", D + 3)])
def test_numbers_opened_are_those_that_the_docstring_counts(name: str, numbers: int) -> None:
    loss = LOSSES[name]
    terms = loss.terms(D)
    assert len(terms) == len({(t.column, t.operand) for t in terms}) == numbers
    assert {t.operand for t in terms} == set(loss.operands) and max(t.column for t in terms) == D + 1
    assert len(with_private_mask(loss).terms(D)) == numbers + (D + 2) * (D + 3) // 2


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_an_empty_overlap_is_an_overlap_error(name: str) -> None:
    scene, loss = Scene(9), LOSSES[name]
    with pytest.raises(OverlapError, match=r"No voxel of the fixed image.*initial transform"):
        loss.evaluate(scene.sums(loss, weight=np.zeros(N)))


def test_one_voxel_is_an_overlap() -> None:
    scene, one = Scene(9), np.zeros(N)
    one[np.flatnonzero(scene.overlap)[0]] = 1
    assert SSD().evaluate(scene.sums(SSD(), weight=one)).overlap == 1
