"""Party 1's columns: the moving image and its steepest-descent images at the samples, quantised.

One fused loop per group of samples: fixed-grid index → physical point → moving-grid index, trilinear value and
its exact derivative, S_k = ∇I(T(x))·∂T(x)/∂θ_k for linear transforms, rounded to integers with one power-of-two
scale per column. Rows whose point falls outside the moving field of view (less a margin) are zero: the overlap.
The same integers go into the private product and into SᵀS, SᵀI, so that quantisation multiplies only the residual.

Columns: S_1 … S_d, I (centred), Ω (1 inside the overlap). A single 2D image is a volume of one slice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.compiled import compiled_ieee
from PPIRLogic.errors import FixedPointError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.intensities import INTENSITY_CENTRE
from PPIRLogic.images.interpolation import MovingImage, compose, embed, interpolate
from PPIRLogic.registration.columns.scales import LIMIT, Scales, clip_to_limit, power_of_two_below
from PPIRLogic.registration.sampling import Indices
from PPIRLogic.secure.layout import CHUNK, LANES
from PPIRLogic.secure.product import Columns, Link, over_groups
from PPIRLogic.transforms import LinearTransform


@compiled_ieee
def _within(index: float, size: int) -> float:
    return min(max(index, 0.0), size - 1.0)


@compiled_ieee
def _fill(
    samples: Any, use: Any, grid: Any, to_index: Any, to_mm: Any, data: Any, cubic: bool, rows: Any,
    low: Any, high: Any, gradient: Any, terms: Any, term_row: Any, term_base: Any, scale: Any, intensity_scale: float,
    start: int, at: int, out: Any,
) -> None:  # fmt: skip
    """Fill out[:, at : at+len(use)] for samples[start:]; an S beyond the 16-bit range saturates.

    rows: moving mask, of one voxel where there is none. grid: fixed array shape (z, y, x). to_index, to_mm (3, 4):
    fixed index (x, y, z, 1) → moving index, → x − c in mm. gradient (3, 3): index gradient → mm gradient.
    S_row += terms·g[base // 4]·p[base % 4] with p = (x − c, 1).
    """
    d = out.shape[0] - 2
    plane = grid[1] * grid[2]
    each_plane, each_line = 1.0 / plane, 1.0 / grid[2]
    p = np.ones(4)
    g = np.empty(3)
    row = np.empty(d)
    for s in range(use.size):
        o = at + s
        for k in range(d + 2):
            out[k, o] = 0
        if not use[s]:
            continue
        raster = samples[start + s]
        iz = np.int64((raster + 0.5) * each_plane)  # exact; which samples are chosen is secret, a division would tell
        iy = np.int64((raster - iz * plane + 0.5) * each_line)
        ix = raster - iz * plane - iy * grid[2]
        x = to_index[0, 0] * ix + to_index[0, 1] * iy + to_index[0, 2] * iz + to_index[0, 3]
        y = to_index[1, 0] * ix + to_index[1, 1] * iy + to_index[1, 2] * iz + to_index[1, 3]
        z = to_index[2, 0] * ix + to_index[2, 1] * iy + to_index[2, 2] * iz + to_index[2, 3]
        inside = (low[0] <= x) & (x <= high[0]) & (low[1] <= y) & (y <= high[1]) & (low[2] <= z) & (z <= high[2])
        # outside, too, all is computed, at the nearest voxel: how long it takes says nothing of the overlap
        x, y, z = _within(x, data.shape[2]), _within(y, data.shape[1]), _within(z, data.shape[0])
        if rows.size > 1:
            inside &= rows[int(z + 0.5), int(y + 0.5), int(x + 0.5)]
        keep = np.int32(inside)
        value, gx, gy, gz = interpolate(data, cubic, x, y, z)
        for i in range(3):
            g[i] = gradient[i, 0] * gx + gradient[i, 1] * gy + gradient[i, 2] * gz
            p[i] = to_mm[i, 0] * ix + to_mm[i, 1] * iy + to_mm[i, 2] * iz + to_mm[i, 3]
        for k in range(d):
            row[k] = 0.0
        for j in range(terms.size):
            row[term_row[j]] += terms[j] * g[term_base[j] >> 2] * p[term_base[j] & 3]
        for k in range(d):
            out[k, o] = keep * np.int32(clip_to_limit(np.rint(row[k] * scale[k])))
        out[d, o] = keep * np.int32(np.rint((value - INTENSITY_CENTRE) * intensity_scale))
        out[d + 1, o] = keep


@compiled_ieee
def _gram(block: Any, gram: Any, sums: Any) -> None:
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


class LinearColumns:
    """The columns of one evaluation, produced group by group (a `ColumnSource`)."""

    def __init__(
        self,
        moving: MovingImage,
        fixed: Geometry,
        samples: Indices,
        use: NDArray[np.bool_],
        active: NDArray[np.int64],
        transform: LinearTransform,
        scale_mm: float,
        scales: Scales,
        watch_peaks: bool = False,
        steepest: bool = True,
    ) -> None:
        """steepest: with the columns S; without, I and Ω alone."""
        basis = transform.basis(scale_mm)[: None if steepest else 0]
        self.columns = len(basis) + 2
        self.groups = -(-len(active) // LANES)
        self._moving, self._samples, self._use, self._active = moving, samples, use, active
        self._grid = np.array([1, 1, *fixed.array_shape][-3:], np.int64)
        to_mm = embed(fixed.index_to_physical())
        self._to_index = compose(moving.to_index, compose(embed(transform.affine()), to_mm))
        self._to_mm = to_mm.copy()
        self._to_mm[: fixed.dimension, 3] -= transform.centre
        self._gradient = np.ascontiguousarray(moving.to_index[:, :3].T)
        self._terms = _sparse_terms(basis)
        self.scales = scales if steepest else Scales(scales.steepest[:0], scales.intensity)
        self._watch_peaks = watch_peaks
        self.gram = np.zeros((self.columns, self.columns), np.int64)
        self._sums = np.zeros(self.columns, np.int64)

    def prepare(self, workers: int) -> None:
        self._grams = np.zeros((workers, self.columns, self.columns), np.int64)
        self._peaks = np.zeros((workers, self.columns), np.int64)
        self._partial = np.zeros((workers, self.columns), np.int64)

    def block(self, group: int, worker: int, out: Columns) -> None:
        m = self._moving
        for lane in range(LANES):
            at, slot = lane * CHUNK, group * LANES + lane
            start = int(self._active[slot]) * CHUNK if slot < len(self._active) else len(self._samples)
            count = max(0, min(CHUNK, len(self._samples) - start))
            _fill(
                self._samples, self._use[start : start + count], self._grid, self._to_index, self._to_mm,
                m.data, m.cubic, m.rows, m.low, m.high, self._gradient, *self._terms,
                self.scales.steepest, self.scales.intensity, start, at, out,
            )  # fmt: skip
            out[:, at + count : at + CHUNK] = 0
        _gram(out, self._grams[worker], self._partial[worker])
        if self._watch_peaks:
            np.maximum(self._peaks[worker], np.abs(out).max(axis=1), out=self._peaks[worker])

    def finish(self) -> None:
        upper = self._grams.sum(axis=0)
        self.gram = upper + np.triu(upper, 1).T
        self._sums = self._partial.sum(axis=0)

    def absolute_sums(self) -> NDArray[np.int64]:
        return self._sums

    def peaks(self) -> NDArray[np.int64]:
        """max|S| per column, where they were watched."""
        return self._peaks.max(axis=0)

    def column_scales(self) -> NDArray[np.float64]:
        return self.scales.all()

    def norms(self) -> NDArray[np.float64]:
        return np.sqrt(np.diag(self.gram).astype(np.float64))


def _sparse_terms(basis: NDArray[np.float64]) -> tuple[Any, Any, Any]:
    """∂T/∂θ_k = B_k·(x − c) + v_k, given as (d, dim, dim+1), as non-zero terms (value, row, axis·4 + base)."""
    dim = basis.shape[1]
    rows, axes, bases = np.nonzero(basis)
    values = np.ascontiguousarray(basis[rows, axes, bases])
    column = np.where(bases == dim, 3, bases)
    return values, rows.astype(np.int64), (axes * 4 + column).astype(np.int64)


def scan_columns(source: LinearColumns, link: Link, look: Callable[[int, int, Columns], None] | None = None) -> None:
    """Go through all columns once without opening anything; `look` sees every block."""
    over_groups(source, link, look or (lambda group, worker, block: None))


def widest_scales(moving: MovingImage, fixed: Geometry, transform: LinearTransform, scale_mm: float) -> Scales:
    """Scales under which no column can saturate: largest gradient times largest lever arm."""
    basis = transform.basis(scale_mm)
    corners = np.column_stack([fixed.corners() - transform.centre, np.ones(2**fixed.dimension)])
    arms = np.linalg.norm(np.einsum("kij,nj->kni", basis, corners), axis=2).max(axis=1)
    return Scales(LIMIT / np.maximum(moving.gradient_bound() * arms, 1e-30), LIMIT / 2)


def choose_scales(scan: LinearColumns, samples: int, sum_limit: float) -> Scales:
    """Scales for a level from a first look (`scan`, finished, peaks watched) at party 1's own columns.

    A column may grow to twice the largest value of the scan before it saturates, and its sum to four times
    (`samples` rows of its present mean magnitude) before it reaches `sum_limit`.
    """
    peak = scan.peaks()
    mean = scan.absolute_sums() / max(1, int(scan.gram[-1, -1]))
    if (peak[:-2] == 0).any():
        raise FixedPointError(
            "The moving image has no gradient where it overlaps the fixed grid: a parameter of the transform has"
            " no effect. Check the image, its mask and the initial transform."
        )
    gain = np.minimum(LIMIT / (2 * peak[:-2]), sum_limit / (4 * mean[:-2] * samples))
    steepest = np.array([power_of_two_below(float(v)) for v in gain * scan.scales.steepest])
    brightness = max(float(mean[-2]) / scan.scales.intensity, 1e-3) * samples
    return Scales(steepest, power_of_two_below(min(LIMIT / 2, sum_limit / (4 * brightness))))
