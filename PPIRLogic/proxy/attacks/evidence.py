"""How often an attacker is right, and how sure that is: first guess and area under the curve, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from PPIRLogic.arrays import AnyArray

_DRAWS = 500


@dataclass(frozen=True)
class RecognitionFinding:
    """One attack at one strength, in mm. found: share of subjects named at the first guess, with low and high of its 95
    % interval; area: how often the true candidate looks nearer than another one; persons: candidates, so that guessing
    finds one in so many; probes: proxies that were judged."""

    attack: str
    strength_mm: float
    spectrum: str
    found: float
    low: float
    high: float
    area: float
    persons: int
    probes: int
    data: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"{100 * self.found:.0f} % found ({100 * self.low:.0f} to {100 * self.high:.0f} %) of {self.persons}, AUC"
            f" {self.area:.2f}"
        )


def finding(
    attack: str, strength_mm: float, spectrum: str, alike: AnyArray, right: Sequence[int], **data: Any
) -> RecognitionFinding:
    """From how alike each probe is to each candidate (probes, candidates), and the number of the right one for each.

    Of equally alike candidates none is preferred: each counts its share. Intervals are over candidates' subjects, drawn
    again with replacement, and never narrower than Wilson's for as many independent subjects.

    >>> str(finding("a", 8, "plain", np.eye(4), [0, 1, 2, 3]))
    '100 % found (51 to 100 %) of 4, AUC 1.00'
    """
    alike, truth = np.asarray(alike, np.float64), np.asarray(right)
    best = alike == alike.max(axis=1, keepdims=True)
    hits = best[np.arange(len(truth)), truth] / best.sum(axis=1)
    own = alike[np.arange(len(truth)), truth]
    others = np.ones(alike.shape, bool)
    others[np.arange(len(truth)), truth] = False
    area = float(np.mean([_beats(o, row[mask]) for o, row, mask in zip(own, alike, others, strict=True)]))
    low, high = _interval(hits, truth)
    return RecognitionFinding(
        attack, float(strength_mm), spectrum, round(float(hits.mean()), 4), low, high, round(area, 4), alike.shape[1],
        len(truth), data,
    )  # fmt: skip


def _beats(own: float, others: AnyArray) -> float:
    return float(np.mean((own > others) + 0.5 * (own == others)))


def _interval(hits: AnyArray, subjects: AnyArray) -> tuple[float, float]:
    names = np.unique(subjects)
    each = np.array([hits[subjects == name].mean() for name in names])
    rng = np.random.default_rng(0)
    means = each[rng.integers(0, len(each), (_DRAWS, len(each)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    least, most = wilson(float(each.mean()), len(each))
    return round(float(min(low, least)), 4), round(float(max(high, most)), 4)


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share.

    >>> [round(x, 3) for x in wilson(0.5, 10)]
    [0.237, 0.763]
    """
    z = 1.96
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))
