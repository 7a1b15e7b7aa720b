"""The resolution levels, as both parties derive them from public geometry and the request alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from PPIRLogic.errors import PolicyError
from PPIRLogic.images import Geometry
from PPIRLogic.losses import LOSSES, Loss
from PPIRLogic.losses.cc import FORCE_BITS, PUBLISHED, SUM_BITS
from PPIRLogic.peer.messages import Request
from PPIRLogic.points.pointset import coordinate_bits
from PPIRLogic.pyramid import axis_factors, border_margin_mm, default_sigma_mm, level_geometry, margin_voxels
from PPIRLogic.sampling import SMALLEST_POOL, Indices, Sampling, block_order, level_samples, random_pool
from PPIRLogic.secure.base import CHUNK, OperandInfo
from PPIRLogic.secure.bfv import PLAIN_MODULUS
from PPIRLogic.secure.knots import KnotMap, knot_map_by_stride, knot_map_of
from PPIRLogic.secure.prg import derive_key
from PPIRLogic.transforms import BSPLINE, DEFORMABLE, DIFFEO
from PPIRLogic.transforms.spline import cells_of, knot_spacing

FACTORS = (16, 8, 4, 2, 1)
FIXED_BOUND = 2048  # of J, 12 bits signed
_SMALLEST_AXIS = 16
MOST_STRIDE = 64
PUBLISHED_FHE = ("fhe_v1", "fhe_v2")
MOST_PUBLISHED = 2**20  # samples of a level under these: about 2 GB at party 2


@dataclass(frozen=True)
class Level:
    """One level: shrink factor, smoothing, its grid, and the raster indices of its samples in public order."""

    index: int
    factor: int
    sigma_mm: float
    margin_mm: float
    geometry: Geometry
    samples: Indices
    knots: KnotMap | None = None  # of deformable transforms
    values: int = 1  # numbers that a sample holds: of a point, its coordinates

    @property
    def numbers(self) -> int:
        """What party 2 holds at this level: the denominator of the budget, without a mask."""
        return len(self.samples) * self.values

    def describe(self) -> str:
        return f"level {self.index + 1} (shrink factor {self.factor}, {self.geometry.describe()})"


def default_factors(geometry: Geometry, loss: Loss) -> tuple[int, ...]:
    """8,4,2,1 in 2D and 4,2,1 in 3D, without levels that would leave an axis under 16 voxels or too small a pool."""
    coarsest = 8 if geometry.dimension == 2 else 4
    fit = [f for f in FACTORS if f <= coarsest and (f == 1 or _smallest_axis(geometry, f) >= _SMALLEST_AXIS)]
    return tuple(f for f in fit if f == 1 or not loss.pooled or _inner_voxels(geometry, f, loss) >= SMALLEST_POOL)


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
    if kind == DIFFEO and not 2 <= request.stride <= MOST_STRIDE:
        return f"The stride of a diffeo transform must be 2 to {MOST_STRIDE} voxels, not {request.stride}."
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
        here = [h * 2 ** (len(request.levels) - 1 - index) for h in knot_spacing(geometry, cells)]
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
    if request.protocol not in PUBLISHED_FHE or count <= MOST_PUBLISHED:
        return ""
    return (
        f"{request.protocol} encrypts every sample anew at each evaluation and is offered for {MOST_PUBLISHED} samples;"
        f" shrink factor {min(request.levels)} has {count}. Use fhe, or --sampling urs --percent"
        f" {max(1, int(100 * MOST_PUBLISHED / voxels))}, or no fine level."
    )


def _shortest_level(request: Request, geometry: Geometry) -> int:
    """Voxels of the shortest axis of any level."""
    return min(n for factor in request.levels for n in level_geometry(geometry, factor).size)


def make_level(geometry: Geometry, request: Request, index: int, seed: bytes) -> Level:
    """Level `index` of the request on the fixed geometry; `seed` draws the urs pool."""
    factor = request.levels[index]
    loss = LOSSES[request.loss].configured(request)
    sigma, margin = _sigma(geometry, factor, loss), _margin(geometry, factor, loss)
    grid = level_geometry(geometry, factor)
    order = block_order(grid.array_shape, margin_voxels(grid, margin))
    if loss.pooled:
        samples = random_pool(order, request.percent, request.pool, CHUNK // loss.width, seed, index)
    else:
        sampling = Sampling(request.sampling, request.percent, request.disclose_sampling)
        samples = level_samples(order, sampling, seed, index)
    knots = None
    if request.transform == BSPLINE:
        spacing, levels = request.grid_spacing, len(request.levels)
        knots = knot_map_of(geometry, grid, factor, margin, spacing, index, levels)
    elif request.transform == DIFFEO:
        knots = knot_map_by_stride(geometry, grid, factor, margin, request.stride)
        if loss.two_sided:
            knots = replace(knots, room=SUM_BITS - FORCE_BITS)
    if knots is not None and loss.pooled:
        knots = replace(knots, pool=samples)
    return Level(index, factor, sigma, margin, grid, samples, knots)


def make_levels(geometry: Geometry, request: Request, owner_seed: bytes = b"") -> list[Level]:
    """All levels of a request, coarse to fine.

    Random pools follow from the request's seed and the owner's: neither side alone chooses which voxels are in.
    """
    check_factors(request.levels)
    seed = derive_key(request.seed.to_bytes(8, "big", signed=True) + owner_seed, "pool")
    return [make_level(geometry, request, index, seed) for index in range(len(request.levels))]


def operand_infos(
    names: tuple[str, ...], samples: int, by_knot: bool = False, vectors: int = 1
) -> tuple[OperandInfo, ...]:
    """The fixed operands by name with their bounds at a level of so many samples; of B-splines, J or B goes by knot."""
    bounds = {"B": 1, "J": FIXED_BOUND, "J2": FIXED_BOUND**2 >> square_shift(samples), "M": 1}
    bounds |= {"MJ": bounds["J"], "MJ2": bounds["J2"]}
    bounds |= dict.fromkeys(("X", "Y", "Z", "R2"), 2 ** coordinate_bits(samples))
    return tuple(OperandInfo(name, bounds[name], by_knot and name in ("J", "B"), vectors) for name in names)


def square_shift(samples: int) -> int:
    """Low bits dropped from J² so that its sum over all samples stays within the exact range."""
    shift = 0
    while 2 * samples * (FIXED_BOUND**2 >> shift) >= PLAIN_MODULUS:
        shift += 1
    return shift
