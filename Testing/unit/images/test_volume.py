"""Volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from images_support import grid

from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume


def test_volume_needs_a_fitting_array() -> None:
    with pytest.raises(InputError, match="does not fit"):
        Volume(np.zeros((5, 4), np.float32), grid(5, 4))
    other: Any = np.zeros((5, 4), np.float64).T
    turned = Volume(other, grid(5, 4))
    assert turned.array.dtype == np.float32
    assert turned.array.flags.c_contiguous


def test_what_is_no_image() -> None:
    for wrong in (None, "a.nrrd", np.zeros((3, 4))):
        with pytest.raises(InputError, match="Give a SimpleITK image"):
            Volume.from_sitk(wrong)  # type: ignore[arg-type]


def test_values_that_single_precision_would_make_0() -> None:
    with pytest.raises(InputError, match=r"beyond single precision\. Scale them"):
        Volume(np.arange(12.0).reshape(3, 4) * 1e-50, Geometry((4, 3), (1, 1), (0, 0), (1, 0, 0, 1)))
