"""Losses from sums alone, against the same losses computed on the arrays."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from PPIRLogic.errors import OverlapError
from PPIRLogic.registration.losses import LOSSES as ALL_LOSSES
from PPIRLogic.registration.losses import Loss, Sums
from PPIRLogic.registration.losses.ncc import NCC
from PPIRLogic.registration.losses.private_mask import PrivateMask, pairs, with_private_mask
from PPIRLogic.registration.losses.ssd import SSD

Array = NDArray[np.float64]
N, D = 400, 5
LOSSES = {name: loss for name, loss in ALL_LOSSES.items() if not (loss.pooled or loss.two_sided)}  # least squares


class Scene:
    """A moving image that is linear in d parameters, a fixed one that resembles it, and an overlap."""

    def __init__(self, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self.overlap = (generator.random(N) < 0.8).astype(float)
        self.s = generator.standard_normal((D, N)) * np.array([1, 30, 0.1, 5, 1])[:, None] * self.overlap
        self.i = generator.uniform(-0.5, 1, N) * self.overlap
        self.j = 0.7 * self.i + 0.2 + 0.3 * generator.standard_normal(N)

    def columns(self, weight: Array | None = None) -> Array:
        """S, I, Ω, restricted to `weight`."""
        return np.vstack([self.s, self.i, self.overlap]) * (1.0 if weight is None else weight)

    def sums(self, loss: Loss, weight: Array | None = None) -> Sums:
        columns, fixed = self.columns(weight), {"J": self.j, "J2": self.j**2}
        joint = {(t.column, t.operand): float(columns[t.column] @ fixed[t.operand]) for t in loss.terms(D)}
        return Sums(columns @ columns.T, joint)

    def at(self, theta: Array) -> Scene:
        moved = Scene.__new__(Scene)
        moved.overlap, moved.s, moved.j, moved.i = self.overlap, self.s, self.j, self.i + theta @ self.s
        return moved


def direct(scene: Scene, name: str, inside: NDArray[np.bool_] | None = None) -> float:
    """The loss as a textbook has it, on the voxels inside."""
    use = scene.overlap > 0 if inside is None else (scene.overlap > 0) & inside
    i, j = scene.i[use], scene.j[use]
    return float(np.mean((i - j) ** 2)) if name == "ssd" else float(1 - np.corrcoef(i, j)[0, 1] ** 2)


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


# ------------------------------------------------------------------------------------------ private mask


def masked_sums(scene: Scene, loss: PrivateMask, mask: Array) -> Sums:
    """What is opened with a private mask: party 1's own sums are of no use and left out."""
    own = scene.columns()
    products = np.vstack([own, [own[i] * own[j] for i, j in pairs(len(own))]])
    fixed = {"MJ": mask * scene.j, "MJ2": mask * scene.j**2, "M": mask}
    joint = {(t.column, t.operand): float(products[t.column] @ fixed[t.operand]) for t in loss.terms(D)}
    return Sums(np.full((D + 2, D + 2), np.nan), joint)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_private_mask_gives_the_loss_inside_of_it(name: str) -> None:
    scene, loss = Scene(7), LOSSES[name]
    mask = (np.random.default_rng(8).random(N) < 0.4).astype(float)
    hidden = with_private_mask(loss).evaluate(masked_sums(scene, with_private_mask(loss), mask))
    open_ = loss.evaluate(scene.sums(loss, weight=mask))
    assert np.isclose(hidden.value, direct(scene, name, mask > 0), rtol=1e-9)
    assert hidden.overlap == (mask * scene.overlap).sum()
    assert np.allclose(hidden.gradient, open_.gradient, rtol=1e-9)
    assert np.allclose(hidden.hessian, open_.hessian, rtol=1e-9)
    assert not np.isclose(hidden.value, direct(scene, name), rtol=1e-3)


def test_pairs_are_each_product_once_in_order() -> None:
    listed = pairs(4)
    assert len(listed) == 10 and all(a < b for a, b in pairwise(listed))
    assert all(i <= j < 4 for i, j in listed)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_private_mask_outside_of_the_overlap_is_an_overlap_error(name: str) -> None:
    scene, loss = Scene(9), with_private_mask(LOSSES[name])
    with pytest.raises(OverlapError, match="No voxel of the fixed image"):
        loss.evaluate(masked_sums(scene, loss, 1 - scene.overlap))


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
