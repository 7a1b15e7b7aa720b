"""Whether something in a picture looks like a line of text: a warning for its owner, and no proof of its absence.

A line of letters is a row of narrow strokes of one brightness, with empty rows above and below. Single letters, such as
the marks of left and right on an X-ray, are left aside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

HEIGHTS = (5, 7, 10, 14)  # rows of a line that are looked for; higher ones are found in the picture at half its size
SCALES = (1, 2, 4)
MAX_SIDE = 512  # pixels of a side: larger pictures are made smaller first
CONTRAST = 77  # of 255 grey values, by which strokes differ from what is behind them
LETTERS = 4  # heights that a line is long at least
FILLED = (0.15, 0.62)  # part of a line that is strokes
STROKES = 4.5  # in a row of such a length, on the mean
APART = 0.06  # of the rows above and below a line may be strokes
SLICES = 5  # of a volume that are looked at


def looks_like_text(pixels: NDArray[Any]) -> bool:
    """Whether a picture (y, x), or one of some slices of a volume (z, y, x), has something like a line of text.

    >>> looks_like_text(np.add.outer(np.arange(100), np.arange(120)).astype(np.uint8))
    False
    """
    slices = pixels.reshape(-1, *pixels.shape[-2:])
    chosen = np.unique(np.linspace(0, len(slices) - 1, SLICES).round().astype(int))
    return any(_in_plane(slices[number]) for number in chosen)


def _in_plane(plane: NDArray[Any]) -> bool:
    step = -(-max(plane.shape) // MAX_SIDE)
    low, high = np.percentile(plane[:: 2 * step, :: 2 * step], (0.1, 99.9))
    if high <= low:
        return False
    grey = (np.clip((_smaller(plane, step) - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    for scale in SCALES:
        small = _smaller(grey, scale)
        if min(small.shape) >= 3 * HEIGHTS[0] and any(
            _line(_strokes(one, height), height) for height in HEIGHTS for one in (small, 255 - small)
        ):
            return True
    return False


def _smaller(picture: NDArray[Any], step: int) -> NDArray[Any]:
    """Means of squares of `step` pixels a side."""
    if step == 1:
        return picture
    rows, columns = (n // step * step for n in picture.shape)
    parts = (picture[i:rows:step, j:columns:step].astype(np.float32) for i in range(step) for j in range(step))
    return np.asarray(sum(parts) / step**2).astype(picture.dtype)


def _strokes(grey: NDArray[Any], height: int) -> NDArray[np.bool_]:
    """What is brighter than all around it and narrower than a letter."""
    size = height // 2 + 2
    opened = grey
    for change in (np.minimum, np.maximum):
        for axis in (0, 1):
            opened = _running(opened, size, axis, change)
    return np.asarray(grey - opened > CONTRAST)


def _running(values: NDArray[Any], size: int, axis: int, change: Any) -> NDArray[Any]:
    """The least or largest of `size` neighbours along an axis; back in place when it was done both ways."""
    before = size // 2 if change is np.minimum else size - 1 - size // 2
    wide = np.pad(values, [(before, size - 1 - before) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
    count = values.shape[axis]
    shifted = [wide[s : s + count] if axis == 0 else wide[:, s : s + count] for s in range(size)]
    out = shifted[0].copy()
    for one in shifted[1:]:
        change(out, one, out=out)
    return out


def _line(strokes: NDArray[np.bool_], height: int) -> bool:
    """Whether a window of this height, as long as some letters, holds rows of strokes, and nothing above and below."""
    length, margin = LETTERS * height, max(2, height // 4)
    rows, columns = strokes.shape
    if rows < height + 2 * margin or columns < length:
        return False
    starts = np.zeros(strokes.shape, np.bool_)
    starts[:, 1:] = strokes[:, 1:] & ~strokes[:, :-1]
    filled, begun = _sums(strokes), _sums(starts)

    def box(sums: NDArray[np.int32], top: int, tall: int) -> NDArray[Any]:
        """Sums of boxes whose upper left corner is `top` rows below that of each window with its margins."""
        count = rows - height - 2 * margin + 1
        a, b = sums[top : top + count], sums[top + tall : top + tall + count]
        return (b[:, length:] - a[:, length:]) - (b[:, :-length] - a[:, :-length])

    found = box(begun, margin, height) >= STROKES * height
    if not found.any():
        return False
    inside, most = box(filled, margin, height), APART * margin * length
    found &= (inside > FILLED[0] * height * length) & (inside < FILLED[1] * height * length)
    found &= (box(filled, 0, margin) <= most) & (box(filled, margin + height, margin) <= most)
    if not found.any():
        return False
    # every quarter of the length has its strokes: no single letter, and no rough patch at one end
    for part in range(4):
        quarter = length // 4
        at = np.arange(found.shape[1]) + part * quarter
        a, b = filled[margin : margin + found.shape[0]], filled[margin + height : margin + height + found.shape[0]]
        within = b - a
        found &= within[:, at + quarter] - within[:, at] > FILLED[0] / 2 * height * quarter
    return bool(found.any())


def _sums(values: NDArray[Any]) -> NDArray[np.int32]:
    """Sums of all above and left of each place."""
    out = np.zeros((values.shape[0] + 1, values.shape[1] + 1), np.int32)
    out[1:, 1:] = values.cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32)
    return out
