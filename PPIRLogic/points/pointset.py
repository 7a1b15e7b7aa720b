"""A set of points in space, and what party 2 tells of its own before anything is opened."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from PPIRLogic.arrays import Array, real_array
from PPIRLogic.errors import InputError, ProtocolError
from PPIRLogic.network.messages import Fields

MIN_POINTS, MAX_POINTS = 3, 2**20
_FARTHEST_MM = 1e6
_COLLINEAR = 1e-6  # second singular value of the centred points over the first
_EXPONENTS = (-20, 21)  # of the largest distance from the reference point, mm, as a power of two
_ROOM = 1.2  # over the farthest point: the reference point is not exactly the centroid


@dataclass(frozen=True, eq=False)
class PointSet:
    """Points in LPS mm; the order says which point belongs to which of the other side's.

    points: (n, 2) or (n, 3) float64. InputError: another shape, fewer than 3 points, values that are not finite or lie
    beyond 1000 m, the same point twice, points on one line (they determine no rotation).
    closed: the last point was the first one once more, as in a contour that closes; it is left out.

    >>> points = PointSet([[0, 0, 0], [10, 0, 0], [0, 10, 0]], name="landmarks")
    >>> points.count, points.dimension
    (3, 3)
    >>> PointSet([[0, 0], [1, 1], [2, 2]])
    Traceback (most recent call last):
    PPIRLogic.errors.InputError: The points 'points' lie on one line, which determines no rotation. ...
    """

    points: Array
    name: str = "points"
    closed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        what = f"The points '{self.name}'"
        points = np.array(real_array(self.points, what), dtype=np.float64)
        points.setflags(write=False)
        object.__setattr__(self, "points", points)
        if points.ndim != 2 or points.shape[1] not in (2, 3):
            raise InputError(f"{what} need two or three coordinates each, mm.")
        if len(points) > 1 and (points[0] == points[-1]).all():
            points = points[:-1]
            object.__setattr__(self, "closed", True)
            object.__setattr__(self, "points", points)
        if not MIN_POINTS <= len(points) <= MAX_POINTS:
            raise InputError(
                f"{what} are {len(points)}; a registration needs at least {MIN_POINTS} and takes at most {MAX_POINTS}."
            )
        if bad := np.flatnonzero(~np.isfinite(points).all(axis=1)).tolist():
            raise InputError(f"{what} hold a coordinate that is not a number, at point {bad[0] + 1}. Place it again.")
        if np.abs(points).max() > _FARTHEST_MM:
            raise InputError(f"{what} hold a coordinate beyond {_FARTHEST_MM:g} mm. Give coordinates in mm.")
        _refuse_twins(points, what)
        values = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
        if values[1] <= _COLLINEAR * values[0]:
            raise InputError(f"{what} lie on one line, which determines no rotation. Add a point beside it.")

    @property
    def note(self) -> str:
        """What was done to the points that were given; empty if nothing."""
        if not self.closed:
            return ""
        return (
            f"The points '{self.name}' are a closed contour: the last one is the first one again and is left out;"
            f" {self.count} remain."
        )

    @property
    def count(self) -> int:
        """How many points there are."""
        return len(self.points)

    @property
    def dimension(self) -> int:
        """2 or 3."""
        return int(self.points.shape[1])


def _refuse_twins(points: Array, what: str) -> None:
    order = np.lexsort(points.T)
    same = np.flatnonzero((np.diff(points[order], axis=0) == 0).all(axis=1))
    if same.size:
        first, second = sorted(int(v) + 1 for v in order[same[0] : same[0] + 2])
        raise InputError(f"{what} hold the same point twice, at {first} and {second}. Remove or correct one.")


def coordinate_bits(count: int) -> int:
    """Bits of a fixed coordinate besides its sign: 23 for up to 256 points, fewer where many points average out."""
    return min(23, 27 - math.ceil(math.log2(max(count, 2)) / 2))


@dataclass(frozen=True)
class PointLayout:
    """What party 2 tells of its points before a session: public, and all that quantisation needs.

    count, dimension. reference: a point near the centroid, on a coarse grid, LPS mm. exponent: no point lies farther
    than 2^exponent mm from it along any axis.
    """

    count: int
    dimension: int
    exponent: int
    reference: tuple[float, ...]

    @classmethod
    def of(cls, points: Array) -> PointLayout:
        """The layout of points (n, dim); the reference point is the centroid to 1/8 of the extent."""
        centroid = points.mean(axis=0)
        exponent = math.ceil(math.log2(_ROOM * np.abs(points - centroid).max()))
        grid = 2.0 ** (exponent - 3)
        reference = tuple((np.rint(centroid / grid) * grid).tolist())
        return cls(len(points), points.shape[1], exponent, reference)

    @property
    def bits(self) -> int:
        return coordinate_bits(self.count)

    @property
    def scale(self) -> float:
        """Integers per mm."""
        return 2.0 ** (self.bits - self.exponent)

    @property
    def disclosed(self) -> int:
        """How many numbers this layout tells."""
        return 2 + len(self.reference)

    def integers(self, points: Array) -> NDArray[np.int32]:
        """Coordinates relative to the reference point in units of the scale, (n, dim), at most 2^bits."""
        return np.rint((points - np.array(self.reference)) * self.scale).astype(np.int32)

    def spread_scale(self) -> float:
        """Integers per mm² of the squared distances from the reference point."""
        return 2.0 ** (self.bits - 2 * self.exponent) / self.dimension

    def spreads(self, points: Array) -> NDArray[np.int32]:
        """Squared distances from the reference point as integers, (n,), at most 2^bits."""
        squares = np.square(points - np.array(self.reference)).sum(axis=1)
        return np.rint(squares * self.spread_scale()).astype(np.int32)

    def describe(self) -> str:
        return f"{self.count} points, {self.dimension}D"

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "reference": list(self.reference)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PointLayout:
        """From the network; ProtocolError for anything malformed or out of range."""
        f = Fields(data, "points")
        dimension = f.integer("dimension", 2, 3)
        items = f.items("reference", 3)
        if len(items) != dimension:
            raise ProtocolError("Field 'reference' of 'points' must hold one number per dimension.")
        reference = tuple(Fields({"mm": v}, "reference").number("mm", -2e6, 2e6) for v in items)
        count = f.integer("count", MIN_POINTS, MAX_POINTS)
        return cls(count, dimension, f.integer("exponent", *_EXPONENTS), reference)


def as_points(points: PointSet | ArrayLike, name: str = "points") -> PointSet:
    """A PointSet as it is, or one of an array (n, 2) or (n, 3), LPS mm."""
    return points if isinstance(points, PointSet) else PointSet(points, name)  # type: ignore[arg-type]
