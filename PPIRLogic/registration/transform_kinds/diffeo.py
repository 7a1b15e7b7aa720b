"""The kind diffeo: a composition of flows of smooth velocities, with an inverse; with cc, of both images."""

from __future__ import annotations

from dataclasses import replace

from PPIRLogic.files import FIELD_FILES
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.pyramid import level_geometry
from PPIRLogic.registration.control_points import ControlPointMap, control_point_map_by_stride
from PPIRLogic.registration.losses import LOSSES, Loss
from PPIRLogic.registration.losses.cross_correlation import FORCE_BITS, SUM_BITS
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.transform_kinds.base import LevelRun, TransformKind
from PPIRLogic.transforms import DIFFEO, DiffeoTransform, LinearTransform

MAX_STRIDE = 64


class DiffeoKind(TransformKind):
    """Control points of the velocity every `stride` voxels of a level."""

    name = DIFFEO
    words = "deforms and can be inverted"
    deformable = True
    two_sided = True
    files = FIELD_FILES
    uses = frozenset({"stride", "elastic", "iterations", "bending"})
    bending_factor = 10.0  # a fluid: the energy of each step, not of the whole

    def default_iterations(self, levels: tuple[int, ...]) -> tuple[int, ...]:
        """Many where they disclose little, few on the finest levels."""
        return (*(10 for _ in levels[:-2]), 8, 2)[-len(levels) :]

    def problem(self, request: Request) -> str:
        if 2 <= request.stride <= MAX_STRIDE:
            return ""
        return f"The stride of a diffeo transform must be 2 to {MAX_STRIDE} voxels, not {request.stride}."

    def grid_problem(self, request: Request, fixed: Geometry) -> str:
        short = min(n for factor in request.levels for n in level_geometry(fixed, factor).size)
        if short >= 2 * request.stride:
            return ""
        return (
            f"A stride of {request.stride} voxels leaves fewer than two cells on the shortest axis of a level"
            f" ({short} voxels). Give a smaller --stride, or no coarse level."
        )

    def control_points(
        self, request: Request, fixed: Geometry, grid: Geometry, margin_mm: float, index: int
    ) -> ControlPointMap:
        found = control_point_map_by_stride(fixed, grid, request.levels[index], margin_mm, request.stride)
        return replace(found, room=SUM_BITS - FORCE_BITS) if LOSSES[request.loss].two_sided else found

    def start(self, first: LinearTransform, request: Request, fixed: Geometry, coarsest: Geometry) -> DiffeoTransform:
        return DiffeoTransform.identity(first, coarsest)

    def level_run(self, loss: Loss) -> LevelRun:
        from PPIRLogic.registration.party1.level_runs.bspline_mi import DiffeoMutualInformationRun
        from PPIRLogic.registration.party1.level_runs.diffeo import DiffeoRun
        from PPIRLogic.registration.party1.level_runs.symmetric import SymmetricRun

        if loss.two_sided:
            return SymmetricRun
        return DiffeoMutualInformationRun if loss.pooled else DiffeoRun
