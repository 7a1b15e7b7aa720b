"""A volume in other voxels: linear between them, and averaged where they become larger."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


def resampled(volume: NDArray[Any], shape: Sequence[int]) -> NDArray[np.float32]:
    """The same extent in `shape` voxels, axis by axis.

    >>> resampled(np.array([[0, 2, 4, 6]]), (1, 2)).round(2).tolist()
    [[1.0, 5.0]]
    """
    out = np.asarray(volume, np.float32)
    for axis, many in enumerate(shape):
        few = out.shape[axis]
        if few != many:
            out = np.moveaxis(np.tensordot(_weights(few, many), out, (1, axis)), 0, axis)
    return np.ascontiguousarray(out)


@lru_cache(maxsize=64)
def _weights(few: int, many: int) -> NDArray[np.float32]:
    wide = max(1.0, few / many)
    at = np.clip((np.arange(many) + 0.5) * few / many - 0.5, 0, few - 1)
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(few)) / wide)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
