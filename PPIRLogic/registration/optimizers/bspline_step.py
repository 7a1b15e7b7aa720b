"""One Gauss-Newton step of a B-spline, matrix-free: sparse SᵀS by separable sums, solved by conjugate gradients.

S_ka(x) = B_k(x)·g_a(x), with the same integers B and g as in the private product, so that quantisation multiplies only
the residual. Knows nothing of images or of the peer.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import Array
from PPIRLogic.registration.columns.deformable import BSplineScales
from PPIRLogic.registration.control_points import ControlPointMap
from PPIRLogic.registration.losses.base import IntensityFit
from PPIRLogic.transforms.bending_energy import BendingEnergy
from PPIRLogic.transforms.bspline_basis import gather, spread

CG_STEPS = 15
_RIDGE = 1e-4  # of the diagonal


class KnotStep:
    """The model E(c + δ) ≈ E + Gδ + ½δᵀHδ of value + weight·bending at one transform, with H = real·SᵀWS.

    g: (dim, …grid), integers. importance: W, one factor per voxel; 1 where it is None.
    """

    def __init__(
        self,
        g: NDArray[np.signedinteger],
        scales: BSplineScales,
        control_points: ControlPointMap,
        bending: BendingEnergy,
        weight: float,
        threads: int,
        importance: NDArray[np.floating] | None = None,
        ridge: float = 0.0,
    ) -> None:
        """ridge: of the mean of the diagonal, added to all of it: what is hardly determined hardly moves."""
        self._control_points, self._bending, self._weight, self._importance = (
            control_points,
            bending,
            weight,
            importance,
        )
        self._ridge = ridge
        self._g, self._weights = g, [w.astype(np.float64) for w in control_points.weights]
        self._threads = min(threads, len(self._g))
        self._unit = 1 / (control_points.scale * scales.gradient)
        self._real = 1.0
        self.data_gradient: Array = np.zeros((len(g), *control_points.counts))

    def _full(self, kept: Array) -> Array:
        """Values of the opened control points on the whole grid, 0 elsewhere."""
        out = np.zeros((len(kept), int(np.prod(self._control_points.counts))))
        out[:, self._control_points.kept] = kept
        return out.reshape(len(kept), *self._control_points.counts)

    def _restricted(self, control_points: Array) -> Array:
        return self._full(control_points.reshape(len(control_points), -1)[:, self._control_points.kept])

    def _data(self, v: Array, pool: ThreadPoolExecutor) -> Array:
        """The data's part of H·v, of control points that are opened."""
        axes = self._control_points.axes
        fields = pool.map(lambda ga: ga[0] * spread(ga[1], axes, self._weights), zip(self._g, v, strict=True))
        along = sum(fields) if self._importance is None else sum(fields) * self._importance
        return self._real * np.stack(list(pool.map(lambda g: gather(g * along, axes, self._weights), self._g)))

    def _hessian(self, v: Array, pool: ThreadPoolExecutor) -> Array:
        """H·v."""
        return self._restricted(self._data(self._restricted(v), pool)) + 2 * self._weight * self._bending.apply(v)

    def _diagonal(self) -> Array:
        axes, squares = self._control_points.axes, [w * w for w in self._weights]
        weighed = 1.0 if self._importance is None else self._importance
        data = np.stack([gather(np.square(g.astype(np.float64)) * weighed, axes, squares) for g in self._g])
        return self._restricted(self._real * data) + 2 * self._weight * self._bending.diagonal()

    def solve(self, coefficients: Array, damping: float = 0.0) -> tuple[Array, float]:
        """The step δ (dim, …knots) in mm, and the decrease of E that the model expects of it.

        damping: of Levenberg and Marquardt, times the diagonal, and its mean where there is little of it.
        """
        gradient = self.data_gradient + 2 * self._weight * self._bending.apply(coefficients)
        diagonal = self._diagonal()
        ridge = (
            _RIDGE * diagonal
            + 1e-12 * diagonal.max()
            + self._ridge * diagonal.mean()
            + damping * (diagonal + diagonal.mean())
        )
        with ThreadPoolExecutor(self._threads) as pool:
            step = _conjugate_gradients(
                lambda v: self._hessian(v, pool) + ridge * v, -gradient, 1 / (diagonal + ridge), CG_STEPS
            )
            decrease = -float(np.sum(gradient * step)) - 0.5 * float(np.sum(step * self._hessian(step, pool)))
        return step, decrease


class BSplineStep(KnotStep):
    """Least squares. columns: I, Ω, g (2 + dim, …grid) int16. opened: SᵀJ in real units, (dim, kept)."""

    def __init__(
        self,
        columns: NDArray[np.signedinteger],
        scales: BSplineScales,
        control_points: ControlPointMap,
        fit: IntensityFit,
        opened: Array,
        bending: BendingEnergy,
        weight: float,
        threads: int,
        ridge: float = 0.0,
    ) -> None:
        super().__init__(columns[2:], scales, control_points, bending, weight, threads, ridge=ridge)
        self._fit, self._real = fit, 2 * (fit.gain * self._unit) ** 2 / fit.scale
        own = np.stack([self._own(columns[0]) / scales.intensity, self._own(columns[1])])
        self._own_sums = own
        moments = columns[:2].reshape(2, -1).astype(np.int64)
        self._moments = (moments @ moments.T) / np.outer([scales.intensity, 1], [scales.intensity, 1])
        residual = self._full(opened) - fit.gain * own[0] - fit.offset * own[1]
        self.data_gradient = -2 * fit.gain / fit.scale * residual

    def _own(self, column: NDArray[np.signedinteger]) -> Array:
        """Sᵀ·column over the samples, exact sums in real units, (dim, …knots); 0 where nothing is opened."""
        inside = self._control_points.samples
        flat = column.reshape(-1)[inside].astype(np.int64)
        return self._full(
            np.stack([self._control_points.sums(g.reshape(-1)[inside] * flat) * self._unit for g in self._g])
        )

    def _data(self, v: Array, pool: ThreadPoolExecutor) -> Array:
        out = super()._data(v, pool)
        if self._fit.free:
            own = self._own_sums.reshape(2, -1)
            inner = np.linalg.solve(self._moments, own @ v.reshape(-1))
            out -= 2 * self._fit.gain**2 / self._fit.scale * (own.T @ inner).reshape(v.shape)
        return out


class MutualInformationStep(KnotStep):
    """−MI. opened: dMI/dc in real units, (dim, kept). importance: information about a displacement, per sample."""

    def __init__(
        self,
        g: NDArray[np.int16],
        scales: BSplineScales,
        control_points: ControlPointMap,
        opened: Array,
        importance: NDArray[np.floating],
        bending: BendingEnergy,
        weight: float,
        threads: int,
    ) -> None:
        super().__init__(g, scales, control_points, bending, weight, threads, importance)
        self._real = self._unit**2
        self.data_gradient = -self._full(opened)


def _conjugate_gradients(apply, right, preconditioner, steps: int) -> Array:  # type: ignore[no-untyped-def]
    """x ≈ A⁻¹·right after so many preconditioned steps from 0."""
    x = np.zeros_like(right)
    residual = right.copy()
    z = preconditioner * residual
    direction, product = z, float(np.sum(residual * z))
    for _ in range(steps):
        if product <= 0:
            break
        image = apply(direction)
        length = product / float(np.sum(direction * image))
        x += length * direction
        residual -= length * image
        z = preconditioner * residual
        former, product = product, float(np.sum(residual * z))
        direction = z + product / former * direction
    return x
