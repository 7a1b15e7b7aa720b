"""The codec's middle: an image as maps of whole numbers, before they become bytes. For the ambiguated form and attacks.

`encode` is `code(quantise(image))`, and `decode` is `reconstruct(quantised_of(coded))`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import InputError
from PPIRLogic.primis.codec import Coded, Part, Window, checked_shape, read_window, shown, window_of, write_window
from PPIRLogic.primis.entropy_coding import Reader, Writer
from PPIRLogic.primis.model import LOSSY, Model, known, shipped

_MAX_PIXELS = 1 << 24  # maps of the whole image are held at once


@dataclass(frozen=True)
class Quantised:
    """What the lossy levels of an image are, in steps of their level.

    maps: one a level, int32 (64, rows, columns), or (slices, 64, rows, columns) of a volume: refinements of the
    coefficients of the blocks of 8 x 8; channel 0 is empty. means: one a level, (16, rows, columns), the same of the
    blocks' means. window: of grey values. shape, dtype, model: as of `Coded`.
    """

    maps: tuple[NDArray[np.int32], ...]
    means: tuple[NDArray[np.int32], ...]
    window: Window
    shape: tuple[int, ...]
    dtype: str
    model: str


def quantise(pixels: NDArray[Any], levels: int = LOSSY, *, quality: float = 1.0) -> Quantised:
    """The maps of an image's first `levels` lossy levels; arguments and errors as of `encode`.

    >>> image = (np.indices((40, 50)).sum(0) * 2).astype("uint8")
    >>> maps = quantise(image, 2)
    >>> [m.shape for m in maps.maps], [m.shape for m in maps.means]
    ([(64, 5, 7), (64, 5, 7)], [(16, 2, 2), (16, 2, 2)])
    >>> from PPIRLogic.primis.codec import encode
    >>> code(maps).codes == encode(image, 2).codes
    True
    """
    shape = _small(pixels.shape, str(pixels.dtype))
    model, window = shipped(), window_of(pixels, quality)
    grid = _grid(shape)
    part = Part.of(grid, model, window.inward(pixels.reshape(grid)))
    return _collect(part, window, shape, str(pixels.dtype), model, [None] * _lossy(levels))


def quantised_of(coded: Coded) -> Quantised:
    """The maps that codes hold; the exact level's code is left aside. Errors as of `decode`."""
    shape, model = _small(coded.shape, coded.dtype), known(coded.model)
    readers = [Reader(code) for code in coded.codes[:LOSSY]]
    _lossy(len(readers))
    window = read_window(readers[0], coded.dtype)
    return _collect(Part.of(_grid(shape), model, None), window, shape, coded.dtype, model, readers)


def _collect(
    part: Part, window: Window, shape: tuple[int, ...], dtype: str, model: Model, readers: Sequence[Reader | None]
) -> Quantised:
    maps: list[NDArray[np.int32]] = []
    means: list[NDArray[np.int32]] = []
    for level, (step, reader) in enumerate(zip(window.steps(), readers, strict=False)):
        part.refine(level, step, model, reader, _nothing)
        for kept, found in ((maps, part.fine_map), (means, part.means_map)):
            planes = np.moveaxis(found, -1, 1).copy()
            kept.append(planes if len(shape) == 3 else planes[0])
    return Quantised(tuple(maps), tuple(means), window, shape, dtype, model.digest)


def code(quantised: Quantised) -> Coded:
    """The codes of maps, also of changed ones."""
    part, model = _empty(quantised)
    writers = [Writer() for _ in quantised.maps]
    write_window(quantised.window, writers[0])
    for level, (step, writer) in enumerate(zip(quantised.window.steps(), writers, strict=False)):
        _set(part, quantised, level)
        part.refine(level, step, model, writer, _nothing)
    return Coded(quantised.shape, quantised.dtype, tuple(w.finish() for w in writers), quantised.model)


def reconstruct(quantised: Quantised) -> NDArray[Any]:
    """The image of maps, also of changed ones, as `decode` shows it."""
    part, model = _empty(quantised)
    for level, step in enumerate(quantised.window.steps()[: len(quantised.maps)]):
        _set(part, quantised, level)
        part.add(level, step, model)
    image = shown(part.picture(model), quantised.window, model, len(quantised.maps), quantised.dtype, _nothing)
    return image.reshape(quantised.shape)


def _empty(quantised: Quantised) -> tuple[Part, Model]:
    shape, model = _small(quantised.shape, quantised.dtype), known(quantised.model)
    _lossy(len(quantised.maps))
    return Part.of(_grid(shape), model, None), model


def _set(part: Part, quantised: Quantised, level: int) -> None:
    for target, maps in ((part.fine_map, quantised.maps[level]), (part.means_map, quantised.means[level])):
        planes = maps if maps.ndim == 4 else maps[None]
        if np.moveaxis(planes, 1, -1).shape != target.shape:
            raise InputError(f"The maps of level {level + 1} do not fit an image of {quantised.shape} pixels.")
        target[...] = np.clip(np.moveaxis(planes, 1, -1), -(1 << 15), 1 << 15)


def _lossy(levels: int) -> int:
    if not 1 <= levels <= LOSSY:
        raise InputError(f"There are maps of 1 to {LOSSY} levels, not of {levels}.")
    return levels


def _small(shape: Sequence[int], dtype: str) -> tuple[int, ...]:
    checked = checked_shape(shape, dtype)
    if int(np.prod(checked)) > _MAX_PIXELS:
        raise InputError(f"Maps are made of images of at most {_MAX_PIXELS} pixels. Cut or resample it.")
    return checked


def _grid(shape: tuple[int, ...]) -> tuple[int, int, int]:
    slices, rows, columns = (1, *shape)[-3:]
    return slices, rows, columns


def _nothing() -> None:
    pass
