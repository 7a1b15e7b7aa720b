"""Scales of columns."""

from __future__ import annotations

import pytest

from PPIRLogic.registration.columns.scales import power_of_two_below


@pytest.mark.parametrize(("value", "power"), [(1.0, 1.0), (1.99, 1.0), (0.3, 0.25), (1000.0, 512.0)])
def test_power_of_two_below(value: float, power: float) -> None:
    assert power_of_two_below(value) == power
