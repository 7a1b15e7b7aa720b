"""Intensities: robust range, normalisation, filling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from images_support import grid, volume

from PPIRLogic.errors import InputError
from PPIRLogic.images import intensities
from PPIRLogic.images.intensities import fill_outside, normalise, padding_of, robust_range
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


@pytest.mark.parametrize("value", [-3024.0, -2000.0, -32768.0, 1e9])
def test_padding_hides_no_tissue(value: float) -> None:
    scan = np.random.default_rng(1).uniform(-1000, 1000, (60, 60)).astype(np.float32)
    padded = scan.copy()
    padded[:, :12] = value
    found = padding_of(padded)
    assert found is not None and found.certain and (found.value, found.voxels) == (value, 720)
    clean, ours = robust_range(Volume(scan, grid(60, 60))), robust_range(Volume(padded, grid(60, 60)))
    assert ours.padding == value and clean.padding is None
    assert (ours.low, ours.high) == pytest.approx((clean.low, clean.high), abs=20)
    out = normalise(Volume(padded, grid(60, 60)), ours).array
    assert np.ptp(out[:, :12]) == 0 and out[0, 0] == pytest.approx(out[:, 12:].mean()) and out[:, 12:].std() > 0.25
    inside = np.ones((60, 60), bool)
    inside[:, :12] = False
    assert robust_range(Volume(padded, grid(60, 60)), inside).padding is None


@pytest.mark.parametrize("value", [0.0, -1024.0])
def test_what_may_have_been_measured_is_a_hint_and_changes_nothing(value: float) -> None:
    brain = np.random.default_rng(1).uniform(400, 900, (60, 60)).astype(np.float32)
    brain[:, :30] = value
    found = padding_of(brain)
    assert found is not None and not found.certain and "give a mask" in found.describe("The image")
    image = Volume(brain, grid(60, 60))
    assert robust_range(image).padding is None and robust_range(image).low == value


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.floats(-1e5, 1e5), st.floats(1e-3, 1e5))
@example(0, 65536.0, 0.015625)  # three values, by rounding
def test_images_without_padding_have_none(seed: int, low: float, width: float) -> None:
    values = np.random.default_rng(seed).uniform(low, low + width, (40, 40)).astype(np.float32)
    found = padding_of(values)
    assert found is None
    assert padding_of(np.full((4, 4), low, np.float32)) is None


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
