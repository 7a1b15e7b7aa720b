"""How much of the fixed image the moving one must cover."""

from __future__ import annotations

from PPIRLogic.errors import OverlapError
from PPIRLogic.registration.levels import Level

MIN_OVERLAP = 0.05  # of the fixed samples, at the start
SHRINKING_LIMIT = 0.6  # a step may not leave less than this share of the level's first overlap


def check_start(share: float, level: Level, advice: str) -> None:
    """OverlapError where too small a share of a level's samples falls inside the moving image at its start."""
    if share < MIN_OVERLAP:
        raise OverlapError(
            f"Only {100 * share:.1f} % of the fixed image's voxels ({level.describe()}) fall inside the moving image"
            f" under the initial transform; at least {100 * MIN_OVERLAP:g} % are needed. {advice}"
        )
