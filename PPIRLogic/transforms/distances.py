"""How far two transforms differ."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from PPIRLogic.images.geometry import Geometry


def rms_displacement(a: sitk.Transform, b: sitk.Transform, grid: Geometry, per_axis: int = 12) -> float:
    """Root mean square distance in mm between two transforms over a regular set of points of a grid."""
    axes = [np.linspace(0, n - 1, per_axis) for n in grid.size]
    index = np.stack([v.ravel() for v in np.meshgrid(*axes, indexing="ij")], axis=1)
    affine = grid.index_to_physical()
    points = index @ affine[:, :-1].T + affine[:, -1]
    gaps = [np.subtract(a.TransformPoint(p), b.TransformPoint(p)) for p in points.tolist()]
    return float(np.sqrt(np.mean(np.sum(np.square(gaps), axis=1))))
