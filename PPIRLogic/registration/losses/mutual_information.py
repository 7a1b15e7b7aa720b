"""Mutual information of Mattes: any modality, any relation of the intensities.

Mattes et al. 2003; the private form of Taiello et al. 2024, with fewer numbers opened. Party 2's operand B is the
one-hot bin of every sample of J (width = bins), party 1's columns are the cubic B-spline Parzen weights A of its
warped intensities. Two stages:

- value: the joint histogram AᵀB, bins² numbers;
- gradient: not the published bins²·d derivatives of the histogram, but the d numbers
  G_k = Σ_{r,t} w(r,t)·∂p(r,t)/∂θ_k = (κ/N)·Σ_x Σ_t B(x,t)·U(x,t)·S_k(x), where w = log(p(r,t)/p(r)) is known once
  the histogram is, and U(x,t) = Σ_r w(r,t)·dA(x,r)/dρ is party 1's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import Array
from PPIRLogic.compiled import compiled
from PPIRLogic.cubic_bspline import compiled_cubic, compiled_cubic_slope
from PPIRLogic.disclosure.ledger import HISTOGRAM
from PPIRLogic.errors import OverlapError, ProtocolError
from PPIRLogic.registration.losses.base import Evaluation, Loss, Sums
from PPIRLogic.secure.layout import CHUNK
from PPIRLogic.secure.product import Term

if TYPE_CHECKING:
    from PPIRLogic.registration.request import Request

WEIGHT = 256  # Parzen weights are integers that sum to this: coarse, so that a histogram names no voxel
FACTOR = 255  # |U| and |S| of the gradient as integers: products of 16 bits, sums of 2^15 samples in 32
COARSE_BINS = 16
LOW, HIGH = -0.05, 1.2  # normalised intensities beyond these are clipped
_PADDING = 1.0  # bins left free below the range, so that every weight falls on a bin; twice as much above


class MutualInformation(Loss):
    """−MI of the joint histogram over the samples in the overlap (and inside a private fixed mask)."""

    name = "mi"
    words = (
        "−1 times the mutual information of the two images where they overlap, in nats: 0 for unrelated images, the"
        " more negative the better one image tells the other"
    )
    bending = 100.0
    operands = ("B",)
    smoothing = 2.0
    pooled = True
    cubic = True  # linear interpolation blurs, more or less with every shift: that moves the maximum of the information
    masks_itself = True

    def __init__(self, bins: int = 32, smoothing: float = 2.0) -> None:
        self.width = self.bins = bins
        self.smoothing = smoothing

    def configured(self, request: Request, finer: int = 0) -> Loss:
        """Of COARSE_BINS at all but the last level of a linear transform: these need to come near only.

        Smoothed less where the image can bend: there, much of the information would come from the blur.
        """
        if request.iterations:
            return MutualInformation(request.bins, 1.0)
        return MutualInformation(min(request.bins, COARSE_BINS) if finer else request.bins)

    def terms(self, parameters: int) -> Sequence[Term]:
        return [Term(r, "B", HISTOGRAM, self.bins, largest=WEIGHT) for r in range(self.bins)]

    def gradient_terms(self, parameters: int) -> Sequence[Term]:
        return [Term(k, "B", "gradient", vectors=self.bins, largest=FACTOR**2) for k in range(parameters)]

    def control_point_terms(self, axes: int, control_points: int) -> Sequence[Term]:
        return [
            Term(a, "B", "gradient", control_points, per_control_point=True, vectors=self.bins) for a in range(axes)
        ]

    def evaluate(self, sums: Sums) -> Evaluation:
        raise NotImplementedError("mutual information is evaluated from a joint histogram")


@dataclass(frozen=True)
class JointHistogram:
    """The opened joint histogram as probabilities p (bins, bins), moving × fixed, and the samples it counts."""

    p: Array
    samples: float

    @classmethod
    def from_sums(cls, sums: Sequence[int], bins: int) -> JointHistogram:
        """From the opened integers, moving bin by moving bin; OverlapError if nothing was counted.

        ProtocolError for a negative count, which no image gives: its logarithm would be the value of the loss.
        """
        if min(sums) < 0:
            raise ProtocolError(
                "A joint histogram came with negative counts: the peer or the dealer does not compute what was agreed."
                " Check that all run the same release; if they do, do not trust the peer."
            )
        counts = np.array(sums, np.float64).reshape(bins, bins) / WEIGHT
        total = float(counts.sum())
        if total < 1:
            raise OverlapError(
                "No sample of the fixed image (inside its mask, if one is used) falls inside the moving image under"
                " this transform. Start from the geometric centres or give an initial transform."
            )
        return cls(counts / total, total)

    def mutual_information(self) -> float:
        """Σ p(r,t)·log(p(r,t) / p(r)p(t)), in nats."""
        independent = np.outer(self.p.sum(axis=1), self.p.sum(axis=0))
        there = self.p > 0
        return float((self.p[there] * np.log(self.p[there] / independent[there])).sum())

    def log_conditional(self) -> Array:
        """w(r,t) = log(p(r,t)/p(r)), 0 where p is 0."""
        there = self.p > 0
        out = np.zeros_like(self.p)
        np.log(np.divide(self.p, self.p.sum(axis=1, keepdims=True), out=np.ones_like(out), where=there), out=out)
        return np.where(there, out, 0.0)

    def information(self) -> Array:
        """h(r): Fisher information of J about the moving intensity, per squared bin, (bins,)."""
        marginal = self.p.sum(axis=1, keepdims=True)
        conditional = np.divide(self.p, marginal, out=np.zeros_like(self.p), where=marginal > 0)
        slope = np.zeros_like(conditional)
        slope[1:-1] = (conditional[2:] - conditional[:-2]) / 2
        slope[0], slope[-1] = conditional[1] - conditional[0], conditional[-1] - conditional[-2]
        floor = 1.0 / max(self.samples, 1.0)
        mean = conditional.copy()
        mean[1:-1] = (conditional[2:] + conditional[:-2] + 2 * conditional[1:-1]) / 4
        return (slope**2 / np.maximum(mean, floor)).sum(axis=1)


def bin_position(intensity: Array, bins: int) -> Array:
    """ρ: normalised intensities, clipped to the range, to bins; every cubic weight then falls on a bin."""
    return _PADDING + (np.clip(intensity, LOW, HIGH) - LOW) * per_unit(bins)


def per_unit(bins: int) -> float:
    """κ: bins per unit of normalised intensity."""
    return (bins - 1 - 3 * _PADDING) / (HIGH - LOW)


def fixed_bins(intensity: NDArray[Any], bins: int) -> NDArray[np.int64]:
    """The bin of every normalised fixed intensity, clipped to the range."""
    share = (np.clip(intensity, LOW, HIGH) - LOW) / (HIGH - LOW)
    return np.minimum((share * bins).astype(np.int64), bins - 1)


def one_hot(chosen: NDArray[np.int64], inside: NDArray[np.bool_], bins: int) -> NDArray[np.int32]:
    """The operand B of samples (N,), N a multiple of CHUNK / bins, in the layout of an operand of that width.

    Every place is computed: writing the ones alone takes longer the further apart the image puts them.
    """
    rows = np.where(inside, chosen, bins).reshape(-1, 1, CHUNK // bins)
    return (rows == np.arange(bins)[:, None]).astype(np.int32).reshape(-1)


@compiled
def parzen_columns(position: Any, use: Any, part: int, chunk: int, out: Any) -> None:
    """out (bins, chunks·CHUNK) = integer Parzen weights of whole chunks of samples, each at the end of its chunk."""
    rounded = np.empty(4, np.int64)
    for i in range(position.size):
        if not use[i]:
            continue
        low = int(position[i])
        weights = compiled_cubic(position[i] - low)
        total = 0
        largest = 0
        for k in range(4):
            rounded[k] = int(weights[k] * WEIGHT + 0.5)
            total += rounded[k]
            if weights[k] > weights[largest]:
                largest = k
        rounded[largest] += WEIGHT - total
        at = (i // part) * chunk + chunk - part + i % part
        for k in range(4):
            out[low - 1 + k, at] = rounded[k]


@compiled
def slope_entries(position: Any, use: Any, w: Any, there: Any, part: int, out: Any) -> None:
    """out (n·bins,) = U(x,t) in the layout of the operand B, real; 0 outside of `use` and where B(x,t) must be 0.

    position, use (n,): of whole chunks of samples. w, there (bins, bins): p > 0, as it is where B(x,t) = 1.
    """
    bins = w.shape[1]
    for i in range(position.size):
        base = (i // part) * part * bins + i % part
        if not use[i]:
            for t in range(bins):
                out[base + t * part] = 0
            continue
        low = int(position[i])
        slopes = compiled_cubic_slope(position[i] - low)
        for t in range(bins):
            u = 0.0
            if there[low, t] and there[low + 1, t]:
                for k in range(4):
                    u += slopes[k] * w[low - 1 + k, t]
            out[base + t * part] = u


def slopes_of(position: Array, use: NDArray[np.bool_], histogram: JointHistogram) -> Array:
    """U at all samples that the histogram counts, (n·bins,), in the layout of the operand B."""
    bins = len(histogram.p)
    out = np.empty(position.size * bins)
    slope_entries(position, use, histogram.log_conditional(), histogram.p > 0, CHUNK // bins, out)
    return out


def as_factor(values: Array, most: int) -> tuple[NDArray[np.int32], Array]:
    """Integers of magnitude up to `most` along the last axis, and how many make a unit, one for every row."""
    peak = np.maximum(np.abs(values).max(axis=-1), 1e-30)
    scale = most / peak
    return np.rint(values * scale[..., None]).astype(np.int32), scale
