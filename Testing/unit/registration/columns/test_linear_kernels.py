"""The loops in tiles against the formulas written out one by one: the same numbers to the last bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from PPIRLogic.images.intensities import INTENSITY_CENTRE
from PPIRLogic.registration.columns.linear_kernels import TILE, add_gram, fill
from PPIRLogic.registration.columns.scales import LIMIT

Array = NDArray[np.float64]
MARGIN = 1.0


def trilinear(data: NDArray[np.float32], at: Array) -> tuple[Array, Array, Array, Array]:
    """Value and slopes at (3, n) indices x y z inside the image, in the order of operations of the loops."""
    sizes = data.shape[::-1]
    low = [np.minimum(at[k].astype(int), max(sizes[k] - 2, 0)) for k in range(3)]
    high = [np.minimum(first + 1, size - 1) for first, size in zip(low, sizes, strict=True)]
    fx, fy, fz = at - np.array(low)
    if sizes[2] == 1:
        fz = 0.0 * fz
    edges, slopes = {}, {}
    for z, plane in enumerate((low[2], high[2])):
        for y, line in enumerate((low[1], high[1])):
            first, last = data[plane, line, low[0]], data[plane, line, high[0]]
            edges[z, y], slopes[z, y] = first + fx * (last - first), last - first
    faces = [edges[z, 0] + fy * (edges[z, 1] - edges[z, 0]) for z in (0, 1)]
    gx = [slopes[z, 0] + fy * (slopes[z, 1] - slopes[z, 0]) for z in (0, 1)]
    rise = [edges[z, 1] - edges[z, 0] for z in (0, 1)]
    return (
        faces[0] + fz * (faces[1] - faces[0]), gx[0] + fz * (gx[1] - gx[0]), rise[0] + fz * (rise[1] - rise[0]),
        faces[1] - faces[0],
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans(), st.integers(1, 3 * TILE))
def test_columns_are_the_formulas_bit_for_bit(seed: int, flat: bool, masked: bool, count: int) -> None:
    draw = np.random.default_rng(seed)
    shape = (1 if flat else int(draw.integers(2, 9)), *(int(n) for n in draw.integers(2, 12, 2)))
    grid = np.array([1 if flat else 5, 7, 33])
    data = draw.random(shape, np.float32)
    rows = draw.random(shape) > 0.3 if masked else np.ones((1, 1, 1), bool)
    samples = np.sort(draw.choice(int(grid.prod()), min(count, int(grid.prod())), replace=False)).astype(np.int32)
    use = draw.random(samples.size) > 0.2
    to_index = np.eye(3, 4) + 0.2 * draw.standard_normal((3, 4))
    to_mm, gradient = draw.standard_normal((3, 4)), draw.standard_normal((3, 3))
    if flat:
        to_index[2], to_index[:, 2] = 0.0, 0.0
    low = np.array([MARGIN, MARGIN, -1.0 if flat else MARGIN])
    high = np.array([shape[2] - 1 - MARGIN, shape[1] - 1 - MARGIN, 1.0 if flat else shape[0] - 1 - MARGIN])
    row = np.sort(draw.integers(0, 4, 9))
    terms, base, scale = draw.standard_normal(9), draw.integers(0, 12, 9), 2.0 ** draw.integers(2, 16, 4)

    out = np.full((6, samples.size + 5), 7, np.int32)
    fill(
        samples, use, grid, to_index, to_mm, data, False, rows, low, high, gradient, terms, row, base, scale, 2.0**14,
        0, 3, out,
    )  # fmt: skip

    z, y, x = np.unravel_index(samples, tuple(grid))
    at = np.array([m[0] * x + m[1] * y + m[2] * z + m[3] for m in to_index])
    p = np.array([*(m[0] * x + m[1] * y + m[2] * z + m[3] for m in to_mm), np.ones(samples.size)])
    keep = use & (at >= low[:, None]).all(axis=0) & (at <= high[:, None]).all(axis=0)
    at = np.clip(at, 0.0, np.array(shape[::-1], float)[:, None] - 1.0)
    if masked:
        keep &= rows[tuple((at[::-1] + 0.5).astype(int))]
    value, *slopes = trilinear(data, at)
    g = [keep * (r[0] * slopes[0] + r[1] * slopes[1] + r[2] * slopes[2]) for r in gradient]
    due = np.zeros((6, samples.size))
    for term, k, b in zip(terms, row, base, strict=True):
        due[k] += term * g[b >> 2] * p[b & 3]
    due[:4] = np.clip(np.rint(due[:4] * scale[:, None]), -LIMIT, LIMIT)
    due[4], due[5] = keep * np.rint((value - INTENSITY_CENTRE) * 2.0**14), keep
    assert np.array_equal(out[:, 3:-2], due)
    assert (out[:, :3] == 7).all() and (out[:, -2:] == 7).all(), "nothing else is touched"


def test_the_gram_is_exact_at_the_limits() -> None:
    draw = np.random.default_rng(1)
    block = draw.choice(np.array([-LIMIT, 0, LIMIT], np.int32), (5, 5000))
    gram, sums = np.zeros((5, 5), np.int64), np.zeros(5, np.int64)
    add_gram(block, gram, sums)
    exact = block.astype(object) @ block.T.astype(object)
    assert (np.triu(exact) == gram).all() and (np.abs(block).sum(axis=1, dtype=np.int64) == sums).all()
