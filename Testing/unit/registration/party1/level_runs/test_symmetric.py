"""The run that moves both images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from halves_support import PLANE, half_image, level_of, request, wave

from PPIRLogic.progress import CancelToken
from PPIRLogic.registration.levels import Level
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.symmetric.half_image import HalfImage
from PPIRLogic.secure.product import numbers_of
from PPIRLogic.transforms import DiffeoTransform, LinearTransform
from PPIRLogic.transforms.displacement_field import (
    jacobian_determinant,
)


def test_a_whole_that_folds_leaves_the_last_good_field(monkeypatch: pytest.MonkeyPatch) -> None:
    import PPIRLogic.registration.party1.level_runs.symmetric as runs

    good = DiffeoTransform.identity(LinearTransform.identity("affine", PLANE.centre()), PLANE)
    folded = replace(good, field=wave(PLANE, 60.0, 4))
    assert jacobian_determinant(folded.field, PLANE).min() < 0
    for found, kept in ((folded, False), (replace(good, field=wave(PLANE, 1.0, 4)), True)):
        run, level = FakeRun(good), level_of(PLANE)
        one = runs.SymmetricRun(run, FakeSession(level), level, half_image()._warp._moving)  # type: ignore[arg-type]
        monkeypatch.setattr(runs, "whole", lambda affine, first, second, found=found: found)
        one.run(3, 0)
        assert (run.best is found) == kept and (run.best is good) != kept
        assert one.record.reason == ("iterations" if kept else "folding")


class FakeRun:
    """What a level needs of a run."""

    def __init__(self, best: DiffeoTransform) -> None:
        self.best, self.records, self.parameters = best, [], Parameters(threads=1)
        self.halves: Any = None
        self.cancel, self.report_progress = CancelToken(), lambda *a, **k: None


class FakeSession:
    """A peer that answers nothing but zeros."""

    def __init__(self, level: Level) -> None:
        self.request, self.levels, self.geometry = request(), [level], PLANE

    def open_level(self, *_: Any) -> None:
        pass

    def evaluate(self, level: Level, half: HalfImage, stage: str, terms: Any, details: Any = None) -> list[int]:
        return [0] * numbers_of(terms)
