"""Party 1's columns: the moving image and its steepest-descent images at the samples, quantised.

S_k = ∇I(T(x))·∂T(x)/∂θ_k for linear transforms, rounded to integers with one power-of-two scale per column. Rows whose
point falls outside the moving field of view (less a margin) are zero: the overlap. The same integers go into the
private product and into SᵀS, SᵀI, so that quantisation multiplies only the residual. The loops: linear_kernels.py.

Columns: S_1 … S_d, I (centred), Ω (1 inside the overlap). A single 2D image is a volume of one slice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import FixedPointError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.interpolation import MovingImage, compose, embed
from PPIRLogic.registration.columns.linear_kernels import add_gram, fill
from PPIRLogic.registration.columns.scales import LIMIT, Scales, power_of_two_below
from PPIRLogic.registration.sampling import Indices
from PPIRLogic.secure.layout import CHUNK, GROUP, LANES
from PPIRLogic.secure.product import Columns, Link, over_groups
from PPIRLogic.transforms import LinearTransform


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
            fill(
                self._samples, self._use[start : start + count], self._grid, self._to_index, self._to_mm,
                m.data, m.cubic, m.rows, m.low, m.high, self._gradient, *self._terms,
                self.scales.steepest, self.scales.intensity, start, at, out,
            )  # fmt: skip
            out[:, at + count : at + CHUNK] = 0
        add_gram(out, self._grams[worker], self._partial[worker])
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


def all_columns(source: LinearColumns, samples: int, link: Link) -> Columns:
    """The columns at all samples of a level, (columns, samples), without opening anything."""
    out = np.zeros((source.columns, source.groups * GROUP), np.int32)

    def keep(group: int, worker: int, block: Columns) -> None:
        out[:, group * GROUP : (group + 1) * GROUP] = block

    scan_columns(source, link, keep)
    return out[:, :samples]


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
