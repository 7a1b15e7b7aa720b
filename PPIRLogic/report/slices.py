"""Which planes of an image are shown, and how two images are put side by side in one. Nothing here draws."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.images.volume import Volume

Plane = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Slice:
    """A plane to show: rows downwards; size_mm: width, height; marks: directions left, right, top, bottom."""

    title: str
    plane: Plane
    size_mm: tuple[float, float]
    marks: tuple[str, str, str, str] = ("", "", "", "")


def slices(volume: Volume) -> list[Slice]:
    """A 2D image as stored; of a 3D one the middle axial, coronal and sagittal planes as radiologists see them."""
    if volume.geometry.dimension == 2:
        width, height = volume.geometry.extent_mm()
        return [Slice("", volume.array, (width, height))]
    view, (sz, sy, sx), straight = _anatomical(volume)
    nz, ny, nx = view.shape
    z, y, x = nz * sz, ny * sy, nx * sx
    name = "" if straight else " (nearest; the grid is oblique)"
    return [
        Slice("axial" + name, view[nz // 2], (x, y), ("R", "L", "A", "P")),
        Slice("coronal" + name, view[::-1, ny // 2], (x, z), ("R", "L", "S", "I")),
        Slice("sagittal" + name, view[::-1, :, nx // 2], (y, z), ("A", "P", "S", "I")),
    ]


def _anatomical(volume: Volume) -> tuple[Plane, tuple[float, float, float], bool]:
    """A view whose axes run to superior, posterior, left; mm per voxel of each; False if more than 18° off."""
    direction = np.reshape(volume.geometry.direction, (3, 3))  # column: grid axis, row: L, P, S

    def along(axes: tuple[int, ...]) -> list[float]:
        return [float(direction[way, axis]) for way, axis in enumerate(axes)]

    axes = max(itertools.permutations(range(3)), key=lambda p: sum(map(abs, along(p))))
    signs = along(axes)
    view = volume.array.transpose([2 - axis for axis in reversed(axes)])
    view = view[tuple(slice(None, None, -1 if s < 0 else 1) for s in reversed(signs))]
    left, posterior, superior = (volume.geometry.spacing[axis] for axis in axes)
    return view, (superior, posterior, left), min(map(abs, signs)) > 0.95


def window_of(array: NDArray[np.float32]) -> tuple[float, float]:
    """The 1st and 99th percentile of the finite values (of at most about a million of them)."""
    values = array.ravel()[:: -(-array.size // 1_000_000)]
    values = values[np.isfinite(values)]
    low, high = (float(v) for v in np.percentile(values, (1, 99))) if values.size else (0.0, 1.0)
    return (low, high) if low < high else (low, low + 1.0)


def scaled(volume: Volume, window: tuple[float, float]) -> list[Slice]:
    """The slices with the window's ends at 0 and 1, clipped."""
    low, high = window
    return [replace(s, plane=np.clip((s.plane - low) / (high - low), 0, 1)) for s in slices(volume)]


def combine(first: list[Slice], second: list[Slice], how: Callable[[Slice, Slice], Plane]) -> list[Slice]:
    """The first slices with what `how` makes of both for their planes."""
    return [replace(a, plane=how(a, b)) for a, b in zip(first, second, strict=True)]


def checkerboard(fixed: Slice, moving: Slice) -> Plane:
    """Squares of both, the fixed image first; nine along the longer side, square in mm."""
    rows, columns = fixed.plane.shape
    edge = max(fixed.size_mm) / 9
    down = (np.arange(rows) + 0.5) * fixed.size_mm[1] / rows // edge
    across = (np.arange(columns) + 0.5) * fixed.size_mm[0] / columns // edge
    mine = (down[:, None] + across) % 2 > 0
    return np.where(mine, moving.plane, fixed.plane)
