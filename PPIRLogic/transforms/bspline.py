"""Cubic B-spline transforms after an affine one: y = A(x + u(x)), u(x) = Σ_k c_k B_k(x), fixed → moving, LPS mm.

The control points cover the fixed image from border to border with a whole number of cells per axis (ITK's
convention), so that the transform is ITK's BSplineTransform followed by an AffineTransform.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import SimpleITK as sitk

from PPIRLogic.arrays import Array
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.transforms.bending_energy import jacobian
from PPIRLogic.transforms.bspline_basis import ControlPointAxis, spread
from PPIRLogic.transforms.linear import LinearTransform

BSPLINE = "bspline"


def cells_of(geometry: Geometry, spacing_mm: float, halvings: int) -> tuple[int, ...]:
    """Cells per axis, ITK order, whose spacing is next to `spacing_mm` and that can be doubled from a coarse grid.

    The result is a multiple of 2^halvings on every axis, at least that.
    """
    coarse = spacing_mm * 2**halvings
    return tuple(
        2**halvings * max(1, int(n * s / coarse + 0.5)) for n, s in zip(geometry.size, geometry.spacing, strict=True)
    )


def control_point_spacing(geometry: Geometry, cells: tuple[int, ...]) -> tuple[float, ...]:
    """Distance of control points per axis, mm, ITK order."""
    return tuple(n * s / m for n, s, m in zip(geometry.size, geometry.spacing, cells, strict=True))


@dataclass(frozen=True, eq=False)
class BSplineTransform:
    """affine: A. geometry: the fixed grid that is covered. coefficients: c_k in LPS mm, (dim, …, y, x)."""

    affine: LinearTransform
    geometry: Geometry
    coefficients: Array

    @classmethod
    def zero(cls, affine: LinearTransform, geometry: Geometry, cells: tuple[int, ...]) -> BSplineTransform:
        """A alone, on a grid of so many cells."""
        return cls(affine, geometry, np.zeros((len(cells), *(m + 3 for m in reversed(cells)))))

    @property
    def cells(self) -> tuple[int, ...]:
        """Per axis, ITK order."""
        return tuple(k - 3 for k in reversed(self.coefficients.shape[1:]))

    def refined(self) -> BSplineTransform:
        """The same transform on twice as many cells per axis (knot insertion, exact)."""
        c = self.coefficients
        for axis in range(1, c.ndim):
            c = np.moveaxis(_halved(np.moveaxis(c, axis, 0)), 0, axis)
        return replace(self, coefficients=np.ascontiguousarray(c))

    def to_sitk(self) -> sitk.CompositeTransform:
        """[affine, BSplineTransform]: ITK applies the last one first."""
        return sitk.CompositeTransform([self.affine.to_sitk(), self.bspline()])

    def axes(self) -> tuple[ControlPointAxis, ...]:
        """Of the fixed image's own voxels."""
        g = self.geometry
        return level_axes(g, (1,) * g.dimension, g.size, self.cells)

    def statistics(self) -> dict[str, Any]:
        """For the report: the control grid, the lengths of u in mm and the Jacobian over the fixed voxels."""
        axes, spacing = self.axes(), control_point_spacing(self.geometry, self.cells)
        weights = [a.weights for a in axes]
        squares = sum(np.square(spread(c, axes, weights)) for c in self.coefficients)
        length = np.sqrt(squares)
        j = jacobian(self.coefficients, axes, spacing, self.geometry.direction)
        low, middle, high = np.percentile(j, (1, 50, 99)).tolist()
        return {
            "cells": list(self.cells),
            "spacing_mm": list(spacing),
            "mean_mm": float(length.mean()),
            "largest_mm": float(length.max()),
            "jacobian": {
                "smallest": float(j.min()), "percentile_1": low, "median": middle, "percentile_99": high,
                "largest": float(j.max()), "folded_percent": 100 * float(np.mean(j <= 0)),
            },
        }  # fmt: skip

    def bspline(self) -> sitk.BSplineTransform:
        """x → x + u(x); the identity outside of the fixed image."""
        g, dim = self.geometry, self.geometry.dimension
        out = sitk.BSplineTransform(dim, 3)
        corner = g.index_to_physical() @ np.append(np.full(dim, -0.5), 1.0)
        out.SetTransformDomainOrigin(corner.tolist())
        out.SetTransformDomainDirection(g.direction)
        out.SetTransformDomainPhysicalDimensions([n * s for n, s in zip(g.size, g.spacing, strict=True)])
        out.SetTransformDomainMeshSize(self.cells)
        out.SetParameters(self.coefficients.ravel().tolist())
        return out


def _halved(c: Array) -> Array:
    """Control points of the same spline on half the spacing, along the first axis: m + 3 → 2m + 3."""
    out = np.empty((2 * len(c) - 3, *c.shape[1:]))
    out[1::2] = (c[:-2] + 6 * c[1:-1] + c[2:]) / 8
    out[0::2] = (c[:-1] + c[1:]) / 2
    return out


def level_axes(
    geometry: Geometry, factors: tuple[int, ...], sizes: tuple[int, ...], cells: tuple[int, ...]
) -> tuple[ControlPointAxis, ...]:
    """The axes of a pyramid level (shrink `factors`, grid `sizes`) of the fixed grid, ITK order."""
    return tuple(
        ControlPointAxis(n, m, (f - 1) // 2, f, size)
        for n, m, f, size in zip(geometry.size, cells, factors, sizes, strict=True)
    )
