"""The grid of an image: where its voxels lie.

Everything physical is in mm in the LPS coordinate system (the one of DICOM and ITK). Tuples that describe a grid are
in ITK order (x, y[, z]); arrays are in the reverse order, (z, y, x) or (y, x).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from PPIRLogic.arrays import Array
from PPIRLogic.errors import InputError

_MIN_SIZE, _MAX_SIZE, _MAX_VOXELS = 2, 4096, 2**28
_MIN_SPACING, _MAX_SPACING = 0.99e-6, 1e6  # mm; what lies outside would overflow or vanish in later arithmetic
_MAX_ORIGIN = 1e9  # mm
ORTHONORMAL_TOLERANCE = 1e-3
_FIELDS = ("size", "spacing", "origin", "direction")


@dataclass(frozen=True)
class Geometry:
    """A voxel grid: where each voxel centre lies. Public: it is exchanged with the other side.

    size: voxels per axis, ITK order (x, y[, z]). spacing: mm per axis. origin: mm, LPS, centre of voxel 0.
    direction: row-major dim×dim matrix whose columns are the axes of the grid. The constructor normalises types, and
    refuses what are no numbers or not as many as a grid has (InputError); `from_dict` validates their values.

    >>> grid = Geometry((181, 217, 180), (1.0, 1.0, 2.0), (-90, -126, -72), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    >>> grid.describe()
    '181×217×180 voxels, 1×1×2 mm'
    >>> grid.array_shape, grid.voxels
    ((180, 217, 181), 7069860)
    >>> grid.centre().tolist()  # LPS mm
    [0.0, -18.0, 107.0]
    >>> grid.extent_mm()
    (181.0, 217.0, 360.0)
    >>> Geometry.from_dict(grid.to_dict()) == grid
    True
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]

    def __post_init__(self) -> None:
        for field in _FIELDS:
            object.__setattr__(self, field, _numbers(getattr(self, field), field))
        if any(n != int(n) for n in self.size):
            raise InputError(f"Grid field 'size' must be a list of whole numbers, not {short_list(self.size)}.")
        object.__setattr__(self, "size", tuple(int(n) for n in self.size))
        counts = (self.dimension, self.dimension, self.dimension**2)
        for field, count in zip(_FIELDS[1:], counts, strict=True):
            if len(getattr(self, field)) != count:
                raise _wrong_length(field, count, len(getattr(self, field)))

    @classmethod
    def from_sitk(cls, image: sitk.Image) -> Geometry:
        """The grid of a SimpleITK image."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> Geometry:
        """Build from what `to_dict` gave, possibly on the other side of the network.

        InputError (naming the field): wrong type or length, dimension not 2 or 3, a size outside 2..4096 or too many
        voxels, a spacing that is not positive and finite, an origin that is not finite, a direction that is not
        orthonormal within 1e-3 (left-handed ones are fine).
        """
        if not isinstance(mapping, Mapping):
            raise InputError(f"A grid must be a mapping of {', '.join(_FIELDS)}, not {type(mapping).__name__}.")
        if any(key not in _FIELDS for key in mapping) or len(mapping) != len(_FIELDS):
            missing = [field for field in _FIELDS if field not in mapping]
            raise InputError(
                f"A grid has exactly the fields {', '.join(_FIELDS)}"
                + (f"; missing: {', '.join(missing)}." if missing else "; there are others in this one.")
            )
        size = _checked_sizes(mapping["size"])
        dim = len(size)
        spacing = _checked_floats(mapping["spacing"], "spacing", dim, _MAX_SPACING)
        if min(spacing) < _MIN_SPACING:
            raise InputError(f"Grid field 'spacing' must be positive, at least 1e-06 mm, not {short_list(spacing)}.")
        origin = _checked_floats(mapping["origin"], "origin", dim, _MAX_ORIGIN)
        direction = _checked_floats(mapping["direction"], "direction", dim * dim, 2.0)
        matrix = np.reshape(direction, (dim, dim))
        if np.abs(matrix.T @ matrix - np.eye(dim)).max() > ORTHONORMAL_TOLERANCE:
            raise InputError(
                "Grid field 'direction' is not orthonormal: the axes of the grid are sheared or scaled. "
                "Resample the image to a grid with right angles."
            )
        return cls(size, spacing, origin, direction)

    def to_dict(self) -> dict[str, list[int] | list[float]]:
        """Plain lists, fit for JSON or msgpack."""
        return {field: list(getattr(self, field)) for field in _FIELDS}

    @property
    def dimension(self) -> int:
        """2 or 3."""
        return len(self.size)

    @property
    def disclosed(self) -> int:
        """How many numbers this grid tells."""
        return sum(len(getattr(self, field)) for field in _FIELDS)

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return math.prod(self.size)

    @property
    def array_shape(self) -> tuple[int, ...]:
        """Shape of the array: (z, y, x) or (y, x)."""
        return self.size[::-1]

    def index_to_physical(self) -> Array:
        """Affine (dim, dim+1), [D·diag(spacing) | origin]: index (x, y[, z]) → LPS mm."""
        matrix = np.reshape(self.direction, (self.dimension, self.dimension)) * np.asarray(self.spacing)
        return np.column_stack([matrix, self.origin])

    def physical_to_index(self) -> Array:
        """Affine (dim, dim+1): LPS mm → continuous index (x, y[, z]); the inverse of `index_to_physical`.

        >>> grid = Geometry((4, 3), (2.0, 2.0), (10.0, 20.0), (1, 0, 0, 1))
        >>> (grid.physical_to_index() @ [12.0, 22.0, 1.0]).tolist()
        [1.0, 1.0]
        """
        forward = self.index_to_physical()
        inverse = np.linalg.inv(forward[:, :-1])
        return np.column_stack([inverse, -inverse @ forward[:, -1]])

    def centre(self) -> Array:
        """(dim,) LPS mm: the middle of the grid, index (size − 1)/2."""
        return self._physical((np.asarray(self.size) - 1) / 2)

    def corners(self) -> Array:
        """(2^dim, dim) LPS mm: the centres of the corner voxels."""
        return self._physical(np.array(list(itertools.product(*((0, n - 1) for n in self.size))), dtype=np.float64))

    def extent_mm(self) -> tuple[float, ...]:
        """Edge lengths of the field of view per axis, size·spacing, mm."""
        return tuple(n * s for n, s in zip(self.size, self.spacing, strict=True))

    def matches(self, other: Geometry, tol: float = 1e-3) -> bool:
        """True if both grids have the same size and no voxel centre differs by more than `tol` voxels.

        >>> here = Geometry((4, 3), (1.0, 1.0), (0.0, 0.0), (1, 0, 0, 1))
        >>> here.matches(Geometry((4, 3), (1.0, 1.0), (0.0001, 0.0), (1, 0, 0, 1)))
        True
        >>> here.matches(Geometry((4, 3), (1.0, 1.0), (0.1, 0.0), (1, 0, 0, 1)))
        False
        """
        if self.size != other.size:
            return False
        # an affine difference is largest at a corner
        return float(np.abs(self.corners() - other.corners()).max()) <= tol * min(self.spacing)

    def to_sitk_reference(self) -> sitk.Image:
        """An empty uint8 image on this grid, to resample onto."""
        image = sitk.Image(list(self.size), sitk.sitkUInt8)
        self.stamp(image)
        return image

    def stamp(self, image: sitk.Image) -> None:
        """Give `image` this spacing, origin and direction. InputError if they are no grid (spacing 0)."""
        try:
            image.SetSpacing(self.spacing)
            image.SetOrigin(self.origin)
            image.SetDirection(self.direction)
        except RuntimeError:
            raise InputError(f"A grid of {self.describe()} is none: its spacing or its direction is 0.") from None

    def describe(self) -> str:
        """Short text such as '181×217×180 voxels, 1×1×1 mm'."""
        return f"{short_list(self.size)} voxels, {short_list(self.spacing)} mm"

    def _physical(self, index: Array) -> Array:
        affine = self.index_to_physical()
        return index @ affine[:, :-1].T + affine[:, -1]


def short_list(values: Sequence[float]) -> str:
    return "×".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)


def _numbers(value: Any, field: str) -> tuple[float, ...]:
    """`value` as numbers, or InputError; infinite ones pass but for a size, which counts."""
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        numbers = tuple(float(v) for v in value)
        if field == "size":
            [int(v) for v in numbers]
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"Grid field '{field}' must be a list of numbers, not {value!r:.60}.") from None
    return numbers


def _wrong_length(field: str, count: int, found: int) -> InputError:
    return InputError(f"Grid field '{field}' must have {count} entries, not {found}.")


def _checked_sizes(value: Any) -> tuple[int, ...]:
    """`value` as sizes of a 2D or 3D grid, or InputError."""
    if not isinstance(value, (list, tuple)) or any(type(n) is not int for n in value):
        raise InputError("Grid field 'size' must be a list of whole numbers.")
    if len(value) not in (2, 3):
        raise InputError(f"Grid field 'size' has {len(value)} entries; only 2D and 3D images can be used.")
    if any(not _MIN_SIZE <= n <= _MAX_SIZE for n in value) or math.prod(value) > _MAX_VOXELS:
        raise InputError(
            f"Grid field 'size' must have {_MIN_SIZE} to {_MAX_SIZE} voxels per axis and at most 2^28 in all, "
            f"not {'×'.join(str(n) if abs(n) < 10**9 else '…' for n in value)}."
        )
    return tuple(value)


def _checked_floats(value: Any, field: str, count: int, limit: float) -> tuple[float, ...]:
    """`value` as `count` finite numbers of magnitude at most `limit`, or InputError."""
    if not isinstance(value, (list, tuple)) or any(type(v) not in (int, float) for v in value):
        raise InputError(f"Grid field '{field}' must be a list of numbers.")
    if len(value) != count:
        raise _wrong_length(field, count, len(value))
    if not all(abs(v) <= limit for v in value):  # also false for NaN; compares huge ints without overflow
        raise InputError(f"Grid field '{field}' must hold finite numbers of at most {limit:g}.")
    return tuple(float(v) for v in value)
