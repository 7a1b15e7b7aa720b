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
def trilinear(data: Any, x: float, y: float, z: float) -> Any:
    """Value at a fractional index inside the image, and its exact derivatives per index step."""
    nz, ny, nx = data.shape
    x0, y0 = min(int(x), nx - 2), min(int(y), ny - 2)
    z0 = min(int(z), max(nz - 2, 0))
    z1 = min(z0 + 1, nz - 1)
    fx, fy, fz = x - x0, y - y0, z - z0
    if nz == 1:
        fz = 0.0
    a00, a01 = data[z0, y0, x0], data[z0, y0, x0 + 1]
    a10, a11 = data[z0, y0 + 1, x0], data[z0, y0 + 1, x0 + 1]
    b00, b01 = data[z1, y0, x0], data[z1, y0, x0 + 1]
    b10, b11 = data[z1, y0 + 1, x0], data[z1, y0 + 1, x0 + 1]
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
def _tricubic(data: Any, x: float, y: float, z: float) -> Any:
    """As `trilinear`, of the cubic B-spline with these coefficients."""
    nz, ny, nx = data.shape
    at, w, dw = np.empty((3, 4), np.int64), np.empty((3, 4)), np.empty((3, 4))
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
def interpolate(data: Any, cubic: bool, x: float, y: float, z: float) -> Any:
    """Value at a fractional index, and its derivatives per index step; data: values, or coefficients if cubic."""
    if cubic:
        return _tricubic(data, x, y, z)
    return trilinear(data, x, y, z)


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
