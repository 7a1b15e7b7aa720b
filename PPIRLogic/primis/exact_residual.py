"""The last level: what the lossy levels left over, so that the pixels come back bit by bit.

Four passes (pixels of even row and column first); each pixel's rest is foretold, in value and in size, from the rests
around it that are known and from how rough the decoded picture is there; whole numbers throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.compiled import compiled
from PPIRLogic.primis.entropy_coding import Reader, Tables, Writer, damaged

PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))
AROUND = ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))
FINEST = 32  # size classes below this have a table each, four to a doubling; above, low bits are written as they are
PARTS = 1 << 8  # weights are in such parts
EVEN = 32  # the number of the scale 1
MAX_RESIDUAL = 1 << 18


@dataclass(frozen=True)
class ResidualModel:
    """Whole numbers: value, size: (4 phases, 8 neighbours), in 256ths; rough: (4,), weight of the picture's roughness;
    bias: (4,); tables: FINEST rows, by size class."""

    value: NDArray[np.int64]
    size: NDArray[np.int64]
    rough: NDArray[np.int64]
    bias: NDArray[np.int64]
    tables: Tables


def _scale(number: int) -> int:
    """An image's own scale, in 64ths: four to a doubling."""
    return (64, 76, 91, 108)[number % 4] << (number // 4) >> (EVEN // 4)


@compiled
def _foretell(rest, base, row, column, value, size, rough, bias, expected, spreads, known):  # type: ignore[no-untyped-def]
    """Expected rest of every pixel of a phase, and how far from it the rest may be, in 256ths; how many."""
    slices, rows, columns = rest.shape
    count = 0
    for s in range(slices):
        for y in range(row, rows, 2):
            for x in range(column, columns, 2):
                mean, spread, calm = 0, bias, True
                low = high = base[s, y, x]
                for d in range(8):
                    v, u = y + AROUND[d][0], x + AROUND[d][1]
                    if v < 0 or u < 0 or v >= rows or u >= columns:
                        v, u = min(max(2 * y - v, 0), rows - 1), min(max(2 * x - u, 0), columns - 1)
                    low, high = min(low, base[s, v, u]), max(high, base[s, v, u])
                    if known[v % 2, u % 2]:
                        mean += value[d] * rest[s, v, u]
                        spread += size[d] * abs(rest[s, v, u])
                        calm = calm and rest[s, v, u] == 0
                expected[count] = (mean + PARTS // 2) // PARTS
                # Where nothing changes, as beside the body, next to nothing is left over: the first class is for that.
                spreads[count] = 0 if calm and high == low else spread + rough * (high - low)
                count += 1
    return count


@compiled
def _classes(spreads, scale, classes):  # type: ignore[no-untyped-def]
    """Size classes: four to a doubling."""
    for i in range(spreads.size):
        spread = max(spreads[i] * scale // 64, 1)
        octave = 0
        while (spread >> octave) > 7:
            octave += 1
        classes[i] = 4 * octave + max((spread >> octave) - 4, 0)


def code_rest(
    rest: NDArray[np.int64], base: NDArray[np.int64], model: ResidualModel, coder: Writer | Reader | None,
    check: Callable[[], None], observe: Callable[..., None] | None = None,
) -> None:  # fmt: skip
    """Write the rests (slices, y, x), or fill them in.

    base: the decoded picture; observe(symbols, rows): for training.
    """
    known = np.zeros((2, 2), np.bool_)
    most = rest.shape[0] * ((rest.shape[1] + 1) // 2) * ((rest.shape[2] + 1) // 2)
    expected, spreads, classes = (np.empty(most, np.int64) for _ in range(3))
    for phase, (row, column) in enumerate(PHASES):
        check()
        part = rest[:, row::2, column::2]
        count = _foretell(
            rest, base, row, column, model.value[phase], model.size[phase], model.rough[phase], model.bias[phase],
            expected, spreads, known,
        )  # fmt: skip
        known[row, column] = True
        if count == 0:
            continue
        here, calm = classes[:count], np.flatnonzero(spreads[:count] == 0)
        if isinstance(coder, Reader):
            grainy, number = divmod(int(coder.bits(1, 7)[0]), 64)
            if grainy:
                spreads[calm] = model.bias[phase]
            _classes(spreads[:count], _scale(number), here)
            found = _read(here, model.tables, coder) + expected[:count]
            if np.abs(found).max() > MAX_RESIDUAL:
                raise damaged("a rest is too large")
            part[...] = found.reshape(part.shape)
            continue
        errors = part.ravel() - expected[:count]
        # An image may have grain also where its decoded picture does not change: then no place is calm.
        grainy = int(coder is not None and np.count_nonzero(errors[calm]) > 0.1 * calm.size)
        if grainy:
            spreads[calm] = model.bias[phase]
        number = EVEN if coder is None else _own_scale(errors, spreads[:count])
        _classes(spreads[:count], _scale(number), here)
        low, rows = _rows(here)
        if observe is not None:
            observe(errors >> low, rows)
        if coder is not None:
            coder.bits(np.array([64 * grainy + number]), 7)
            _write(errors, low, rows, model.tables, coder)


def _own_scale(errors: NDArray[np.int64], spreads: NDArray[np.int64]) -> int:
    """How much larger than foretold an image's rests are on the whole, as a number of `_scale`."""
    ratio = (float(np.abs(errors).mean()) * PARTS + 1) / (float(spreads.mean()) + 1)
    return int(np.clip(round(4 * np.log2(ratio)) + EVEN, 0, 63))


def _rows(classes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Low bits that are written as they are, and the table's row, of each size class."""
    low = np.maximum((classes - (FINEST - 4)) // 4, 0)
    return low, classes - 4 * low


def _write(
    errors: NDArray[np.int64], low: NDArray[np.int64], rows: NDArray[np.int64], tables: Tables, coder: Writer
) -> None:
    coder.symbols(errors >> low, rows, tables)
    for width in range(1, int(low.max()) + 1):
        coder.bits((errors & ((1 << width) - 1))[low == width], width)


def _read(classes: NDArray[np.int64], tables: Tables, coder: Reader) -> NDArray[np.int64]:
    low, rows = _rows(classes)
    if low.max() > 16:
        raise damaged("a rest is too large")
    errors = coder.symbols(rows, tables) << low
    for width in range(1, int(low.max()) + 1):
        here = low == width
        errors[here] += coder.bits(int(here.sum()), width)
    return errors
