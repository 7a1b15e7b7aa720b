"""Volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from images_support import grid

from PPIRLogic.errors import InputError
from PPIRLogic.images.volume import Volume


def test_volume_needs_a_fitting_array() -> None:
    with pytest.raises(InputError, match="does not fit"):
        Volume(np.zeros((5, 4), np.float32), grid(5, 4))
    other: Any = np.zeros((5, 4), np.float64).T
    turned = Volume(other, grid(5, 4))
    assert turned.array.dtype == np.float32
    assert turned.array.flags.c_contiguous
