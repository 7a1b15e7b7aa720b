"""A scan as it may be warped: brain or faceless head alone, 8 bits, axes to the right, the front, the top; no header.

What is left of a scan: grey values and a spacing. Its name, its place and orientation in space, its range and all that
a header says stay here, in `Prepared`, which brings an answer back onto the scan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import InputError
from PPIRLogic.images.door import as_mask, check_volume
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.proxy.head import brain_mask, face_mask, head_mask
from PPIRLogic.proxy.keys import ProxyKey

STRIPS = {"brain": "the brain alone", "face": "the head without its face"}
MARGIN_MM = 16.0  # around what is left, so that the deformation moves none of it out
PERCENTILES = (1.0, 99.0)  # of the intensities inside, which become 0 and 255
MAX_VOXELS = 2**26  # voxels of what is sent
_HOUNSFIELD, _HOUNSFIELD_SHARE = -400.0, 0.05  # no MR has so many voxels so far below 0
_SOFT_TISSUE = 0.04  # spread of a CT's brain, of its distance to air; that of an MR is several times as large


@dataclass(frozen=True)
class Axes:
    """How a scan's axes are turned to the right, the front and the top (R, A, S): order and signs, by array axis."""

    order: tuple[int, ...]
    flips: tuple[bool, ...]

    @classmethod
    def of(cls, grid: Geometry) -> Axes:
        """Of a volume; a 2D image keeps its axes."""
        if grid.dimension == 2:
            return cls((0, 1), (False, False))
        direction = np.reshape(grid.direction, (3, 3))  # columns: axes of the grid in LPS
        left = {0: direction[:, 0], 1: direction[:, 1], 2: direction[:, 2]}
        found: dict[int, int] = {}
        # the anatomical axis that an axis of the grid is closest to, the clearest first
        for _ in range(3):
            anatomical, axis = max(
                ((a, i) for a in range(3) if a not in found for i in left), key=lambda pair: abs(left[pair[1]][pair[0]])
            )
            found[anatomical] = axis
            del left[axis]
        signs = (-1.0, -1.0, 1.0)  # of R, A, S in LPS
        order = tuple(2 - found[a] for a in (2, 1, 0))
        flips = tuple(bool(direction[a, found[a]] * signs[a] < 0) for a in (2, 1, 0))
        return cls(order, flips)

    def turned(self, array: NDArray[Any]) -> NDArray[Any]:
        """The scan's array as (S, A, R)."""
        return np.flip(array.transpose(self.order), tuple(i for i, flip in enumerate(self.flips) if flip))

    def back(self, array: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `turned`."""
        flipped = np.flip(array, tuple(i for i, flip in enumerate(self.flips) if flip))
        return flipped.transpose(np.argsort(self.order))

    def spacing(self, grid: Geometry) -> tuple[float, ...]:
        """In the order x, y[, z] of the turned array, whole micrometres."""
        of_axes = grid.spacing[::-1]
        return tuple(round(of_axes[i], 3) for i in self.order[::-1])


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan as it is warped, and how to bring an answer back.

    array: uint8 (z, y, x) to the top, the front, the right (2D: as it was); 0 outside the mask. mask: what was kept.
    spacing: mm, x first. strip: what was taken: 'brain', 'face' or 'mask'. corner: the first voxel of `array` in the
    turned scan, z first. grid: of the scan. name: of its file, for messages here.

    >>> grid = Geometry((40, 40), (4.0, 4.0), (0.0, 0.0), (1, 0, 0, 1))
    >>> disc = np.hypot(*np.mgrid[-20:20, -20:20]) < 12
    >>> found = prepare(Volume(np.where(disc, np.arange(1600.0).reshape(40, 40) + 500, 0), grid), disc)
    >>> found.strip, found.onto_scan(found.array).shape
    ('mask', (40, 40))
    """

    array: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    spacing: tuple[float, ...]
    strip: str
    corner: tuple[int, ...]
    axes: Axes
    grid: Geometry
    name: str = ""

    def digest(self, key: ProxyKey) -> bytes:
        """What this scan's deformation follows from: the same for the same scan."""
        mask = np.packbits(self.mask).tobytes()
        return key.digest(
            np.ascontiguousarray(self.array).tobytes(), mask, repr((self.array.shape, self.spacing)).encode()
        )

    def onto_scan(self, array: NDArray[Any], fill: int = 0) -> NDArray[Any]:
        """An array on the grid of `array`, such as a segmentation, on the scan's own grid."""
        turned = [self.grid.array_shape[i] for i in self.axes.order]
        whole = np.full(turned, fill, array.dtype)
        inside = [(max(0, -c), min(n, t - c)) for c, n, t in zip(self.corner, array.shape, turned, strict=True)]
        target = tuple(slice(c + a, c + b) for c, (a, b) in zip(self.corner, inside, strict=True))
        whole[target] = array[tuple(slice(a, b) for a, b in inside)]
        return np.ascontiguousarray(self.axes.back(whole))

    def from_scan(self, array: NDArray[Any]) -> NDArray[Any]:
        """What lies on the scan's own grid on the grid of `array`; 0 beyond the scan."""
        return _window(self.axes.turned(array), self.corner, self.array.shape)


def prepare(
    volume: Volume,
    mask: NDArray[np.bool_] | None = None,
    *,
    strip: str = "brain",
    check: Callable[[], None] = lambda: None,
) -> Prepared:
    """What may be warped of a scan: inside `mask` where one is given (array shape of the volume), else by `strip`.

    strip: 'brain' (the brain alone) or 'face' (the head without its face); of a 2D image the head is taken. check:
    called while it works, raises to stop.
    InputError: a CT, an empty mask, no head or brain found, nothing of it left, or too large.

    >>> grid = Geometry((40, 40), (4.0, 4.0), (0.0, 0.0), (1, 0, 0, 1))
    >>> disc = np.hypot(*np.mgrid[-20:20, -20:20]) < 12
    >>> found = prepare(Volume(np.where(disc, np.arange(1600.0).reshape(40, 40) + 500, 0), grid), disc)
    >>> found.array.dtype, found.array.shape, found.spacing
    (dtype('uint8'), (31, 31), (4.0, 4.0))
    """
    check_volume(volume, f"The scan '{volume.name}'")
    if mask is None and strip not in STRIPS:
        raise InputError(f"What is taken of a scan is {' or '.join(STRIPS)}, not {strip!r:.40}.")
    refuse_ct(volume)
    axes = Axes.of(volume.geometry)
    spacing = axes.spacing(volume.geometry)
    turned = axes.turned(volume.array)
    if mask is not None:
        kept = axes.turned(as_mask(mask, volume, f"The mask of '{volume.name}'"))
        strip = "mask"
    else:
        kept = _kept(np.ascontiguousarray(turned), spacing, strip, volume.name, check)
    check()
    corner, shape = _around(kept, spacing)
    if np.prod(shape, dtype=np.int64) > MAX_VOXELS:
        raise InputError(
            f"What is left of '{volume.name}' has {'×'.join(map(str, reversed(shape)))} voxels, more than are sent"
            f" ({MAX_VOXELS}). Give a smaller mask, or resample the scan to 1 mm."
        )
    inside = _window(kept, corner, shape)
    array = _eight_bits(_window(turned, corner, shape), inside, volume.name)
    return Prepared(array, inside, spacing, strip, corner, axes, volume.geometry, volume.name)


def _kept(
    array: NDArray[np.float32], spacing: tuple[float, ...], strip: str, name: str, check: Callable[[], None]
) -> NDArray[np.bool_]:
    if array.ndim == 2:
        return head_mask(array, spacing)
    brain = brain_mask(array, spacing, name, check)
    _refuse_flat(array, brain, name)
    if strip == "brain":
        return brain
    head = head_mask(array, spacing) | brain
    return head & ~face_mask(head, brain, spacing)


def refuse_ct(volume: Volume) -> None:
    """InputError for what is a CT by its DICOM file, or by its intensities."""
    negative = float(np.mean(volume.array[(slice(None, None, 2),) * volume.array.ndim] < _HOUNSFIELD))
    if volume.modality == "CT" or negative > _HOUNSFIELD_SHARE:
        why = "as its DICOM file says" if volume.modality == "CT" else "by its intensities, which reach far below 0"
        raise _is_ct(volume.name, why)
    if volume.modality not in ("", "MR"):
        raise InputError(
            f"The scan '{volume.name}' is of the kind {volume.modality!r:.20}, as its DICOM file says. The models know"
            " MR of the brain alone. Nothing was sent."
        )


def _is_ct(name: str, why: str) -> InputError:
    return InputError(
        f"The scan '{name}' is a CT, {why}. The models know MR of the brain alone, and would give it tissues that it"
        " does not show. Give an MR. Nothing was sent."
    )


def _refuse_flat(array: NDArray[np.float32], brain: NDArray[np.bool_], name: str) -> None:
    """A CT whose values were shifted to begin at 0 has a brain of nearly one value, far from air."""
    low, quarter, middle, more = np.percentile(array[brain][::7], (1, 25, 50, 75))
    air = float(np.percentile(array[::3, ::3, ::3], 1.0))
    if middle > air and more - quarter < _SOFT_TISSUE * (middle - air) and low < middle:
        raise _is_ct(name, "by its intensities: its brain has nearly one value")


def _around(mask: NDArray[np.bool_], spacing: tuple[float, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The corner and the shape of the box around a mask with its margin; it may reach beyond the array."""
    corner, shape = [], []
    for axis in range(mask.ndim):
        where = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not where.size:
            raise InputError("The mask is empty: no voxel is inside. Give another one.")
        margin = round(MARGIN_MM / spacing[mask.ndim - 1 - axis])
        corner.append(int(where[0]) - margin)
        shape.append(int(where[-1]) + 1 + margin - corner[-1])
    return tuple(corner), tuple(shape)


def _window(array: NDArray[Any], corner: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[Any]:
    """A box of an array, 0 beyond it."""
    out = np.zeros(shape, array.dtype)
    inside = [(max(0, -c), min(n, t - c)) for c, n, t in zip(corner, shape, array.shape, strict=True)]
    source = tuple(slice(c + a, c + b) for c, (a, b) in zip(corner, inside, strict=True))
    out[tuple(slice(a, b) for a, b in inside)] = array[source]
    return out


def _eight_bits(array: NDArray[np.float32], mask: NDArray[np.bool_], name: str) -> NDArray[np.uint8]:
    values = array[mask]
    low, high = (float(v) for v in np.percentile(values, PERCENTILES))
    if not high > low:
        raise InputError(f"The scan '{name}' is constant inside its mask: there is nothing to segment.")
    scaled = np.clip((values - np.float32(low)) * np.float32(255 / (high - low)), 0, 255)
    out = np.zeros(array.shape, np.uint8)
    out[mask] = np.rint(scaled).astype(np.uint8)
    return out
