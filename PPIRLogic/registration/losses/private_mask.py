"""Any least-squares loss over the inside of a private fixed mask: the exact form.

With a mask M that only party 2 knows, even party 1's own sums become joint ones: Σ M·S·Sᵀ, Σ M·S·I, … Every
product of two of party 1's columns is opened against M (105 more numbers for an affine in 3D), J is replaced by
M·J, and the loss is evaluated from the opened sums alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.losses.base import Evaluation, IntensityFit, Loss, Sums
from PPIRLogic.secure.product import Term

_MASKED = {"J": "MJ", "J2": "MJ2"}


def pairs(columns: int) -> list[tuple[int, int]]:
    """The products of party 1's columns in the order in which they follow the columns themselves."""
    return [(i, j) for i in range(columns) for j in range(i, columns)]


class PrivateMask(Loss):
    """`loss` restricted to a mask of the fixed image that party 1 does not know."""

    def __init__(self, loss: Loss) -> None:
        self.name = loss.name
        self.operands = (*(_MASKED[o] for o in loss.operands), "M")
        self._loss = loss

    def prepared(self, volume: Volume, factor: int) -> Volume:
        return self._loss.prepared(volume, factor)

    def terms(self, parameters: int) -> Sequence[Term]:
        columns = parameters + 2
        image = [Term(t.column, _MASKED[t.operand], t.kind) for t in self._loss.terms(parameters)]
        products = [Term(columns + i, "M", "mask") for i in range(len(pairs(columns)))]
        return [*image, *products]

    def evaluate(self, sums: Sums) -> Evaluation:
        """The loss of the masked sums; OverlapError is the inner loss's to raise."""
        return self._loss.evaluate(self._inner(sums))

    def fit(self, sums: Sums) -> IntensityFit:
        return self._loss.fit(self._inner(sums))

    def _inner(self, sums: Sums) -> Sums:
        """The opened sums as those that the inner loss knows."""
        columns = len(sums.gram)
        gram = np.zeros((columns, columns))
        for k, (i, j) in enumerate(pairs(columns)):
            gram[i, j] = gram[j, i] = sums.joint[columns + k, "M"]
        joint = {(t.column, t.operand): sums.joint[t.column, _MASKED[t.operand]] for t in self._loss.terms(columns - 2)}
        return Sums(gram, joint)


@lru_cache(maxsize=8)
def with_private_mask(loss: Loss) -> PrivateMask:
    return PrivateMask(loss)
