"""Classifier, segmenter and texture: they learn what is there, and say how much a spoiled image lost.

Only where the extra `train` is installed, as `make test` has it.
"""

from __future__ import annotations

import numpy as np
from chests import chests

from PPIRLogic.primis.evidence import area_under_curve
from PPIRLogic.primis.use import TEXTURES, Classifier, LungSegmenter, dice, texture

TRAIN, TEST = chests(48, 1), chests(32, 2)


def shuffled(images: np.ndarray) -> np.ndarray:
    """The same grey values at other places."""
    return np.random.default_rng(0).permuted(images.reshape(len(images), -1), axis=1).reshape(images.shape)


def test_the_classifier_finds_what_is_there_and_nothing_in_noise() -> None:
    model = Classifier().fit(TRAIN[0], TRAIN[2])
    assert area_under_curve(model.scores(TEST[0]), TEST[2]) > 0.95
    assert area_under_curve(model.scores(shuffled(TEST[0])), TEST[2]) < 0.8


def test_the_segmenter_finds_the_lungs_the_same_for_a_seed() -> None:
    models = [LungSegmenter((4, 8, 8)).fit(*TRAIN[:2], epochs=4, seed=3) for _ in range(2)]
    found = models[0].masks(TEST[0])
    assert dice(found, TEST[1]).mean() > 0.9 and np.array_equal(found, models[1].masks(TEST[0]))
    assert dice(models[0].masks(shuffled(TEST[0])), TEST[1]).mean() < 0.7


def test_texture_follows_what_was_done_to_an_image() -> None:
    smooth = np.array([(i.astype(float) + np.roll(i, 1, 0) + np.roll(i, 1, 1)) / 3 for i in TEST[0]]).astype(np.uint8)
    values = {name: (a, b) for name, a, b in zip(TEXTURES, texture(TEST[0]).T, texture(smooth).T, strict=True)}
    assert np.all(values["contrast"][1] < values["contrast"][0])
    assert np.all(values["homogeneity"][1] > values["homogeneity"][0])
    assert np.array_equal(texture(TEST[0]), texture(TEST[0].copy()))
