"""An image as five codes, each refining those before it: encode and decode.

The lossy levels are exact in themselves: two machines decode the same whole numbers, on which the last level's rest
stands. What is shown of a lossy level went through a filter besides, in floating point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import InputError
from PPIRLogic.primis.coefficients import FromCode, FromImage, FromMaps, Source, add_maps, refine_means, refine_planes
from PPIRLogic.primis.entropy_coding import Reader, Writer, damaged
from PPIRLogic.primis.exact_residual import code_rest
from PPIRLogic.primis.levels import LEVELS
from PPIRLogic.primis.model import STEPS, Model, known, shipped
from PPIRLogic.primis.post_filter import smoothed
from PPIRLogic.primis.transform import forward, inverse, padded
from PPIRLogic.progress import CancelToken

DTYPES = ("uint8", "uint16", "int16")
UNIT = 16  # inside, 255 greys are 255 * UNIT
FULL = 255 * UNIT
MAX_PIXELS = 1 << 30
MAX_SIDE = 1 << 16
_AT_ONCE = 1 << 20  # pixels of the slices that are coded together
_MAX_SLICE = 1 << 27
_QUALITIES = 16  # quality is kept in such parts


@dataclass(frozen=True)
class Coded:
    """What an image becomes.

    shape: (y, x) or (z, y, x); dtype: one of "uint8", "uint16", "int16"; codes: one payload a level, in the order of
    LEVELS; model: SHA-256 of the weights, hex. All else, also the window of grey values, is inside the codes.
    """

    shape: tuple[int, ...]
    dtype: str
    codes: tuple[bytes, ...]
    model: str


@dataclass(frozen=True)
class Window:
    """Grey values from `low` on, over `width` of them, and how much finer than usual the steps are."""

    low: int
    width: int
    quality: int

    def steps(self) -> list[int]:
        return [max(1, round(step * UNIT * _QUALITIES / self.quality)) for step in STEPS]

    def inward(self, pixels: NDArray[Any]) -> NDArray[np.float64]:
        return (pixels.astype(np.float64) - self.low) * (FULL / self.width)

    def outward(self, inside: NDArray[np.float64], dtype: str) -> NDArray[np.int64]:
        """Whole numbers only."""
        limits = np.iinfo(dtype)
        values = np.clip(inside, -(1 << 31), 1 << 31).astype(np.int64)
        values *= self.width
        values += FULL // 2
        values //= FULL
        values += self.low
        return np.clip(values, limits.min, limits.max, out=values)


def checked_shape(shape: Sequence[int], dtype: str) -> tuple[int, ...]:
    shape = tuple(int(n) for n in shape)
    if dtype not in DTYPES:
        raise InputError(f"Pixels of type {dtype} cannot be coded. Convert them to one of {', '.join(DTYPES)}.")
    if len(shape) not in (2, 3):
        raise InputError(f"An image of {len(shape)} dimensions cannot be coded: give a grey slice or volume.")
    if min(shape) < 1 or max(shape) > MAX_SIDE or math.prod(shape) > MAX_PIXELS:
        raise InputError(
            f"An image of {' x '.join(map(str, shape))} pixels cannot be coded: sides are from 1 to {MAX_SIDE}, and"
            f" it has at most {MAX_PIXELS} pixels. Cut or resample it."
        )
    if shape[-1] * shape[-2] > _MAX_SLICE:
        raise InputError(f"A slice has more than {_MAX_SLICE} pixels. Cut or resample it.")
    return shape


def window_of(pixels: NDArray[Any], quality: float) -> Window:
    """All but the outermost two thousandths of grey values; those beyond are coded too."""
    if not 1 / _QUALITIES <= quality <= 255 / _QUALITIES:
        raise InputError(f"A quality of {quality} is outside {1 / _QUALITIES:g} to {255 / _QUALITIES:g}. 1 is usual.")
    counts = np.bincount((pixels.astype(np.int32) - np.iinfo(pixels.dtype).min).ravel())
    below = np.cumsum(counts) / pixels.size
    low, high = (int(np.searchsorted(below, p)) for p in (0.001, 0.999))
    return Window(low + int(np.iinfo(pixels.dtype).min), max(high - low, 1), round(quality * _QUALITIES))


def _together(shape: tuple[int, ...]) -> Iterator[slice]:
    count = max(1, _AT_ONCE // (shape[1] * shape[2]))
    for start in range(0, shape[0], count):
        yield slice(start, min(start + count, shape[0]))


@dataclass
class Part:
    """Slices that are coded together: what is wanted (by an encoder), what is known, the last maps."""

    grid: tuple[int, int, int]
    wanted: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    fine: NDArray[np.int32]
    means: NDArray[np.int32]
    fine_map: NDArray[np.int32]
    means_map: NDArray[np.int32]

    @classmethod
    def of(cls, grid: tuple[int, int, int], model: Model, inside: NDArray[np.float64] | None) -> Part:
        rows, columns = -(-grid[1] // 8), -(-grid[2] // 8)
        fine, means = (grid[0], rows, columns, 64), (grid[0], -(-rows // 4), -(-columns // 4), 16)
        wanted = None
        if inside is not None:
            large = forward(padded(inside, 8), model.fine)
            wanted = (large, forward(padded(large[..., 0], 4), model.means))
        zeros = [np.zeros(shape, np.int32) for shape in (fine, means, fine, means)]
        return cls(grid, wanted, *zeros)

    def refine(
        self, level: int, step: int, model: Model, coder: Writer | Reader | None, check: Callable[[], None],
        observe: Callable[..., None] | None = None,
    ) -> None:  # fmt: skip
        """One level further: from what is wanted, from a code, or else from the maps."""
        top = None if self.wanted is None else self.wanted[1][..., 0]
        refine_means(self.means[..., 0], level, step, model.tops, top, self.means_map[..., 0], coder)
        for number, (values, maps, planes) in enumerate(
            (
                (self.means, self.means_map, model.means_levels[level]),
                (self.fine, self.fine_map, model.fine_levels[level]),
            )
        ):
            if number == 1:
                self.fine[..., 0] = self._small(model)
            source: Source
            if isinstance(coder, Reader):
                source = FromCode(coder)
            elif self.wanted is not None:
                source = FromImage(self.wanted[1 - number].reshape(-1, values.shape[3]))
            else:
                source = FromMaps(maps.reshape(-1, values.shape[3]).copy())
            refine_planes(
                values, maps, planes, step, values[..., 0].astype(np.int64), source,
                coder if isinstance(coder, Writer) else None, check, observe,
            )  # fmt: skip

    def add(self, level: int, step: int, model: Model) -> None:
        """One level further by the maps alone: what `refine` gives, but without its tables."""
        self.means[..., 0] += self.means_map[..., 0] * step
        add_maps(self.means, self.means_map, model.means_levels[level], step)
        add_maps(self.fine, self.fine_map, model.fine_levels[level], step)
        self.fine[..., 0] = self._small(model)

    def _small(self, model: Model) -> NDArray[np.float64]:
        _, rows, columns, _ = self.fine.shape
        return inverse(self.means, model.means)[:, :rows, :columns]

    def picture(self, model: Model) -> NDArray[np.float64]:
        return inverse(self.fine, model.fine)[:, : self.grid[1], : self.grid[2]]


def _nothing() -> None:
    pass


def encode(
    pixels: NDArray[Any],
    levels: int = len(LEVELS),
    *,
    quality: float = 1.0,
    model: Model | None = None,
    progress: Callable[[float], None] | None = None,
    cancel: CancelToken | None = None,
) -> Coded:
    """An image's first `levels` codes.

    pixels: (y, x) or (z, y, x), uint8, uint16 or int16. quality: how many times finer the lossy levels' steps are than
    usual, 1/16 to 15. model: other weights than those shipped. progress: told the part that is done, 0 to 1. Raises
    InputError for other pixels or numbers.

    >>> import numpy as np
    >>> image = (np.indices((40, 50)).sum(0) * 2).astype("uint8")
    >>> coded = encode(image)
    >>> len(coded.codes), bool((decode(coded.codes, coded.shape, coded.dtype, coded.model) == image).all())
    (5, True)
    """
    shape = checked_shape(pixels.shape, str(pixels.dtype))
    if not 1 <= levels <= len(LEVELS):
        raise InputError(f"There are 1 to {len(LEVELS)} levels, not {levels}.")
    model, check = model or shipped(), cancel.check if cancel else _nothing
    volume = pixels.reshape((1, *shape)[-3:])
    window = window_of(pixels, quality)
    writers = [Writer() for _ in range(levels)]
    write_window(window, writers[0])
    for chosen in _together(volume.shape):
        part_pixels = volume[chosen]
        part = Part.of(part_pixels.shape, model, window.inward(part_pixels))
        for level, (step, writer) in enumerate(zip(window.steps(), writers, strict=False)):
            part.refine(level, step, model, writer, check)
        if levels == len(LEVELS):
            part.wanted = None  # a third of what is in memory
            base = window.outward(part.picture(model), str(pixels.dtype))
            code_rest(part_pixels.astype(np.int64) - base, base, model.residual, writers[-1], check)
        if progress:
            progress(chosen.stop / volume.shape[0])
    return Coded(shape, str(pixels.dtype), tuple(w.finish() for w in writers), model.digest)


def decode(
    codes: Sequence[bytes],
    shape: Sequence[int],
    dtype: str,
    model: str,
    *,
    progress: Callable[[float], None] | None = None,
    cancel: CancelToken | None = None,
) -> NDArray[Any]:
    """The image of the first len(codes) levels, in its own shape and type; with all of them, bit by bit as it was.

    Raises InputError for a damaged code, an unknown model, or a shape or type that no image has.
    """
    checked_shape(shape, dtype)
    wanted = (len(codes),)
    return _decode(codes, shape, dtype, known(model), wanted, progress, cancel.check if cancel else _nothing)[0]


def decode_levels(codes: Sequence[bytes], shape: Sequence[int], dtype: str, model: Model) -> list[NDArray[Any]]:
    """As `decode`, but the image of every level, and with given weights."""
    return _decode(codes, shape, dtype, model, range(1, len(codes) + 1), None, _nothing)


def _decode(
    codes: Sequence[bytes], shape: Sequence[int], dtype: str, model: Model, wanted: Sequence[int],
    progress: Callable[[float], None] | None, check: Callable[[], None],
) -> list[NDArray[Any]]:  # fmt: skip
    shape = checked_shape(shape, dtype)
    if not 1 <= len(codes) <= len(LEVELS):
        raise InputError(f"An image has 1 to {len(LEVELS)} codes, not {len(codes)}.")
    out = [np.empty((1, *shape)[-3:], dtype) for _ in wanted]
    readers = [Reader(code) for code in codes]
    window = read_window(readers[0], dtype)
    steps = window.steps()
    for chosen in _together(out[0].shape):
        part = Part.of(out[0][chosen].shape, model, None)
        for level, reader in enumerate(readers, 1):
            if level <= len(steps):
                part.refine(level - 1, steps[level - 1], model, reader, check)
            if level in wanted:
                target = out[wanted.index(level)][chosen]
                if level == len(LEVELS):
                    target[...] = _exact(part, window, model, reader, dtype, check)
                else:
                    target[...] = shown(part.picture(model), window, model, level, dtype, check)
        if progress:
            progress(chosen.stop / out[0].shape[0])
    return [image.reshape(shape) for image in out]


def write_window(window: Window, writer: Writer) -> None:
    for number in (window.low + (1 << 15), window.width, window.quality):
        writer.number(number)


def read_window(reader: Reader, dtype: str) -> Window:
    window = Window(reader.number() - (1 << 15), reader.number(), reader.number())
    limits = np.iinfo(dtype)
    if not (limits.min <= window.low <= limits.max and 1 <= window.width <= 1 << 16 and 1 <= window.quality <= 255):
        raise damaged("its window of grey values")
    return window


def shown(
    picture: NDArray[np.float64], window: Window, model: Model, level: int, dtype: str, check: Callable[[], None]
) -> NDArray[Any]:
    """A lossy level as it is shown: after the filter, if it has been trained."""
    if model.filter:
        picture = smoothed(picture / FULL, window.steps()[level - 1] / UNIT, model.filter, check).astype(float) * FULL
    limits = np.iinfo(dtype)
    return np.clip(np.rint(picture * (window.width / FULL)) + window.low, limits.min, limits.max).astype(dtype)


def _exact(
    part: Part, window: Window, model: Model, reader: Reader, dtype: str, check: Callable[[], None]
) -> NDArray[np.int64]:
    """The last level: the decoded picture, in whole numbers and without the filter, and what it left over."""
    base = window.outward(part.picture(model), dtype)
    rest = np.zeros(base.shape, np.int64)
    code_rest(rest, base, model.residual, reader, check)
    limits = np.iinfo(dtype)
    if (base + rest).min() < limits.min or (base + rest).max() > limits.max:
        raise damaged("a grey value is out of range")
    return base + rest
