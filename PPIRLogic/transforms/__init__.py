"""Transforms from fixed to moving points, LPS mm."""

from PPIRLogic.transforms.diffeo import DIFFEO, DiffeoTransform
from PPIRLogic.transforms.linear import (
    FIELD_FILES,
    KINDS,
    TRANSFORM_FILES,
    LinearTransform,
    parameter_count,
    read_transform,
    write_transform,
)
from PPIRLogic.transforms.spline import BSPLINE, SplineTransform

DEFORMABLE = (BSPLINE, DIFFEO)
TRANSFORMS = (*KINDS, *DEFORMABLE)

__all__ = [
    "BSPLINE",
    "DEFORMABLE",
    "DIFFEO",
    "FIELD_FILES",
    "KINDS",
    "TRANSFORMS",
    "TRANSFORM_FILES",
    "DiffeoTransform",
    "LinearTransform",
    "SplineTransform",
    "parameter_count",
    "read_transform",
    "write_transform",
]
