"""Products of two columns, for a private fixed mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.compiled import compiled_ieee
from PPIRLogic.registration.columns.linear import LinearColumns
from PPIRLogic.registration.columns.scales import clip_to_limit
from PPIRLogic.registration.losses.private_mask import pairs
from PPIRLogic.secure.product import Columns


@compiled_ieee
def _multiply(a: Any, b: Any, shift: int, out: Any) -> None:
    half = (1 << shift) >> 1
    for i in range(a.size):
        v = (np.int64(a[i]) * np.int64(b[i]) + half) >> shift
        out[i] = np.int32(clip_to_limit(v))


class ProductColumns:
    """The columns of `inner`, followed by all their pairwise products: what a private fixed mask needs."""

    SHIFT = 14  # low bits dropped from a product of two 15-bit columns

    def __init__(self, inner: LinearColumns) -> None:
        self._inner = inner
        self._pairs = pairs(inner.columns)
        last = inner.columns - 1  # Ω is 0 or 1: a product with it keeps its scale
        self._shifts = [0 if last in pair else self.SHIFT for pair in self._pairs]
        self.columns = inner.columns + len(self._pairs)
        self.groups = inner.groups

    def prepare(self, workers: int) -> None:
        self._inner.prepare(workers)
        self._sums = np.zeros((workers, self.columns), np.int64)
        self._squares = np.zeros((workers, self.columns))

    def block(self, group: int, worker: int, out: Columns) -> None:
        m = self._inner.columns
        self._inner.block(group, worker, out[:m])
        for k, ((i, j), shift) in enumerate(zip(self._pairs, self._shifts, strict=True)):
            _multiply(out[i], out[j], shift, out[m + k])
        for k in range(self.columns):
            self._sums[worker, k] += np.abs(out[k]).sum(dtype=np.int64)
            self._squares[worker, k] += float(np.square(out[k], dtype=np.float64).sum())

    def finish(self) -> None:
        self._inner.finish()

    def absolute_sums(self) -> NDArray[np.int64]:
        return self._sums.sum(axis=0)

    def norms(self) -> NDArray[np.float64]:
        return np.sqrt(self._squares.sum(axis=0))

    def column_scales(self) -> NDArray[np.float64]:
        own = self._inner.column_scales()
        products = [own[i] * own[j] / 2.0**shift for (i, j), shift in zip(self._pairs, self._shifts, strict=True)]
        return np.concatenate([own, products])
