"""The resolution levels, as both parties derive them from public geometry and the request alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.pyramid import axis_factors, border_margin_mm, default_sigma_mm, level_geometry, margin_voxels
from PPIRLogic.registration.control_points import ControlPointMap
from PPIRLogic.registration.extra_levels import extra_grid, extra_loss, purposes
from PPIRLogic.registration.losses import LOSSES, Loss
from PPIRLogic.registration.names import CHECK, DETAIL, FACTORS, STARTS, check_factors
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.sampling import (
    MIN_POOL,
    Indices,
    Sampling,
    block_order,
    level_samples,
    pool_size,
    random_pool,
)
from PPIRLogic.registration.transform_kinds import TRANSFORMS
from PPIRLogic.secure.prg import derive_key

_MIN_AXIS = 16
_MAX_POOL = 131_072  # of an extra level
_STEADY_POOL = {
    2: MIN_POOL,
    3: 4 * MIN_POOL,
}  # of a usual level: what half an image leaves of fewer samples leads astray


@dataclass(frozen=True)
class Level:
    """One level: shrink factor, smoothing, its grid, and the raster indices of its samples in public order.

    purpose: empty for a level of the search; of an extra level, what it is for.
    """

    index: int
    factor: int
    sigma_mm: float
    margin_mm: float
    geometry: Geometry
    samples: Indices
    control_points: ControlPointMap | None = None  # of deformable transforms
    values: int = 1  # numbers that a sample holds: of a point, its coordinates
    purpose: str = ""

    @property
    def numbers(self) -> int:
        """What party 2 holds at this level: the denominator of the budget, without a mask."""
        return len(self.samples) * self.values

    def describe(self) -> str:
        name = {STARTS: "level of the starts", CHECK: "level of the check", DETAIL: "level of the detail"}.get(
            self.purpose, f"level {self.index + 1}"
        )
        return f"{name} (shrink factor {self.factor}, {self.geometry.describe()})"


def default_factors(geometry: Geometry, loss: Loss) -> tuple[int, ...]:
    """8,4,2,1 in 2D and 4,2,1 in 3D, without levels that would leave an axis under 16 voxels or too small a pool."""
    coarsest = 8 if geometry.dimension == 2 else 4
    fit = [f for f in FACTORS if f <= coarsest and (f == 1 or _smallest_axis(geometry, f) >= _MIN_AXIS)]
    return tuple(
        f
        for f in fit
        if f == 1 or not loss.pooled or _inner_voxels(geometry, f, loss) >= _STEADY_POOL[geometry.dimension]
    )


def _inner_voxels(geometry: Geometry, factor: int, loss: Loss) -> int:
    """Voxels of a level inside its border margin."""
    grid, margin = level_geometry(geometry, factor), _margin(geometry, factor, loss)
    inner = [max(0, n - 2 * m) for n, m in zip(grid.size, margin_voxels(grid, margin), strict=True)]
    return math.prod(inner)


def _sigma(geometry: Geometry, factor: int, loss: Loss) -> float:
    return loss.smoothing * default_sigma_mm(geometry, factor)


def _margin(geometry: Geometry, factor: int, loss: Loss) -> float:
    return border_margin_mm(geometry, factor, _sigma(geometry, factor, loss))


def _smallest_axis(geometry: Geometry, factor: int) -> int:
    factors = axis_factors(geometry, factor)
    shrunk = [n for n, f in zip(level_geometry(geometry, factor).size, factors, strict=True) if f > 1]
    return min(shrunk, default=0)


def make_level(geometry: Geometry, request: Request, index: int, seed: bytes, pool_seed: bytes) -> Level:
    """Level `index` of the request on the fixed geometry; `seed` draws urs samples, `pool_seed` a loss's pool."""
    factor = request.levels[index]
    loss = LOSSES[request.loss].configured(request)
    sigma, margin = _sigma(geometry, factor, loss), _margin(geometry, factor, loss)
    grid = level_geometry(geometry, factor)
    order = block_order(grid.array_shape, margin_voxels(grid, margin))
    if loss.pooled:
        size = pool_size(geometry.dimension, TRANSFORMS[request.transform].deformable)
        samples = random_pool(order, size, pool_seed, factor)
    else:
        sampling = Sampling(request.sampling, request.percent, request.disclose_sampling)
        samples = level_samples(order, sampling, seed, index)
    control_points = TRANSFORMS[request.transform].control_points(request, geometry, grid, margin, index)
    if control_points is not None and loss.pooled:
        control_points = replace(control_points, pool=samples)
    return Level(index, factor, sigma, margin, grid, samples, control_points)


def make_levels(geometry: Geometry, request: Request, owner_seed: bytes = b"") -> list[Level]:
    """All levels of a request in the order in which they are opened: starts, coarse to fine, check, detail.

    Samples of urs follow from the request's seed and the owner's. A pool of joint histograms follows from the owner's
    alone: whoever chooses among pools chooses which voxels they differ by.
    """
    check_factors(request.levels)
    seed = derive_key(request.seed.to_bytes(8, "big", signed=True) + owner_seed, "pool")
    pool_seed = derive_key(owner_seed, "pool of histograms")
    levels = [make_level(geometry, request, index, seed, pool_seed) for index in range(len(request.levels))]
    wanted = purposes(request)
    extra = {what: _extra_level(geometry, request, what, pool_seed) for what in wanted}
    return [*filter(None, (extra.get(STARTS), *levels, extra.get(CHECK), extra.get(DETAIL)))]


def _extra_level(geometry: Geometry, request: Request, purpose: str, pool_seed: bytes) -> Level | None:
    """An extra level; its index follows those of the search. None where the image is too small for one."""
    extra = extra_grid(geometry, request, purpose)
    if extra is None:
        return None
    index = len(request.levels) + (STARTS, CHECK, DETAIL).index(purpose)
    grid = level_geometry(geometry, extra.factor)
    samples = block_order(grid.array_shape, margin_voxels(grid, extra.margin_mm))
    if extra_loss(request, purpose).pooled:
        samples = random_pool(samples, _MAX_POOL, pool_seed, extra.factor)
    return Level(index, extra.factor, extra.sigma_mm, extra.margin_mm, grid, samples, purpose=purpose)
