"""Transforms from fixed to moving points, LPS mm."""

from PPIRLogic.transforms.bspline import BSPLINE, BSplineTransform
from PPIRLogic.transforms.diffeomorphic import DIFFEO, DiffeoTransform
from PPIRLogic.transforms.files import read_transform, write_transform
from PPIRLogic.transforms.linear import KINDS, LinearTransform, parameter_count

DEFORMABLE = (BSPLINE, DIFFEO)
TRANSFORMS = (*KINDS, *DEFORMABLE)

__all__ = [
    "BSPLINE",
    "DEFORMABLE",
    "DIFFEO",
    "KINDS",
    "TRANSFORMS",
    "BSplineTransform",
    "DiffeoTransform",
    "LinearTransform",
    "parameter_count",
    "read_transform",
    "write_transform",
]
