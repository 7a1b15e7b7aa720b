"""Volumes in other voxels."""

from __future__ import annotations

import numpy as np

from PPIRLogic.proxy.resampling import resampled


def test_the_same_shape_changes_nothing() -> None:
    volume = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    np.testing.assert_array_equal(resampled(volume, volume.shape), volume)


def test_a_constant_stays_and_a_ramp_stays_a_ramp() -> None:
    np.testing.assert_allclose(resampled(np.full((4, 4), 3), (7, 9)), 3, rtol=1e-6)
    ramp = np.arange(20.0)
    finer = resampled(ramp, (40,))
    np.testing.assert_allclose(finer[2:-2], (np.arange(40)[2:-2] + 0.5) / 2 - 0.5, atol=1e-5)


def test_what_becomes_coarser_is_averaged() -> None:
    stripes = np.tile([0.0, 1.0], 16)
    assert np.ptp(resampled(stripes, (8,))) < 0.1
