"""The same registration once more, without fixed point, network or protection: plain numpy in 64-bit floats.

Written independently of PPIRLogic.registration.columns: values and derivatives come from an explicit
sum over the corners of a cell.
Shared with the package are only the levels (grids, margins, samples), the smoothing, the losses and the optimiser.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.intensities import normalise, robust_range
from PPIRLogic.images.pyramid import build_level, margin_voxels, smooth
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.levels import Level, make_levels
from PPIRLogic.registration.losses import LOSSES, Evaluation, Sums
from PPIRLogic.registration.optimizers.gauss_newton import Stopping, minimise
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.level_loop import moving_sigma_mm
from PPIRLogic.registration.party1.level_runs.linear import SHRINKING_LIMIT
from PPIRLogic.transforms import LinearTransform

Array = NDArray[np.float64]


def interpolate(data: Array, index: Array) -> tuple[Array, Array]:
    """Linear interpolation of `data` (array order) at `index` (n, dim; ITK order), and its derivative per index."""
    size = np.array(data.shape[::-1])
    low = np.clip(np.floor(index).astype(int), 0, size - 2)
    part = index - low
    value, slope = np.zeros(len(index)), np.zeros(index.shape)
    for corner in itertools.product((0, 1), repeat=index.shape[1]):
        at = np.array(corner)
        weights = np.where(at == 1, part, 1 - part)
        values = data[tuple((low + at).T[::-1])]
        value += values * weights.prod(axis=1)
        for axis in range(index.shape[1]):
            others = np.delete(weights, axis, axis=1).prod(axis=1)
            slope[:, axis] += values * others * (1 if at[axis] else -1)
    return value, slope


class FloatLevel:
    """One level: evaluates a loss at a transform from real-valued columns and the unquantised fixed image."""

    def __init__(self, fixed: Volume, moving: Volume, level: Level, loss: str, scale_mm: float) -> None:
        self.loss, self.scale_mm, self.moving = LOSSES[loss], scale_mm, moving.geometry
        self.data = moving.array.astype(np.float64)
        j = build_level(fixed, level.factor, level.sigma_mm).array.ravel()[level.samples].astype(np.float64) - 0.5
        self.operands = {"J": j, "J2": j * j}
        where = np.unravel_index(level.samples, level.geometry.array_shape)
        to_mm = level.geometry.index_to_physical()
        self.points = np.stack(where[::-1], axis=1) @ to_mm[:, :-1].T + to_mm[:, -1]
        self.margin = np.array(margin_voxels(moving.geometry, level.margin_mm))
        self.first_overlap = 0.0

    def columns(self, transform: LinearTransform) -> Array:
        """S_1 … S_d, I − ½ and Ω at the samples, (d + 2, n)."""
        to_index = self.moving.physical_to_index()
        index = transform.apply(self.points) @ to_index[:, :-1].T + to_index[:, -1]
        last = np.array(self.moving.size) - 1 - self.margin
        inside = ((index >= self.margin) & (index <= last)).all(axis=1)
        value, slope = interpolate(self.data, index[inside])
        gradient = slope @ to_index[:, :-1]
        arms = np.column_stack([self.points[inside] - transform.centre, np.ones(int(inside.sum()))])
        out = np.zeros((transform.parameters + 2, len(index)))
        for k, basis in enumerate(transform.basis(self.scale_mm)):
            out[k, inside] = (gradient * (arms @ basis.T)).sum(axis=1)
        out[-2, inside], out[-1, inside] = value - 0.5, 1.0
        return out

    def evaluate(self, transform: LinearTransform) -> Evaluation | None:
        """What the optimiser asks for."""
        columns = self.columns(transform)
        terms = self.loss.terms(transform.parameters)
        joint = {(t.column, t.operand): float(columns[t.column] @ self.operands[t.operand]) for t in terms}
        found = self.loss.evaluate(Sums(columns @ columns.T, joint))
        self.first_overlap = self.first_overlap or found.overlap
        return found if found.overlap >= SHRINKING_LIMIT * self.first_overlap else None


def register_in_floats(fixed: Volume, moving: Volume, parameters: Parameters) -> LinearTransform:
    """The whole registration from the identity; full sampling, no masks."""
    if parameters.initial != "identity" or parameters.sampling != "full":
        raise ValueError("The reference starts from the identity and uses all samples.")
    grid: Geometry = fixed.geometry
    fixed, moving = (normalise(v, robust_range(v)) for v in (fixed, moving))
    scale_mm = float(np.linalg.norm(grid.extent_mm())) / 4
    best = LinearTransform.identity(parameters.transform, grid.centre())
    every = make_levels(grid, parameters.request("fixed", grid, "", ""))
    for level in (level for level in every if not level.purpose):  # starts and check have no part in the search
        smoothed = smooth(moving, moving_sigma_mm(moving.geometry, grid, level))
        target = FloatLevel(fixed, smoothed, level, parameters.loss, scale_mm)
        tolerance = parameters.step_mm(grid, level.factor)
        stopping = Stopping(tolerance, parameters.least_decrease(), parameters.evaluations)
        best = minimise(best, target.evaluate, stopping, scale_mm, grid.corners(), lambda *_: None).transform
    return best
