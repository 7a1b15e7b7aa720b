"""The correlation ratio: one image as any function of the other, from sums of hats alone."""

from __future__ import annotations

import numpy as np
import pytest

from PPIRLogic.arrays import Array
from PPIRLogic.errors import OverlapError
from PPIRLogic.registration.losses.correlation_ratio import KNOTS, WEIGHT, CorrelationRatio, Relation, hats
from PPIRLogic.registration.losses.mutual_information import HIGH, LOW

GENERATOR = np.random.default_rng(8)
INTENSITY = GENERATOR.uniform(LOW, HIGH, 4000)
INSIDE = GENERATOR.random(4000) > 0.2


def relation(j: Array) -> Relation:
    weights = hats(INTENSITY, INSIDE) / WEIGHT
    return Relation.fitted(weights @ weights.T, weights @ j, float(np.square(j[INSIDE]).sum()), int(INSIDE.sum()))


def test_hats_sum_to_their_weight_inside_and_to_nothing_outside() -> None:
    weights = hats(INTENSITY, INSIDE)
    assert weights.shape == (KNOTS, 4000) and weights.min() == 0
    assert np.array_equal(weights.sum(axis=0), WEIGHT * INSIDE)


@pytest.mark.parametrize(
    "function", [lambda i: 0.5 - i, lambda i: np.abs(i - 0.5), lambda i: np.sin(5 * i)], ids=["line", "fold", "wave"]
)
def test_any_relation_of_the_intensities_is_found(function) -> None:  # type: ignore[no-untyped-def]
    j = function(INTENSITY)
    found = relation(j)
    assert found.left < 0.05
    value, slope = found.at(INTENSITY)
    assert np.abs(value - j)[INSIDE].mean() < 0.05
    step = 1e-4
    numeric = (found.at(INTENSITY + step)[0] - found.at(INTENSITY - step)[0]) / (2 * step)
    assert np.median(np.abs(numeric - slope)) < 1e-6, "the slope is that of the function"


def test_images_that_say_nothing_of_each_other() -> None:
    assert relation(GENERATOR.normal(size=4000)).left > 0.98


def test_what_cannot_be_compared() -> None:
    with pytest.raises(OverlapError):
        relation(np.full(4000, 0.3))
    with pytest.raises(OverlapError):
        Relation.fitted(np.zeros((KNOTS, KNOTS)), np.zeros(KNOTS), 0.0, 0)


def test_a_value_opens_nine_numbers() -> None:
    terms = CorrelationRatio().terms(0)
    assert len(terms) == KNOTS + 1 and {t.operand for t in terms} == {"J", "J2"}
