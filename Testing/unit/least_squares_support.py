"""What the tests of losses share: a pair of arrays, and the losses computed on them directly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.registration.losses import LOSSES as ALL_LOSSES
from PPIRLogic.registration.losses import Loss, Sums

Array = NDArray[np.float64]
N, D = 400, 5
LOSSES = {name: loss for name, loss in ALL_LOSSES.items() if not (loss.pooled or loss.two_sided)}  # least squares


class Scene:
    """A moving image that is linear in d parameters, a fixed one that resembles it, and an overlap."""

    def __init__(self, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self.overlap = (generator.random(N) < 0.8).astype(float)
        self.s = generator.standard_normal((D, N)) * np.array([1, 30, 0.1, 5, 1])[:, None] * self.overlap
        self.i = generator.uniform(-0.5, 1, N) * self.overlap
        self.j = 0.7 * self.i + 0.2 + 0.3 * generator.standard_normal(N)

    def columns(self, weight: Array | None = None) -> Array:
        """S, I, Ω, restricted to `weight`."""
        return np.vstack([self.s, self.i, self.overlap]) * (1.0 if weight is None else weight)

    def sums(self, loss: Loss, weight: Array | None = None) -> Sums:
        columns, fixed = self.columns(weight), {"J": self.j, "J2": self.j**2}
        joint = {(t.column, t.operand): float(columns[t.column] @ fixed[t.operand]) for t in loss.terms(D)}
        return Sums(columns @ columns.T, joint)

    def at(self, theta: Array) -> Scene:
        moved = Scene.__new__(Scene)
        moved.overlap, moved.s, moved.j, moved.i = self.overlap, self.s, self.j, self.i + theta @ self.s
        return moved


def direct(scene: Scene, name: str, inside: NDArray[np.bool_] | None = None) -> float:
    """The loss as a textbook has it, on the voxels inside."""
    use = scene.overlap > 0 if inside is None else (scene.overlap > 0) & inside
    i, j = scene.i[use], scene.j[use]
    return float(np.mean((i - j) ** 2)) if name == "ssd" else float(1 - np.corrcoef(i, j)[0, 1] ** 2)
