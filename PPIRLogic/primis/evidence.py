"""How sure a measurement is: areas under the curve, and intervals over patients."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from PPIRLogic.arrays import AnyArray
from PPIRLogic.errors import MissingDependencyError

_DRAWS = 300


@dataclass(frozen=True)
class Interval:
    """A value, and where it lies for 95 of 100 draws of the patients.

    >>> str(Interval(0.5, 0.45, 0.56))
    '0.50 (0.45 to 0.56)'
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"

    def holds(self, value: float) -> bool:
        """Whether `value` is no further off than noise goes: twice as far as the interval, four standard errors."""
        return 2 * self.low - self.value <= value <= 2 * self.high - self.value

    @property
    def nothing(self) -> bool:
        """Whether it is not above 0 by more than noise."""
        return 2 * self.low - self.value <= 0


def over_patients(patients: Sequence[str], measure: Callable[[AnyArray], float], seed: int = 0) -> Interval:
    """`measure(indices)` of all images, with its interval: whole patients are drawn again, with replacement."""
    names, of = np.unique(np.array(patients), return_inverse=True)
    members = [np.flatnonzero(of == k) for k in range(len(names))]
    draw = np.random.default_rng(seed)
    values = [
        measure(np.concatenate([members[k] for k in draw.integers(0, len(names), len(names))])) for _ in range(_DRAWS)
    ]
    known = np.array([v for v in values if np.isfinite(v)] or [np.nan])
    low, high = np.percentile(known, [2.5, 97.5])
    return Interval(float(measure(np.arange(len(of)))), float(low), float(high))


def area_under_curve(scores: AnyArray, positive: AnyArray) -> float:
    """How often a positive has the higher score than a negative; ties count half. Not a number if one kind is missing.

    >>> area_under_curve(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True]))
    0.875
    """
    yes = np.asarray(positive, bool)
    more, less = int(yes.sum()), int((~yes).sum())
    if not more or not less:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[yes].sum() - more * (more + 1) / 2) / (more * less))


def need(module: str) -> Any:
    """An optional package; MissingDependencyError says how to get it.

    >>> need("numpy").__name__
    'numpy'
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        name = {"sklearn": "scikit-learn", "skimage": "scikit-image"}.get(module.split(".")[0], module.split(".")[0])
        raise MissingDependencyError(
            f"This needs the package {name}, which is not installed. Install it with: pip install 'ppir[train]'."
        ) from None
