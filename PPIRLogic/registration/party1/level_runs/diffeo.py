"""One level of a diffeomorphic registration: φ ← φ∘exp(v), the velocity v found on a coarse grid.

Opened are, as for a B-spline, the value (3 numbers) and, where a step is taken from, one number per control point of v
and axis: the products of J with the gradient of the warped image, summed with B-spline weights. Party 1 turns them
into v by Gauss-Newton on its own sums; the bending energy of v in these equations is the fluid smoothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import Array
from PPIRLogic.registration.party1.level_runs.bspline import BSplineRun, Deformation, clipped
from PPIRLogic.transforms.diffeomorphic import DiffeoTransform
from PPIRLogic.transforms.displacement_field import jacobian_determinant

STEP_LIMIT = 1.0  # voxels of the level


class DiffeoRun(BSplineRun):
    """The steps of a `BSplineRun`, composed instead of added."""

    composed = True

    def _prepared(self, transform: Deformation) -> DiffeoTransform:
        assert isinstance(transform, DiffeoTransform)
        return transform.on_grid(self.level.geometry)

    def _displacement(self, transform: Deformation) -> NDArray[np.floating]:
        assert isinstance(transform, DiffeoTransform)
        return transform.field

    def _coefficients(self, transform: Deformation) -> Array:
        """Of a velocity that begins at 0: a fluid forgets how far it has flowed."""
        return np.zeros((self.session.geometry.dimension, *self.control_points.counts))

    def _moved(self, transform: Deformation, step: Array) -> DiffeoTransform:
        assert isinstance(transform, DiffeoTransform)
        return transform.moved(self._spread(step).astype(np.float32), self.state.parameters.elastic)

    def _smallest_jacobian(self, transform: Deformation) -> float:
        assert isinstance(transform, DiffeoTransform)
        return float(jacobian_determinant(transform.field, transform.grid).min())

    def _limited(self, step: Array) -> Array:
        """With no control point moved further than the limit: the gradient holds for small velocities only."""
        return clipped(step, STEP_LIMIT * min(self.level.geometry.spacing))
