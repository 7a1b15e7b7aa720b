"""Transforms from fixed to moving points, LPS mm."""

from PPIRLogic.transforms.linear import (
    KINDS,
    TRANSFORM_FILES,
    LinearTransform,
    parameter_count,
    read_transform,
    write_transform,
)

__all__ = ["KINDS", "TRANSFORM_FILES", "LinearTransform", "parameter_count", "read_transform", "write_transform"]
