"""How much of the fixed image the moving one must cover."""

from __future__ import annotations

import math
from typing import Any

from PPIRLogic.errors import OverlapError
from PPIRLogic.images.geometry import Geometry
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


def overlap_advice(initial: Any, moving: Geometry, fixed: Geometry) -> str:
    """What helps where too little overlaps: `initial` as in `Parameters`."""
    share = math.prod(moving.extent_mm()) / math.prod(fixed.extent_mm())
    if share < 2 * MIN_OVERLAP:
        return (
            f"The moving image has {100 * share:.2g} % of the fixed grid's volume: no start helps. Let its site serve"
            " it, so that the smaller image is the fixed one, or let the owner of the fixed image serve a part of it."
        )
    if initial == "compare":
        return "No start that was compared overlaps more. Give an initial transform (--initial FILE)."
    if initial == "centres":
        return "Compare starts (--initial compare), or give an initial transform (--initial FILE)."
    return "Compare starts (--initial compare), start from the geometric centres (--initial centres), or give another."
