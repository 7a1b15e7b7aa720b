"""A battery that tells two kinds of transcripts apart, if they can be told apart: statistics, and a trained classifier.

A transcript is cut into pieces (polynomials, masked blocks). Of each piece the battery takes the distribution of its
values in sixteen bins, moments, the correlation of neighbours, the distribution of its lowest bits, and its
correlation with every vector the curious side might look for. Random rectified features of these and ridge regression
decide between two labels; half of the pieces train, the other half are judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
NEURONS = 160


def features(piece: Array, wanted: Sequence[Array] = ()) -> Array:
    """What is looked at in one piece: real values scaled to [0, 1), shape (n,)."""
    x = np.asarray(piece, float)
    whole = (x * 2**30).astype(np.int64)
    low = np.bincount(whole & 7, minlength=8) / x.size
    bins = np.bincount(np.clip(whole >> 26, 0, 15), minlength=16) / x.size
    y = x - x.mean()
    deviation = max(float(y.std()), 1e-30)
    square = y * y
    moments = [x.mean(), deviation, square @ y / x.size / deviation**3, square @ square / x.size / deviation**4]
    neighbours = [y[k:] @ y[:-k] / x.size / deviation**2 for k in (1, 2, 8)]
    found = [y @ (w - w.mean()) / x.size / deviation / max(float(w.std()), 1e-30) for w in wanted]
    return np.array([*bins, *low, *moments, *neighbours, *found])


@dataclass(frozen=True)
class Verdict:
    """Pieces judged, and the share of right judgements."""

    judged: int
    accuracy: float

    @property
    def excess(self) -> float:
        """Standard errors above one half."""
        return (self.accuracy - 0.5) * 2 * np.sqrt(self.judged)

    def __str__(self) -> str:
        return f"{100 * self.accuracy:.1f} % right of {self.judged}"


def tell_apart(one: Array, two: Array, seed: int = 0) -> Verdict:
    """Train on half of the feature rows of both kinds, judge the rest."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([one, two])
    labels = np.concatenate([np.ones(len(one)), -np.ones(len(two))])
    order = rng.permutation(len(rows))
    rows, labels, half = rows[order], labels[order], len(rows) // 2
    mean, spread = rows[:half].mean(axis=0), rows[:half].std(axis=0)
    scaled = (rows - mean) / np.where(spread > 1e-12, spread, 1.0)
    scaled = np.clip(scaled, -8, 8)
    hidden = np.maximum(0, scaled @ rng.standard_normal((rows.shape[1], NEURONS)) / 4 + rng.standard_normal(NEURONS))
    design = np.hstack([scaled, hidden, np.ones((len(rows), 1))])
    train = design[:half]
    weights = np.linalg.solve(train.T @ train + 0.05 * half * np.eye(design.shape[1]), train.T @ labels[:half])
    right = np.sign(design[half:] @ weights) == labels[half:]
    return Verdict(len(right), float(right.mean()))
