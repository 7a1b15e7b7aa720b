"""Dense displacement fields on a voxel grid: sampling, composition, exponential, inverse, Jacobian, smoothing.

A field u holds mm in LPS at every voxel, float32 (dim, …, y, x), and stands for x → x + u(x). Between voxels it is
linear, beyond the border it continues with its border values.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.compiled import compiled_ieee
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.pyramid import smooth
from PPIRLogic.images.volume import Volume

Field = NDArray[np.float32]
_THREADS = max(1, min(4, os.cpu_count() or 1))  # the result does not depend on it
EXP_STEP = 0.25  # voxels: velocities are halved until they are shorter, then squared


@compiled_ieee
def _sample(field: Any, at: Any, to_index: Any, by_mm: Any, first: int, last: int, out: Any) -> None:
    """Planes first…last−1 of out (C, nz, ny, nx): field (C, mz, my, mx) at to_index·(i, j, k, 1) + by_mm·at."""
    channels, mz, my, mx = field.shape
    dim, _, ny, nx = at.shape
    for k in range(first, last):
        for j in range(ny):
            for i in range(nx):
                x = to_index[0, 0] * i + to_index[0, 1] * j + to_index[0, 2] * k + to_index[0, 3]
                y = to_index[1, 0] * i + to_index[1, 1] * j + to_index[1, 2] * k + to_index[1, 3]
                z = to_index[2, 0] * i + to_index[2, 1] * j + to_index[2, 2] * k + to_index[2, 3]
                for c in range(dim):
                    x += by_mm[0, c] * at[c, k, j, i]
                    y += by_mm[1, c] * at[c, k, j, i]
                    z += by_mm[2, c] * at[c, k, j, i]
                x, y, z = min(max(x, 0.0), mx - 1.0), min(max(y, 0.0), my - 1.0), min(max(z, 0.0), mz - 1.0)
                x0, y0, z0 = int(x), int(y), int(z)
                x1, y1, z1 = min(x0 + 1, mx - 1), min(y0 + 1, my - 1), min(z0 + 1, mz - 1)
                fx, fy, fz = x - x0, y - y0, z - z0
                for c in range(channels):
                    f = field[c]
                    a = f[z0, y0, x0] * (1 - fx) + f[z0, y0, x1] * fx
                    b = f[z0, y1, x0] * (1 - fx) + f[z0, y1, x1] * fx
                    d = f[z1, y0, x0] * (1 - fx) + f[z1, y0, x1] * fx
                    e = f[z1, y1, x0] * (1 - fx) + f[z1, y1, x1] * fx
                    out[c, k, j, i] = (a * (1 - fy) + b * fy) * (1 - fz) + (d * (1 - fy) + e * fy) * fz


def sample(field: Field, grid: Geometry, at: Field, onto: Geometry | None = None) -> Field:
    """field at x + at(x) for every voxel x of `onto` (default: of its own grid)."""
    target = grid if onto is None else onto
    dim = grid.dimension
    there, here = np.eye(3, 4), np.eye(4)
    there[:dim, :dim] = grid.physical_to_index()[:, :dim]
    there[:dim, 3] = grid.physical_to_index()[:, dim]
    here[:dim, :dim], here[:dim, 3] = target.index_to_physical()[:, :dim], target.index_to_physical()[:, dim]
    out = np.empty((len(field), *_planes(target)), np.float32)
    by_mm = np.ascontiguousarray(there[:, :dim])
    source, where, to_index = field.reshape(len(field), *_planes(grid)), at.reshape(dim, *_planes(target)), there @ here
    bounds = np.linspace(0, out.shape[1], min(_THREADS, out.shape[1]) + 1).astype(int).tolist()
    with ThreadPoolExecutor(len(bounds) - 1) as pool:
        parts = [pool.submit(_sample, source, where, to_index, by_mm, a, b, out) for a, b in pairwise(bounds)]
        for part in parts:
            part.result()
    return out.reshape(len(field), *target.array_shape)


def _planes(grid: Geometry) -> tuple[int, ...]:
    return grid.array_shape if grid.dimension == 3 else (1, *grid.array_shape)


def zero_field(grid: Geometry) -> Field:
    return np.zeros((grid.dimension, *grid.array_shape), np.float32)


def composed(outer: Field, inner: Field, grid: Geometry) -> Field:
    """The field of x → outer(inner(x)): s(x) + u(x + s(x)), with s the inner and u the outer one."""
    return inner + sample(outer, grid, inner)


def resampled(field: Field, grid: Geometry, onto: Geometry) -> Field:
    """The same field at the voxels of another grid."""
    return sample(field, grid, zero_field(onto), onto)


def exponential(velocity: Field, grid: Geometry, *, step: float = EXP_STEP, start: str = "euler") -> Field:
    """The field of exp(v), the flow of v for unit time, by scaling and squaring (Arsigny et al. 2006).

    step: voxels, of the longest displacement before the first squaring. start: 'euler' takes the velocity for it,
    'runge-kutta' the classical step of fourth order, which may be as long as voxels are: fewer squarings, less error.
    """
    longest = largest_voxels(velocity, grid)
    squarings = max(0, math.ceil(math.log2(longest / step))) if longest > 0 else 0
    out = velocity / np.float32(2**squarings)
    if start == "runge-kutta":
        half = np.float32(0.5)
        second = sample(out, grid, half * out)
        third = sample(out, grid, half * second)
        out = (out + 2 * (second + third) + sample(out, grid, third)) / np.float32(6)
    for _ in range(squarings):
        out = composed(out, out, grid)
    return out


def inverted(field: Field, grid: Geometry, guess: Field, rounds: int) -> Field:
    """The inverse field, w(y) + u(y + w(y)) = 0, by that many fixed-point steps from a guess (Chen et al. 2008).

    Where u is steep the plain iteration runs away: there a step is taken back and the next one is half as long.
    """
    found = guess
    rest = found + sample(field, grid, found)
    square = np.square(rest).sum(axis=0)
    length = np.ones(grid.array_shape, np.float32)
    for _ in range(rounds):
        trial = found - length * rest
        rest_there = trial + sample(field, grid, trial)
        square_there = np.square(rest_there).sum(axis=0)
        better = square_there < square
        found, rest = np.where(better, trial, found), np.where(better, rest_there, rest)
        square = np.where(better, square_there, square)
        length = np.where(better, length, np.float32(0.5) * length)
    return found


def largest_voxels(field: Field, grid: Geometry) -> float:
    """The longest displacement, in voxels of the finest axis."""
    return float(np.sqrt(np.square(field).sum(axis=0).max())) / min(grid.spacing)


def smoothed(field: Field, grid: Geometry, sigma_mm: float) -> Field:
    """Every component with a Gaussian."""
    return np.stack([smooth(Volume(c, grid, "field"), sigma_mm).array for c in field])


def jacobian_determinant(field: Field, grid: Geometry) -> NDArray[np.float32]:
    """det(I + ∇u) at every voxel, by central differences (one-sided at the border)."""
    dim, to_index = grid.dimension, grid.physical_to_index()
    m = [[np.zeros(grid.array_shape, np.float32) for _ in range(dim)] for _ in range(dim)]
    for c in range(dim):
        for axis in range(dim):
            along = np.gradient(field[c], axis=dim - 1 - axis)
            for a in range(dim):
                if to_index[axis, a]:
                    m[c][a] += along * np.float32(to_index[axis, a])
        m[c][c] += 1
    if dim == 2:
        return np.asarray(m[0][0] * m[1][1] - m[0][1] * m[1][0])
    return np.asarray(
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
        - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
    )


def inverse_error_mm(field: Field, inverse: Field, grid: Geometry) -> NDArray[np.float32]:
    """‖φ⁻¹(φ(x)) − x‖ in mm at every voxel whose image lies in the grid, (n,)."""
    error = np.sqrt(np.square(composed(inverse, field, grid)).sum(axis=0))
    inside = np.ones(grid.array_shape, bool)
    to_index = grid.physical_to_index()[:, : grid.dimension]
    moved = np.tensordot(to_index, field, 1)
    for axis, size in enumerate(grid.size):
        shape = [1] * grid.dimension
        shape[grid.dimension - 1 - axis] = size
        position = np.arange(size).reshape(shape) + moved[axis]
        inside &= (position >= 0) & (position <= size - 1)
    return np.asarray(error[inside])
