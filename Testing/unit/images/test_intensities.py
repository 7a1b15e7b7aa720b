"""Intensities: robust range, normalisation, filling."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images_support import grid, volume

from PPIRLogic.errors import InputError
from PPIRLogic.images import intensities
from PPIRLogic.images.intensities import fill_outside, normalise, robust_range
from PPIRLogic.images.volume import Volume


def test_robust_range() -> None:
    image = Volume(np.arange(10000, dtype=np.float32).reshape(100, 100), grid(100, 100), "ramp")
    found = robust_range(image)
    assert found.low == pytest.approx(99.99, abs=0.01)
    assert found.high == pytest.approx(9899.01, abs=0.01)
    inside = image.array < 101
    assert robust_range(image, inside, (0, 100)).high == 100
    sparse = Volume(np.where(image.array == 5000, 9, 2).astype(np.float32), image.geometry, "dot")
    assert (robust_range(sparse).low, robust_range(sparse).high) == (2, 9)
    with pytest.raises(InputError, match="'dot' is constant inside its mask"):
        robust_range(sparse, inside)
    with pytest.raises(InputError, match="mask of 'ramp' is empty"):
        robust_range(image, np.zeros((100, 100), bool))
    with pytest.raises(InputError, match="Percentiles must rise"):
        robust_range(image, percentiles=(99, 1))


@settings(max_examples=20, deadline=None)
@given(st.floats(-1000, 1000), st.floats(0.1, 1000))
def test_normalise(low: float, width: float) -> None:
    low, high = float(np.float32(low)), float(np.float32(low + width))
    values = np.array([[low, high], [low - 10 * width, high + 10 * width]], np.float32)
    out = normalise(Volume(values, grid(2, 2)), intensities.Normalisation(low, high, "test"))
    assert np.allclose(out.array, np.array([[0, 1], [-0.5, 1.5]]), atol=1e-6)
    assert out.array.dtype == np.float32


def test_large_image_is_quick() -> None:
    image = Volume(np.random.default_rng(0).random((180, 217, 181), dtype=np.float32), grid(181, 217, 180))
    start = time.perf_counter()
    out = normalise(image, robust_range(image))
    assert time.perf_counter() - start < 2  # 0.1 s on an idle machine
    assert abs(float(out.array.mean()) - 0.5) < 0.01


def test_fill_outside() -> None:
    image = volume(8, 7, 6)
    mask = np.zeros((6, 7, 8), bool)
    mask[2:4, 2:5, 1:6] = True
    filled = fill_outside(image, mask)
    assert np.array_equal(filled.array[mask], image.array[mask])
    assert np.allclose(filled.array[~mask], image.array[mask].mean(), rtol=1e-6)
    with pytest.raises(InputError, match="is empty"):
        fill_outside(image, np.zeros((6, 7, 8), bool))
    with pytest.raises(InputError, match="has shape"):
        fill_outside(image, mask[0])
