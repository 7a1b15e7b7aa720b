"""What speaks against the transform of a run that ended, in words: from its records, its geometry, and its check.

A person reads them in the report, on the terminal and in Slicer; a script sees exit code 13. The limits were set on
pairs of heads and lungs: parts of a head registered to the whole, thin slabs, turned and shifted heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.level_record import CheckRecord, LevelRecord
from PPIRLogic.transforms import LinearTransform

MIN_TRIALS = 3  # steps that were tried in vain, from which on a run is in doubt
MIN_SCALE, MAX_SCALE = 0.5, 2.0  # singular values of the matrix of a transform
MAX_STRAIN = 1.5  # the largest by the smallest of them
MAX_STRAIN_OF_A_PART = 1.2  # where little overlaps: a small part slides along the other's surface as it stretches
MAX_DOUBTED_OVERLAP = 0.25
KEPT = 0.75  # of what the images told of each other at the best start: less at the end is suspicious
MANY_STEPS, LAST_STEPS = 10, 3  # a search of so many steps has settled if so many of the last are short
_POINTS_PER_AXIS = 24


@dataclass(frozen=True)
class Limits:
    """What a right end has at least: by how much its value exceeds those around it, on average and the best of them, in
    nats per voxel, and the correlation of the detail."""

    sharp: float
    rise: float
    detail: float


NCC_LIMITS, MI_LIMITS = Limits(0.26, 0.10, 0.23), Limits(0.07, 0.012, 0.15)
MI_FLAT_LIMITS, FLAT_SHARE = Limits(0.06, 0.02, 0.25), 0.27  # where so much of the information is sharp


def doubts_of(
    levels: Sequence[LevelRecord],
    linear: LinearTransform,
    covered: float | None,
    inside: float | None,
    check: CheckRecord | None = None,
) -> list[str]:
    """Sentences that each say what is suspicious and what to do; none where nothing is.

    covered, inside: shares of the fixed grid and of the moving image's content that lie in the other image.
    """
    passed = check is not None and not _blunt(check)  # then a start that could not be bettered was right
    found = (
        "" if passed else _no_step(levels),
        _shape(linear, covered),
        _overlap(covered, inside),
        _still_moving(levels),
        _folds(levels),
    )
    checked = (_blunt(check), _worse_than_start(check)) if check is not None else ()
    return [text for text in (*found, *checked) if text]


def _blunt(check: CheckRecord) -> str:
    """Of an end that is hardly better than what lies around it."""
    limits = NCC_LIMITS
    if check.pooled:
        flat = check.sharp < MI_LIMITS.sharp and check.sharp >= FLAT_SHARE * check.info
        limits = MI_FLAT_LIMITS if flat else MI_LIMITS
    low = [
        f"{what} {value:.3g}, of a right one at least {least:.3g}"
        for what, value, least in (
            ("than around it on average", check.sharp, limits.sharp),
            ("than at the best place around it", check.rise, limits.rise),
        )
        if value < least
    ]
    text = f"The end is not clearly better than what lies around it (in nats: {'; '.join(low)})." if low else ""
    if check.detail is not None and check.detail < limits.detail:
        text += " " * bool(text) + (
            f"Edges do not lie on edges: their correlation is {check.detail:.2f}, of a right end at least"
            f" {limits.detail:.2f}."
        )
    return text and f"{text} The images may be misplaced: look at them, and try another --initial or --loss."


def _worse_than_start(check: CheckRecord) -> str:
    if check.start_info is None or check.info >= KEPT * check.start_info:
        return ""
    return (
        f"The images told more of each other at the best start ({check.start_info:.3g} nats) than at the end"
        f" ({check.info:.3g}): the search went astray. Try --transform rigid, or fewer levels."
    )


def _no_step(levels: Sequence[LevelRecord]) -> str:
    tried = max((record.evaluations - 1 for record in levels), default=0)
    if any(record.iterations or record.reason == "loss" for record in levels) or tried < MIN_TRIALS:
        return ""
    return (
        f"No step was accepted: up to {tried} were tried at each level, and none lowered the loss. The transform is"
        " the one the run started from. Look at the images: they may be too thin, too different, or too far apart"
        " for this loss; try another --initial, --loss or --levels."
    )


def _shape(linear: LinearTransform, covered: float | None) -> str:
    """Of a matrix that no two images of one kind of body need; less is allowed where one is a part of the other."""
    values = np.linalg.svd(linear.matrix, compute_uv=False)
    listed = ", ".join(f"{v:.2f}" for v in values)
    advice = "Try a transform that cannot stretch (--transform rigid), or another --initial."
    if np.linalg.det(linear.matrix) <= 0:
        return f"The transform mirrors the image or flattens it: it stretches by {listed}. {advice}"
    if values[-1] < MIN_SCALE or values[0] > MAX_SCALE:
        return f"The transform stretches by {listed} along three directions, far from 1. {advice}".replace(
            "three", {2: "two", 3: "three"}[len(values)]
        )
    if values[0] > MAX_STRAIN * values[-1]:
        return f"The transform stretches unevenly: by {listed}, {values[0] / values[-1]:.1f} times as much. {advice}"
    if covered is not None and covered < MAX_DOUBTED_OVERLAP and values[0] > MAX_STRAIN_OF_A_PART * values[-1]:
        return (
            f"The transform stretches unevenly, by {listed}, and the moving image covers {100 * covered:.0f} % of the"
            f" fixed grid: a small part slides along a surface as it stretches. {advice}"
        )
    return ""


def _overlap(covered: float | None, inside: float | None) -> str:
    if covered is None or inside is None or max(covered, inside) > MAX_DOUBTED_OVERLAP:
        return ""
    return (
        f"The images hardly overlap: {100 * covered:.0f} % of the fixed grid lies in the moving image, and"
        f" {100 * inside:.0f} % of what the moving image shows lies in the fixed grid. Look at the pictures of the"
        " report, and try another --initial."
    )


def _still_moving(levels: Sequence[LevelRecord]) -> str:
    """The last level used up its evaluations, and its last step (of many: one of the last) was longer than a voxel."""
    last = levels[-1] if levels else None
    if last is None or last.reason != "evaluations" or not last.steps_mm:
        return ""
    voxel, longest = min(last.spacing), max(last.steps_mm[-LAST_STEPS if len(last.steps_mm) >= MANY_STEPS else -1 :])
    if not longest > voxel:
        return ""
    return (
        f"The evaluations were used up while the search still moved: its last steps at shrink factor {last.factor}"
        f" were up to {longest:.2g} mm long, and a voxel has {voxel:.2g} mm. Allow more --evaluations (the owner's"
        " budget may be the limit), or begin nearer with --initial."
    )


def _folds(levels: Sequence[LevelRecord]) -> str:
    least = levels[-1].smallest_jacobian if levels else None
    if least is None or least > 0:
        return ""
    return (
        f"The deformation folds the image: its smallest Jacobian is {least:.2g}. Give more --bending, or a larger"
        " --grid-spacing or --stride."
    )


def share_covered(fixed: Geometry, moving: Geometry, transform: LinearTransform) -> float:
    """The share of the fixed grid that a transform puts inside the moving grid."""
    points, _ = _grid_points(fixed)
    return float(_inside(moving, transform.apply(points)).mean())


def share_inside(moving: Volume, fixed: Geometry, transform: LinearTransform) -> float:
    """The share of a normalised moving image's brightness that lies inside the fixed grid."""
    points, index = _grid_points(moving.geometry)
    weight = np.clip(moving.array[tuple(index.T[::-1])].astype(np.float64), 0.0, 1.0)
    try:
        back = np.linalg.solve(transform.matrix, (points - transform.centre - transform.translation).T).T
    except np.linalg.LinAlgError:
        return 0.0
    inside = _inside(fixed, back + transform.centre)
    return float(weight[inside].sum() / max(weight.sum(), 1e-12))


def _grid_points(geometry: Geometry) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points spread evenly over a grid, LPS mm, and their indices (x, y[, z])."""
    axes = [np.unique(np.linspace(0, n - 1, min(n, _POINTS_PER_AXIS)).astype(np.int64)) for n in geometry.size]
    index = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)
    affine = geometry.index_to_physical()
    return index @ affine[:, :-1].T + affine[:, -1], index


def _inside(geometry: Geometry, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    affine = geometry.physical_to_index()
    index = points @ affine[:, :-1].T + affine[:, -1]
    return np.asarray(((index >= -0.5) & (index <= np.array(geometry.size) - 0.5)).all(axis=1))
