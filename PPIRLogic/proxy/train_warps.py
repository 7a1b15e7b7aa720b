"""The deformation in torch, differentiable in its amplitudes: the construction of `deformation`, on any grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def basis(torch: Any, count: int, spacing: float, scale: float, beyond: int = 0) -> Any:
    """Cubic B-spline weights (count, control points) of control points `scale` mm apart, from an axis' middle out.

    beyond: how many control points there are outside the border, at either end; with none the field is small there.
    """
    x = (torch.arange(count, dtype=torch.float32) - (count - 1) / 2) * spacing / scale
    half = int((count - 1) / 2 * spacing / scale) + beyond
    at = torch.arange(-half, half + 1, dtype=torch.float32)
    return _cubic(torch, x[:, None] - at[None])


def lattice(torch: Any, count: int, spacing: float, scale: float) -> tuple[Any, Any]:
    """Weights (count, free control points) of `deformation`'s lattice, and the index of the voxel next to each.

    An axis is cut into cells of about `scale` mm. Control points at the borders are nought, and the field is reflected
    oddly there, so that it is exactly nought at the border.
    """
    cells = max(2, round(count * spacing / scale))
    u = (torch.arange(count, dtype=torch.float32) + 0.5) / count * cells
    free = torch.arange(1, cells, dtype=torch.float32)
    weights = _cubic(torch, u[:, None] - free)
    weights[:, 0] -= _cubic(torch, u + 1)
    weights[:, -1] -= _cubic(torch, u - cells - 1)
    return weights, (free / cells * count - 0.5).round().long().clamp(0, count - 1)


def _cubic(torch: Any, distance: Any) -> Any:
    d = distance.abs()
    return torch.where(d < 1, 2 / 3 - d**2 + d**3 / 2, (2 - d).clamp_min(0) ** 3 / 6)


def spline(torch: Any, points: Any, bases: Sequence[Any]) -> Any:
    """Field (…, z, y, x) of control points (…, cz, cy, cx) and the bases of z, y, x."""
    out = points
    out = torch.einsum("...zyx,ax->...zya", out, bases[2])
    out = torch.einsum("...zya,by->...zba", out, bases[1])
    return torch.einsum("...zba,cz->...cba", out, bases[0])


def warped(torch: Any, volume: Any, displacement: Any, spacing: float, mode: str = "bilinear") -> Any:
    """volume (n, c, z, y, x) at x + displacement (n, 3, …; components x, y, z in mm), on the displacement's grid."""
    shape = volume.shape[2:]
    axes = [torch.arange(n, dtype=torch.float32) for n in displacement.shape[2:]]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    at = [
        ((p + displacement[:, c] / spacing) * 2 + 1) / n - 1
        for c, (p, n) in enumerate(((x, shape[2]), (y, shape[1]), (z, shape[0])))
    ]
    return torch.nn.functional.grid_sample(
        volume, torch.stack(at, -1), mode=mode, padding_mode="border", align_corners=False
    )


def exponential(torch: Any, velocity: Any, spacing: float, squarings: int = 6) -> Any:
    """Displacement (n, 3, z, y, x) in mm of the flow of a velocity for unit time."""
    out = velocity / 2**squarings
    for _ in range(squarings):
        out = out + warped(torch, out, out, spacing)
    return out
