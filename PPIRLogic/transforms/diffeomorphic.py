"""Diffeomorphic transforms after an affine one: y = A(φ(x)), φ(x) = x + u(x), fixed → moving, LPS mm.

φ is a composition of flows of small smooth velocities, φ = exp(v₁)∘exp(v₂)∘…, and its inverse the composition of the
flows of their negatives in the opposite order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import SimpleITK as sitk

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.transforms.displacement_field import (
    Field,
    composed,
    exponential,
    inverse_error_mm,
    inverted,
    jacobian_determinant,
    resampled,
    smoothed,
    zero_field,
)
from PPIRLogic.transforms.linear import LinearTransform

DIFFEO = "diffeo"
_ROUNDS = 3  # of fixed-point steps that make up for linear interpolation between voxels
_LAST_ROUNDS = 10


@dataclass(frozen=True, eq=False)
class DiffeoTransform:
    """affine: A. grid: of the fields. field, inverse: u of φ and of φ⁻¹, mm LPS, float32 (dim, …, y, x)."""

    affine: LinearTransform
    grid: Geometry
    field: Field
    inverse: Field

    @classmethod
    def identity(cls, affine: LinearTransform, grid: Geometry) -> DiffeoTransform:
        """A alone."""
        return cls(affine, grid, zero_field(grid), zero_field(grid))

    def on_grid(self, grid: Geometry) -> DiffeoTransform:
        """The same transform on another grid, its inverse put right there."""
        if grid == self.grid:
            return self
        field, inverse = (resampled(f, self.grid, grid) for f in (self.field, self.inverse))
        return DiffeoTransform(self.affine, grid, field, inverted(field, grid, inverse, _ROUNDS))

    def moved(self, velocity: Field, elastic_mm: float = 0.0) -> DiffeoTransform:
        """φ∘exp(v), its field smoothed by a Gaussian where elastic_mm > 0."""
        field = composed(self.field, exponential(velocity, self.grid), self.grid)
        inverse = composed(exponential(-velocity, self.grid), self.inverse, self.grid)
        if elastic_mm > 0:
            field = smoothed(field, self.grid, elastic_mm)
        return replace(
            self, field=field, inverse=inverted(field, self.grid, inverse, 1 if elastic_mm == 0 else _ROUNDS)
        )

    def finished(self, fixed: Geometry) -> DiffeoTransform:
        """On the fixed image's own grid, with an inverse to the accuracy of its interpolation."""
        there = self.on_grid(fixed)
        return replace(there, inverse=inverted(there.field, fixed, there.inverse, _LAST_ROUNDS))

    def to_sitk(self) -> sitk.CompositeTransform:
        """[affine, DisplacementFieldTransform]: ITK applies the last one first."""
        return sitk.CompositeTransform([self.affine.to_sitk(), _to_sitk(self.field, self.grid)])

    def inverse_to_sitk(self) -> sitk.CompositeTransform:
        """Moving → fixed: φ⁻¹∘A⁻¹."""
        back = self.affine.to_sitk().GetInverse()
        return sitk.CompositeTransform([_to_sitk(self.inverse, self.grid), back])

    def statistics(self) -> dict[str, Any]:
        """For the report: the lengths of u in mm, the Jacobian determinant of φ, and how well the inverse fits."""
        length = np.sqrt(np.square(self.field).sum(axis=0, dtype=np.float64))
        j = jacobian_determinant(self.field, self.grid)
        low, middle, high = np.percentile(j, (1, 50, 99)).tolist()
        error = inverse_error_mm(self.field, self.inverse, self.grid) / min(self.grid.spacing)
        return {
            "mean_mm": float(length.mean()),
            "largest_mm": float(length.max()),
            "jacobian": {
                "smallest": float(j.min()), "percentile_1": low, "median": middle, "percentile_99": high,
                "largest": float(j.max()), "mean": float(j.mean(dtype=np.float64)),
                "folded_percent": 100 * float(np.mean(j <= 0)),
            },
            "inverse_error_voxels": {"mean": float(error.mean(dtype=np.float64)), "largest": float(error.max())},
        }  # fmt: skip


def _to_sitk(field: Field, grid: Geometry) -> sitk.DisplacementFieldTransform:
    vectors = np.ascontiguousarray(np.moveaxis(field, 0, -1), np.float64)
    image = sitk.GetImageFromArray(vectors, isVector=True)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    return sitk.DisplacementFieldTransform(image)
