"""The loops behind party 1's linear columns, a tile of samples at a time, so that every step goes through vectors.

Fixed-grid index → moving-grid index, value and slopes there, and from these the columns one by one. For every sample
the same is computed, inside the overlap or not: how long it takes says nothing of the overlap.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from PPIRLogic.compiled import compiled_ieee
from PPIRLogic.images.intensities import INTENSITY_CENTRE
from PPIRLogic.images.interpolation import interpolate, leave_masked_out, within
from PPIRLogic.registration.columns.scales import LIMIT

TILE = 256  # samples: what is held of them stays in the nearest cache
_LOW, _HIGH = float(-LIMIT), float(LIMIT)


@compiled_ieee
def _place(
    samples: Any, use: Any, grid: Any, to_index: Any, to_mm: Any, shape: Any, low: Any, high: Any, at: Any, p: Any,
    keep: Any,
) -> None:  # fmt: skip
    """Where the samples lie: at (3, …), moving index, or the nearest one inside; p (3, …), x − c in mm; keep: whether
    they are used and inside.
    """
    line, plane = grid[2], grid[1] * grid[2]
    each_line, each_plane = 1.0 / line, 1.0 / plane
    a, m = to_index, to_mm
    a00, a01, a02, a03, a10, a11, a12, a13 = a[0, 0], a[0, 1], a[0, 2], a[0, 3], a[1, 0], a[1, 1], a[1, 2], a[1, 3]
    a20, a21, a22, a23, m00, m01, m02, m03 = a[2, 0], a[2, 1], a[2, 2], a[2, 3], m[0, 0], m[0, 1], m[0, 2], m[0, 3]
    m10, m11, m12, m13, m20, m21, m22, m23 = m[1, 0], m[1, 1], m[1, 2], m[1, 3], m[2, 0], m[2, 1], m[2, 2], m[2, 3]
    low_x, low_y, low_z, high_x, high_y, high_z = low[0], low[1], low[2], high[0], high[1], high[2]
    at_x, at_y, at_z, px, py, pz = at[0], at[1], at[2], p[0], p[1], p[2]
    for s in range(use.size):
        raster = samples[s]
        iz = np.int32((raster + 0.5) * each_plane)  # exact; which samples are chosen is secret, a division would tell
        iy = np.int32((raster - iz * plane + 0.5) * each_line)
        ix = raster - iz * plane - iy * line
        x = a00 * ix + a01 * iy + a02 * iz + a03
        y = a10 * ix + a11 * iy + a12 * iz + a13
        z = a20 * ix + a21 * iy + a22 * iz + a23
        inside = (low_x <= x) & (x <= high_x) & (low_y <= y) & (y <= high_y) & (low_z <= z) & (z <= high_z)
        keep[s] = use[s] & inside
        at_x[s], at_y[s], at_z[s] = within(x, shape[2]), within(y, shape[1]), within(z, shape[0])
        px[s] = m00 * ix + m01 * iy + m02 * iz + m03
        py[s] = m10 * ix + m11 * iy + m12 * iz + m13
        pz[s] = m20 * ix + m21 * iy + m22 * iz + m23


@compiled_ieee
def _brightness(
    count: int, seen: Any, keep: Any, gradient: Any, scale: float, g: Any, value: Any, overlap: Any
) -> None:
    """I and Ω of a tile, and g (3, …): the gradient per mm, 0 where the sample is not kept."""
    r = gradient
    r00, r01, r02, r10, r11, r12 = r[0, 0], r[0, 1], r[0, 2], r[1, 0], r[1, 1], r[1, 2]
    r20, r21, r22 = r[2, 0], r[2, 1], r[2, 2]
    seen_value, gx, gy, gz, g0, g1, g2 = seen[0], seen[1], seen[2], seen[3], g[0], g[1], g[2]
    for s in range(count):
        kept = np.int32(keep[s])
        g0[s] = kept * (r00 * gx[s] + r01 * gy[s] + r02 * gz[s])
        g1[s] = kept * (r10 * gx[s] + r11 * gy[s] + r12 * gz[s])
        g2[s] = kept * (r20 * gx[s] + r21 * gy[s] + r22 * gz[s])
        value[s] = kept * np.int32(np.rint((seen_value[s] - INTENSITY_CENTRE) * scale))
        overlap[s] = kept


@compiled_ieee
def _steepest(
    count: int, g: Any, p: Any, terms: Any, term_row: Any, term_base: Any, scale: Any, row: Any, out: Any
) -> None:
    """The columns S of a tile, out (d, …); a value beyond the 16-bit range saturates."""
    j = 0
    for k in range(scale.size):
        row[:count] = 0.0
        while j < terms.size and term_row[j] == k:
            factor, slope, lever = terms[j], g[term_base[j] >> 2], p[term_base[j] & 3]
            for s in range(count):
                row[s] += factor * slope[s] * lever[s]
            j += 1
        unit, column = scale[k], out[k]
        for s in range(count):
            column[s] = np.int32(min(max(np.rint(row[s] * unit), _LOW), _HIGH))


@compiled_ieee
def fill(
    samples: Any, use: Any, grid: Any, to_index: Any, to_mm: Any, data: Any, cubic: bool, rows: Any,
    low: Any, high: Any, gradient: Any, terms: Any, term_row: Any, term_base: Any, scale: Any, intensity_scale: float,
    start: int, at: int, out: Any,
) -> None:  # fmt: skip
    """Fill out[:, at : at+len(use)] for samples[start:]: S_1 … S_d, I, Ω.

    rows: moving mask, of one voxel where there is none. grid: fixed array shape (z, y, x). to_index, to_mm (3, 4):
    fixed index (x, y, z, 1) → moving index, → x − c in mm. gradient (3, 3): index gradient → mm gradient.
    S_row += terms·g[base // 4]·p[base % 4] with p = (x − c, 1); term_row ascends.
    """
    d = out.shape[0] - 2
    index, seen, g, p, row = (
        np.empty((3, TILE)),
        np.empty((4, TILE)),
        np.empty((3, TILE)),
        np.ones((4, TILE)),
        np.empty(TILE),
    )
    keep, all_of_them = np.empty(TILE, np.bool_), np.ones(TILE, np.bool_)
    for first in range(0, use.size, TILE):
        count = min(TILE, use.size - first)
        these, here = samples[start + first : start + first + count], out[:, at + first : at + first + count]
        _place(these, use[first : first + count], grid, to_index, to_mm, data.shape, low, high, index, p, keep)
        if rows.size > 1:
            leave_masked_out(rows, index, keep[:count])
        interpolate(data, cubic, index, all_of_them[:count], seen)
        _brightness(count, seen, keep, gradient, intensity_scale, g, here[d], here[d + 1])
        _steepest(count, g, p, terms, term_row, term_base, scale, row, here)


@compiled_ieee
def add_gram(block: Any, gram: Any, sums: Any) -> None:
    """gram (m, m) += block·blockᵀ and sums (m,) += Σ|block|, exact in 64 bits."""
    m = block.shape[0]
    for start in range(0, block.shape[1], 2048):
        for i in range(m):
            a = block[i, start : start + 2048]
            total = np.int64(0)
            for s in range(a.size):
                total += abs(np.int64(a[s]))
            sums[i] += total
            for j in range(i, m):
                b = block[j, start : start + 2048]
                total = np.int64(0)
                for s in range(a.size):
                    total += np.int64(a[s]) * np.int64(b[s])
                gram[i, j] += total
