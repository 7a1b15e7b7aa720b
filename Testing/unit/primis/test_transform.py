"""The transform: exact backwards up to rounding, the same whole numbers in whatever order they are added, no seam."""

from __future__ import annotations

import numpy as np
import pytest

from PPIRLogic.primis.model import shipped
from PPIRLogic.primis.transform import FRACTION, Stage, cosine_basis, forward, inverse, lapped_border, padded


def stages() -> list[Stage]:
    return [Stage.of(cosine_basis(n), lapped_border(n)) for n in (4, 8)] + [shipped().fine, shipped().means]


@pytest.mark.parametrize("stage", stages(), ids=["cosine 4", "cosine 8", "learned 8", "learned 4"])
def test_forth_and_back_is_the_picture(stage: Stage) -> None:
    picture = np.random.default_rng(0).normal(0, 3000, (2, 40, 24))
    assert np.allclose(stage.analysis @ stage.analysis.T, np.eye(stage.size**2), atol=1e-5)
    assert np.abs(inverse(np.rint(forward(picture, stage)), stage) - picture).max() < 8


def test_the_inverse_is_whole_numbers_whatever_the_order_of_sums() -> None:
    """Against Python's own integers: what any machine must get."""
    stage, whole = shipped().fine, 1 << FRACTION
    coefficients = np.random.default_rng(1).integers(-(1 << 20), 1 << 20, (1, 1, 2, 64))
    matrix, after = stage.synthesis.astype(int).tolist(), stage.after.astype(int).tolist()
    rows: list[list[int]] = [[0] * 16 for _ in range(8)]
    for block in range(2):
        values = coefficients[0, 0, block].tolist()
        for pixel in range(64):
            total = sum(matrix[pixel][k] * values[k] for k in range(64))
            rows[pixel // 8][8 * block + pixel % 8] = (total + whole // 2) // whole
    for row in rows:
        cut = row[4:12]
        row[4:12] = [(sum(after[i][j] * cut[j] for j in range(8)) + whole // 2) // whole for i in range(8)]
    assert inverse(coefficients, stage)[0].astype(int).tolist() == rows


def test_a_smooth_picture_has_no_seam_where_blocks_meet() -> None:
    """A slope across borders, of which only the coarsest coefficients are kept: with the filter, steps stay even."""
    y, x = np.mgrid[:64, :64]
    slope = (40.0 * x + 25.0 * y)[None]
    jumps = []
    for border in (lapped_border(8), np.eye(8)):
        stage = Stage.of(cosine_basis(8), border)
        kept = forward(slope, stage)
        kept[..., 1:] = 0
        steps = np.abs(np.diff(inverse(np.rint(kept), stage)[0, :, 8:-8], axis=1))
        jumps.append(steps.max() / steps.mean())
    assert jumps[0] < 0.5 * jumps[1]


def test_padding_repeats_the_border() -> None:
    wide = padded(np.arange(6.0).reshape(1, 2, 3), 4)
    assert wide.shape == (1, 4, 4) and wide[0, 3].tolist() == [3, 4, 5, 5]
