"""Intervals over patients, areas under the curve, and what is said where a package is missing."""

from __future__ import annotations

import numpy as np
import pytest

from PPIRLogic.errors import MissingDependencyError
from PPIRLogic.primis.evidence import area_under_curve, need, over_patients


def test_the_area_is_how_often_pairs_are_in_order() -> None:
    draw = np.random.default_rng(0)
    scores, positive = draw.integers(0, 20, 60).astype(float), draw.random(60) < 0.4
    pairs = scores[positive][:, None] - scores[~positive][None]
    assert area_under_curve(scores, positive) == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))
    assert np.isnan(area_under_curve(scores, np.ones(60, bool)))


def test_an_interval_is_over_patients_not_images() -> None:
    """Ten copies of each image say no more than one."""
    values = np.random.default_rng(0).normal(size=40)
    names = [str(k) for k in range(40)]
    once = over_patients(names, lambda i: float(values[i].mean()))
    often = over_patients([n for n in names for _ in range(10)], lambda i: float(np.repeat(values, 10)[i].mean()))
    assert once.low < once.value < once.high and once.holds(0.0)
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.2)


def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(MissingDependencyError, match=r"no_such_package, which is not installed.*ppir\[train\]"):
        need("no_such_package.linear")
