"""The least-squares rigid or similarity transform of two corresponding point sets, from sums alone.

Arun, Huang & Blostein, Least-squares fitting of two 3-D point sets, 1987; the scale as in Umeyama 1991.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from PPIRLogic.arrays import Array
from PPIRLogic.errors import InputError
from PPIRLogic.transforms import LinearTransform

_UNDETERMINED = 1e-9  # of the singular values that hold the rotation, over the largest


@dataclass(frozen=True)
class FitSums:
    """What party 1 knows: about the moving points all, about the fixed points sums only. mm, mm².

    cross (dim, dim): Σ q·w'ᵀ with q the moving points about their centroid and w' the fixed points about theirs.
    own: Σ |q|². other: Σ |w'|². centroids (dim,): of the moving and of the fixed points.
    """

    cross: Array
    own: float
    other: float
    count: int
    moving_centroid: Array
    fixed_centroid: Array


@dataclass(frozen=True)
class PointFit:
    """transform: fixed to moving points. residual_mm: root mean square distance that remains, among the fixed points.

    reflection: a mirror image would fit better; the transform is the best rotation all the same. mirrored_residual_mm:
    what would remain then. spread_mm: root mean square distance of the moving points from their centroid.
    """

    transform: LinearTransform
    residual_mm: float
    reflection: bool
    mirrored_residual_mm: float
    spread_mm: float


def fit(sums: FitSums, kind: str) -> PointFit:
    """min Σ |w' − s·R·q|² over rotations R (and scales s, if `kind` is similarity), inverted to fixed → moving.

    The scale counts errors among the fixed points, so that it needs party 1's own variance only. InputError where the
    sums determine no rotation.
    """
    rotation, values, sign = rotation_of(sums.cross)
    overlap = float(values[:-1].sum() + sign * values[-1])
    scale = overlap / sums.own if kind == "similarity" else 1.0
    if not scale > 0:
        raise InputError("The two point sets do not correspond: no scale fits. Check that both list the same order.")
    matrix = rotation.T / scale
    shift = sums.moving_centroid - sums.fixed_centroid
    mirrored = float(values.sum())
    return PointFit(
        LinearTransform(kind, matrix, shift, sums.fixed_centroid),
        _residual(sums, overlap, kind),
        sign < 0,
        _residual(sums, mirrored, kind),
        float(np.sqrt(sums.own / sums.count)),
    )


def rotation_of(cross: Array) -> tuple[Array, Array, float]:
    """(R, singular values, sign): the rotation that turns q towards w', det(R) = +1; sign −1: a mirror fits better.

    InputError where several rotations fit equally well.
    """
    left, values, right = np.linalg.svd(cross)
    sign = 1.0 if np.linalg.det(left) * np.linalg.det(right) > 0 else -1.0
    if not values[-2] + sign * values[-1] > _UNDETERMINED * values[0]:
        raise InputError(
            "The two point sets do not correspond: no rotation fits better than others. Check that both sides list the"
            " same points in the same order."
        )
    turn = np.ones(len(values))
    turn[-1] = sign
    rotation: Array = (right.T * turn) @ left.T
    return rotation, values, sign


def _residual(sums: FitSums, overlap: float, kind: str) -> float:
    explained = overlap**2 / sums.own if kind == "similarity" else 2 * overlap - sums.own
    return float(np.sqrt(max(0.0, sums.other - explained) / sums.count))
