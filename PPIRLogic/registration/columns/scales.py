"""Power-of-two scales of party 1's columns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.compiled import compiled_ieee

LIMIT = 2**15 - 1


@compiled_ieee
def clip_to_limit(value: Any) -> Any:
    return max(-LIMIT, min(LIMIT, value))


@dataclass(frozen=True)
class Scales:
    """Power-of-two factors from real columns to integers: one per S column, one for I. Party 1's own."""

    steepest: NDArray[np.float64]
    intensity: float

    def all(self) -> NDArray[np.float64]:
        """Per column S…, I, Ω."""
        return np.concatenate([self.steepest, [self.intensity, 1.0]])


def power_of_two_below(value: float) -> float:
    """The largest power of two ≤ value."""
    return 2.0 ** math.floor(math.log2(value))
