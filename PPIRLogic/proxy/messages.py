"""What two sites say to each other about proxies, as checked values; versioned apart from other methods.

The site that asks (party 1) speaks first in every exchange; a session holds any number of them:

    proxy   → proxy                       opens the session; the model that segments here, its classes
    segment, part + bytes …               a proxy: its grid, then its voxels, compressed, in parts
            → (waiting) segmented, part + bytes …   the probabilities of each class, likewise
    bye, error                            the end, from either side, at any time

A service keeps nothing of a proxy. Whoever lost the line during the answer asks again with what it has (`have`): the
same proxy gives the same answer, of which the rest is sent. Every field that comes from the network is checked here for
type and range before anything uses it.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import ProtocolError
from PPIRLogic.network.messages import Fields, check_version

PROXY_VERSION = 1  # raised with every change of a message below
ASKS, SEGMENTS = "the site that asks (party 1)", "the site that segments (party 2)"
OPENS = "proxy"
PART = 2**20  # bytes in one message
DIGEST_BYTES = 32
MAX_CLASSES, MAX_NAME = 64, 64
MIN_SIDE, MAX_SIDE = 8, 1024  # voxels
MAX_VOXELS = 2**25
MIN_UM, MAX_UM = 200, 10_000  # micrometres, of a voxel's side
MIN_MM, MAX_MM = 40.0, 500.0  # of the whole grid


def opening() -> dict[str, Any]:
    """The fields of 'proxy' from the site that asks."""
    return {"version": PROXY_VERSION}


def check_opening(data: Mapping[str, Any], here: str, there: str) -> None:
    """VersionError unless the other side speaks this version of these messages."""
    check_version(data, OPENS, here, there, PROXY_VERSION, "the messages about proxies")


@dataclass(frozen=True)
class ServedModel:
    """What segments at a site. digest: SHA-256 of its file, hex. classes: their names, the background first."""

    digest: str
    classes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For the wire."""
        return {"version": PROXY_VERSION, "model": bytes.fromhex(self.digest), "classes": list(self.classes)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ServedModel:
        """ProtocolError for anything that is none."""
        f = Fields(data, OPENS)
        names = f.items("classes", MAX_CLASSES)
        plain = all(isinstance(n, str) and n.isprintable() and 0 < len(n.strip()) <= MAX_NAME for n in names)
        if len(names) < 2 or not plain or len(set(names)) < len(names):
            raise ProtocolError("Field 'classes' of 'proxy' must hold names of two or more classes.")
        return cls(f.raw("model", DIGEST_BYTES).hex(), tuple(names))


@dataclass(frozen=True)
class Segment:
    """A proxy that follows in parts. shape: z y x. spacing: whole micrometres, x y z. size: bytes, compressed. digest:
    SHA-256 of its voxels. have: bytes of the answer that were received already, with the digest of that answer.
    """

    shape: tuple[int, int, int]
    spacing: tuple[int, int, int]
    size: int
    digest: bytes
    have: int = 0
    of: bytes = bytes(DIGEST_BYTES)

    @property
    def voxels(self) -> int:
        return math.prod(self.shape)

    def to_dict(self) -> dict[str, Any]:
        """For the wire."""
        return {
            "shape": list(self.shape), "spacing": list(self.spacing), "size": self.size, "digest": self.digest,
            "have": self.have, "of": self.of,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Segment:
        """ProtocolError for anything that is none."""
        f = Fields(data, "segment")
        shape = _three(f.items("shape", 3), "shape", MIN_SIDE, MAX_SIDE)
        spacing = _three(f.items("spacing", 3), "spacing", MIN_UM, MAX_UM)
        voxels = math.prod(shape)
        sides = [n * um / 1000 for n, um in zip(shape, reversed(spacing), strict=True)]
        if voxels > MAX_VOXELS or not all(MIN_MM <= side <= MAX_MM for side in sides):
            raise ProtocolError(
                f"A proxy has at most {MAX_VOXELS} voxels and sides of {MIN_MM:g} to {MAX_MM:g} mm, not"
                f" {'×'.join(map(str, reversed(shape)))} voxels of {'×'.join(str(um / 1000) for um in spacing)} mm."
            )
        return cls(
            shape, spacing, f.integer("size", 1, most_compressed(voxels)), f.raw("digest", DIGEST_BYTES),
            f.integer("have", 0, most_compressed(voxels * MAX_CLASSES)), f.raw("of", DIGEST_BYTES),
        )  # fmt: skip


def _three(values: Sequence[Any], name: str, low: int, high: int) -> tuple[int, int, int]:
    if len(values) != 3 or any(type(v) is not int or not low <= v <= high for v in values):
        raise ProtocolError(f"Field '{name}' of 'segment' must hold three whole numbers from {low} to {high}.")
    return values[0], values[1], values[2]


@dataclass(frozen=True)
class Segmented:
    """The answer that follows in parts, from byte `first`: size and digest as of `Segment`, of all classes."""

    size: int
    digest: bytes
    first: int

    def to_dict(self) -> dict[str, Any]:
        """For the wire."""
        return {"size": self.size, "digest": self.digest, "first": self.first}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], values: int) -> Segmented:
        """values: how many an answer has. ProtocolError for anything that is none."""
        f = Fields(data, "segmented")
        size = f.integer("size", 1, most_compressed(values))
        return cls(size, f.raw("digest", DIGEST_BYTES), f.integer("first", 0, size))


# ------------------------------------------------------------------------------------------------------- the voxels


def most_compressed(count: int) -> int:
    """The most bytes that `packed` makes of so many."""
    return count + count // 1000 + 64


def packed(array: NDArray[np.uint8]) -> bytes:
    """The voxels in order, compressed (zlib)."""
    return zlib.compress(np.ascontiguousarray(array).data, 1)


def digest_of(array: NDArray[np.uint8]) -> bytes:
    """SHA-256 of the voxels in order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).digest()


def unpacked(data: bytes | bytearray, shape: tuple[int, ...], digest: bytes, what: str) -> NDArray[np.uint8]:
    """The inverse of `packed`. ProtocolError, beginning with `what`: not as many voxels, or not those of the digest.

    Never takes room for more than the voxels that are due, whatever the data expand to.

    >>> some = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    >>> bool((unpacked(packed(some), some.shape, digest_of(some), "This") == some).all())
    True
    """
    due = math.prod(shape)
    expand = zlib.decompressobj()
    try:
        found = expand.decompress(data, due)
        whole = len(found) == due and (expand.eof or not expand.decompress(expand.unconsumed_tail, 1))
    except zlib.error:
        found, whole = b"", False
    if not (whole and expand.eof) or expand.unused_data:
        raise ProtocolError(f"{what} does not hold {due} voxels as it should.")
    if hashlib.sha256(found).digest() != digest:
        raise ProtocolError(f"{what} was changed on its way, or is not the one that was announced.")
    return np.frombuffer(found, np.uint8).reshape(shape)
