"""The transform between grey values and coefficients: in blocks, exact backwards.

Pictures are cut into blocks of 8 x 8 after a filter across the blocks' borders; each block becomes one mean and 63
other coefficients. The means form a small picture, which is treated alike in blocks of 4 x 4. The inverse adds whole
numbers only, in floating point that holds them exactly (all sums stay below 2^53): every machine gets the same values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 1 << 20  # numbers that are worked on together
FRACTION = 14  # binary digits after the point in the inverse's matrices


@dataclass(frozen=True)
class Stage:
    """One size of block. analysis, synthesis: (size^2, size^2) and (size, size) filters across a border, whole numbers
    over 2**FRACTION in the inverse ones."""

    size: int
    analysis: NDArray[np.float64]  # (coefficient, pixel of the block)
    synthesis: NDArray[np.float64]  # (pixel, coefficient), whole numbers
    before: NDArray[np.float64]  # the filter across a border: half a block on each side
    after: NDArray[np.float64]  # its inverse, whole numbers

    @classmethod
    def of(cls, basis: NDArray[np.float64], border: NDArray[np.float64]) -> Stage:
        """From an orthonormal basis (coefficient, pixel) and a filter across borders."""
        whole = 1 << FRACTION
        size = border.shape[0]
        return cls(size, basis, np.rint(basis.T * whole), border, np.rint(np.linalg.inv(border) * whole))


def cosine_basis(size: int) -> NDArray[np.float64]:
    """The cosine transform of blocks (size^2, size^2), coarse frequencies first: where learning begins."""
    k, n = np.mgrid[:size, :size]
    one = np.cos(np.pi * (2 * n + 1) * k / (2 * size)) * np.sqrt(np.where(k == 0, 1, 2) / size)
    both = np.einsum("ab,cd->acbd", one, one).reshape(size * size, size * size)
    y, x = np.divmod(np.arange(size * size), size)
    return both[np.lexsort((y, np.maximum(x, y), x + y))]


def lapped_border(size: int) -> NDArray[np.float64]:
    """The filter across a border that makes blocks of the cosine transform an orthogonal lapped transform."""
    half = size // 2
    n = np.arange(half)
    two = np.cos(np.pi * (2 * n[None] + 1) * n[:, None] / (2 * half)) * np.sqrt(np.where(n[:, None] == 0, 1, 2) / half)
    four = np.cos(np.pi * (2 * n[None] + 1) * (2 * n[:, None] + 1) / (4 * half)) * np.sqrt(2 / half)
    flip = np.eye(half)[::-1]
    turn = flip @ two.T @ four @ flip
    cross = np.block([[np.eye(half), flip], [flip, -np.eye(half)]])
    middle = np.block([[np.eye(half), np.zeros((half, half))], [np.zeros((half, half)), turn]])
    return 0.5 * cross @ middle @ cross


def _across_borders(pictures: NDArray[np.float64], matrix: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """Filter both directions of (..., y, x) across the inner borders; scale 1 means real numbers, else exact ones."""
    size = matrix.shape[0]
    half = size // 2
    out = pictures.copy()
    for axis in (-2, -1):
        swapped = np.swapaxes(out, axis, -1)
        inner = swapped[..., half : swapped.shape[-1] - half]
        if inner.shape[-1] == 0:
            continue
        for rows in _in_parts(inner.shape[-2], inner.shape[0] * inner.shape[-1]):
            part = inner[..., rows, :]
            cut = part.reshape(*part.shape[:-1], -1, size) @ matrix.T
            part[...] = (cut if scale == 1 else np.floor(cut / scale + 0.5)).reshape(part.shape)
    return out


def _in_parts(count: int, each: int) -> Iterator[slice]:
    """Parts of `count` rows of `each` numbers, so that what is only needed for a moment is small."""
    step = max(1, _AT_ONCE // max(each, 1))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def forward(pictures: NDArray[np.float64], stage: Stage) -> NDArray[np.float64]:
    """(slices, y, x), sides multiples of the block's, to coefficients (slices, rows, columns, size^2)."""
    filtered = _across_borders(pictures, stage.before, 1)
    s, h, w = filtered.shape
    n = stage.size
    blocks = filtered.reshape(s, h // n, n, w // n, n).transpose(0, 1, 3, 2, 4)
    out = np.empty((s, h // n, w // n, n * n))
    for rows in _in_parts(h // n, s * n * w):
        out[:, rows] = blocks[:, rows].reshape(s, -1, w // n, n * n) @ stage.analysis.T
    return out


def inverse(coefficients: NDArray[Any], stage: Stage) -> NDArray[np.float64]:
    """Whole coefficients back to whole values (slices, y, x): exact arithmetic, the same on every machine."""
    scale = float(1 << FRACTION)
    n = stage.size
    s, rows, columns, _ = coefficients.shape
    pictures = np.empty((s, rows * n, columns * n))
    split = pictures.reshape(s, rows, n, columns, n).transpose(0, 1, 3, 2, 4)
    for part in _in_parts(rows, s * columns * n * n):
        blocks = np.floor(coefficients[:, part].astype(np.float64) @ stage.synthesis.T / scale + 0.5)
        split[:, part] = blocks.reshape(s, -1, columns, n, n)
    return _across_borders(pictures, stage.after, scale)


def padded(pictures: NDArray[Any], size: int) -> NDArray[Any]:
    """Sides filled up to multiples of `size` by the last row and column."""
    if pictures.shape[1] % size == pictures.shape[2] % size == 0:
        return pictures
    return np.pad(pictures, ((0, 0), (0, -pictures.shape[1] % size), (0, -pictures.shape[2] % size)), mode="edge")
