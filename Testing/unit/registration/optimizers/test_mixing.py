"""A step mixed from two: right where the model errs by a factor, bounded where the two say nothing."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from PPIRLogic.registration.optimizers.mixing import FormerStep


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.9))
def test_a_model_that_errs_by_a_factor_is_mended(seed: int, share: float) -> None:
    """Plain steps go a share of the way along one line: two of them tell the end of it, whatever the Hessian."""
    draw = np.random.default_rng(seed)
    root = draw.standard_normal((4, 4))
    hessian, way = root @ root.T + np.eye(4), draw.standard_normal(4)
    first = share * way
    left = way - first
    step = FormerStep(first, first).mixed(share * left, hessian)
    stretched = np.linalg.norm(left) > 5 * np.linalg.norm(share * left)
    assert np.allclose(step, 5 * share * left if stretched else left)


@given(st.integers(0, 2**32 - 1))
def test_no_step_is_longer_than_five_plain_ones(seed: int) -> None:
    draw = np.random.default_rng(seed)
    root = draw.standard_normal((3, 3))
    hessian = root @ root.T + 0.1 * np.eye(3)
    plain, former, taken = draw.standard_normal((3, 3))
    step = FormerStep(former, taken).mixed(plain, hessian)
    assert step @ hessian @ step <= 25.000001 * plain @ hessian @ plain


def test_the_same_step_twice_says_nothing() -> None:
    plain = np.array([1.0, 2.0])
    assert (FormerStep(plain, plain).mixed(plain, np.eye(2)) == plain).all()
