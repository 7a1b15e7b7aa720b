"""How one level refines the coefficients: each under the table that its neighbourhood, near and far, points to.

Planes of coefficients are written one after the other, from the coarse frequencies on, each in two passes (the black
fields of a chess board, then the white ones). How large a coefficient will be is foretold from what both sides know
already: the other coefficients of its block, the same one in the blocks around, and all of the coarser level. What is
foretold is a sum of whole numbers, so both sides choose the same table on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.compiled import compiled
from PPIRLogic.primis.entropy_coding import Reader, Tables, Writer, damaged

FINE = 8  # activities are in so many parts of a step
MOST = 255 * FINE
LARGEST = 1 << 26  # beyond this no coefficient is


@dataclass(frozen=True)
class PlaneModel:
    """What a level knows of the coefficients of one size of block; whole numbers throughout.

    bias: (planes,); near: (planes, planes), weights of the other coefficients of the block (column 0: of the slope of
    the means there); around: (planes, 8), weights of the same coefficient in the blocks around; thresholds:
    (bins - 1,); tables: 2 * bins rows: of coefficients that were nought and of those that were not; shrink:
    (2 * bins, reach + 1), in 64ths of a step, how much nearer to nought than the middle of its step a value is.
    """

    bias: NDArray[np.int32]
    near: NDArray[np.int32]
    around: NDArray[np.int32]
    thresholds: NDArray[np.int32]
    tables: Tables
    shrink: NDArray[np.int32]


@compiled
def _contexts(activity, values, k, parity, bias, near, around, thresholds, contexts, places):  # type: ignore[no-untyped-def]
    """Fill contexts and places (flat indices of blocks) of a pass; how many."""
    slices, rows, columns, features = activity.shape
    bins = thresholds.size + 1
    count = 0
    for s in range(slices):
        for y in range(rows):
            for x in range((y + parity) % 2, columns, 2):
                total = bias
                for j in range(features):
                    total += near[j] * activity[s, y, x, j]
                d = 0
                for dy in range(-1, 2):
                    for dx in range(-1, 2):
                        if dy == 0 and dx == 0:
                            continue
                        v, u = min(max(y + dy, 0), rows - 1), min(max(x + dx, 0), columns - 1)
                        total += around[d] * activity[s, v, u, k]
                        d += 1
                low, high = 0, bins - 1
                while low < high:
                    middle = (low + high) // 2
                    if total >= thresholds[middle]:
                        low = middle + 1
                    else:
                        high = middle
                contexts[count] = low + (bins if values[s, y, x, k] != 0 else 0)
                places[count] = (s * rows + y) * columns + x
                count += 1
    return count


@compiled
def _refine(values, activity, k, places, contexts, symbols, step, shrink, bins):  # type: ignore[no-untyped-def]
    """Add the decoded symbols (in steps, towards the coefficient's own sign) to the values."""
    planes = values.shape[1]
    for i in range(places.size):
        at, symbol = places[i], symbols[i]
        known = values[at, k]
        if symbol != 0:
            size = abs(symbol)
            less = shrink[contexts[i], min(size, shrink.shape[1] - 1)] * step // 64
            change = size * step - less
            if symbol < 0:
                change = -change
            values[at, k] = known + (change if known >= 0 else -change)
        activity[at, k] = min(abs(values[at, k]) * FINE // step, MOST)
    return planes


def activity_of(values: NDArray[np.int32], step: int, means: NDArray[np.int64] | None) -> NDArray[np.int32]:
    """How large the known values (slices, rows, columns, planes) are, in parts of a step; plane 0: the means' slope."""
    activity = np.minimum(np.abs(values.astype(np.int64)) * FINE // step, MOST).astype(np.int32)
    activity[..., 0] = 0
    if means is not None:
        slope = np.zeros(means.shape, np.int64)
        for axis in (1, 2):
            if means.shape[axis] > 1:
                difference = np.abs(np.diff(means, axis=axis))
                pad = [(0, 0)] * 3
                pad[axis] = (1, 1)
                wide = np.pad(difference, pad, mode="edge")
                count = means.shape[axis]
                slope += np.maximum(np.take(wide, range(count), axis), np.take(wide, range(1, count + 1), axis))
        activity[..., 0] = np.minimum(slope // step, MOST)
    return activity


def code_planes(
    values: NDArray[np.int32],
    model: PlaneModel,
    step: int,
    means: NDArray[np.int64] | None,
    coder: Writer | Reader,
    wanted: NDArray[np.float64] | None,
    check: Callable[[], None],
    observe: Callable[..., None] | None = None,
) -> None:
    """Refine `values` (slices, rows, columns, planes) in place, but for plane 0, to steps of `step`.

    A Writer takes what is `wanted`; a Reader finds it. observe(plane, activity, contexts, symbols, exact) is for
    training.
    """
    slices, rows, columns, planes = values.shape
    flat = values.reshape(-1, planes)
    activity = activity_of(values, step, means)
    flat_activity = activity.reshape(-1, planes)
    goal = None if wanted is None else wanted.reshape(-1, planes)
    contexts, places = np.empty(slices * rows * columns, np.int64), np.empty(slices * rows * columns, np.int64)
    bins = model.thresholds.size + 1
    for k in range(1, planes):
        check()
        for parity in (0, 1):
            count = _contexts(
                activity, values, k, parity, model.bias[k], model.near[k], model.around[k], model.thresholds,
                contexts, places,
            )  # fmt: skip
            here, at = contexts[:count], places[:count]
            if isinstance(coder, Writer):
                assert goal is not None
                exact = (goal[at, k] - flat[at, k]) * np.where(flat[at, k] < 0, -1, 1) / step
                symbols = _quantised(exact, here < bins)
                if observe is not None:
                    observe(k, activity, at, here, symbols, exact)
                coder.symbols(symbols, here, model.tables)
            else:
                symbols = coder.symbols(here, model.tables)
                if symbols.size and np.abs(symbols).max() > LARGEST // step:
                    raise damaged("a coefficient is too large")
            _refine(flat, flat_activity, k, at, here, symbols, step, model.shrink, bins)


def _quantised(exact: NDArray[np.float64], was_nought: NDArray[np.bool_]) -> NDArray[np.int64]:
    """To whole steps; a small coefficient that was nought stays so, for the bytes it would cost."""
    rounding = np.where(was_nought, 0.38, 0.5)
    return (np.sign(exact) * np.floor(np.abs(exact) + rounding)).astype(np.int64)


def code_means(
    values: NDArray[np.int32], level: int, step: int, tables: Tables, coder: Writer | Reader,
    wanted: NDArray[np.float64] | None,
) -> None:  # fmt: skip
    """Refine the coarsest means (slices, rows, columns) in place: at first each from the one before it."""
    contexts = np.full(values.size, level)
    if isinstance(coder, Writer):
        assert wanted is not None
        steps = np.rint((wanted - values) / step).astype(np.int64)
        symbols = _differences(steps) if level == 0 else steps
        coder.symbols(symbols.ravel(), contexts, tables)
    else:
        symbols = coder.symbols(contexts, tables).reshape(values.shape)
        if np.abs(symbols).max() > LARGEST // step:
            raise damaged("a mean is too large")
        steps = np.cumsum(symbols, axis=2) if level == 0 else symbols
        if level == 0:
            steps += np.cumsum(symbols[..., :1], axis=1) - symbols[..., :1]
        if np.abs(steps).max() > LARGEST // step:
            raise damaged("a mean is too large")
    values += (steps * step).astype(np.int32)


def _differences(steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each against its left neighbour; the first of a row against the one above it."""
    out = np.diff(steps, axis=2, prepend=0)
    out[..., 0] = np.diff(steps[..., 0], axis=1, prepend=0)
    return out
