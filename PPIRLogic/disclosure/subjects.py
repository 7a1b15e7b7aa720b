"""Which shared images show the same subject, so that a copy of one has no budget of its own.

Two images belong together if their owner says so (a subject: a patient or series), or if one is nearly the other voxel
by voxel: saved in another format, scaled, moved by a hair, one voxel changed. For that each image leaves a sketch here:
512 signs of random sums over the differences of neighbouring voxels. Without the site's key it says nothing; with it,
less than one bit about 512 sums. The sketch stays in the owner's folder and never travels.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.disclosure.record_file import PLAIN, RecordFiles, damaged

BUCKETS = 512
ALIKE = 0.93  # share of signs that agree: the differences of two images then correlate by 0.976
_MIN_TELLING = 32  # signs that must say something
_MARKS = "-0+"


def sketch(array: NDArray[Any], key: bytes) -> str:
    """512 marks '-', '0' or '+' of an image (z, y, x) or (y, x): the same, but for few, for nearly the same voxels.

    Scale and offset of the intensities have no part in it, nor has the place in space.
    """
    seed = hmac.digest(key, f"sketch {array.shape}".encode(), "sha256")
    sums = np.zeros(2 * BUCKETS)
    for number, part in enumerate(array):
        steps = np.diff(np.asarray(part, np.float64), axis=-1).reshape(-1)
        stream = hashlib.shake_256(seed + number.to_bytes(4, "big")).digest(2 * steps.size)
        sums += np.bincount(np.frombuffer(stream, "<u2") % (2 * BUCKETS), steps, 2 * BUCKETS)
    found = sums[::2] - sums[1::2]
    found[np.abs(found) <= 1e-6 * np.abs(found).max(initial=0.0)] = 0
    return "".join(_MARKS[int(s) + 1] for s in np.sign(found))


def alike(one: str, two: str) -> bool:
    """Whether two sketches are of nearly the same image, or of its negative."""
    if len(one) != BUCKETS or len(two) != BUCKETS:
        return False
    a, b = (np.array([_MARKS.index(c) - 1 for c in text]) for text in (one, two))
    telling = (a != 0) | (b != 0)
    if telling.sum() < _MIN_TELLING:
        return False
    agree = np.mean(a[telling] == b[telling]), np.mean(a[telling] == -b[telling])
    return bool(max(agree) >= ALIKE)


class Subjects:
    """The images that this site has shared, and which of them belong together: one append-only file."""

    def __init__(self, path: Path, key: bytes, files: RecordFiles = PLAIN) -> None:
        self._path, self._key, self._files = path, key, files
        self._group: dict[str, str] = {}  # node → a node of the same subject; images, and what owners declared
        self._sketches: dict[str, str] = {}
        for number, record in files.read(path):
            try:
                image, marks, same = str(record["image"]), str(record["sketch"]), list(record["same"])
            except (KeyError, TypeError):
                raise damaged(path, number) from None
            self._take(image, marks, map(str, same))

    def declare(self, image: str, marks: str, subject: str) -> list[str]:
        """Put an image on record by its digest; returns the images of which it is recognised as a copy.

        marks: its sketch, '' for none. subject: what its owner calls patient or series ('' for nothing): a keyed digest
        of it is kept.
        """
        named = ["subject " + hmac.new(self._key, b"subject" + subject.encode(), "sha256").hexdigest()[:16]]
        copies = [other for other, known in self._sketches.items() if other != image and marks and alike(marks, known)]
        same = [*copies, *(named if subject else [])]
        if image not in self._group or any(self._root(image) != self._root(node) for node in same):
            record = {"time": time.time(), "image": image, "sketch": marks, "same": same}
            self._files.append(self._path, record)
            self._take(image, marks, same)
        return copies

    def images_of(self, image: str) -> tuple[str, ...]:
        """The digests of all images of this one's subject, first the one that was shared first."""
        root = self._root(image)
        return tuple(n for n in self._group if self._root(n) == root and not n.startswith("subject ")) or (image,)

    def _take(self, image: str, marks: str, same: Iterable[str]) -> None:
        self._group.setdefault(image, image)
        if marks:
            self._sketches[image] = marks
        for node in same:
            self._group.setdefault(node, node)
            self._group[self._root(node)] = self._root(image)

    def _root(self, node: str) -> str:
        while self._group.get(node, node) != node:
            node = self._group[node]
        return node
