"""Which settings of a request go together, and which fit an image."""

from __future__ import annotations

import math

from PPIRLogic.errors import PolicyError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.pyramid import level_geometry
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.losses.cross_correlation import PUBLISHED
from PPIRLogic.registration.request import Request
from PPIRLogic.transforms import BSPLINE, DEFORMABLE, DIFFEO
from PPIRLogic.transforms.bspline import cells_of, control_point_spacing

FACTORS = (16, 8, 4, 2, 1)
MAX_STRIDE = 64
PUBLISHED_FHE = ("fhe_v1", "fhe_v2")
MAX_PUBLISHED = 2**20  # samples of a level under these: about 2 GB at party 2


def factors_problem(factors: tuple[int, ...]) -> str:
    """What is wrong with these shrink factors; empty if they are powers of two up to 16, coarse to fine, each once.

    Other grids are not offered: each would be a new set of measurements of the same image with its own budget.
    """
    if factors and all(f in FACTORS for f in factors) and list(factors) == sorted(set(factors), reverse=True):
        return ""
    given = ",".join(map(str, factors))
    return f"Levels {given}: give shrink factors out of 16, 8, 4, 2, 1, coarse to fine, each once."


def check_factors(factors: tuple[int, ...]) -> None:
    """PolicyError for a request with other factors."""
    if problem := factors_problem(factors):
        raise PolicyError(problem)


def request_problem(request: Request) -> str:
    """What is wrong with the settings of a request that go together; empty if nothing is."""
    kind = request.transform
    if problem := _two_sided_problem(request):
        return problem
    if kind not in DEFORMABLE:
        return "Only bspline and diffeo have --iterations." if request.iterations else ""
    if request.protocol not in ("clear", "fhe", "mpc") and not LOSSES[request.loss].two_sided:
        return f"A {kind} transform is not offered under {request.protocol}: fhe or mpc."
    if request.sampling != "full" and not LOSSES[request.loss].pooled:
        return f"A {kind} transform uses every voxel of a level: sampling 'full', unless the loss is mi."
    if request.fixed_mask == "private":
        return f"A {kind} transform cannot use a private fixed mask: none, fill or disclosed."
    if len(request.iterations) != len(request.levels):
        return (
            f"A {kind} transform needs one count of iterations per level, {len(request.levels)}, not"
            f" {len(request.iterations)}."
        )
    if kind == DIFFEO and not 2 <= request.stride <= MAX_STRIDE:
        return f"The stride of a diffeo transform must be 2 to {MAX_STRIDE} voxels, not {request.stride}."
    return ""


def _two_sided_problem(request: Request) -> str:
    """What a loss that moves both images cannot do."""
    loss = request.loss
    if loss not in LOSSES or not LOSSES[loss].two_sided:
        return "The protocol published is that of the loss cc alone." if request.protocol == PUBLISHED else ""
    if request.transform != DIFFEO:
        return f"The loss {loss} moves both images: it goes with the transform diffeo, not {request.transform}."
    if request.protocol not in ("clear", "mpc", PUBLISHED):
        return f"The loss {loss} needs products of two moving images: protocol mpc, not {request.protocol}."
    if request.fixed_mask not in ("none", "fill"):
        return f"The loss {loss} cannot use a {request.fixed_mask} fixed mask: none or fill."
    return ""


def grid_problem(request: Request, geometry: Geometry) -> str:
    """Why a grid, a window or the samples of a published protocol do not fit the fixed image; empty if they do."""
    extent = [n * s for n, s in zip(geometry.size, geometry.spacing, strict=True)]
    window = 2 * request.radius_mm * max(request.levels)
    if window > min(extent):
        return (
            f"The window of lncc, {window:g} mm wide at shrink factor {max(request.levels)}, is larger than the fixed"
            f" image ({min(extent):.4g} mm on its shortest axis). Give a smaller --radius, or no coarse level."
        )
    if problem := _published_problem(request, geometry):
        return problem
    if request.transform == DIFFEO and (short := _shortest_level(request, geometry)) < 2 * request.stride:
        return (
            f"A stride of {request.stride} voxels leaves fewer than two cells on the shortest axis of a level"
            f" ({short} voxels). Give a smaller --stride, or no coarse level."
        )
    if request.transform != BSPLINE:
        return ""
    spacing = request.grid_spacing
    if spacing > min(extent):
        return (
            f"A B-spline grid of {spacing:g} mm is coarser than the fixed image ({min(extent):.4g} mm on its shortest"
            " axis). Give a smaller --grid-spacing."
        )
    cells = cells_of(geometry, spacing, len(request.levels) - 1)
    for index, factor in enumerate(request.levels):
        here = [h * 2 ** (len(request.levels) - 1 - index) for h in control_point_spacing(geometry, cells)]
        voxels = level_geometry(geometry, factor).spacing
        if any(h < 2 * s * (1 - 1e-9) for h, s in zip(here, voxels, strict=True)):
            return (
                f"The B-spline grid at shrink factor {factor} ({min(here):.3g} mm) is finer than 2 voxels"
                f" ({'×'.join(f'{s:.3g}' for s in voxels)} mm). Give a larger --grid-spacing."
            )
    return ""


def _published_problem(request: Request, geometry: Geometry) -> str:
    """fhe_v1 and fhe_v2 encrypt every sample anew at each evaluation, some 360 bytes for each operand."""
    voxels = math.prod(level_geometry(geometry, min(request.levels)).size)
    count = round(voxels * request.percent / 100)
    if request.protocol not in PUBLISHED_FHE or count <= MAX_PUBLISHED:
        return ""
    return (
        f"{request.protocol} encrypts every sample anew at each evaluation and is offered for {MAX_PUBLISHED} samples;"
        f" shrink factor {min(request.levels)} has {count}. Use fhe, or --sampling urs --percent"
        f" {max(1, int(100 * MAX_PUBLISHED / voxels))}, or no fine level."
    )


def _shortest_level(request: Request, geometry: Geometry) -> int:
    """Voxels of the shortest axis of any level."""
    return min(n for factor in request.levels for n in level_geometry(geometry, factor).size)
