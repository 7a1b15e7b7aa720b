"""Levels beside those of the search: one where starts are compared, and one where the end is checked.

They are coarse and open few numbers: values of the loss at some transforms, and a few slopes. What they are follows
from the fixed grid and the request alone, so that both sides derive the same. Which loss is compared there: NCC for
every loss over all voxels, mutual information of few bins for every loss over a random pool. A third one has no image
but its detail: whether there are more edges at a place than around it, which any two modalities share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.pyramid import border_margin_mm, default_sigma_mm, level_geometry, margin_voxels, smooth
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.losses import LOSSES, Loss
from PPIRLogic.registration.losses.correlation_ratio import CorrelationRatio
from PPIRLogic.registration.losses.mutual_information import MutualInformation
from PPIRLogic.registration.names import CHECK, DETAIL, FACTORS, STARTS
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.sampling import MIN_POOL
from PPIRLogic.registration.transform_kinds import TRANSFORMS, is_deformable
from PPIRLogic.transforms.linear import FORMS

BINS = 8
CHECKED = {2: 7, 3: 13}  # values: at the end, and shifted and turned to either side along each axis
_FINENESS = {False: 27, True: 54}  # lengths of a voxel in the longest axis: 8 mm, or 4 mm for a pool, of a head
_SHARE = 0.05  # of the samples: what these numbers may be, beside the level's own
_NUMBERS = {2: 130, 3: 240}  # what a useful comparison and a check need
_RICH_POOL = 8192  # samples that a joint histogram of few bins is steady with
_MIN_SIDE = 7  # voxels of an axis
_SMOOTHING = 0.5  # standard deviation, in such voxels


@dataclass(frozen=True)
class ExtraGrid:
    """Where values are compared: the shrink factor, the smoothing, and the width of the border that is left out."""

    factor: int
    sigma_mm: float
    margin_mm: float


def extra_loss(request: Request, purpose: str) -> Loss:
    """What is compared at an extra level."""
    if purpose == DETAIL:
        return LOSSES["ncc"]
    if purpose == STARTS and LOSSES[request.loss].pooled and request.fixed_mask != "private":
        return CorrelationRatio()
    return MutualInformation(BINS, 2 * _SMOOTHING) if LOSSES[request.loss].pooled else LOSSES["ncc"]


def start_kind(request: Request, dimension: int) -> str:
    """How a start may move while it is tried: turned where the transform can turn; in 2D it may grow where that can.

    A slice of a head is nearly the same turned by half: what tells the two apart is lost where sizes differ by a fifth.
    Where values are of joint histograms or of the correlation ratio, noise decides between the two: there it may not.
    """
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    form = FORMS[TRANSFORMS[request.transform].linear]
    if not np.allclose(form.nearest(turn), turn):
        return "translation"
    flat = dimension == 2 and not LOSSES[request.loss].pooled
    return "similarity" if flat and np.allclose(form.nearest(1.2 * turn), 1.2 * turn) else "rigid"


def extra_problem(request: Request) -> str:
    """Why a request can have no extra levels; empty if it can, or has none."""
    if not (request.starts or not request.skip_check) or not is_deformable(request.transform):
        return ""
    return "Starts are compared, and ends checked, of linear transforms: a deformation begins from one."


def purposes(request: Request) -> tuple[str, ...]:
    """The extra levels that a request asks for, in the order of their indices."""
    return ((STARTS,) if request.starts else ()) + (() if request.skip_check else (CHECK, DETAIL))


def extra_grid(geometry: Geometry, request: Request, purpose: str) -> ExtraGrid | None:
    """The grid of an extra level; None where no grid of the image has voxels enough."""
    pooled = LOSSES[request.loss].pooled and purpose != DETAIL
    voxel = max(n * s for n, s in zip(geometry.size, geometry.spacing, strict=True)) / _FINENESS[pooled]
    usable = [g for f in FACTORS if f >= min(request.levels) and (g := _grid(geometry, f, voxel))]
    coarse = [g for g in usable if g.factor * min(geometry.spacing) < 1.5 * voxel or g is usable[-1]]
    if pooled:
        coarse = [g for g in coarse if inner_voxels(geometry, g) >= MIN_POOL]
        rich = [g for g in coarse if inner_voxels(geometry, g) >= _RICH_POOL]
        return rich[0] if rich else coarse[-1] if coarse else None
    fits = [g for g in coarse if inner_voxels(geometry, g) * _SHARE >= _needed(geometry, request, g.factor)]
    chosen = fits[0] if fits else coarse[-1] if coarse else None
    return chosen if chosen is None or purpose != DETAIL else replace(chosen, sigma_mm=voxel)


def _grid(geometry: Geometry, factor: int, voxel: float) -> ExtraGrid | None:
    sigma = max(default_sigma_mm(geometry, factor), _SMOOTHING * voxel)
    grid = ExtraGrid(factor, sigma, border_margin_mm(geometry, factor, sigma))
    sizes = level_geometry(geometry, factor).size
    thin = any(n < _MIN_SIDE < m for n, m in zip(sizes, geometry.size, strict=True))
    return None if thin or inner_voxels(geometry, grid) < 1 else grid


def inner_voxels(geometry: Geometry, grid: ExtraGrid) -> int:
    """Voxels inside the border margin."""
    level = level_geometry(geometry, grid.factor)
    return math.prod(max(0, n - 2 * m) for n, m in zip(level.size, margin_voxels(level, grid.margin_mm), strict=True))


def _needed(geometry: Geometry, request: Request, factor: int) -> int:
    """Numbers of the extra levels, and of the search at the same shrink factor."""
    numbers = _NUMBERS[geometry.dimension]
    if factor not in request.levels:
        return numbers
    return numbers + request.evaluations * (TRANSFORMS[request.transform].parameters(geometry.dimension) + 3)


def detail(volume: Volume, voxel_mm: float) -> Volume:
    """Edges less their surroundings, of a normalised image, on its own grid: |∇I| minus its Gaussian mean.

    voxel_mm: of the extra level. The gradient is taken over a quarter of it, the mean over all of it. Coded so that 0
    becomes 0.5, and clipped to [−0.5, 1.5].
    """
    fine = smooth(volume, voxel_mm / 4)
    spacing = volume.geometry.spacing[::-1]
    slopes = [np.gradient(fine.array, h, axis=k) for k, h in enumerate(spacing) if fine.array.shape[k] > 1]
    edges = Volume(np.sqrt(sum(np.square(s) for s in slopes)).astype(np.float32), volume.geometry, volume.name)
    band = edges.array - smooth(edges, voxel_mm).array
    coded = np.clip(0.5 + band * np.float32(voxel_mm / 2), -0.5, 1.5)
    return Volume(coded.astype(np.float32), volume.geometry, volume.name)
