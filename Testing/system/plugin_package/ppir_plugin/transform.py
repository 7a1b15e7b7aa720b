"""Shifts and one scale per axis of the coordinate system."""

import numpy as np

from PPIRLogic.arrays import Array
from PPIRLogic.registration.transform_kinds.linear import LinearKind
from PPIRLogic.transforms.linear import LinearForm


class Diagonal(LinearForm):
    name = "stretch"

    def count(self, dimension: int) -> int:
        return dimension

    def basis(self, matrix: Array) -> Array:
        dim = len(matrix)
        return np.stack([np.diag(row) for row in np.eye(dim)])

    def moved(self, matrix: Array, step: Array) -> Array:
        return matrix + np.diag(step)

    def nearest(self, matrix: Array) -> Array:
        return np.diag(np.diag(matrix))


STRETCH = LinearKind(Diagonal(), "shifts and one scale per axis")
