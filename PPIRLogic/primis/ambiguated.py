"""Sparse codes with decoys among the true entries, as published: for comparison alone.

An image becomes sparse maps of whole numbers: the codec's transform, quantised in residual stages. Decoys are put
where entries are nought, as many as there are true ones, with values that true entries of the same coefficient have.
The key says which entries are true. This hides little: Docs/privacy/primis.md has what attacks read without the key.
Sealing (`PPIRLogic.primis.seal`) is what protects an image.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import InputError
from PPIRLogic.primis.entropy_coding import Writer
from PPIRLogic.primis.model import STEPS, known, shipped
from PPIRLogic.primis.transform import forward, inverse, padded
from PPIRLogic.secure.prg import Stream, secret_stream

Array = NDArray[Any]
DTYPES = ("uint8", "uint16", "int16")
_UNIT = 16  # inside, 255 greys are 255 * _UNIT, as the codec has it
_ROUNDING = 0.38  # what is smaller than 0.62 steps becomes nought, for sparsity
_LARGEST = 2**15 - 1
_KEY = b"PPIRamb1"
_TAG_BYTES = 16


@dataclass(frozen=True)
class CodeMaps:
    """The public part.

    shape: (y, x) or (z, y, x). low, width: the window of grey values. model: SHA-256 of the codec's weights, hex.
    levels: for each level the entries of blocks of 8 x 8 (slices, rows, columns, 64; the first of each is nought) and
    of blocks of 4 x 4 of their means (slices, rows, columns, 16); int16, in steps of the level.
    """

    shape: tuple[int, ...]
    dtype: str
    low: int
    width: int
    model: str
    levels: tuple[tuple[NDArray[np.int16], NDArray[np.int16]], ...]

    def arrays(self) -> Iterator[tuple[int, int, NDArray[np.int16]]]:
        """(level from 0, 0 for blocks and 1 for means, entries)."""
        for level, pair in enumerate(self.levels):
            for kind, entries in enumerate(pair):
                yield level, kind, entries

    def entries(self) -> int:
        """How many are not nought."""
        return len(self.values())

    def values(self) -> NDArray[np.int16]:
        """All that are not nought, in the order of `arrays`."""
        return np.concatenate([a[a != 0] for _, _, a in self.arrays()])

    def first(self, levels: int) -> CodeMaps:
        """Its first levels alone."""
        return replace(self, levels=self.levels[:levels])

    def digest(self) -> bytes:
        """By which a key says what it is for."""
        text = repr((self.shape, self.dtype, self.low, self.width, self.model)).encode()
        return hashlib.sha256(text + b"".join(a.tobytes() for _, _, a in self.arrays())).digest()[:_TAG_BYTES]

    def coded_bytes(self) -> int:
        """How long the entries are as bytes: gaps, sizes and signs, each in Elias's code."""
        writer = Writer()
        for _, _, array in self.arrays():
            flat = np.moveaxis(array, -1, 0).ravel()
            places = np.flatnonzero(flat)
            for gap, value in zip(np.diff(places, prepend=-1) - 1, flat[places], strict=True):
                writer.number(int(gap))
                writer.number(2 * abs(int(value)) - 2 + int(value < 0))
        return len(writer.finish())


def code_maps(pixels: Array, levels: int = len(STEPS)) -> CodeMaps:
    """The maps of an image, without decoys. pixels: uint8, uint16 or int16, (y, x) or (z, y, x); else InputError."""
    if str(pixels.dtype) not in DTYPES or pixels.ndim not in (2, 3) or not pixels.size:
        raise InputError(f"Pixels {pixels.shape} of type {pixels.dtype} have no code: give grey ones of 8 or 16 bits.")
    if not 1 <= levels <= len(STEPS):
        raise InputError(f"`ambiguated` has 1 to {len(STEPS)} levels, not {levels!r:.40}: it is not exact.")
    model = shipped()
    low, high = (int(v) for v in np.percentile(pixels, [0.1, 99.9], method="nearest"))
    width = max(high - low, 1)
    inside = (pixels.reshape((1, *pixels.shape)[-3:]).astype(np.float64) - low) * (255 * _UNIT / width)
    fine = forward(padded(inside, 8), model.fine)
    small = forward(padded(fine[..., 0], 4), model.means)
    pairs: list[list[NDArray[np.int16]]] = [[] for _ in range(levels)]
    known_means = np.zeros_like(small)
    for level, step in enumerate(STEPS[:levels]):
        pairs[level].append(_stage(small, known_means, step * _UNIT))
    known_fine = np.zeros_like(fine)
    fine[..., 0] = 0  # the maps of the means have it
    for level, step in enumerate(STEPS[:levels]):
        pairs[level].insert(0, _stage(fine, known_fine, step * _UNIT))
    two = tuple((p[0], p[1]) for p in pairs)
    return CodeMaps(pixels.shape, str(pixels.dtype), low, width, model.digest, two)


def _stage(wanted: Array, known_values: Array, step: int) -> NDArray[np.int16]:
    """What a level adds, in steps; `known_values` are brought up to it."""
    exact = (wanted - known_values) / step
    whole = np.sign(exact) * np.floor(np.abs(exact) + _ROUNDING)
    entries = np.clip(whole, -_LARGEST, _LARGEST).astype(np.int16)
    known_values += entries * float(step)
    return entries


def picture(maps: CodeMaps, weights: Array | None = None) -> Array:
    """The image that the entries make, of the shape and type of the original.

    weights: by which each entry that is not nought counts, in the order of `CodeMaps.values`; all are taken for true
    if it is not given.
    """
    model = known(maps.model)
    sums: list[Array] = [np.zeros(a.shape) for a in maps.levels[0]]
    for (level, kind, array), weight in zip(maps.arrays(), _spread(maps, weights), strict=True):
        sums[kind] += array * weight * float(STEPS[level] * _UNIT)
    fine, small = sums
    fine[..., 0] = inverse(small, model.means)[:, : fine.shape[1], : fine.shape[2]]
    inside = inverse(fine, model.fine)[:, : maps.shape[-2], : maps.shape[-1]]
    limits = np.iinfo(maps.dtype)
    grey = np.rint(inside * (maps.width / (255 * _UNIT)) + maps.low)
    return np.clip(grey, limits.min, limits.max).astype(maps.dtype).reshape(maps.shape)


def _spread(maps: CodeMaps, weights: Array | None) -> list[Array]:
    """A weight for each place of each array; nought where nothing is."""
    out, at = [], 0
    for _, _, array in maps.arrays():
        where = array != 0
        spread, count = where.astype(np.float64), int(where.sum())
        if weights is not None:
            spread[where] = weights[at : at + count]
        out.append(spread)
        at += count
    return out


def hide(maps: CodeMaps, stream: Stream | None = None) -> tuple[CodeMaps, bytes]:
    """Maps with decoys, to be public, and the key: which of their entries are true.

    A coefficient gets as many decoys as it has true entries, or as many as there is room for. Places and values come
    from `stream`, a cryptographic one under a key that nobody keeps unless it is given.
    """
    stream = stream or secret_stream()
    out, true = [], []
    for _, _, array in maps.arrays():
        planes = np.moveaxis(array, -1, 0).copy()
        for plane in planes:
            _add_decoys(plane.reshape(-1), stream)
        both = np.moveaxis(planes, 0, -1)
        out.append(np.ascontiguousarray(both))
        true.append(array[both != 0] != 0)
    public = replace(maps, levels=tuple(zip(out[0::2], out[1::2], strict=True)))
    bits = np.packbits(np.concatenate(true)).tobytes()
    return public, _KEY + public.digest() + struct.pack(">I", public.entries()) + bits


def _add_decoys(plane: NDArray[np.int16], stream: Stream) -> None:
    """In place, on one coefficient of all blocks."""
    values, room = plane[plane != 0], np.flatnonzero(plane == 0)
    count = min(len(values), len(room))
    if count:
        places = room[np.argsort(stream.words(len(room), np.uint64), kind="stable")[:count]]
        drawn = stream.words(count, np.uint64) % np.uint64(len(values))
        plane[places] = values[drawn.astype(np.int64)]


def reveal(public: CodeMaps, key: bytes) -> CodeMaps:
    """The true entries alone. InputError for a key that is not of these maps."""
    tag, head = public.digest(), len(_KEY) + _TAG_BYTES + 4
    count = public.entries()
    if key[: head - 4] != _KEY + tag or key[head - 4 : head] != struct.pack(">I", count):
        raise InputError("This key is not of these maps. Ask their owner for the key of this image.")
    if len(key) != head + math.ceil(count / 8):
        raise InputError("This key is damaged: it is longer or shorter than its maps need. Ask their owner for it.")
    return keep(public, np.unpackbits(np.frombuffer(key[head:], np.uint8), count=count).astype(bool))


def keep(public: CodeMaps, true: NDArray[np.bool_]) -> CodeMaps:
    """The maps with those entries alone that are taken for true, in the order of `CodeMaps.values`."""
    flat = [a * w.astype(np.int16) for (_, _, a), w in zip(public.arrays(), _spread(public, true), strict=True)]
    return replace(public, levels=tuple(zip(flat[0::2], flat[1::2], strict=True)))


def true_entries(maps: CodeMaps, public: CodeMaps) -> NDArray[np.bool_]:
    """Which entries of `public` are true, in the order of `CodeMaps.values`, for who has the maps themselves."""
    pairs = zip(maps.arrays(), public.arrays(), strict=True)
    return np.concatenate([own[both != 0] != 0 for (_, _, own), (_, _, both) in pairs])


def in_both(one: CodeMaps, other: CodeMaps) -> CodeMaps:
    """What two publications of one image have in common: the true entries, and few decoys that fell together."""
    pairs = zip(one.arrays(), other.arrays(), strict=True)
    flat = [np.where(a == b, a, 0).astype(np.int16) for (_, _, a), (_, _, b) in pairs]
    return replace(one, levels=tuple(zip(flat[0::2], flat[1::2], strict=True)))
