"""Whole-number sums."""

from __future__ import annotations

import numpy as np

from PPIRLogic.secure.integer_sums import ring_dot


def test_ring_dot_wraps_at_64_bits() -> None:
    a, b = np.array([2**63 - 1, 5], np.int64), np.array([3, -7], np.int64)
    assert ring_dot(a, b) == (((2**63 - 1) * 3 - 35) + 2**63) % 2**64 - 2**63
