"""A segmentation that came back: labels on the scan's own grid, volumes by tissue, and what was disclosed for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.writing import write_volume
from PPIRLogic.proxy.preparation import Prepared

COLOURS = ((0, 0, 0), (128, 174, 128), (230, 220, 170), (196, 110, 80), (90, 130, 200), (180, 120, 190), (220, 90, 90))


@dataclass(frozen=True, eq=False)
class Segmentation:
    """labels: uint8 on the scan's grid, (z, y, x), 0: background. names: of the labels, from 0. grid: the scan's.
    facts: strength, ledger id, bits, rates, inverse error, the model, bytes and seconds, for the report.

    >>> grid = Geometry((2, 2), (10.0, 10.0), (0.0, 0.0), (1, 0, 0, 1))
    >>> Segmentation(np.array([[0, 1], [1, 1]], np.uint8), ("background", "grey matter"), grid, {}).volumes_ml()
    {'grey matter': 0.3}
    """

    labels: NDArray[np.uint8]
    names: tuple[str, ...]
    grid: Geometry
    facts: Mapping[str, Any]

    def volumes_ml(self) -> dict[str, float]:
        """Of each tissue, by its label."""
        ml = math.prod(self.grid.spacing) / 1000
        counts = np.bincount(self.labels.ravel(), minlength=len(self.names))
        return {name: round(float(counts[i]) * ml, 3) for i, name in enumerate(self.names) if i > 0}

    def to_sitk(self) -> sitk.Image:
        """A label image on the scan's grid."""
        image = sitk.GetImageFromArray(self.labels, isVector=False)
        self.grid.stamp(image)
        return image

    def write(self, path: str | Path) -> None:
        """A label image. OutputError: it cannot be written."""
        write_volume(self.to_sitk(), path)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"labels": dict(enumerate(self.names)), "volumes_ml": self.volumes_ml(), **self.facts}


def segmentation_of(
    probabilities: NDArray[np.uint8], names: tuple[str, ...], prepared: Prepared, facts: Mapping[str, Any]
) -> Segmentation:
    """The likeliest class of each voxel inside the mask, else the background. probabilities: on the scan's side."""
    labels = probabilities.argmax(axis=0).astype(np.uint8)
    labels[~prepared.mask] = 0
    return Segmentation(prepared.onto_scan(labels), names, prepared.grid, facts)


def colour_of(label: int) -> tuple[int, int, int]:
    """Red, green and blue by which a label is shown."""
    return COLOURS[label % len(COLOURS)] if label < len(COLOURS) else COLOURS[1 + label % (len(COLOURS) - 1)]
