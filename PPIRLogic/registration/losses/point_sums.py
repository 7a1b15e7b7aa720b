"""What a registration of point sets opens: the sums of Arun, Huang & Blostein (1987), once.

One file of `losses` that is no loss of two images: its terms are opened and counted like theirs, and the transform
follows from them in closed form (`registration.points.fit`).
"""

from __future__ import annotations

from collections.abc import Sequence

from PPIRLogic.registration.losses.base import Evaluation, Loss, Sums
from PPIRLogic.secure.product import Term


class PointSums(Loss):
    """dim² + dim + 1 numbers: Σ qᵢ·p'ᵢᵀ (q: party 1's centred points), Σ p'ᵢ, and Σ |p'ᵢ|² for the residual.

    Operands of party 2: its coordinates X, Y[, Z] and their squared length R2, all about a public reference point.
    Party 1's columns: its centred coordinates, and ones.
    """

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.name = f"points_{dimension}d"
        self.operands = (*"XYZ"[:dimension], "R2")

    def terms(self, parameters: int) -> Sequence[Term]:
        """`parameters` plays no part: the numbers are the same for every kind of transform."""
        own, ones = range(self.dimension), self.dimension
        cross = [Term(k, axis, "cross-covariance") for k in own for axis in self.operands[:-1]]
        return [*cross, *(Term(ones, axis, "centroid") for axis in self.operands[:-1]), Term(ones, "R2", "spread")]

    def evaluate(self, sums: Sums) -> Evaluation:
        raise NotImplementedError("point sets are fitted in closed form")


POINT_LOSSES: dict[str, Loss] = {loss.name: loss for loss in (PointSums(2), PointSums(3))}
