"""The filter after decoding: strips without seams, any size, and nearer to the image than without it."""

from __future__ import annotations

import numpy as np
import pytest

from PPIRLogic.primis import post_filter
from PPIRLogic.primis.model import shipped
from PPIRLogic.primis.post_filter import smoothed


def nothing() -> None:
    pass


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 8), (1, 33, 7)])
def test_pictures_of_any_size_keep_their_size(shape: tuple[int, int, int]) -> None:
    picture = np.random.default_rng(0).random(shape)
    out = smoothed(picture, 14, shipped().filter, nothing)
    assert out.shape == shape and np.isfinite(out).all() and np.abs(out - picture).max() < 0.5


def test_strips_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.random.default_rng(1).random((1, 200, 40))
    whole = smoothed(picture, 36, shipped().filter, nothing)
    monkeypatch.setattr(post_filter, "_AT_ONCE", 40 * 64)
    assert np.abs(smoothed(picture, 36, shipped().filter, nothing) - whole).max() < 1e-5
