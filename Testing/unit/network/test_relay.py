"""The limits of a relay, and that nothing but what its audit names leaves it."""

from __future__ import annotations

from typing import Any

import pytest

from PPIRLogic.errors import InputError
from PPIRLogic.network.relay import RelayLimits


@pytest.mark.parametrize(
    "wrong",
    [{"lines": 0}, {"of_caller": 0}, {"of_room": -1}, {"hours": 0.0}, {"hours": float("nan")}, {"hours": 1e9}],
    ids=["lines", "caller", "room", "no time", "nan", "for ever"],
)
def test_limits_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="at least one line"):
        RelayLimits(**wrong)


def test_the_usual_limits() -> None:
    usual = RelayLimits()
    assert usual.of_caller <= usual.of_room <= usual.lines and usual.hours <= 24
