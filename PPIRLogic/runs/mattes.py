"""One level of a linear registration by mutual information: histogram first, gradient where a step is taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import OverlapError
from PPIRLogic.losses import Evaluation
from PPIRLogic.losses.mattes import (
    FACTOR,
    HIGH,
    LOW,
    JointHistogram,
    Mattes,
    as_factor,
    bin_position,
    parzen_columns,
    per_unit,
    slopes_of,
)
from PPIRLogic.openings import GRADIENT, VALUE
from PPIRLogic.runs.linear import LinearRun
from PPIRLogic.secure.base import CHUNK, GROUP, Columns
from PPIRLogic.transforms import LinearTransform
from PPIRLogic.warp import INTENSITY_CENTRE, LIMIT, Scales, power_of_two_below, scan_columns

Floats = NDArray[np.float64]
START_MARGIN = 2.0  # voxels of a level that its samples keep from the moving border, at its start


class MattesRun(LinearRun):
    """Mutual information at one level, over the level's fixed pool of samples."""

    loss: Mattes

    def _choose_scales(self, scan: Any) -> Scales:
        """The steepest-descent images are rounded again before they travel: 15 bits are room enough."""
        steepest = LIMIT / (2 * np.maximum(scan.peaks()[:-2], 1)) * scan.scales.steepest
        return Scales(np.array([power_of_two_below(float(v)) for v in steepest]), power_of_two_below(LIMIT / 2))

    def _opened(self) -> None:
        """Fix the samples of the level: those well inside the moving image at its start.

        Where samples fall in and out of the field of view with every step, the histogram's jumps hide its slope.
        """
        moving, margin = self.moving, START_MARGIN * self.level.factor * min(self.moving.geometry.spacing)
        self.moving = moving.narrowed(margin)
        inside = self._own_columns(self.start)[-1] > 0
        self.moving = moving
        self.use = self.use & inside

    def _evaluate(self, transform: LinearTransform) -> Evaluation | None:
        self.run_.cancel.check()
        columns = self._own_columns(transform)
        d = transform.parameters
        use = columns[d + 1] > 0
        position = bin_position(columns[d] / self.scales.intensity + INTENSITY_CENTRE, self.loss.bins)
        source = parzen_source(position, use, self.loss.bins)
        opened = self.session.evaluate(self.level, source, VALUE, self.terms[VALUE])
        histogram = self._histogram(opened)
        if histogram is None:
            return None
        self._last = (transform, columns, position, use, histogram)
        empty = np.empty(0)
        return self._unless_too_small(Evaluation(-histogram.mutual_information(), empty, empty, histogram.samples))

    def _linearise(self, transform: LinearTransform, evaluation: Evaluation) -> Evaluation:
        known, columns, position, use, histogram = self._last
        assert known is transform  # a step is taken from what was evaluated last
        d, bins, kappa = transform.parameters, self.loss.bins, per_unit(self.loss.bins)
        steepest = columns[:d] / self.scales.steepest[:, None]
        inside = use & moves_bins(position, bins)
        slopes, of_slopes = as_factor(slopes_of(position, inside, histogram), FACTOR)
        factors, of_factors = as_factor(steepest, FACTOR)
        opened = self.session.evaluate(self.level, FactorColumns(slopes, factors, bins), GRADIENT, self.terms[GRADIENT])
        gradient = -kappa / histogram.samples * np.array(opened, np.float64) / (of_slopes * of_factors)
        information = np.interp(position, np.arange(bins), histogram.information()) * inside
        hessian = kappa**2 / histogram.samples * (steepest * information) @ steepest.T
        return Evaluation(evaluation.value, gradient, hessian, evaluation.overlap)

    def _histogram(self, opened: list[int]) -> JointHistogram | None:
        try:
            return JointHistogram.from_sums(opened, self.loss.bins)
        except OverlapError:
            if not self.first_overlap:
                raise
            return None

    def _own_columns(self, transform: LinearTransform) -> Columns:
        """S, I and Ω at all samples of the pool, (d + 2, N)."""
        chunks = np.arange(-(-len(self.samples) // CHUNK))
        source = self._columns(transform, self.scales, self.samples, self.use, chunks)
        out = np.zeros((source.columns, source.groups * GROUP), np.int32)

        def keep(group: int, worker: int, block: Columns) -> None:
            out[:, group * GROUP : (group + 1) * GROUP] = block

        scan_columns(source, self.session.link, keep)
        return out[:, : len(self.samples)]


def moves_bins(position: Floats, bins: int) -> NDArray[np.bool_]:
    """Where the position follows the intensity: not at the ends, where that is clipped."""
    lowest, highest = bin_position(np.array([LOW, HIGH]), bins)
    return np.asarray((position > lowest) & (position < highest))


def parzen_source(position: Floats, use: NDArray[np.bool_], bins: int) -> BinColumns:
    """The columns whose products are a joint histogram."""

    def fill(first: int, last: int, out: Columns) -> None:
        parzen_columns(position[first:last], use[first:last], CHUNK // bins, CHUNK, out)

    return BinColumns(bins, len(use), bins, fill)


class BinColumns:
    """Columns over an operand of several bins, filled chunk by chunk (a `ColumnSource`)."""

    def __init__(self, columns: int, samples: int, bins: int, fill: Callable[[int, int, Columns], None]) -> None:
        self.columns, self._samples, self._fill = columns, samples, fill
        self._per_group = GROUP // bins
        self.groups = -(-samples // self._per_group)

    def prepare(self, workers: int) -> None:
        self._sums = np.zeros((workers, self.columns), np.int64)
        self._squares = np.zeros((workers, self.columns), np.int64)

    def block(self, group: int, worker: int, out: Columns) -> None:
        out[:] = 0
        first = group * self._per_group
        self._fill(first, min(first + self._per_group, self._samples), out)
        wide = out.astype(np.int64)
        self._sums[worker] += np.abs(wide).sum(axis=1)
        self._squares[worker] += np.square(wide).sum(axis=1)

    def finish(self) -> None:
        pass

    def absolute_sums(self) -> NDArray[np.int64]:
        out: NDArray[np.int64] = self._sums.sum(axis=0)
        return out

    def norms(self) -> Floats:
        return np.sqrt(self._squares.sum(axis=0).astype(np.float64))

    def column_scales(self) -> Floats:
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
