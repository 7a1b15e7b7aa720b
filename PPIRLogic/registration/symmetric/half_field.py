"""The two halves of a symmetric registration: from the middle to the moving and to the fixed side.

Points of the middle lie on the fixed image's grid. Each half is φ(m) = m + u(m), a composition over the levels of
exp(V), V a stationary velocity (Vercauteren et al. 2008), so that its inverse is the composition of exp(−V) in the
opposite order and a level is told by V's control points alone. Party 1's leads to the moving image, A(φ₁(m)), party
2's to the fixed one, φ₂(m). The whole, fixed → moving, is A∘φ₁∘φ₂⁻¹.
"""

from __future__ import annotations

from dataclasses import dataclass

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.transforms.diffeomorphic import DiffeoTransform
from PPIRLogic.transforms.displacement_field import Field, composed, exponential, inverted, resampled, zero_field
from PPIRLogic.transforms.linear import LinearTransform

_ROUNDS = 3  # of fixed-point steps that make up for linear interpolation between voxels


@dataclass(frozen=True, eq=False)
class HalfField:
    """field, inverse: u of φ and of φ⁻¹ at the voxels of `grid`, mm LPS, float32 (dim, …, y, x)."""

    grid: Geometry
    field: Field
    inverse: Field

    @classmethod
    def identity(cls, grid: Geometry) -> HalfField:
        return cls(grid, zero_field(grid), zero_field(grid))

    def on_grid(self, grid: Geometry) -> HalfField:
        """The same half on another grid, its inverse put right there."""
        if grid == self.grid:
            return self
        field, inverse = (resampled(f, self.grid, grid) for f in (self.field, self.inverse))
        return HalfField(grid, field, inverted(field, grid, inverse, _ROUNDS))

    def displaced(self, velocity: Field) -> Field:
        """u of φ∘exp(V), without its inverse; velocity: V at the voxels of the grid, mm."""
        return composed(self.field, exponential(velocity, self.grid), self.grid)

    def moved(self, velocity: Field) -> HalfField:
        """φ∘exp(V), with its inverse exp(−V)∘φ⁻¹."""
        field = self.displaced(velocity)
        inverse = composed(exponential(-velocity, self.grid), self.inverse, self.grid)
        return HalfField(self.grid, field, inverted(field, self.grid, inverse, 1))


def whole(affine: LinearTransform, first: HalfField, second: HalfField) -> DiffeoTransform:
    """Fixed → moving, A∘φ₁∘φ₂⁻¹, and φ₂∘φ₁⁻¹ as the inverse of its flow; both halves on one grid."""
    grid = first.grid
    field = composed(first.field, second.inverse, grid)
    inverse = composed(second.field, first.inverse, grid)
    return DiffeoTransform(affine, grid, field, inverted(field, grid, inverse, _ROUNDS))
