"""How large sums may be to stay exact: of absolute values and of norms."""

from __future__ import annotations

import math

import pytest

from PPIRLogic.errors import FixedPointError
from PPIRLogic.secure.exact_range import check_range
from PPIRLogic.secure.fhe.parameters import PLAIN_MODULUS, Q

MOST_NOISE = 2.0**-41 * Q / PLAIN_MODULUS  # it carries into a number with this share of a step Q/t


def test_range_of_a_sum() -> None:
    check_range((PLAIN_MODULUS - 1) // 2, 1.0, 1)
    with pytest.raises(FixedPointError, match="Nothing was sent"):
        check_range((PLAIN_MODULUS + 1) // 2, 1.0, 1)


def test_range_of_a_norm() -> None:
    limit = MOST_NOISE / 26
    check_range(1, limit * (1 - 1e-12), 0)
    with pytest.raises(FixedPointError, match="Nothing was sent"):
        check_range(1, limit * (1 + 1e-12), 0)


def test_range_of_an_absolute_sum() -> None:
    limit = math.floor(2 * MOST_NOISE)
    check_range(1, 0.0, limit)
    with pytest.raises(FixedPointError, match="Nothing was sent"):
        check_range(1, 0.0, limit + 1)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_norm_and_absolute_sum_share_one_range(share: float) -> None:
    norm, absolute_sum = share * MOST_NOISE / 26, (1 - share) * 2 * MOST_NOISE
    check_range(1, norm, math.floor(absolute_sum * (1 - 1e-9)))
    with pytest.raises(FixedPointError, match="Nothing was sent"):
        check_range(1, norm, math.ceil(absolute_sum * (1 + 1e-9)))
