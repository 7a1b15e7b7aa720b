"""The filter after decoding: strips without seams, any size, and nearer to the image than without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import PPIRLogic
from PPIRLogic.primis import post_filter
from PPIRLogic.primis.codec import decode_levels, encode
from PPIRLogic.primis.model import LOSSY, shipped
from PPIRLogic.primis.post_filter import smoothed


def nothing() -> None:
    pass


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 8), (1, 33, 7)])
def test_pictures_of_any_size_keep_their_size(shape: tuple[int, int, int]) -> None:
    picture = np.random.default_rng(0).random(shape)
    out = smoothed(picture, 14, shipped().filter, nothing)
    assert out.shape == shape and np.isfinite(out).all() and np.abs(out - picture).max() < 0.5


def step_across_blocks(picture: np.ndarray) -> float:
    """How large the steps across the borders of blocks are against those inside them (medians, both directions)."""
    ratios = []
    for turned in (picture.astype(float), picture.T.astype(float)):
        steps = np.abs(np.diff(turned, axis=1))
        border = np.arange(steps.shape[1]) % 8 == 7
        ratios.append((np.median(steps[:, border]) + 0.05) / (np.median(steps[:, ~border]) + 0.05))
    return float(np.mean(ratios))


def test_every_level_comes_nearer_to_an_x_ray_and_the_overview_has_no_seams() -> None:
    """Pictures of patients whom the filter has not seen."""
    files = sorted((Path(PPIRLogic.__file__).parent / "sample_data").glob("chest_xray_*.png"))
    images = [np.asarray(Image.open(file)) for file in files]
    bare = replace(shipped(), filter=b"")
    seams = np.empty((len(images), 3))
    for number, image in enumerate(images):
        coded = encode(image, LOSSY)
        before, after = (decode_levels(coded.codes, coded.shape, coded.dtype, m) for m in (bare, shipped()))
        errors = np.array([[np.mean((x.astype(float) - image) ** 2) for x in shown] for shown in (before, after)])
        gained = 10 * np.log10(errors[0] / errors[1])
        assert gained[0] > 0.4 and (gained > 0).all(), f"{files[number].name}: {gained} dB"
        seams[number] = [step_across_blocks(x) for x in (before[0], after[0], image)]
    without, filtered, original = seams.mean(axis=0)
    assert without > 1.15 * original and filtered < 1.05 * original, seams


def test_strips_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.random.default_rng(1).random((1, 200, 40))
    whole = smoothed(picture, 36, shipped().filter, nothing)
    monkeypatch.setattr(post_filter, "_AT_ONCE", 40 * 64)
    assert np.abs(smoothed(picture, 36, shipped().filter, nothing) - whole).max() < 1e-5
