"""What is taken of a head before it is warped: the brain, or the head without its face. By classical means.

The brain's surface: a sphere that grows until it meets the dark rim of the brain and stays smooth (Smith, Human Brain
Mapping 17, 2002). Works on T1, T2 and FLAIR of grown heads, with the scan's axes to the right, the front and the top.
Arrays (z, y, x); points and directions x, y, z in mm from the corner of the array.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import Array
from PPIRLogic.errors import InputError, MissingDependencyError

try:
    from scipy import ndimage
    from scipy.spatial import cKDTree
except ImportError:
    raise MissingDependencyError("Proxies need the package scipy: pip install 'ppir[proxy]'.") from None

WORKING_MM = 2.5  # of the grid on which surfaces are found
HEAD_MM = 170.0  # from the top of a head: below is neck
MIN_ML, MAX_ML = 500.0, 2600.0  # of a brain's surface
_ROUNDS, _SUBDIVISIONS = 500, 3
_RIM = 0.5  # how bright the rim may be, of the way from the darkest to the brightest nearby
_LONGEST_MM = 115.0  # from the centre of a brain to its surface
_WIDER_MM = 3.0  # than the surface: it lies within the outermost cortex here and there
_FACE_MM = 4.0  # around the brain that is left in front


def head_mask(array: NDArray[np.float32], spacing: Sequence[float]) -> NDArray[np.bool_]:
    """What is not air: brighter than a tenth of the range, in one piece, without holes. Any dimension."""
    low, high = np.percentile(array[(slice(None, None, 2),) * array.ndim], (2.0, 98.0))
    bright = array > low + 0.1 * (high - low)
    steps = [max(1, round(3.0 / s)) for s in reversed(spacing)]
    closed = ndimage.binary_closing(np.pad(bright, [(n, n) for n in steps]), _box(steps))
    whole = ndimage.binary_fill_holes(_largest(closed))
    return np.asarray(whole[tuple(slice(n, -n) for n in steps)])


def _box(steps: Sequence[int]) -> NDArray[np.bool_]:
    """An ellipsoid of these half axes."""
    grids = np.meshgrid(*(np.arange(-n, n + 1) / (n + 0.01) for n in steps), indexing="ij")
    return np.asarray(sum(g**2 for g in grids) <= 1)


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    pieces, count = ndimage.label(mask)
    return mask if count < 2 else np.asarray(pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:]))


def brain_mask(
    array: NDArray[np.float32], spacing: Sequence[float], name: str = "", check: Callable[[], None] = lambda: None
) -> NDArray[np.bool_]:
    """The inside of the brain's surface, (z, y, x). InputError: none was found that could be one."""
    found = _Surface.of(*_coarse(array, spacing))
    for _ in range(_ROUNDS):
        found.grow()
        check()
    inside = found.inside(array.shape, spacing)
    ml = float(inside.sum()) * math.prod(spacing) / 1000
    if not MIN_ML <= ml <= MAX_ML:
        raise InputError(
            f"No brain was found in the scan '{name}' (what was found has {ml:.0f} ml). Give a mask of the brain"
            " (--mask), or keep the head without its face (--strip face), and look at the preview."
        )
    return inside


def face_mask(head: NDArray[np.bool_], brain: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.bool_]:
    """Of a head, what lies in front of the brain's centre and not within 4 mm of the brain: face, and the throat below.

    Both (z, y, x), y to the front.
    """
    steps = [max(1, round(_FACE_MM / s)) for s in reversed(spacing)]
    near = ndimage.binary_dilation(brain, _box(steps))
    centre = int(ndimage.center_of_mass(brain)[1])
    front = np.zeros_like(head)
    front[:, centre:] = True
    return np.asarray(head & front & ~near)


def _coarse(array: NDArray[np.float32], spacing: Sequence[float]) -> tuple[Array, Array]:
    """The array with voxels of about WORKING_MM, and their spacing x, y, z."""
    factors = [max(1, round(WORKING_MM / s)) for s in reversed(spacing)]
    smooth = ndimage.uniform_filter(array, factors, mode="nearest")
    taken = smooth[tuple(slice((f - 1) // 2, None, f) for f in factors)]
    return np.asarray(taken, np.float64), np.array([s * f for s, f in zip(spacing, reversed(factors), strict=True)])


@cache
def _sphere(subdivisions: int) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
    """Points of a unit sphere, about evenly, (n, 3); the neighbours of each, (n, 6), those of 5 have one twice; the
    triangles, (m, 3), turned outwards."""
    golden = (1 + math.sqrt(5)) / 2
    points = [(a, b * golden, 0) for a in (-1, 1) for b in (-1, 1)]
    corners = np.array([np.roll(p, k) for k in range(3) for p in points], float)
    corners /= np.linalg.norm(corners[0])
    near = np.abs(np.linalg.norm(corners[:, None] - corners[None], axis=2) - 2 / math.sqrt(1 + golden**2)) < 1e-6
    faces = [
        (a, b, c) for a in range(12) for b in range(a) for c in range(b) if near[a, b] and near[b, c] and near[a, c]
    ]
    at = list(map(tuple, corners))
    for _ in range(subdivisions):
        middles: dict[tuple[int, int], int] = {}

        def middle(a: int, b: int, middles: dict[tuple[int, int], int] = middles) -> int:
            edge = (min(a, b), max(a, b))
            if edge not in middles:
                middles[edge] = len(at)
                point = np.add(at[a], at[b])
                at.append(tuple(point / np.linalg.norm(point)))
            return middles[edge]

        new = []
        for a, b, c in faces:
            ab, bc, ca = middle(a, b), middle(b, c), middle(c, a)
            new += [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        faces = new
    around: list[set[int]] = [set() for _ in at]
    for a, b, c in faces:
        around[a] |= {b, c}
        around[b] |= {a, c}
        around[c] |= {a, b}
    sphere, triangles = np.array(at), np.array(faces)
    first, second, third = (sphere[triangles[:, k]] for k in range(3))
    inwards = (np.cross(second - first, third - first) * first).sum(axis=1) < 0
    triangles[inwards] = triangles[inwards][:, ::-1]
    return sphere, np.array([sorted(n) if len(n) == 6 else [*sorted(n), min(n)] for n in around]), triangles


@dataclass
class _Surface:
    """The growing surface, on rays from a centre. low, rim: the darkest, a tenth of the range; middle: the brain."""

    array: Array
    spacing: Array
    points: Array
    rays: Array
    neighbours: NDArray[np.int64]
    triangles: NDArray[np.int64]
    centre: Array
    low: float
    rim: float
    middle: float

    @classmethod
    def of(cls, array: Array, spacing: Array) -> _Surface:
        low, high = np.percentile(array, (2.0, 98.0))
        rim = low + 0.1 * (high - low)
        bright = head_mask(array.astype(np.float32), spacing.tolist())
        top = int(np.flatnonzero(bright.any(axis=(1, 2))).max(initial=0))
        bright[: max(0, top - int(HEAD_MM / spacing[2]))] = False
        if not bright.any():
            raise InputError("The scan holds no head: nothing in it is brighter than its background.")
        weights = np.where(bright, np.clip(array, low, high) - low, 0.0)
        centre = np.array(ndimage.center_of_mass(weights))[::-1] * spacing
        radius = (3 * float(bright.sum()) * float(np.prod(spacing)) / (4 * math.pi)) ** (1 / 3)
        z, y, x = (np.arange(n) * s - c for n, s, c in zip(array.shape, spacing[::-1], centre[::-1], strict=True))
        ball = z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None] ** 2 < radius**2
        middle = float(np.median(array[ball & bright]))
        sphere, neighbours, triangles = _sphere(_SUBDIVISIONS)
        points = centre + 0.5 * min(radius, 90.0) * sphere
        return cls(array, spacing, points, sphere, neighbours, triangles, centre, float(low), float(rim), middle)

    def grow(self) -> None:
        """One round: towards the neighbours, smoother, and out where no rim lies within reach."""
        near = self.points[self.neighbours]
        normal = self._normals()
        step = near.mean(axis=1) - self.points
        across = (step * normal).sum(axis=1, keepdims=True) * normal
        length = float(np.linalg.norm(near - self.points[:, None], axis=2).mean())
        bend = 2 * np.linalg.norm(across, axis=1, keepdims=True) / length**2  # 1/radius of curvature
        low, high = 1 / 10.0, 1 / 3.33
        smoother = (1 + np.tanh(6 / (high - low) * (bend - (low + high) / 2))) / 2
        move = 0.5 * (step - across) + smoother * across + self._push(normal, length)
        radius = ((self.points + move - self.centre) * self.rays).sum(axis=1, keepdims=True)
        self.points = self.centre + np.clip(radius, 1.0, _LONGEST_MM) * self.rays

    def _normals(self) -> Array:
        """Outwards, of length 1: the mean of the triangles around."""
        a, b, c = (self.points[self.triangles[:, k]] for k in range(3))
        faces = np.cross(b - a, c - a)
        out = np.zeros_like(self.points)
        for axis in range(3):
            for k in range(3):
                out[:, axis] += np.bincount(self.triangles[:, k], faces[:, axis], len(out))
        return np.asarray(out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9))

    def _push(self, normal: Array, length: float) -> Array:
        inwards = self.points[:, None] - np.arange(0.0, 20.1, 2.0)[None, :, None] * normal[:, None]
        seen = self._values(inwards)
        darkest = np.clip(np.minimum(seen.min(axis=1), self.middle), self.low, None)
        brightest = np.minimum(np.maximum(seen[:, :6].max(axis=1), self.rim), self.middle)
        wanted = (brightest - self.low) * _RIM + self.low
        force = 2 * (darkest - wanted) / np.maximum(brightest - self.low, 1e-9)
        return np.asarray(0.05 * length * force[:, None] * normal)

    def _values(self, at: Array) -> Array:
        index = [
            np.clip(np.rint(at[..., a] / self.spacing[a]).astype(np.int64), 0, self.array.shape[2 - a] - 1)
            for a in (2, 1, 0)
        ]
        inside = ((at >= 0) & (at <= (np.array(self.array.shape[::-1]) - 1) * self.spacing)).all(axis=-1)
        return np.asarray(np.where(inside, self.array[tuple(index)], self.low))

    def inside(self, shape: tuple[int, ...], spacing: Sequence[float]) -> NDArray[np.bool_]:
        """Voxels of the full grid within the surface."""
        coarse = self._by_direction()
        at = [np.arange(n) for n in shape]
        offsets = [(f - 1) / 2 * s for f, s in self._factors(spacing)]
        index = [
            np.clip((a * s - o) / step, 0, m - 1)
            for a, s, o, step, m in zip(
                at, reversed(spacing), reversed(offsets), self.spacing[::-1], coarse.shape, strict=True
            )
        ]
        level = coarse
        for axis, where in enumerate(index):
            first = np.minimum(where.astype(np.int64), level.shape[axis] - 2)
            part = (where - first).reshape([-1 if a == axis else 1 for a in range(3)]).astype(np.float32)
            level = level.take(first, axis) * (1 - part) + level.take(first + 1, axis) * part
        return np.asarray(level > 0)

    def _factors(self, spacing: Sequence[float]) -> list[tuple[int, float]]:
        return [(max(1, round(WORKING_MM / s)), s) for s in spacing]

    def _by_direction(self) -> NDArray[np.float32]:
        """How far within the surface (mm, negative outside) each voxel of the working grid is."""
        steps = [np.arange(n) * s for n, s in zip(self.array.shape, self.spacing[::-1], strict=True)]
        places = np.stack(np.meshgrid(*steps, indexing="ij")[::-1], axis=-1) - self.centre
        distance = np.linalg.norm(places, axis=-1)
        radius = np.linalg.norm(self.points - self.centre, axis=1) + _WIDER_MM
        near = distance < radius.max() + 1
        gap, which = cKDTree(self.rays).query(places[near] / np.maximum(distance[near], 1e-9)[:, None], k=3)
        weight = 1 / (gap + 1e-6)
        there = (radius[which] * weight).sum(axis=1) / weight.sum(axis=1)
        out = np.full(self.array.shape, -100.0, np.float32)
        out[near] = there - distance[near]
        return out
