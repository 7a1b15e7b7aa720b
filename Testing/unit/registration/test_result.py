"""When the result of a run that ended is in doubt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from PPIRLogic.registration.result import LevelRecord, RegistrationResult
from PPIRLogic.transforms import LinearTransform

LEVEL = LevelRecord(1, [24, 24], [1.0, 1.0], 576)


@pytest.mark.parametrize(
    ("levels", "doubtful"),
    [
        ([{"evaluations": 8, "reason": "step"}, {"evaluations": 8, "reason": "damping"}], True),
        ([{"evaluations": 1, "reason": "step"}], False),  # it began at the minimum
        ([{"evaluations": 8, "reason": "loss"}], False),  # flat: the minimum
        ([{"evaluations": 8, "reason": "step"}, {"evaluations": 8, "iterations": 1, "reason": "step"}], False),
    ],
)
def test_a_run_that_never_took_a_step(levels: list[dict[str, Any]], doubtful: bool) -> None:
    result = RegistrationResult.__new__(RegistrationResult)
    result.levels, result.covered, result.inside = [replace(LEVEL, **values) for values in levels], None, None
    result.check = None
    result.linear = LinearTransform.identity("rigid", [0.0, 0.0])
    assert ("No step was accepted" in result.doubt) == doubtful
