"""Values and slopes of an image between its voxels: linear and cubic B-spline."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from PPIRLogic.compiled import compiled_ieee
from PPIRLogic.cubic_bspline import compiled_cubic, compiled_cubic_slope
from PPIRLogic.images.pyramid import margin_voxels
from PPIRLogic.images.volume import Volume


@compiled_ieee
def _trilinear(flat: Any, nz: int, ny: int, nx: int, x: float, y: float, z: float) -> Any:
    """Value at a fractional index inside an image (nz, ny, nx), laid out in a row, and its exact derivatives per index
    step. Places are unsigned and of 32 bits (an image has 2^28 voxels at most), so that they go through vectors.
    """
    one, line, plane = np.uint32(1), np.uint32(nx), np.uint32(nx * ny if nz > 1 else 0)
    x0, y0 = min(np.int32(x), np.int32(nx - 2)), min(np.int32(y), np.int32(ny - 2))
    z0 = min(np.int32(z), np.int32(max(nz - 2, 0)))
    fx, fy, fz = x - x0, y - y0, z - z0 if nz > 1 else 0.0
    at = np.uint32((z0 * np.int32(ny) + y0) * np.int32(nx) + x0)
    a00, a01 = flat[at], flat[at + one]
    a10, a11 = flat[at + line], flat[at + line + one]
    at += plane
    b00, b01 = flat[at], flat[at + one]
    b10, b11 = flat[at + line], flat[at + line + one]
    a0, a1 = a00 + fx * (a01 - a00), a10 + fx * (a11 - a10)
    b0, b1 = b00 + fx * (b01 - b00), b10 + fx * (b11 - b10)
    a, b = a0 + fy * (a1 - a0), b0 + fy * (b1 - b0)
    da = (a01 - a00) + fy * ((a11 - a10) - (a01 - a00))
    db = (b01 - b00) + fy * ((b11 - b10) - (b01 - b00))
    gy = (a1 - a0) + fz * ((b1 - b0) - (a1 - a0))
    return a + fz * (b - a), da + fz * (db - da), gy, b - a


@compiled_ieee
def _cubic_weights(x: float, size: int, at: Any, w: Any, dw: Any) -> None:
    """Indices (mirrored at the border), weights and slopes of the four coefficients around x; one of an axis of 1."""
    if size == 1:
        at[0], w[0], dw[0] = 0, 1.0, 0.0
        return
    base = min(int(x), size - 2)
    u = x - base
    w[0], w[1], w[2], w[3] = compiled_cubic(u)
    dw[0], dw[1], dw[2], dw[3] = compiled_cubic_slope(u)
    for k in range(4):
        i = abs(base - 1 + k)
        at[k] = min(i, 2 * (size - 1) - i) if size > 2 else min(i, size - 1)


@compiled_ieee
def _tricubic(data: Any, x: float, y: float, z: float, at: Any, w: Any, dw: Any) -> Any:
    """As `_trilinear`, of the cubic B-spline with these coefficients; at, w, dw: room for (3, 4) each."""
    nz, ny, nx = data.shape
    _cubic_weights(x, nx, at[0], w[0], dw[0])
    _cubic_weights(y, ny, at[1], w[1], dw[1])
    _cubic_weights(z, nz, at[2], w[2], dw[2])
    value = gx = gy = gz = 0.0
    for k in range(4 if nz > 1 else 1):
        for j in range(4):
            row = slope = 0.0
            for i in range(4):
                c = data[at[2, k], at[1, j], at[0, i]]
                row += w[0, i] * c
                slope += dw[0, i] * c
            value += w[2, k] * w[1, j] * row
            gx += w[2, k] * w[1, j] * slope
            gy += w[2, k] * dw[1, j] * row
            gz += dw[2, k] * w[1, j] * row
    return value, gx, gy, gz


@compiled_ieee
def within(index: float, size: int) -> float:
    """The nearest fractional index inside an axis of this size."""
    return min(max(index, 0.0), size - 1.0)


@compiled_ieee
def interpolate(data: Any, cubic: bool, at: Any, needed: Any, out: Any) -> None:
    """out (4, …) = value and derivatives per index step at the fractional indices at (3, …), x y z, all inside, one for
    each of `needed`; where that is False a cubic value may be 0. data (nz, ny, nx): values, or coefficients if cubic.
    """
    nz, ny, nx = data.shape
    flat = data.reshape(-1)
    x, y, z, value, gx, gy, gz = at[0], at[1], at[2], out[0], out[1], out[2], out[3]
    if cubic:
        near, w, dw = np.empty((3, 4), np.int64), np.empty((3, 4)), np.empty((3, 4))
        for s in range(needed.size):
            value[s], gx[s], gy[s], gz[s] = 0.0, 0.0, 0.0, 0.0
            if needed[s]:
                value[s], gx[s], gy[s], gz[s] = _tricubic(data, x[s], y[s], z[s], near, w, dw)
    else:
        for s in range(needed.size):
            value[s], gx[s], gy[s], gz[s] = _trilinear(flat, nz, ny, nx, x[s], y[s], z[s])


@compiled_ieee
def leave_masked_out(rows: Any, at: Any, keep: Any) -> None:
    """keep &= the mask at the voxel nearest to each of the fractional indices at (3, …)."""
    for s in range(keep.size):
        keep[s] &= rows[int(at[2, s] + 0.5), int(at[1, s] + 0.5), int(at[0, s] + 0.5)]


class MovingImage:
    """The smoothed moving image of a level, and the region in which it may be sampled.

    cubic: interpolated by cubic B-splines (`data` are their coefficients), else linearly.
    """

    def __init__(
        self, volume: Volume, margin: tuple[int, ...], rows: NDArray[np.bool_] | None = None, cubic: bool = False
    ) -> None:
        dim = volume.geometry.dimension
        self.geometry, self.dimension, self.cubic = volume.geometry, dim, cubic
        array = sitk.GetArrayFromImage(sitk.BSplineDecomposition(volume.to_sitk(), 3)) if cubic else volume.array
        self.data = np.ascontiguousarray(array if dim == 3 else array[None], np.float32)
        self.rows = np.ones((1, 1, 1), bool) if rows is None else rows.reshape(self.data.shape)
        self.low, self.high = np.zeros(3), np.zeros(3)
        self.low[:dim] = margin
        self.high[:dim] = np.array(volume.geometry.size) - 1.0 - np.array(margin)
        self.low[dim:], self.high[dim:] = -1.0, 1.0
        self.to_index = embed(volume.geometry.physical_to_index())

    def narrowed(self, margin_mm: float) -> MovingImage:
        """The same image, sampled only where it is so far from its border; of no axis more than an eighth is lost."""
        out = copy.copy(self)
        voxels = np.array(margin_voxels(self.geometry, margin_mm), np.float64)
        out.low, out.high = self.low.copy(), self.high.copy()
        out.low[: self.dimension] += voxels
        out.high[: self.dimension] -= voxels
        return out

    def gradient_bound(self) -> float:
        """An upper bound of ‖∇I‖ per mm."""
        spacing = np.array(self.geometry.spacing)
        steps = [np.abs(np.diff(self.data, axis=2 - i)).max(initial=0) / spacing[i] for i in range(self.dimension)]
        return float(np.linalg.norm(steps))


def embed(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """A (dim, dim+1) affine map as (3, 4), identity on the third axis of a 2D one."""
    dim = affine.shape[0]
    out = np.eye(3, 4)
    out[:dim, :dim], out[:dim, 3] = affine[:, :dim], affine[:, dim]
    return out


def compose(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """a∘b for (3, 4) affine maps."""
    out = a[:, :3] @ b
    out[:, 3] += a[:, 3]
    return out
