"""Party 2's point set as the fixed operands of its one level."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np

from PPIRLogic.errors import PolicyError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.points.pointset import PointLayout, PointSet, as_points
from PPIRLogic.registration.levels import Level
from PPIRLogic.registration.names import POINT_TRANSFORMS
from PPIRLogic.registration.request import Request
from PPIRLogic.secure.product import Columns

LEVELS = (1,)


def loss_name(dimension: int) -> str:
    """The name under which point sets of this dimension are requested."""
    return f"points_{dimension}d"


def point_levels(layout: PointLayout) -> list[Level]:
    """The one level of a point set, as both sides derive it; a sample is a point."""
    samples = np.arange(layout.count, dtype=np.int32)
    return [Level(0, 1, 0.0, 0.0, cast(Geometry, layout), samples, values=layout.dimension)]


@dataclass
class FixedPoints:
    """A shared point set. Its coordinates never leave this object but as protected operands.

    name: what peers see. points: corresponding to the peer's, LPS mm. Errors: InputError (points that are none).
    What it tells without protection is its layout:

    >>> shared = FixedPoints("landmarks", PointSet([[0, 0], [10, 0], [0, 10]]))
    >>> shared.geometry.describe()
    '3 points, 2D'
    """

    name: str
    points: PointSet
    kind: ClassVar[str] = "points"
    mask: ClassVar[None] = None
    subject: ClassVar[str] = ""
    frame: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """InputError: the points are something else."""
        self.points = as_points(self.points, self.name)
        self.geometry = PointLayout.of(self.points.points)

    @property
    def losses(self) -> tuple[str, ...]:
        """The one name under which it can be requested."""
        return (loss_name(self.points.dimension),)

    def levels(self, request: Request, seed: bytes) -> list[Level]:
        """PolicyError for a request that does not fit a point set of this dimension."""
        if (request.loss, request.levels, request.sampling) != (*self.losses, LEVELS, "full"):
            raise PolicyError(
                f"'{request.image}' is a set of {self.geometry.describe()}: register {self.points.dimension}D points to"
                " it (ppir register-points)."
            )
        if request.transform not in POINT_TRANSFORMS:
            raise PolicyError(
                f"Points are registered with {' or '.join(POINT_TRANSFORMS)}, not with {request.transform}."
            )
        return point_levels(self.geometry)

    def identifier(self, key: bytes) -> str:
        """A short keyed digest by which budgets recognise the points under any name; useless without the key."""
        return hmac.new(key, b"points" + self.points.points.tobytes(), hashlib.sha256).hexdigest()[:16]

    def sketch(self, key: bytes) -> str:
        """Copies of points are not recognised: their owner names the subject."""
        return ""

    def measurable_voxels(self, level: Level, mask_mode: str) -> int:
        """All coordinates: the denominator of the budget."""
        return level.numbers

    def mask_at(self, level: Level) -> Any:
        """PolicyError: points have no mask."""
        raise PolicyError("A set of points has no mask.")

    def operands(self, level: Level, names: Iterable[str], request: Request) -> dict[str, Columns]:
        """The named integer operands, (n,) int32: X, Y[, Z] coordinates, R2 squared distances (see PointLayout)."""
        coordinates = self.geometry.integers(self.points.points)
        known = {axis: np.ascontiguousarray(coordinates[:, i]) for i, axis in enumerate("XYZ"[: coordinates.shape[1]])}
        known["R2"] = self.geometry.spreads(self.points.points)
        return {name: known[name] for name in names}
