"""Exact sums of products of integer vectors, modulo 2^64, for the protocols that hold their operands as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from PPIRLogic.secure.base import CHUNK, Term, packing

Ring = NDArray[np.int64]


@njit(nogil=True, cache=True)
def ring_dot(a: Any, b: Any) -> Any:
    """Σ a·b modulo 2^64, int64 with wrap-around."""
    total = np.int64(0)
    for i in range(a.size):
        total += np.int64(a[i]) * np.int64(b[i])
    return total


@njit(nogil=True, cache=True)
def _packed_dots(column: Any, fixed: Any, out: Any) -> None:
    for chunk in range(fixed.shape[0]):
        for vector in range(fixed.shape[1]):
            total = np.int64(0)
            for i in range(fixed.shape[2]):
                total += np.int64(column[chunk, i]) * np.int64(fixed[chunk, vector, i])
            out[vector] += total


def sample_part(columns: NDArray[Any], outputs: int) -> NDArray[Any]:
    """The samples of columns (m, chunks·CHUNK) for terms with several outputs, chunk after chunk: (m, samples)."""
    if outputs == 1:
        return columns
    chunks = columns.reshape(len(columns), -1, CHUNK)[:, :, -(CHUNK // outputs) :]
    return np.ascontiguousarray(chunks).reshape(len(columns), -1)


def products(columns: NDArray[Any], operands: Mapping[str, NDArray[Any]], terms: Sequence[Term]) -> Ring:
    """All numbers of the terms over one block: columns (m, samples) as `sample_part` gives them, operands whole."""
    outputs = packing(terms)
    if outputs == 1:
        return np.array([ring_dot(columns[t.column], operands[t.operand]) for t in terms], np.int64)
    part = CHUNK // outputs
    out = np.zeros((len(terms), outputs), np.int64)
    for i, term in enumerate(terms):
        _packed_dots(columns[term.column].reshape(-1, part), operands[term.operand].reshape(-1, outputs, part), out[i])
    return out.reshape(-1)
