"""How long a sealed code is made, so that its length tells next to nothing of its content.

How well an image compresses depends on what it shows: the lengths of the five codes alone tell classes of images apart,
and two images of one patient from those of two. So each code is filled with zeros up to a class length. Class lengths
follow from the image's size and the level alone: an anchor, in bytes a pixel, doubled until the code fits, or divided
by the level's step as long as it fits. The anchors are where 98 of 100 codes of chest X-rays of 160 × 160 pixels fit
in, so that these have one length each.
"""

from __future__ import annotations

import math

ANCHORS = (0.034, 0.040, 0.064, 0.110, 0.420)  # bytes a pixel, overview to exact
STEPS = (4, 4, 4, 4, 2)  # downwards; the exact code is by far the longest, and its length varies least
_LEAST = 64  # bytes


def class_length(length: int, level: int, pixels: int) -> int:
    """The smallest class length of a level (1 to 5) of an image of so many pixels that is not below `length`.

    >>> {class_length(n, 1, 160 * 160) for n in range(300, 800)}
    {871}
    """
    anchor, step = max(_LEAST, math.ceil(ANCHORS[level - 1] * pixels)), STEPS[level - 1]
    wanted = anchor
    while wanted < length:
        wanted *= 2
    while wanted // step >= max(length, _LEAST):
        wanted //= step
    return wanted
