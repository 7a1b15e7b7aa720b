"""The correlation ratio: how well some function of one image gives the other, whatever the function is.

Roche et al. 1998, with a function that is piecewise linear. A value opens KNOTS + 1 numbers where a joint histogram
opens its bins squared, so that many starts can be compared. Its best place lies a few millimetres beside the truth:
to begin from, that is near enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import Array
from PPIRLogic.errors import OverlapError
from PPIRLogic.registration.losses.base import Evaluation, Loss, Sums
from PPIRLogic.registration.losses.mutual_information import HIGH, LOW
from PPIRLogic.secure.product import Term

KNOTS = 8
WEIGHT = 256  # the hats of a sample are integers that sum to this
_RIDGE = 1e-3  # of the samples of a knot: knots that nothing is at get the mean
_MIN_REST = 1e-9
_PER_UNIT = (KNOTS - 1) / (HIGH - LOW)


class CorrelationRatio(Loss):
    """1 − η², of J given a function of I. Only where starts are compared: it is no loss that a request can name.

    Columns: KNOTS hats of I, which sum to WEIGHT in the overlap and to 0 elsewhere, and Ω.
    """

    name = "correlation ratio"
    operands = ("J", "J2")

    def terms(self, parameters: int) -> Sequence[Term]:
        return [*(Term(k, "J", "value") for k in range(KNOTS)), Term(KNOTS, "J2", "overlap")]

    def evaluate(self, sums: Sums) -> Evaluation:
        raise NotImplementedError("a correlation ratio is evaluated from the sums of its hats")


@dataclass(frozen=True)
class Relation:
    """J as a function of I: values (KNOTS,) at the knots. left: share of the variance of J that it leaves, 1 − η²."""

    values: Array
    left: float
    normal: Array  # (KNOTS, KNOTS), of its least squares

    @classmethod
    def fitted(cls, own: Array, j: Array, j2: float, samples: float) -> Relation:
        """From Σ hat·hat (KNOTS, KNOTS), Σ hat·J (KNOTS,) and Σ J²; OverlapError where J is constant."""
        if samples < 0.5:
            raise OverlapError("No voxel of the fixed image falls inside the moving image under this transform.")
        mean = float(j.sum()) / samples
        variance = j2 - samples * mean**2
        if variance <= _MIN_REST * samples:
            raise OverlapError("The fixed image is constant within the overlap of the two images.")
        normal = own + _RIDGE * samples / KNOTS * np.eye(KNOTS)
        values = mean + np.linalg.solve(normal, j - mean * own.sum(axis=1))
        left = (j2 - 2 * values @ j + values @ own @ values) / variance
        return cls(values, float(np.clip(left, _MIN_REST, 1.0)), normal)

    def at(self, intensity: Array) -> tuple[Array, Array]:
        """Its value and its slope per unit at normalised intensities."""
        low, share = _cells(intensity)
        rise = self.values[low + 1] - self.values[low]
        moves = (intensity > LOW) & (intensity < HIGH)
        return self.values[low] + share * rise, _PER_UNIT * rise * moves


def hats(intensity: Array, inside: NDArray[np.bool_]) -> NDArray[np.int32]:
    """(KNOTS, N) whole numbers that sum to WEIGHT for every sample inside, of normalised intensities (N,)."""
    low, share = _cells(intensity)
    out = np.zeros((KNOTS, intensity.size), np.int32)
    upper = np.rint(WEIGHT * share).astype(np.int32)
    samples = np.arange(intensity.size)
    out[low, samples] = (WEIGHT - upper) * inside
    out[low + 1, samples] = upper * inside
    return out


def _cells(intensity: Array) -> tuple[NDArray[np.int64], Array]:
    """The knot below an intensity, and how far on to the next one."""
    position = _PER_UNIT * (np.clip(intensity, LOW, HIGH) - LOW)
    low = np.minimum(position.astype(np.int64), KNOTS - 2)
    return low, position - low
