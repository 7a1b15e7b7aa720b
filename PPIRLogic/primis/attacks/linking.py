"""Whether two files are of one patient, by what is public of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from PPIRLogic.arrays import AnyArray
from PPIRLogic.primis.evidence import Interval, area_under_curve, over_patients

_MAX_PAIRS = 3000


def pairs_of(patients: Sequence[str], seed: int = 0) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Pairs of images of one patient, and as many again (at most 3000) of two."""
    of = np.array(patients)
    draw = np.random.default_rng(seed)
    same = [pair for p in np.unique(of) for pair in combinations(np.flatnonzero(of == p).tolist(), 2)]
    if len(same) > _MAX_PAIRS:
        same = [same[i] for i in draw.permutation(len(same))[:_MAX_PAIRS]]
    drawn = draw.integers(0, len(of), (20 * _MAX_PAIRS, 2)).tolist()
    other = [(i, j) for i, j in drawn if of[i] != of[j]][: max(3 * len(same), 300)]
    return same, other


def link(patients: Sequence[str], alike: Callable[[int, int], float]) -> Interval | None:
    """How often two images of one patient are more alike than two of two; None if nobody has two. Chance is 0.5."""
    same, other = pairs_of(patients)
    if len(same) < 5:
        return None
    pairs = same + other
    scores = np.array([alike(i, j) for i, j in pairs])
    positive = np.arange(len(pairs)) < len(same)
    return over_patients([patients[i] for i, _ in pairs], lambda k: area_under_curve(scores[k], positive[k]))


def by_correlation(rows: AnyArray) -> Callable[[int, int], float]:
    """Alike as the rows correlate, once what all have in common is taken off."""
    rest = rows - rows.mean(0)
    norms = np.linalg.norm(rest, axis=1)
    unit = rest / np.where(norms > 0, norms, 1)[:, None]
    return lambda i, j: float(unit[i] @ unit[j])


def by_distance(rows: AnyArray) -> Callable[[int, int], float]:
    """Alike as the rows are near each other, each column in its own standard deviations."""
    scale = rows.std(0)
    scaled = rows / np.where(scale > 1e-9, scale, 1)
    return lambda i, j: -float(np.abs(scaled[i] - scaled[j]).sum())


def by_equal_bytes(files: Sequence[bytes]) -> Callable[[int, int], float]:
    """Alike as many bytes are the same at the same place, of the shorter one's."""
    arrays = [np.frombuffer(f, np.uint8) for f in files]

    def alike(i: int, j: int) -> float:
        n = min(len(arrays[i]), len(arrays[j]))
        return float(np.mean(arrays[i][:n] == arrays[j][:n]))

    return alike
