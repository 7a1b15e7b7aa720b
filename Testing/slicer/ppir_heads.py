"""The synthetic head of the unit tests as nodes of the scene."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import ppir_support as support

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from heads_support import brain_of, head

SCAN, LABELS = head(1)


def head_and_brain() -> tuple[Any, Any]:
    """A volume, and the mask of its brain."""
    mask = support.sitk.GetImageFromArray(brain_of(LABELS).astype(np.uint8))
    SCAN.geometry.stamp(mask)
    volume = support.add_volume(SCAN.to_sitk(), "head")
    return volume, support.add_volume(mask, "brain", "vtkMRMLLabelMapVolumeNode")
