"""How one level refines the coefficients: each under the table that its neighbourhood, near and far, points to.

Planes of coefficients are taken one after the other, from the coarse frequencies on, each in two passes (the black
fields of a chess board, then the white ones). How large a refinement will be is foretold from what both sides know
already: the other coefficients of the block, the same one in the blocks around, and all of the coarser level. What is
foretold is a sum of whole numbers, so both sides choose the same table on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.compiled import compiled
from PPIRLogic.primis.entropy_coding import TOTAL, Reader, Tables, Writer, damaged

FINE = 8  # activities are in so many parts of a step
MAX_ACTIVITY = 255 * FINE  # and no larger
SUM = 1 << 16  # a foretold size is in so many parts of a step
BINS = 28
MAX_COEFFICIENT = 1 << 26  # beyond this no coefficient is
_AT_ONCE = 1 << 14  # blocks
WORTH = 0.1  # squared steps that a bit is worth to the encoder
# The size classes: half a doubling each.
THRESHOLDS = np.rint(SUM * 2.0 ** (np.arange(BINS - 1) / 2 - 9.75)).astype(np.int64)


@dataclass(frozen=True)
class PlaneModel:
    """What a level knows of the coefficients of one size of block; whole numbers throughout.

    bias: (planes,); near: (planes, planes), weights of the other coefficients of the block (column 0: of the slope of
    the means there); around: (planes, 8), weights of the same coefficient in the blocks around; tables: 2 * BINS rows,
    of coefficients that were nought and of those that were not; shrink: (planes, 2, 3), by the same two and by size (1,
    2, more), in 64ths of a step: how much nearer to nought than the middle of its step a value is taken to be.
    """

    bias: NDArray[np.int32]
    near: NDArray[np.int32]
    around: NDArray[np.int32]
    tables: Tables
    shrink: NDArray[np.int32]

    @cached_property
    def cuts(self) -> NDArray[np.float64]:
        """Where the encoder passes from one size to the next (2 * BINS, 4): later, the more bytes that costs."""
        reach = self.tables.reach
        frequencies = self.tables.frequencies + self.tables.frequencies[:, ::-1]
        bits = -np.log2(frequencies[:, reach : reach + 5] / (2 * TOTAL))
        return np.asarray(np.arange(4) + np.clip(0.5 + 0.5 * WORTH * np.diff(bits, axis=1), 0.5, 1.0), np.float64)


class Source(Protocol):
    """Whence the symbols of a pass come: an image, a code, or maps of them."""

    def take(self, plane: int, at: NDArray[np.int64], values: NDArray[np.int32], contexts: NDArray[np.int64],
             model: PlaneModel, step: int) -> NDArray[np.int64]: ...  # fmt: skip


@dataclass(frozen=True)
class FromImage:
    """wanted: (blocks, planes), the exact coefficients."""

    wanted: NDArray[np.float64]

    def take(self, plane: int, at: NDArray[np.int64], values: NDArray[np.int32], contexts: NDArray[np.int64],
             model: PlaneModel, step: int) -> NDArray[np.int64]:  # fmt: skip
        symbols = np.empty(at.size, np.int64)
        _quantise(self.wanted, plane, at, values, contexts, model.cuts, step, symbols)
        return symbols


@dataclass(frozen=True)
class FromMaps:
    """maps: (blocks, planes), in steps."""

    maps: NDArray[np.int32]

    def take(self, plane: int, at: NDArray[np.int64], values: NDArray[np.int32], contexts: NDArray[np.int64],
             model: PlaneModel, step: int) -> NDArray[np.int64]:  # fmt: skip
        return self.maps[at, plane].astype(np.int64) * np.where(values[at, plane] < 0, -1, 1)


@dataclass(frozen=True)
class FromCode:
    reader: Reader

    def take(self, plane: int, at: NDArray[np.int64], values: NDArray[np.int32], contexts: NDArray[np.int64],
             model: PlaneModel, step: int) -> NDArray[np.int64]:  # fmt: skip
        symbols = self.reader.symbols(contexts, model.tables)
        if symbols.size and np.abs(symbols).max() > MAX_COEFFICIENT // step:
            raise damaged("a coefficient is too large")
        return symbols


@compiled
def _quantise(wanted, plane, at, values, contexts, cuts, step, symbols):  # type: ignore[no-untyped-def]
    """Refinements in steps, towards the coefficient's own sign."""
    for i in range(at.size):
        known = values[at[i], plane]
        exact = (wanted[at[i], plane] - known) / step
        if known < 0:
            exact = -exact
        size = abs(exact)
        whole = int(size)
        if whole < cuts.shape[1]:
            whole += size >= cuts[contexts[i], whole]
        else:
            whole = int(size + 0.5)
        symbols[i] = whole if exact > 0 else -whole


@compiled
def _contexts(activity, totals, values, plane, parity, around, thresholds, contexts, places):  # type: ignore[no-untyped-def]
    """Fill contexts and places (numbers of blocks) of a pass; how many."""
    slices, rows, columns, _ = activity.shape
    bins = thresholds.size + 1
    count = 0
    for s in range(slices):
        for y in range(rows):
            up, down = max(y - 1, 0), min(y + 1, rows - 1)
            for x in range((y + parity) % 2, columns, 2):
                left, right = max(x - 1, 0), min(x + 1, columns - 1)
                total = totals[s, y, x, plane]
                total += around[0] * activity[s, up, left, plane] + around[1] * activity[s, up, x, plane]
                total += around[2] * activity[s, up, right, plane] + around[3] * activity[s, y, left, plane]
                total += around[4] * activity[s, y, right, plane] + around[5] * activity[s, down, left, plane]
                total += around[6] * activity[s, down, x, plane] + around[7] * activity[s, down, right, plane]
                low, high = 0, bins - 1
                while low < high:
                    middle = (low + high) // 2
                    if total >= thresholds[middle]:
                        low = middle + 1
                    else:
                        high = middle
                contexts[count] = low + (bins if values[s, y, x, plane] != 0 else 0)
                places[count] = (s * rows + y) * columns + x
                count += 1
    return count


@compiled
def _refine(values, maps, activity, totals, plane, places, symbols, step, shrink, weights):  # type: ignore[no-untyped-def]
    """Add the symbols (in steps, towards the coefficient's own sign) to the values, and to what they foretell."""
    planes = values.shape[1]
    for i in range(places.size):
        symbol = symbols[i]
        at, size = places[i], abs(symbol)
        known = values[at, plane]
        maps[at, plane] = symbol if known >= 0 else -symbol
        if symbol == 0:
            continue
        change = size * step - shrink[1 if known != 0 else 0, min(size, 3) - 1] * step // 64
        values[at, plane] = known + (change if (symbol > 0) == (known >= 0) else -change)
        now = min(abs(values[at, plane]) * FINE // step, MAX_ACTIVITY)
        more = now - activity[at, plane]
        activity[at, plane] = now
        for j in range(plane + 1, planes):
            totals[at, j] += weights[j] * more


def activity_of(values: NDArray[np.int32], step: int, means: NDArray[np.int64]) -> NDArray[np.int32]:
    """How large the known values (slices, rows, columns, planes) are, in parts of a step; plane 0: the means' slope."""
    activity = np.minimum(np.abs(values) * FINE // step, MAX_ACTIVITY).astype(np.int32)
    slope = np.zeros(means.shape, np.int64)
    for axis in (1, 2):
        if means.shape[axis] > 1:
            pad = [(0, 0)] * 3
            pad[axis] = (1, 1)
            wide = np.pad(np.abs(np.diff(means, axis=axis)), pad, mode="edge")
            count = means.shape[axis]
            slope += np.maximum(np.take(wide, range(count), axis), np.take(wide, range(1, count + 1), axis))
    activity[..., 0] = np.minimum(slope // step, MAX_ACTIVITY)
    return activity


def refine_planes(
    values: NDArray[np.int32], maps: NDArray[np.int32], model: PlaneModel, step: int, means: NDArray[np.int64],
    source: Source, writer: Writer | None, check: Callable[[], None], observe: Callable[..., None] | None = None,
) -> None:  # fmt: skip
    """Refine `values` (slices, rows, columns, planes) in place, but for plane 0, to steps of `step`.

    maps: of the same shape, takes the refinements in steps; means: the decoded values of plane 0; writer: if given,
    gets the symbols; observe(plane, activity, places, symbols, contexts): for training.
    """
    planes = values.shape[3]
    flat, flat_maps = values.reshape(-1, planes), maps.reshape(-1, planes)
    activity = activity_of(values, step, means)
    flat_activity = activity.reshape(-1, planes)
    flat_totals = np.empty(flat.shape, np.int64)
    for start in range(0, len(flat), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        # Whole numbers below 2^53 in floating point: exact.
        flat_totals[some] = flat_activity[some].astype(np.float64) @ model.near.T.astype(np.float64)
        flat_totals[some] += model.bias
    totals = flat_totals.reshape(values.shape)
    contexts, places = np.empty(len(flat), np.int64), np.empty(len(flat), np.int64)
    weights = np.ascontiguousarray(model.near.T)
    for plane in range(1, planes):
        check()
        for parity in (0, 1):
            count = _contexts(
                activity, totals, values, plane, parity, model.around[plane], THRESHOLDS, contexts, places
            )
            if count == 0:
                continue
            here, at = contexts[:count], places[:count]
            symbols = source.take(plane, at, flat, here, model, step)
            if writer is not None:
                writer.symbols(symbols, here, model.tables)
            if observe is not None:
                observe(plane, activity, at, symbols, here)
            _refine(
                flat, flat_maps, flat_activity, flat_totals, plane, at, symbols, step, model.shrink[plane],
                weights[plane],
            )  # fmt: skip


def add_maps(values: NDArray[np.int32], maps: NDArray[Any], model: PlaneModel, step: int) -> None:
    """Refine `values` in place by maps alone, as `refine_planes` does."""
    size = np.abs(maps.astype(np.int64))
    plane = np.arange(values.shape[3])
    shrink = model.shrink[plane, (values != 0).astype(np.int64), np.clip(size, 1, 3) - 1]
    change = np.where(size > 0, size * step - shrink * step // 64, 0)
    change[..., 0] = 0
    values += (np.sign(maps) * np.minimum(change, MAX_COEFFICIENT)).astype(np.int32)


def refine_means(
    values: NDArray[np.int32], level: int, step: int, tables: Tables, wanted: NDArray[np.float64] | None,
    maps: NDArray[np.int32], coder: Writer | Reader | None,
) -> None:  # fmt: skip
    """Refine the coarsest means (slices, rows, columns) in place: at first each is written from the one before it.

    The steps come from `wanted`, from the coder if it reads, or else from `maps`, which has them in the end.
    """
    contexts = np.full(values.size, level)
    if isinstance(coder, Reader):
        symbols = coder.symbols(contexts, tables).reshape(values.shape)
        if np.abs(symbols).max() > MAX_COEFFICIENT // step:
            raise damaged("a mean is too large")
        maps[...] = _sums(symbols) if level == 0 else symbols
        if np.abs(maps).max() > MAX_COEFFICIENT // step:
            raise damaged("a mean is too large")
    elif wanted is not None:
        maps[...] = np.rint((wanted - values) / step)
    if isinstance(coder, Writer):
        steps = maps.astype(np.int64)
        coder.symbols((differences(steps) if level == 0 else steps).ravel(), contexts, tables)
    values += maps * step


def differences(steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each against its left neighbour; the first of a row against the one above it."""
    out = np.diff(steps, axis=2, prepend=0)
    out[..., 0] = np.diff(steps[..., 0], axis=1, prepend=0)
    return out


def _sums(differences: NDArray[np.int64]) -> NDArray[np.int64]:
    out = differences.copy()
    out[..., 0] = np.cumsum(out[..., 0], axis=1)
    return np.clip(np.cumsum(out, axis=2), -MAX_COEFFICIENT, MAX_COEFFICIENT)
