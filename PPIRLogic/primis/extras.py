"""What lies beside the pixels inside the overview's code: the place in space, and DICOM tags that their owner named.

Sealed with the overview, so nothing of it can be read without a key. Read by hand, with every length bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry

_GEOMETRY, _TAGS, _ROUNDED = 1, 2, 4
_KNOWN = _GEOMETRY | _TAGS | _ROUNDED
MAX_TAGS = 32
MAX_VALUE = 256  # bytes of a tag's name, and of its value


@dataclass(frozen=True)
class Extras:
    """geometry: None for the plain grid of 1 mm at the origin. tags: name to text. rounded: the pixels are fractions
    that were rounded to whole numbers before they were sealed."""

    geometry: Geometry | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    rounded: bool = False

    def pack(self) -> bytes:
        flags = _GEOMETRY * (self.geometry is not None) | _TAGS * bool(self.tags) | _ROUNDED * self.rounded
        parts = [bytes([flags])]
        if self.geometry is not None:
            g = self.geometry
            parts.append(struct.pack(f">{g.dimension * (2 + g.dimension)}d", *g.spacing, *g.origin, *g.direction))
        if self.tags:
            parts.append(bytes([len(self.tags)]))
            for text in (text for pair in self.tags.items() for text in pair):
                data = text.encode()
                parts.append(struct.pack(">H", len(data)) + data)
        return b"".join(parts)


def plain_grid(shape: tuple[int, ...]) -> Geometry:
    """The grid of an image of which nothing else is known: 1 mm, at the origin."""
    d = len(shape)
    identity = tuple(float(i == j) for i in range(d) for j in range(d))
    return Geometry(tuple(reversed(shape)), (1.0,) * d, (0.0,) * d, identity)


def split_extras(payload: bytes, shape: tuple[int, ...], what: str) -> tuple[Extras, bytes]:
    """The extras at the beginning of the overview's payload, and the code behind them.

    InputError, beginning with `what`, where its owner wrote something else.
    """
    try:
        return _split(payload, shape)
    except (struct.error, IndexError, ValueError, InputError):
        raise InputError(
            f"{what} was made wrongly: what its overview says of the image's place or tags cannot be understood. Ask"
            " its owner to seal it again."
        ) from None


def _split(payload: bytes, shape: tuple[int, ...]) -> tuple[Extras, bytes]:
    flags, at, d = payload[0], 1, len(shape)
    if flags & ~_KNOWN:
        raise ValueError
    geometry, tags = None, {}
    if flags & _GEOMETRY:
        numbers = struct.unpack_from(f">{d * (2 + d)}d", payload, at)
        at += 8 * len(numbers)
        made = Geometry(tuple(reversed(shape)), numbers[:d], numbers[d : 2 * d], numbers[2 * d :])
        geometry = Geometry.from_dict(made.to_dict())  # which checks it
    if flags & _TAGS:
        count, at = payload[at], at + 1
        texts = []
        for _ in range(2 * count):
            text, at = _text(payload, at)
            texts.append(text)
        tags = dict(zip(texts[::2], texts[1::2], strict=True))
        if len(tags) != count or count > MAX_TAGS:
            raise ValueError
    return Extras(geometry, tags, bool(flags & _ROUNDED)), payload[at:]


def _text(payload: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">H", payload, at)
    data = payload[at + 2 : at + 2 + length]
    text = data.decode()
    if len(data) != length or length > MAX_VALUE or not (text.isprintable() or not text):
        raise ValueError
    return text, at + 2 + length
