"""Bending energy of a B-spline displacement (Rueckert et al. 1999), exact, and the Jacobian of the transform.

E(u) = mean over the fixed image of Σ_ij ‖∂²u/∂x_i∂x_j‖², per mm². It is a quadratic form of the control points:
E = cᵀKc with K a sum of products of one small matrix per axis.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from PPIRLogic.arrays import Array
from PPIRLogic.transforms.bspline_basis import ControlPointAxis, cubic, cubic_slope, spread


def _curvature(r: Fraction) -> tuple[Fraction, ...]:
    return 1 - r, 3 * r - 2, 1 - 3 * r, r


def gram_matrices(cells: int, spacing_mm: float) -> list[Array]:
    """Mean over the axis of products of two B-splines' 0th, 1st, 2nd derivatives by mm: three (k, k)."""
    nodes, weights = np.polynomial.legendre.leggauss(4)  # exact up to degree 7; the products have degree 6
    out = []
    for order, basis in enumerate((cubic, cubic_slope, _curvature)):
        local = np.zeros((4, 4))
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            values = np.array([float(v) for v in basis(Fraction(float(node)))]) / spacing_mm**order
            local += weight * np.outer(values, values)
        matrix = np.zeros((cells + 3, cells + 3))
        for cell in range(cells):
            matrix[cell : cell + 4, cell : cell + 4] += local / cells
        out.append(matrix)
    return out


class BendingEnergy:
    """The form K for a grid of `cells` and `spacing` mm per axis, ITK order."""

    def __init__(self, cells: tuple[int, ...], spacing: tuple[float, ...]) -> None:
        dim = len(cells)
        self._grams = [gram_matrices(m, h) for m, h in zip(cells, spacing, strict=True)]
        pairs = [(a, b) for a in range(dim) for b in range(a, dim)]
        self._products = [
            (1.0 if a == b else 2.0, tuple((axis == a) + (axis == b) for axis in range(dim))) for a, b in pairs
        ]

    def apply(self, coefficients: Array) -> Array:
        """K·c for every component of (…, z, y, x)."""
        out = np.zeros_like(coefficients)
        for factor, orders in self._products:
            part = coefficients
            for axis, order in enumerate(orders):
                at = coefficients.ndim - 1 - axis
                part = np.moveaxis(np.tensordot(self._grams[axis][order], part, (1, at)), 0, at)
            out += factor * part
        return out

    def value(self, coefficients: Array) -> float:
        return float(np.sum(coefficients * self.apply(coefficients)))

    def diagonal(self) -> Array:
        """Of K, (z, y, x)."""
        total: Array | float = 0.0
        for factor, orders in self._products:
            part = np.ones(1)
            for axis, order in enumerate(orders):
                part = np.multiply.outer(np.diag(self._grams[axis][order]), part)
            total = total + factor * part[..., 0]
        return np.asarray(total)


def jacobian(
    coefficients: Array, axes: tuple[ControlPointAxis, ...], spacing: tuple[float, ...], direction: tuple[float, ...]
) -> Array:
    """det(I + ∇u) at every voxel of the axes' grid. coefficients: (dim, …, y, x) in LPS mm; spacing, mm."""
    dim = len(axes)
    along = np.empty((dim, dim, *(a.size for a in reversed(axes))))  # component, grid axis
    for b in range(dim):
        weights = [a.slopes / h if i == b else a.weights for i, (a, h) in enumerate(zip(axes, spacing, strict=True))]
        for component in range(dim):
            along[component, b] = spread(coefficients[component], axes, weights)
    d = np.reshape(direction, (dim, dim))
    m = [[sum(along[i, b] * d[j, b] for b in range(dim)) + (i == j) for j in range(dim)] for i in range(dim)]
    if dim == 2:
        return m[0][0] * m[1][1] - m[0][1] * m[1][0]
    return (
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
        - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
    )
