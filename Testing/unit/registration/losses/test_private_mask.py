"""Losses inside a mask that only party 2 knows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from least_squares_support import LOSSES, Array, D, N, Scene, direct

from PPIRLogic.errors import OverlapError
from PPIRLogic.registration.losses import Sums
from PPIRLogic.registration.losses.private_mask import PrivateMask, pairs, with_private_mask


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
