"""What the codec has learned: the transform, the tables and the filter, under one digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import InputError
from PPIRLogic.primis.coefficients import FINE, PlaneModel
from PPIRLogic.primis.entropy_coding import TOTAL, Tables
from PPIRLogic.primis.exact_residual import FINEST, PARTS, ResidualModel
from PPIRLogic.primis.transform import Stage, cosine_basis, lapped_border

STEPS = (108, 36, 12, 4)  # of the four lossy levels, in 255ths of the image's range
BINS = 24


@dataclass(frozen=True)
class Model:
    """fine: blocks of 8 x 8; means: blocks of 4 x 4 of their means, each with a PlaneModel a level; tops: tables of the
    coarsest means, a row a level; residual: of the exact level; digest: SHA-256, hex."""

    fine: Stage
    means: Stage
    fine_levels: tuple[PlaneModel, ...]
    means_levels: tuple[PlaneModel, ...]
    tops: Tables
    residual: ResidualModel
    digest: str


def of_shape(sizes: NDArray[Any], reach: int, shift: float = 0.0) -> NDArray[np.int64]:
    """Tables of two-sided geometric numbers, a row for each mean size."""
    at = np.arange(-reach, reach + 1)
    rows = []
    for size in sizes:
        decay = size / (1 + size)
        row = decay ** np.abs(at - shift)
        row[[0, -1]] += row[[0, -1]] / max(1 - decay, 1e-6)
        rows.append(row / row.sum())
    return np.maximum(np.rint(np.array(rows) * (TOTAL - 8 * at.size)), 0).astype(np.int64) + 4


def _start_planes(planes: int) -> PlaneModel:
    near = np.full((planes, planes), 64 // planes + 1, np.int32)
    around = np.full((planes, 8), 12, np.int32)
    middles = 2.0 ** (np.arange(BINS) / 2 - 6)  # mean size, in steps
    thresholds = (2.0 ** (np.arange(BINS - 1) / 2 - 5.75) * FINE * 128).astype(np.int32)
    nought, not_nought = of_shape(np.minimum(middles, 2), 8), of_shape(np.maximum(np.minimum(middles, 2), 0.4), 8)
    shrink = np.zeros((2 * BINS, 9), np.int32)
    return PlaneModel(
        np.zeros(planes, np.int32), near, around, thresholds, Tables(np.vstack([nought, not_nought])), shrink
    )


def start() -> Model:
    """The model that training begins at: cosine transforms, weights and tables by rule of thumb."""
    size = np.full((4, 8), PARTS // 8, np.int64)
    size[0] = 0
    sizes = 2.0 ** ((np.arange(FINEST) - 24) / 4)
    residual = ResidualModel(
        np.zeros((4, 8), np.int64), size, np.array([40, 8, 4, 4]), np.full(4, 64), Tables(of_shape(sizes, 32))
    )
    levels = len(STEPS)
    return Model(
        Stage.of(cosine_basis(8), lapped_border(8)),
        Stage.of(cosine_basis(4), lapped_border(4)),
        (_start_planes(64),) * levels,
        (_start_planes(16),) * levels,
        Tables(of_shape(np.array([8.0] + [0.6] * (levels - 1)), 24)),
        residual,
        hashlib.sha256(b"start").hexdigest(),
    )


@cache
def shipped() -> Model:
    """The model that comes with the program."""
    return start()


def known(digest: str) -> Model:
    """The model of a digest, or an error that says what to do."""
    model = shipped()
    if digest != model.digest:
        raise InputError(
            f"This image was sealed with the model {str(digest)[:12]}…, which this program does not have (it has"
            f" {model.digest[:12]}…). Install the release of PPIRExtension that sealed it, or ask its owner to seal it"
            " again with this one."
        )
    return model
