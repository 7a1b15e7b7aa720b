"""Party 1's columns: the moving image and its steepest-descent images at the samples, quantised.

One fused loop per group of samples: fixed-grid index → physical point → moving-grid index, trilinear value and
its exact derivative, S_k = ∇I(T(x))·∂T(x)/∂θ_k for linear transforms, rounded to integers with one power-of-two
scale per column. Rows whose point falls outside the moving field of view (less a margin) are zero: the overlap.
The same integers go into the private product and into SᵀS, SᵀI, so that quantisation multiplies only the residual.

Columns: S_1 … S_d, I (centred), Ω (1 inside the overlap). A single 2D image is a volume of one slice.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numba import njit
from numpy.typing import NDArray

from PPIRLogic.errors import FixedPointError
from PPIRLogic.images import Geometry, Volume
from PPIRLogic.losses.masked import pairs
from PPIRLogic.sampling import Indices
from PPIRLogic.secure.base import CHUNK, Columns, Link, over_groups
from PPIRLogic.secure.ring import LANES
from PPIRLogic.transforms import LinearTransform

INTENSITY_CENTRE = 0.5  # normalised intensities lie in [-0.5, 1.5]; columns hold I − 0.5
LIMIT = 2**15 - 1
_jit = njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")


@_jit
def _clip(value: Any) -> Any:
    return max(-LIMIT, min(LIMIT, value))


@_jit
def trilinear(data: Any, x: float, y: float, z: float) -> Any:
    """Value at a fractional index inside the image, and its exact derivatives per index step."""
    nz, ny, nx = data.shape
    x0, y0 = min(int(x), nx - 2), min(int(y), ny - 2)
    z0 = min(int(z), max(nz - 2, 0))
    z1 = min(z0 + 1, nz - 1)
    fx, fy, fz = x - x0, y - y0, z - z0
    if nz == 1:
        fz = 0.0
    a00, a01 = data[z0, y0, x0], data[z0, y0, x0 + 1]
    a10, a11 = data[z0, y0 + 1, x0], data[z0, y0 + 1, x0 + 1]
    b00, b01 = data[z1, y0, x0], data[z1, y0, x0 + 1]
    b10, b11 = data[z1, y0 + 1, x0], data[z1, y0 + 1, x0 + 1]
    a0, a1 = a00 + fx * (a01 - a00), a10 + fx * (a11 - a10)
    b0, b1 = b00 + fx * (b01 - b00), b10 + fx * (b11 - b10)
    a, b = a0 + fy * (a1 - a0), b0 + fy * (b1 - b0)
    da = (a01 - a00) + fy * ((a11 - a10) - (a01 - a00))
    db = (b01 - b00) + fy * ((b11 - b10) - (b01 - b00))
    gy = (a1 - a0) + fz * ((b1 - b0) - (a1 - a0))
    return a + fz * (b - a), da + fz * (db - da), gy, b - a


@_jit
def _cubic_weights(x: float, size: int, at: Any, w: Any, dw: Any) -> None:
    """Indices (mirrored at the border), weights and slopes of the four coefficients around x; one of an axis of 1."""
    if size == 1:
        at[0], w[0], dw[0] = 0, 1.0, 0.0
        return
    base = min(int(x), size - 2)
    u = x - base
    v = 1.0 - u
    w[0], w[3] = v * v * v / 6, u * u * u / 6
    w[1], w[2] = (3 * u * u * u - 6 * u * u + 4) / 6, (3 * v * v * v - 6 * v * v + 4) / 6
    dw[0], dw[3] = -v * v / 2, u * u / 2
    dw[1], dw[2] = (3 * u * u - 4 * u) / 2, -(3 * v * v - 4 * v) / 2
    for k in range(4):
        i = abs(base - 1 + k)
        at[k] = min(i, 2 * (size - 1) - i) if size > 2 else min(i, size - 1)


@_jit
def _tricubic(data: Any, x: float, y: float, z: float) -> Any:
    """As `trilinear`, of the cubic B-spline with these coefficients."""
    nz, ny, nx = data.shape
    at, w, dw = np.empty((3, 4), np.int64), np.empty((3, 4)), np.empty((3, 4))
    _cubic_weights(x, nx, at[0], w[0], dw[0])
    _cubic_weights(y, ny, at[1], w[1], dw[1])
    _cubic_weights(z, nz, at[2], w[2], dw[2])
    value = gx = gy = gz = 0.0
    for k in range(4 if nz > 1 else 1):
        for j in range(4):
            row = slope = 0.0
            for i in range(4):
                c = data[at[2, k], at[1, j], at[0, i]]
                row += w[0, i] * c
                slope += dw[0, i] * c
            value += w[2, k] * w[1, j] * row
            gx += w[2, k] * w[1, j] * slope
            gy += w[2, k] * dw[1, j] * row
            gz += dw[2, k] * w[1, j] * row
    return value, gx, gy, gz


@_jit
def interpolate(data: Any, cubic: bool, x: float, y: float, z: float) -> Any:
    """Value at a fractional index, and its derivatives per index step; data: values, or coefficients if cubic."""
    if cubic:
        return _tricubic(data, x, y, z)
    return trilinear(data, x, y, z)


@_jit
def _within(index: float, size: int) -> float:
    return min(max(index, 0.0), size - 1.0)


@_jit
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
        iz = raster // plane
        iy = (raster - iz * plane) // grid[2]
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
            out[k, o] = keep * np.int32(_clip(np.rint(row[k] * scale[k])))
        out[d, o] = keep * np.int32(np.rint((value - INTENSITY_CENTRE) * intensity_scale))
        out[d + 1, o] = keep


@_jit
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


@dataclass(frozen=True)
class Scales:
    """Power-of-two factors from real columns to integers: one per S column, one for I. Party 1's own."""

    steepest: NDArray[np.float64]
    intensity: float

    def all(self) -> NDArray[np.float64]:
        """Per column S…, I, Ω."""
        return np.concatenate([self.steepest, [self.intensity, 1.0]])


class MovingImage:
    """The smoothed moving image of a level, and the region in which it may be sampled.

    cubic: interpolated by cubic B-splines (`data` are their coefficients), else linearly.
    """

    def __init__(
        self, volume: Volume, margin: tuple[int, ...], rows: NDArray[np.bool_] | None = None, cubic: bool = False
    ) -> None:
        dim = volume.geometry.dimension
        self.geometry, self.dimension, self.cubic = volume.geometry, dim, cubic
        array = sitk.GetArrayFromImage(sitk.BSplineDecomposition(volume.to_sitk(), 3)) if cubic else volume.array
        self.data = np.ascontiguousarray(array if dim == 3 else array[None], np.float32)
        self.rows = np.ones((1, 1, 1), bool) if rows is None else rows.reshape(self.data.shape)
        self.low, self.high = np.zeros(3), np.zeros(3)
        self.low[:dim] = margin
        self.high[:dim] = np.array(volume.geometry.size) - 1.0 - np.array(margin)
        self.low[dim:], self.high[dim:] = -1.0, 1.0
        self.to_index = embed(volume.geometry.physical_to_index())

    def narrowed(self, margin_mm: float) -> MovingImage:
        """The same image, sampled only where it is so far from its border."""
        out = copy.copy(self)
        voxels = np.ceil(margin_mm / np.array(self.geometry.spacing))
        out.low, out.high = self.low.copy(), self.high.copy()
        out.low[: self.dimension] += voxels
        out.high[: self.dimension] -= voxels
        return out

    def gradient_bound(self) -> float:
        """An upper bound of ‖∇I‖ per mm."""
        spacing = np.array(self.geometry.spacing)
        steps = [np.abs(np.diff(self.data, axis=2 - i)).max(initial=0) / spacing[i] for i in range(self.dimension)]
        return float(np.linalg.norm(steps))


def embed(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """A (dim, dim+1) affine map as (3, 4), identity on the third axis of a 2D one."""
    dim = affine.shape[0]
    out = np.eye(3, 4)
    out[:dim, :dim], out[:dim, 3] = affine[:, :dim], affine[:, dim]
    return out


def compose(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """a∘b for (3, 4) affine maps."""
    out = a[:, :3] @ b
    out[:, 3] += a[:, 3]
    return out


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
    ) -> None:
        self.columns = transform.parameters + 2
        self.groups = -(-len(active) // LANES)
        self._moving, self._samples, self._use, self._active = moving, samples, use, active
        self._grid = np.array([1, 1, *fixed.array_shape][-3:], np.int64)
        to_mm = embed(fixed.index_to_physical())
        self._to_index = compose(moving.to_index, compose(embed(transform.affine()), to_mm))
        self._to_mm = to_mm.copy()
        self._to_mm[: fixed.dimension, 3] -= transform.centre
        self._gradient = np.ascontiguousarray(moving.to_index[:, :3].T)
        self._terms = _sparse_terms(transform.basis(scale_mm))
        self.scales, self._watch_peaks = scales, watch_peaks
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


def power_of_two_below(value: float) -> float:
    """The largest power of two ≤ value."""
    return 2.0 ** math.floor(math.log2(value))


@_jit
def _multiply(a: Any, b: Any, shift: int, out: Any) -> None:
    half = (1 << shift) >> 1
    for i in range(a.size):
        v = (np.int64(a[i]) * np.int64(b[i]) + half) >> shift
        out[i] = np.int32(_clip(v))


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
