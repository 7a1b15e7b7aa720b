"""The keyed deformation: a pseudo-random velocity as whole numbers, its flow and the flow of its negative.

    proxy(y)        = scan(y + out(y)),          out  = exp(v) − id
    segmentation(x) = proxy's(x + back(x)),      back = exp(−v) − id

Velocity: for each scale of the spectrum, control points every `scale` mm from border to border, cubic B-splines between
them; those at the border are 0 and reflected oddly there, so that v is exactly 0 at the border and nothing leaves the
grid. Draws are sums of four uniform 16-bit words of an AES-CTR stream, times the amplitude of the control point's
region. All of it is whole numbers, so two machines get the same field, with compiled code or without it. Then v is
scaled: its root mean square per component, over the mask and about its mean, is the strength.

A field whose Jacobian determinant falls below JACOBIAN, or that leads back more than INVERSE_MM beside, is drawn again.
Fields live on a working grid of about 2 mm,
whose nodes reach from border to border. Shapes: arrays (z, y, x) or (y, x); spacings and components x, y[, z]; mm along
the axes of the array.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.compiled import compiled_ieee
from PPIRLogic.cubic_bspline import cubic
from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.proxy.head import ndimage
from PPIRLogic.proxy.keys import ProxyKey
from PPIRLogic.proxy.spectrum import Spectrum
from PPIRLogic.secure.prg import Stream
from PPIRLogic.transforms.displacement_field import Field, exponential, inverse_error_mm, jacobian_determinant

STRENGTHS = {"low": 4.0, "medium": 8.0, "high": 12.0}  # mm
MIN_STRENGTH_MM, MAX_STRENGTH_MM = 0.5, 24.0  # mm, of a strength
JACOBIAN, INVERSE_MM = 0.1, 0.5  # the least determinant out, the largest error of there and back
DRAWS = 32  # before a strength is given up
NODE_UM, DEPTH_UM = 2000, 4000  # of the working grid, and of the one on which depth is measured
UNIT = 2.0**-16  # mm, of a velocity
_STEP = 2.0  # voxels of the working grid, of the first step of a flow
_WEIGHT_BITS, _AMPLITUDE_BITS, _DRAW_BITS, _FIELD_BITS, _FACTOR_BITS = 11, 10, 4, 24, 30
_THREADS = max(1, min(4, os.cpu_count() or 1))  # the result does not depend on it


def strength_mm(strength: str | float) -> float:
    """low, medium or high (4, 8, 12 mm), or a number of mm. InputError for anything else.

    >>> strength_mm("medium"), strength_mm("6.5")
    (8.0, 6.5)
    """
    try:
        found = STRENGTHS[strength] if strength in STRENGTHS else float(strength)  # type: ignore[index]
    except (TypeError, ValueError):
        found = math.nan
    if not MIN_STRENGTH_MM <= found <= MAX_STRENGTH_MM:
        raise InputError(
            f"The strength of a deformation is {', '.join(STRENGTHS)}, or {MIN_STRENGTH_MM:g} to"
            f" {MAX_STRENGTH_MM:g} mm, not {strength!r:.40}."
        )
    return round(found, 3)


# ------------------------------------------------------------------------------------------------- the grid of nodes


@dataclass(frozen=True)
class Nodes:
    """Equal steps from border to border of an image: `steps` per axis, so one node more. All lengths in micrometres.

    shape: of the image's array. extent: of the image per axis of its array.
    """

    shape: tuple[int, ...]
    extent: tuple[int, ...]
    steps: tuple[int, ...]

    @classmethod
    def over(cls, shape: Sequence[int], spacing: Sequence[float], length: int) -> Nodes:
        """Nodes at most `length` apart over an image; spacing in mm, x first."""
        extent = tuple(n * round(1000 * s) for n, s in zip(shape, reversed(spacing), strict=True))
        return cls(tuple(shape), extent, tuple(max(2, -(-e // length)) for e in extent))

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(n + 1 for n in self.steps)

    def grid(self) -> Geometry:
        """In mm, from 0."""
        dim = len(self.steps)
        spacing = [e / n / 1000 for e, n in zip(self.extent, self.steps, strict=True)]
        return Geometry(self.counts[::-1], tuple(spacing[::-1]), (0.0,) * dim, tuple(np.eye(dim).ravel()))

    def nearest(self, array: NDArray[Any]) -> NDArray[Any]:
        """An image's value at the voxel nearest to each node."""
        at = [np.minimum(np.arange(w + 1) * n // w, n - 1) for n, w in zip(self.shape, self.steps, strict=True)]
        return array[np.ix_(*at)]


def _cells(extent: Sequence[int], scale_mm: int) -> tuple[int, ...]:
    return tuple(max(2, (2 * e + 1000 * scale_mm) // (2000 * scale_mm)) for e in extent)


def _weights(cells: int, steps: int) -> NDArray[np.int64]:
    """Of the free control points 1 … cells − 1 at the nodes, (steps + 1, cells − 1), in units of 2^-_WEIGHT_BITS."""
    out = np.zeros((steps + 1, cells + 3), np.int64)  # of the points −1 … cells + 1
    for i in range(steps + 1):
        u = Fraction(i * cells, steps)
        first = min(int(u), cells - 1)
        row = [Fraction(w) for w in cubic(u - first)]
        out[i, first : first + 4] = [math.floor(w * 2**_WEIGHT_BITS + Fraction(1, 2)) for w in row]
    out[:, 2] -= out[:, 0]
    out[:, -3] -= out[:, -1]
    return out[:, 2:-2]


def regions_of(mask: NDArray[np.bool_], spacing: Sequence[float], count: int, cells: Sequence[int]) -> NDArray[Any]:
    """The region of every free control point, (…, y, x): 0 at the rim of the mask and outside, count − 1 at its depth.

    By depth relative to the deepest place, at the node of a grid of about 4 mm next to the control point.
    """
    nodes = Nodes.over(mask.shape, spacing, DEPTH_UM)
    inside = np.pad(nodes.nearest(mask), 1)
    steps = [e // n for e, n in zip(nodes.extent, nodes.steps, strict=True)]
    nearest = ndimage.distance_transform_edt(inside, sampling=steps, return_distances=False, return_indices=True)
    here = np.indices(inside.shape)
    square = sum(((h - a).astype(np.int64) * s) ** 2 for h, a, s in zip(here, nearest, steps, strict=True))
    square = square[(slice(1, -1),) * mask.ndim]
    deepest = int(square.max()) + 1
    region = sum((count**2 * square >= r**2 * deepest).astype(np.int64) for r in range(1, count)) + 0 * square
    at = [(2 * np.arange(1, c) * n + c) // (2 * c) for c, n in zip(cells, nodes.steps, strict=True)]
    return np.asarray(region[np.ix_(*at)])


# ----------------------------------------------------------------------------------------------------- the velocity


def draws(stream: Stream, count: int) -> NDArray[np.int64]:
    """So many about normal whole numbers, mean 0, standard deviation 2^16·sqrt(1/3)/2^_DRAW_BITS."""
    words = stream.words(4 * count, np.uint16).astype(np.int64).reshape(count, 4)
    return (words.sum(axis=1) - 2 * 65535) >> _DRAW_BITS


def _field(stream: Stream, mask: NDArray[np.bool_], spacing: Sequence[float], spectrum: Spectrum, nodes: Nodes) -> Any:
    """The velocity before it is scaled, int64 (dim, …, y, x)."""
    largest = max(max(row) for row in spectrum.amplitudes)
    total = np.zeros((mask.ndim, *nodes.counts), np.int64)
    for scale, mm in enumerate(spectrum.scales_mm):
        cells = _cells(nodes.extent, mm)
        free = tuple(c - 1 for c in cells)
        table = np.array([(row[scale] << _AMPLITUDE_BITS) // largest for row in spectrum.amplitudes], np.int64)
        amplitude = table[regions_of(mask, spacing, spectrum.regions, cells)]
        points = draws(stream, mask.ndim * math.prod(free)).reshape(mask.ndim, *free) * amplitude
        for axis, (c, n) in enumerate(zip(cells, nodes.steps, strict=True)):
            points = np.moveaxis(np.tensordot(_weights(c, n), points, (1, axis + 1)), 0, axis + 1)
        total += points
    return total


def velocity(
    key: ProxyKey,
    digest: bytes,
    mask: NDArray[np.bool_],
    spacing: Sequence[float],
    strength: float,
    spectrum: Spectrum,
    draw: int = 0,
) -> NDArray[np.int64]:
    """The velocity at the nodes of the working grid, int64 (dim, …, y, x) in units of 2^-16 mm.

    mask: of the head or brain, (z, y, x) or (y, x). spacing: mm, x first. strength: mm. draw: which one of this scan.
    InputError: an empty mask.
    """
    nodes = Nodes.over(mask.shape, spacing, NODE_UM)
    inside = nodes.nearest(mask)
    if not inside.any():
        raise InputError("The mask is empty, or too small to deform: no voxel is inside. Give another mask.")
    um = [round(1000 * s) for s in spacing]
    stream = Stream(
        key.secret, "proxy velocity 1", digest, *mask.shape, *um, round(1000 * strength), spectrum.digest, draw
    )
    field = _field(stream, mask, spacing, spectrum, nodes)
    shift = max(0, int(np.abs(field).max()).bit_length() - _FIELD_BITS)
    field >>= shift
    squares = sum(_spread(component[inside]) for component in field)
    count = int(inside.sum())
    if squares == 0:
        raise InputError("The deformation has no strength inside the mask: it is too small. Give another mask.")
    wanted = round(1000 * strength) * 2**16  # thousandths of units
    factor = math.isqrt((wanted << _FACTOR_BITS) ** 2 * mask.ndim * count**2 // (squares * 1000**2))
    return np.asarray((field * factor) >> _FACTOR_BITS)


def _spread(values: NDArray[np.int64]) -> int:
    """n²·variance of n values below 2^24, exactly."""
    squares = sum(int(np.dot(part, part)) for part in np.array_split(values, values.size // 2**14 + 1))
    return int(values.size) * squares - int(values.sum()) ** 2


# ------------------------------------------------------------------------------------------------- out and back


@dataclass(frozen=True, eq=False)
class Deformation:
    """A scan's deformation and its inverse. shape: of the scan's array. spacing: mm, x first. strength: mm.

    draw: how many fields before it were refused. out, back: on the working grid, mm, float32 (dim, …, y, x).

    >>> disc = np.hypot(*np.mgrid[-20:20, -20:20]) < 12
    >>> made = Deformation.make(ProxyKey(bytes(32)), b"scan", disc, (4.0, 4.0), strength=4.0)
    >>> made.warp(np.uint8(200) * disc).shape, made.smallest_jacobian() > 0
    ((40, 40), True)
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    strength: float
    draw: int
    nodes: Nodes
    out: Field
    back: Field

    @classmethod
    def make(
        cls,
        key: ProxyKey,
        digest: bytes,
        mask: NDArray[np.bool_],
        spacing: Sequence[float],
        strength: float,
        spectrum: Spectrum | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> Deformation:
        """From key and scan; the same again from the same. check: called between steps, raises to stop.

        InputError: an empty mask, or no field of this strength that can be undone on this grid.

        >>> mask = np.zeros((24, 28, 24), bool)
        >>> mask[4:20, 4:24, 4:20] = True
        >>> made = Deformation.make(ProxyKey(bytes(32)), b"scan", mask, (6.0, 6.0, 6.0), 4.0, Spectrum.plain())
        >>> made.smallest_jacobian() > JACOBIAN
        True
        """
        table = Spectrum.shipped() if spectrum is None else spectrum
        nodes = Nodes.over(mask.shape, spacing, NODE_UM)
        grid = nodes.grid()
        for draw in range(DRAWS):
            check()
            v = velocity(key, digest, mask, spacing, strength, table, draw).astype(np.float32) * np.float32(UNIT)
            out = flow(v, grid)
            if jacobian_determinant(out, grid).min() < JACOBIAN:
                continue
            check()
            found = cls(tuple(mask.shape), tuple(spacing), strength, draw, nodes, out, flow(-v, grid))
            if found.smallest_jacobian() > 0 and found.inverse_error().max() <= INVERSE_MM:
                return found
        raise InputError(
            f"No deformation of {strength:g} mm that can be undone was found for a grid of"
            f" {'×'.join(f'{e / 1000:.0f}' for e in reversed(nodes.extent))} mm: it is too small for it. Give a lower"
            " strength."
        )

    @property
    def forward(self) -> Field:
        """`out` at the voxels of the scan, mm, float32 (dim, …, y, x)."""
        return self._at_voxels(self.out)

    @property
    def backward(self) -> Field:
        """`back` at the voxels of the scan."""
        return self._at_voxels(self.back)

    def warp(self, volume: NDArray[Any]) -> NDArray[Any]:
        """The proxy of a volume of this shape, interpolated linearly, of its own type; 0 beyond the border."""
        return self._pulled(volume[None], self.out)[0]

    def unwarp(self, channels: NDArray[Any]) -> NDArray[Any]:
        """What belongs to the proxy, (C, …, y, x), brought back onto the scan, of its own type."""
        return self._pulled(channels, self.back)

    def smallest_jacobian(self) -> float:
        """Of both directions."""
        grid = self.nodes.grid()
        return float(min(jacobian_determinant(field, grid).min() for field in (self.out, self.back)))

    def inverse_error(self) -> NDArray[np.float32]:
        """How far from each node there and back ends, in mm."""
        return inverse_error_mm(self.out, self.back, self.nodes.grid())

    def _at_voxels(self, field: Field) -> Field:
        out = np.empty((len(field), *_three(self.shape)), np.float32)
        _by_planes(_displacements, _volume(field), self._steps(), out)
        return out.reshape(len(field), *self.shape)

    def _pulled(self, channels: NDArray[Any], field: Field) -> NDArray[Any]:
        if channels.shape[1:] != self.shape:
            raise InputError(f"The volume has shape {channels.shape[1:]}, the deformation {self.shape}.")
        out = np.empty((len(channels), *_three(self.shape)), channels.dtype)
        inverse = np.zeros(3)
        inverse[: len(self.spacing)] = 1.0 / np.array(self.spacing)
        whole = 0.5 if channels.dtype.kind in "ui" else 0.0
        _by_planes(_pull, _volume(np.ascontiguousarray(channels)), _volume(field), self._steps(), inverse, whole, out)
        return out.reshape(channels.shape)

    def _steps(self) -> NDArray[np.float64]:
        """Nodes per voxel, z y x."""
        ratio = [w / n for w, n in zip(self.nodes.steps, self.shape, strict=True)]
        return np.array([1.0] * (3 - len(ratio)) + ratio)


def flow(v: Field, grid: Geometry) -> Field:
    """The displacement of the flow of a velocity for unit time."""
    return exponential(v, grid, step=_STEP, start="runge-kutta")


def _three(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if len(shape) == 3 else (1, *shape)


def _volume(channels: NDArray[Any]) -> NDArray[Any]:
    return channels if channels.ndim == 4 else channels[:, None]


def _by_planes(kernel: Any, *arguments: Any) -> None:
    """kernel(…, out, first, last) over the planes of out, the last argument, side by side."""
    planes = arguments[-1].shape[1]
    bounds = np.linspace(0, planes, min(_THREADS, planes) + 1).astype(int).tolist()
    with ThreadPoolExecutor(len(bounds) - 1) as pool:
        parts = [pool.submit(partial(kernel, *arguments, a, b)) for a, b in pairwise(bounds)]
        for part in parts:
            part.result()


@compiled_ieee
def _place(i: int, step: float, count: int) -> Any:
    """The node before voxel i, the one after it, and how far it is from the first to the second."""
    p = (i + 0.5) * step if count > 1 else 0.0
    first = min(int(p), max(count - 2, 0))
    return first, min(first + 1, count - 1), p - first


@compiled_ieee
def _trilinear(f: Any, z0: int, z1: int, fz: float, y0: int, y1: int, fy: float, x0: int, x1: int, fx: float) -> float:
    a = f[z0, y0, x0] * (1.0 - fx) + f[z0, y0, x1] * fx
    b = f[z0, y1, x0] * (1.0 - fx) + f[z0, y1, x1] * fx
    c = f[z1, y0, x0] * (1.0 - fx) + f[z1, y0, x1] * fx
    d = f[z1, y1, x0] * (1.0 - fx) + f[z1, y1, x1] * fx
    return (a * (1.0 - fy) + b * fy) * (1.0 - fz) + (c * (1.0 - fy) + d * fy) * fz


@compiled_ieee
def _displacements(field: Any, steps: Any, out: Any, first: int, last: int) -> None:
    """Planes first … last − 1 of out (dim, nz, ny, nx): the field at the voxels."""
    dim, mz, my, mx = field.shape
    for k in range(first, last):
        z0, z1, fz = _place(k, steps[0], mz)
        for j in range(out.shape[2]):
            y0, y1, fy = _place(j, steps[1], my)
            for i in range(out.shape[3]):
                x0, x1, fx = _place(i, steps[2], mx)
                for c in range(dim):
                    out[c, k, j, i] = _trilinear(field[c], z0, z1, fz, y0, y1, fy, x0, x1, fx)


@compiled_ieee
def _pull(volume: Any, field: Any, steps: Any, inverse: Any, whole: float, out: Any, first: int, last: int) -> None:
    """Planes first … last − 1 of out: volume (C, nz, ny, nx) where the field leads. inverse: 1/spacing, x y z."""
    channels, nz, ny, nx = volume.shape
    dim, mz, my, mx = field.shape
    for k in range(first, last):
        z0, z1, fz = _place(k, steps[0], mz)
        for j in range(ny):
            y0, y1, fy = _place(j, steps[1], my)
            for i in range(nx):
                x0, x1, fx = _place(i, steps[2], mx)
                x = i + _trilinear(field[0], z0, z1, fz, y0, y1, fy, x0, x1, fx) * inverse[0]
                y = j + _trilinear(field[1], z0, z1, fz, y0, y1, fy, x0, x1, fx) * inverse[1]
                z = float(k)
                if dim == 3:
                    z = k + _trilinear(field[2], z0, z1, fz, y0, y1, fy, x0, x1, fx) * inverse[2]
                if not (-0.5 <= x <= nx - 0.5 and -0.5 <= y <= ny - 0.5 and -0.5 <= z <= nz - 0.5):
                    for c in range(channels):
                        out[c, k, j, i] = 0
                    continue
                x, y, z = min(max(x, 0.0), nx - 1.0), min(max(y, 0.0), ny - 1.0), min(max(z, 0.0), nz - 1.0)
                a, b, d = min(int(x), max(nx - 2, 0)), min(int(y), max(ny - 2, 0)), min(int(z), max(nz - 2, 0))
                e, f, g = min(a + 1, nx - 1), min(b + 1, ny - 1), min(d + 1, nz - 1)
                for c in range(channels):
                    value = _trilinear(volume[c], d, g, z - d, b, f, y - b, a, e, x - a)
                    out[c, k, j, i] = value + whole
