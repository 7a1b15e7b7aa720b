"""Exact sums of products of integer vectors, modulo 2^64, for the protocols that hold their operands as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import Ring
from PPIRLogic.compiled import compiled
from PPIRLogic.secure.layout import CHUNK
from PPIRLogic.secure.product import LevelInfo, Term, packing


@compiled
def ring_dot(a: Any, b: Any) -> Any:
    """Σ a·b modulo 2^64, int64 with wrap-around."""
    total = np.int64(0)
    for i in range(a.size):
        total += np.int64(a[i]) * np.int64(b[i])
    return total


@compiled
def _packed_dots(column: Any, fixed: Any, out: Any) -> None:
    for chunk in range(fixed.shape[0]):
        for vector in range(fixed.shape[1]):
            total = np.int64(0)
            for i in range(fixed.shape[2]):
                total += np.int64(column[chunk, i]) * np.int64(fixed[chunk, vector, i])
            out[vector] += total


def by_vector(entries: NDArray[Any], vectors: int) -> NDArray[Any]:
    """Whole chunks of an operand's entries (n·CHUNK,) as its vectors, (vectors, samples)."""
    return entries.reshape(-1, vectors, CHUNK // vectors).transpose(1, 0, 2).reshape(vectors, -1)


def over_vectors(entries: NDArray[Any], vectors: int) -> Ring:
    """Σ over the vectors of an operand's entries, whole chunks (n·CHUNK,) to samples, modulo 2^64."""
    out: Ring = entries.reshape(-1, vectors, CHUNK // vectors).sum(axis=1, dtype=np.int64).reshape(-1)
    return out


def ring_bytes(terms: Sequence[Term], level: LevelInfo) -> int:
    """4 where no sum of these terms can reach 2^31, whatever the images, so that the ring of 32 bits holds them; or 8.

    Taking residues of 32 bits commutes with all that is done to shares, so only what travels is cut.
    """
    if any(t.per_control_point or not t.largest for t in terms):
        return 8
    most = max(level.samples // (t.outputs * t.vectors) * t.largest * level.bound(t.operand) for t in terms)
    return 4 if most < 2**31 else 8


def to_ring(values: Ring, width: int) -> NDArray[Any]:
    """Elements as they travel, so many bytes each."""
    return np.ascontiguousarray(values.astype("<u4" if width == 4 else "<i8"))


def from_ring(payload: bytes | bytearray | memoryview, width: int) -> Ring:
    """What `to_ring` made, as int64; of the ring of 32 bits, only the low ones mean something."""
    return np.frombuffer(payload, "<u4" if width == 4 else "<i8").astype(np.int64)


def signed(values: Ring, width: int) -> Ring:
    """The representative around 0."""
    return values if width == 8 else values.astype(np.int32).astype(np.int64)


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
