"""What the tests of images share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume

IDENTITY = {2: (1, 0, 0, 1), 3: (1, 0, 0, 0, 1, 0, 0, 0, 1)}


def grid(*size: int, spacing: tuple[float, ...] | None = None) -> Geometry:
    dim = len(size)
    return Geometry(size, spacing or (1.0,) * dim, (0.0,) * dim, IDENTITY[dim])


def volume(*size: int, seed: int = 0) -> Volume:
    geometry = grid(*size)
    values = np.random.default_rng(seed).normal(100, 30, geometry.array_shape)
    return Volume(values.astype(np.float32), geometry, "test")


def save(array: Any, path: Path, vector: bool = False) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(np.asarray(array), isVector=vector), str(path))
    return path
