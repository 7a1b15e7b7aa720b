"""Parzen bins and their slopes as columns of the private product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import Array
from PPIRLogic.compiled import compiled
from PPIRLogic.registration.losses.mutual_information import HIGH, LOW, bin_position, parzen_columns
from PPIRLogic.secure.layout import CHUNK, GROUP
from PPIRLogic.secure.product import Columns


def moves_bins(position: Array, bins: int) -> NDArray[np.bool_]:
    """Where the position follows the intensity: not at the ends, where that is clipped."""
    lowest, highest = bin_position(np.array([LOW, HIGH]), bins)
    return np.asarray((position > lowest) & (position < highest))


def parzen_source(position: Array, use: NDArray[np.bool_], bins: int) -> BinColumns:
    """The columns whose products are a joint histogram."""

    def fill(first: int, last: int, out: Columns) -> None:
        parzen_columns(position[first:last], use[first:last], CHUNK // bins, CHUNK, out)

    return BinColumns(bins, len(use), bins, fill, CHUNK // bins)


@compiled
def _add_sums(block: Any, chunk: int, part: int, sums: Any, squares: Any) -> None:
    """sums, squares (m,) += Σ|block| and Σ block², of the last `part` places of every chunk, exact in 64 bits."""
    for row in range(block.shape[0]):
        total, square = np.int64(0), np.int64(0)
        for end in range(chunk, block.shape[1] + 1, chunk):
            values = block[row, end - part : end]
            for s in range(part):
                value = np.int64(values[s])
                total += abs(value)
                square += value * value
        sums[row] += total
        squares[row] += square


class BinColumns:
    """Columns over an operand of several bins, filled chunk by chunk (a `ColumnSource`)."""

    def __init__(
        self, columns: int, samples: int, bins: int, fill: Callable[[int, int, Columns], None], part: int = CHUNK
    ) -> None:
        """part: how many places at the end of each chunk are filled; the others are 0."""
        self.columns, self._samples, self._fill, self._part = columns, samples, fill, part
        self._per_group = GROUP // bins
        self.groups = -(-samples // self._per_group)

    def prepare(self, workers: int) -> None:
        self._sums = np.zeros((workers, self.columns), np.int64)
        self._squares = np.zeros((workers, self.columns), np.int64)

    def block(self, group: int, worker: int, out: Columns) -> None:
        out[:] = 0
        first = group * self._per_group
        self._fill(first, min(first + self._per_group, self._samples), out)
        _add_sums(out, CHUNK, self._part, self._sums[worker], self._squares[worker])

    def finish(self) -> None:
        pass

    def absolute_sums(self) -> NDArray[np.int64]:
        out: NDArray[np.int64] = self._sums.sum(axis=0)
        return out

    def norms(self) -> Array:
        return np.sqrt(self._squares.sum(axis=0).astype(np.float64))

    def column_scales(self) -> Array:
        return np.ones(self.columns)


class FactorColumns(BinColumns):
    """Columns U(x,t)·S_k(x) (a `FactorSource`); slopes (samples·bins,) as the operand lies, factors (d, samples)."""

    def __init__(self, slopes: Columns, factors: Columns, bins: int) -> None:
        super().__init__(len(factors), factors.shape[1], bins, self._products)
        self._slopes, self._factors, self._bins = slopes, factors, bins

    def factors(self, group: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        at = slice(group * self._per_group, min((group + 1) * self._per_group, self._samples))
        entries = self._slopes[at.start * self._bins : at.stop * self._bins]
        return entries.astype(np.int64), self._factors[:, at].astype(np.int64)

    def _products(self, first: int, last: int, out: Columns) -> None:
        part, bins = CHUNK // self._bins, self._bins
        slopes = self._slopes[first * bins : last * bins].reshape(-1, bins, part)
        for row, factor in zip(out, self._factors, strict=True):
            np.multiply(slopes, factor[first:last].reshape(-1, 1, part), out=row[: slopes.size].reshape(slopes.shape))
