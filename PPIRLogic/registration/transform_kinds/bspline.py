"""The kind bspline: cubic B-splines on control points that lie so many mm apart."""

from __future__ import annotations

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.pyramid import level_geometry
from PPIRLogic.registration.control_points import ControlPointMap, control_point_map_of
from PPIRLogic.registration.losses import Loss
from PPIRLogic.registration.options import OPTIONS
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.transform_kinds.base import LevelRun, TransformKind
from PPIRLogic.transforms import BSPLINE, BSplineTransform, LinearTransform
from PPIRLogic.transforms.bspline import cells_of, control_point_spacing


class BSplineKind(TransformKind):
    """Twice as many control points per axis at each finer level."""

    name = BSPLINE
    words = "deforms smoothly between control points"
    deformable = True
    has_inverse = False
    uses = frozenset({"grid_spacing", "iterations", "bending"})

    def default_iterations(self, levels: tuple[int, ...]) -> tuple[int, ...]:
        """Many where they disclose little, few on the finest levels."""
        return (*(6 for _ in levels[:-2]), 4, 1)[-len(levels) :]

    def problem(self, request: Request) -> str:
        least = OPTIONS["grid_spacing"].low
        if request.grid_spacing >= least:
            return ""
        return f"The grid of a B-spline must be at least {least:g} mm, not {request.grid_spacing:g}."

    def grid_problem(self, request: Request, fixed: Geometry) -> str:
        spacing = request.grid_spacing
        shortest = min(n * s for n, s in zip(fixed.size, fixed.spacing, strict=True))
        if spacing > shortest:
            return (
                f"A B-spline grid of {spacing:g} mm is coarser than the fixed image ({shortest:.4g} mm on its shortest"
                " axis). Give a smaller --grid-spacing."
            )
        cells = cells_of(fixed, spacing, len(request.levels) - 1)
        for index, factor in enumerate(request.levels):
            here = [h * 2 ** (len(request.levels) - 1 - index) for h in control_point_spacing(fixed, cells)]
            voxels = level_geometry(fixed, factor).spacing
            if any(h < 2 * s * (1 - 1e-9) for h, s in zip(here, voxels, strict=True)):
                return (
                    f"The B-spline grid at shrink factor {factor} ({min(here):.3g} mm) is finer than 2 voxels"
                    f" ({'×'.join(f'{s:.3g}' for s in voxels)} mm). Give a larger --grid-spacing."
                )
        return ""

    def control_points(
        self, request: Request, fixed: Geometry, grid: Geometry, margin_mm: float, index: int
    ) -> ControlPointMap:
        factor, levels = request.levels[index], len(request.levels)
        return control_point_map_of(fixed, grid, factor, margin_mm, request.grid_spacing, index, levels)

    def start(self, first: LinearTransform, request: Request, fixed: Geometry, coarsest: Geometry) -> BSplineTransform:
        halvings = len(request.levels) - 1
        cells = cells_of(fixed, request.grid_spacing, halvings)
        return BSplineTransform.zero(first, fixed, tuple(m >> halvings for m in cells))

    def level_run(self, loss: Loss) -> LevelRun:
        from PPIRLogic.registration.party1.level_runs.bspline import BSplineRun
        from PPIRLogic.registration.party1.level_runs.bspline_mi import BSplineMutualInformationRun

        return BSplineMutualInformationRun if loss.pooled else BSplineRun
