"""Sparse codes with decoys among the true entries, as published: for comparison alone.

The codec's maps are sparse whole numbers. Decoys are put where entries are nought, as many as there are true ones, with
values that true entries of the same coefficient have. The key says which entries are true. This hides little:
Docs/privacy/primis.md has what attacks read without the key. Sealing (`PPIRLogic.primis.seal`) is what protects an
image.

    public, key = hide(quantise(pixels))        # code(public) is what would be published
    reconstruct(reveal(public, key))            # the image, as the codec decodes it
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import AnyArray
from PPIRLogic.errors import InputError
from PPIRLogic.primis.code_maps import Quantised, code
from PPIRLogic.secure.prg import Stream, secret_stream

BLOCKS, MEANS = 0, 1
_KEY = b"PPIRamb1"
_TAG_BYTES = 16


def arrays(maps: Quantised) -> Iterator[tuple[int, int, NDArray[np.int32]]]:
    """(level from 0, BLOCKS or MEANS, entries (slices, rows, columns, coefficients)): views of what the maps hold."""
    for level, pair in enumerate(zip(maps.maps, maps.means, strict=True)):
        for kind, planes in enumerate(pair):
            yield level, kind, np.moveaxis(planes if planes.ndim == 4 else planes[None], 1, -1)


def with_arrays(maps: Quantised, entries: Sequence[AnyArray]) -> Quantised:
    """The same maps with other entries, in the order and form of `arrays`."""
    planes = [np.moveaxis(e, -1, 1).astype(np.int32) for e in entries]
    whole = [p if len(maps.shape) == 3 else p[0] for p in planes]
    return replace(maps, maps=tuple(whole[0::2]), means=tuple(whole[1::2]))


def first(maps: Quantised, levels: int) -> Quantised:
    """Their first levels alone."""
    return replace(maps, maps=maps.maps[:levels], means=maps.means[:levels])


def values(maps: Quantised) -> NDArray[np.int32]:
    """All entries that are not nought, in the order of `arrays`."""
    return np.concatenate([a[a != 0] for _, _, a in arrays(maps)])


def coded_bytes(maps: Quantised) -> int:
    """How long their codes are."""
    return sum(len(c) for c in code(maps).codes)


def hide(maps: Quantised, stream: Stream | None = None) -> tuple[Quantised, bytes]:
    """Maps with decoys, to be public, and the key: which of their entries are true.

    A coefficient gets as many decoys as it has true entries, or as many as there is room for. Places and values come
    from `stream`, a cryptographic one under a key that nobody keeps unless it is given.
    """
    stream = stream or secret_stream()
    hidden, true = [], []
    for _, kind, array in arrays(maps):
        planes = np.moveaxis(array, -1, 0).copy()
        for plane in planes[1:] if kind == BLOCKS else planes:  # the first of a block is always nought
            _add_decoys(plane.reshape(-1), stream)
        both = np.moveaxis(planes, 0, -1)
        hidden.append(both)
        true.append(array[both != 0] != 0)
    public, bits = with_arrays(maps, hidden), np.concatenate(true)
    return public, _KEY + _tag(public) + struct.pack(">I", len(bits)) + np.packbits(bits).tobytes()


def _add_decoys(plane: NDArray[np.int32], stream: Stream) -> None:
    """In place, on one coefficient of all blocks."""
    found, room = plane[plane != 0], np.flatnonzero(plane == 0)
    count = min(len(found), len(room))
    if count:
        places = room[np.argsort(stream.words(len(room), np.uint64), kind="stable")[:count]]
        drawn = stream.words(count, np.uint64) % np.uint64(len(found))
        plane[places] = found[drawn.astype(np.int64)]


def _tag(maps: Quantised) -> bytes:
    """By which a key says what it is for."""
    text = repr((maps.shape, maps.dtype, maps.window, maps.model)).encode()
    return hashlib.sha256(text + b"".join(a.tobytes() for _, _, a in arrays(maps))).digest()[:_TAG_BYTES]


def reveal(public: Quantised, key: bytes) -> Quantised:
    """The true entries alone. InputError for a key that is not of these maps."""
    count, head = len(values(public)), len(_KEY) + _TAG_BYTES + 4
    if key[:head] != _KEY + _tag(public) + struct.pack(">I", count):
        raise InputError("This key is not of these maps. Ask their owner for the key of this image.")
    if len(key) != head + math.ceil(count / 8):
        raise InputError("This key is damaged: it is longer or shorter than its maps need. Ask their owner for it.")
    return keep(public, np.unpackbits(np.frombuffer(key[head:], np.uint8), count=count).astype(bool))


def keep(public: Quantised, true: NDArray[np.bool_]) -> Quantised:
    """The maps with those entries alone that are taken for true, in the order of `values`."""
    out, at = [], 0
    for _, _, array in arrays(public):
        where = array != 0
        kept, count = array.copy(), int(where.sum())
        kept[where] *= true[at : at + count]
        out.append(kept)
        at += count
    return with_arrays(public, out)


def true_entries(maps: Quantised, public: Quantised) -> NDArray[np.bool_]:
    """Which entries of `public` are true, in the order of `values`, for who has the maps themselves."""
    pairs = zip(arrays(maps), arrays(public), strict=True)
    return np.concatenate([own[both != 0] != 0 for (_, _, own), (_, _, both) in pairs])


def in_both(one: Quantised, other: Quantised) -> Quantised:
    """What two publications of one image have in common: the true entries, and few decoys that fell together."""
    pairs = zip(arrays(one), arrays(other), strict=True)
    return with_arrays(one, [np.where(a == b, a, 0) for (_, _, a), (_, _, b) in pairs])
