"""How long sealed codes are made, so that their lengths tell next to nothing of their content.

How well an image compresses depends on what it shows: the lengths of the five codes alone tell classes of images apart,
and two images of one patient from those of two. So codes are filled with zeros up to class lengths. These follow from
the image's shape and type, the level, and one factor for the whole file: anchors, all doubled until every code fits, or
all divided by four as long as every code fits. The anchors are a little above what 995 of 1000 codes of chest X-rays
stay below, at 160 × 160 pixels and at smaller sizes (`Benchmarks/primis_lengths.py`), so that nearly all of these have
the same lengths. Of larger images, of other kinds of images and of 16 bits they are a guess, and a class may be cut in
two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

PIXELS = 160 * 160
ANCHORS = (386, 743, 1452, 1677, 10187)  # bytes at so many pixels of 8 bits, overview to exact
POWERS = (0.52, 0.61, 0.65, 0.75, 0.94)  # of the number of pixels of a slice, by which they grow
_DOWN = 4  # a finer step would cut the images of one kind in two
_MIN_BYTES = 64  # bytes


def class_lengths(lengths: Sequence[int], shape: tuple[int, ...], dtype: str) -> list[int]:
    """The class lengths for codes of these lengths, overview first, of an image of this shape and type.

    >>> class_lengths([200, 500], (160, 160), "uint8") == class_lengths([386, 190], (160, 160), "uint8") == [386, 743]
    True
    >>> class_lengths([387, 500], (160, 160), "uint8"), class_lengths([96, 101], (160, 160), "uint8")
    ([772, 1486], [96, 185])
    """
    slices, pixels = math.prod(shape[:-2]), shape[-1] * shape[-2]
    sizes = [slices * math.ceil(a * (pixels / PIXELS) ** p) for a, p in zip(ANCHORS, POWERS, strict=True)]
    sizes[-1] *= 1 if dtype == "uint8" else 2
    sizes = [max(_MIN_BYTES, size) for size in sizes[: len(lengths)]]
    while any(size < length for size, length in zip(sizes, lengths, strict=True)):
        sizes = [2 * size for size in sizes]
    while all(size // _DOWN >= max(length, _MIN_BYTES) for size, length in zip(sizes, lengths, strict=True)):
        sizes = [size // _DOWN for size in sizes]
    return sizes
