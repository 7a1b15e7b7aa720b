"""Whether an end is right: the loss must be better there than at transforms around it, and clearly so.

A wrong end lies in a flat or shallow place: shifting or turning the image hardly matters there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from PPIRLogic.arrays import Array
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.registration.level_record import CheckRecord
from PPIRLogic.registration.party1.level_runs.values import Found, ValueRun
from PPIRLogic.transforms import LinearTransform
from PPIRLogic.transforms.linear import rotation_of

REACH = 0.046  # of the longest axis of the fixed image: 10 mm of a head
TURN = 12.0  # degrees


@dataclass(frozen=True)
class Sharpness:
    """The value at a transform, and by how much it exceeds the mean and the largest of those around it."""

    here: Found
    sharp: float
    rise: float


def reach_mm(fixed: Geometry) -> float:
    return REACH * max(fixed.extent_mm())


def around(
    transform: LinearTransform, shift_mm: float, degrees: float, quick: bool = False
) -> Iterator[LinearTransform]:
    """A transform shifted, and turned about its centre, to either side along each axis: 6 in 2D, 12 in 3D.

    quick: to one side of each axis, in turn before and behind.
    """
    dim = transform.dimension
    for direction in _sides(np.eye(dim), quick):
        yield replace(transform, translation=transform.translation + shift_mm * direction)
    for axis in _sides(np.eye(3) if dim == 3 else np.ones((1, 1)), quick):
        turn = rotation_of(np.deg2rad(degrees) * axis)
        yield replace(transform, matrix=turn @ transform.matrix)


def _sides(axes: Array, quick: bool) -> list[Array]:
    """The axes and their opposites; of each the one or the other in turn, if `quick`."""
    if quick:
        return [axis if i % 2 == 0 else -axis for i, axis in enumerate(axes)]
    return [*axes, *-axes]


def sharpness(run: ValueRun, transform: LinearTransform, quick: bool = False) -> Sharpness | None:
    """The value at a transform against those around it; None where they cannot be opened, or nothing overlaps.

    quick: look to one side along each axis. Where nothing overlaps around it, the value counts as 0.
    """
    found = list(around(as_general(transform), reach_mm(run.session.geometry), TURN, quick))
    if run.room < (len(found) + 1) * run.each:
        return None
    here = run.value(transform)
    if here is None:
        return None
    values = [0.0 if (v := run.value(neighbour)) is None else v.info for neighbour in found]
    return Sharpness(here, here.info - float(np.mean(values)), here.info - max(values))


def as_general(transform: LinearTransform) -> LinearTransform:
    """The same as an affine transform, which holds any matrix."""
    return replace(transform, kind="affine")


def check_end(run: ValueRun, transform: LinearTransform) -> CheckRecord | None:
    """What speaks for an end; None where the owner's budget leaves too few numbers."""
    found = sharpness(run, transform)
    if found is None:
        return None
    level = run.level
    return CheckRecord(
        level.factor, len(level.samples), found.here.info, found.here.share, found.sharp, found.rise, run.loss.pooled
    )


def detail_at(run: ValueRun, transform: LinearTransform) -> float | None:
    """NCC of the detail of the two images, negative where edges lie beside edges; None where it cannot be opened."""
    found = run.value(transform)
    if found is None:
        return None
    correlation = math.sqrt(1 - math.exp(-2 * found.info))
    return -correlation if found.reversed else correlation
