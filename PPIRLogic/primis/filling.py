"""How long a sealed code is made, so that its length tells next to nothing of its content.

How well an image compresses depends on what it shows: the lengths of the five codes alone tell classes of images apart,
and two images of one patient from those of two. So each code is filled with zeros up to a class length. Class lengths
follow from the image's shape and the level alone: an anchor, doubled until the code fits, or divided by the level's
step as long as it fits. The anchors are what 995 of 1000 codes of chest X-rays stay below, at 160 × 160 pixels and at
smaller sizes (`Benchmarks/primis_lengths.py`), so that nearly all of these have one length each. Of larger images, of
other kinds of images and of 16 bits they are a guess, and a class may be cut in two.
"""

from __future__ import annotations

import math

PIXELS = 160 * 160
ANCHORS = (750, 1630, 3940, 7000, 8150)  # bytes at so many pixels, overview to exact
POWERS = (0.58, 0.66, 0.75, 0.91, 0.93)  # of the number of pixels of a slice, by which they grow
STEPS = (4, 4, 4, 4, 2)  # downwards; the exact code is by far the longest, and its length varies least
_LEAST = 64  # bytes


def class_length(length: int, level: int, shape: tuple[int, ...]) -> int:
    """The class length of a level (1 to 5) of an image of this shape for a code of so many bytes.

    >>> {class_length(n, 1, (160, 160)) for n in range(200, 750)}
    {750}
    """
    slices, pixels = math.prod(shape[:-2]), shape[-1] * shape[-2]
    anchor = slices * math.ceil(ANCHORS[level - 1] * (pixels / PIXELS) ** POWERS[level - 1])
    wanted, step = max(_LEAST, anchor), STEPS[level - 1]
    while wanted < length:
        wanted *= 2
    while wanted // step >= max(length, _LEAST):
        wanted //= step
    return wanted
