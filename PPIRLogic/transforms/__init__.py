"""Transforms from fixed to moving points, LPS mm."""

from PPIRLogic.transforms.linear import (
    KINDS,
    TRANSFORM_FILES,
    LinearTransform,
    parameter_count,
    read_transform,
    write_transform,
)
from PPIRLogic.transforms.spline import BSPLINE, SplineTransform

TRANSFORMS = (*KINDS, BSPLINE)

__all__ = [
    "BSPLINE",
    "KINDS",
    "TRANSFORMS",
    "TRANSFORM_FILES",
    "LinearTransform",
    "SplineTransform",
    "parameter_count",
    "read_transform",
    "write_transform",
]
