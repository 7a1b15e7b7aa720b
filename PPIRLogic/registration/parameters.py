"""What a registration takes and gives: its parameters, its progress, its cancel token and its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import SimpleITK as sitk

from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.registration.levels import default_factors
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.losses.lncc import default_radius_mm
from PPIRLogic.registration.losses.mutual_information import BINS
from PPIRLogic.registration.protocols import NAMES
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.rules import MAX_STRIDE, factors_problem
from PPIRLogic.registration.sampling import MIN_POOL, Sampling
from PPIRLogic.transforms import (
    BSPLINE,
    DEFORMABLE,
    DIFFEO,
    TRANSFORMS,
)

_BENDING = {"ssd": 0.2, "ncc": 3.0, "lncc": 30.0, "mi": 100.0, "cc": 30.0}  # mm²
_FLUID = {loss: 10 * weight for loss, weight in _BENDING.items()}
_POOLS = {2: (16, 65_536, 100.0), 3: (32, 32_768, 10.0)}  # bins, most samples, per cent: a slice has few voxels
_LARGE_POOL = 131_072  # of deformable transforms in 3D: every control point needs samples around it
_POOLED_STEP_TOLERANCE = 0.005
_STEP_TOLERANCE = {2: 0.0005, 3: 0.002}


@dataclass(frozen=True)
class Parameters:
    """How to register. Lengths in mm.

    transform: translation, rigid, similarity, affine, bspline or diffeo (after an affine, which comes first unless
    an initial transform is given). loss: ssd, ncc, lncc, mi. protocol: fhe, fhe_verified, mpc, clear, fhe_v1,
    fhe_v2.
    levels: shrink factors coarse to fine; None chooses by size. step_tolerance: a level ends when a step moves no
    corner of the fixed grid further than this times shrink factor times the smallest spacing (None: 0.0005 in 2D, 0.002
    in 3D, 0.005 for mi). loss_tolerance: … when an accepted step lowers the loss by a smaller fraction. initial:
    identity, centres, or an sitk.Transform fixed → moving. mask: 'fill' puts the in-mask mean outside of my mask,
    'rows' leaves those voxels out. fixed_mask: none, fill, private, disclosed: how the peer's mask is used, if its
    owner permits. bins, pool: of mi, the bins of the joint histogram and the most samples per level
    (None: 16 and 65 536 in 2D, 32 and 32 768 in 3D, 131 072 for deformable transforms there).

    Of bspline: grid_spacing: mm between control points at the finest level, twice that at each coarser one.
    iterations, of diffeo too: most per level, each opens one gradient (None: by transform). bending: weight of the
    bending energy in mm² (None: by loss), of diffeo that of each step. Of diffeo: stride: voxels of a level between
    control points of the velocity. elastic: standard deviation in mm of a Gaussian over the field after every step.
    Of lncc: radius_mm of the window, times the shrink factor of a level (None: five voxels of the fixed image).
    """

    transform: str = "affine"
    loss: str = "ncc"
    protocol: str = "fhe"
    sampling: str = "full"
    percent: float = 100.0
    disclose_sampling: bool = False
    levels: tuple[int, ...] | None = None
    evaluations: int = 40
    step_tolerance: float | None = None
    loss_tolerance: float = 1e-6
    initial: str | sitk.Transform = "centres"
    mask: str = "fill"
    fixed_mask: str = "none"
    bins: int | None = None
    pool: int | None = None
    seed: int = 1
    threads: int = 2
    grid_spacing: float = 10.0
    iterations: tuple[int, ...] | None = None
    bending: float | None = None
    stride: int = 5
    elastic: float = 0.0
    radius_mm: float | None = None

    def __post_init__(self) -> None:
        for what, value, known in (
            ("transform", self.transform, tuple(TRANSFORMS)),
            ("loss", self.loss, tuple(LOSSES)),
            ("protocol", self.protocol, NAMES),
            ("use of the moving mask", self.mask, ("fill", "rows")),
            ("use of the fixed mask", self.fixed_mask, ("none", "fill", "private", "disclosed")),
        ):
            if value not in known:
                raise InputError(f"Unknown {what} '{value}'. Choose one of {', '.join(known)}.")
        Sampling(self.sampling, self.percent)
        self._check_numbers()
        if self.levels is not None and (problem := factors_problem(self.levels)):
            raise InputError(problem)
        if isinstance(self.initial, str) and self.initial not in ("identity", "centres"):
            raise InputError(f"Unknown initial transform '{self.initial}': identity, centres, or a transform file.")

    def _check_numbers(self) -> None:
        step = 1.0 if self.step_tolerance is None else self.step_tolerance
        for what, good in (
            ("evaluations must be at least 1 and at most 10000", 1 <= self.evaluations <= 10_000),
            ("threads must be at least 1", self.threads >= 1),
            ("the step tolerance must be a number above 0", 0 < step < float("inf")),
            ("the loss tolerance must be a number of at least 0", 0 <= self.loss_tolerance < float("inf")),
            (f"the number of bins must be one of {', '.join(map(str, BINS))}", self.bins in (None, *BINS)),
            (f"a pool must have at least {MIN_POOL} samples", self.pool is None or self.pool >= MIN_POOL),
            ("gms sampling does not go with mi, which has a random pool", (self.loss, self.sampling) != ("mi", "gms")),
            ("the grid spacing must be a number of mm above 0", 0 < self.grid_spacing < 1e4),
            ("iterations must be whole numbers from 1 to 1000", all(1 <= v <= 1000 for v in self.iterations or ())),
            (f"the stride must be a whole number from 2 to {MAX_STRIDE}", 2 <= self.stride <= MAX_STRIDE),
            ("the elastic smoothing must be a number of mm of at least 0", 0 <= self.elastic < 1e4),
            ("the bending weight must be a number of at least 0", 0 <= (self.bending or 0) < float("inf")),
            ("the radius must be a number of mm above 0", 0 < (1 if self.radius_mm is None else self.radius_mm) < 1e4),
            ("the seed must lie between 0 and 2^62", 0 <= self.seed <= 2**62),
        ):
            if not good:
                raise InputError(f"Unusable parameter: {what}.")

    def request(self, image: str, geometry: Geometry, dealer_fingerprint: str, software: str) -> Request:
        bins, pool, percent = self._pool(geometry.dimension)
        levels = self.levels or default_factors(geometry, LOSSES[self.loss])
        steps = self.iterations or default_iterations(levels, self.transform)
        return Request(
            image=image,
            protocol=self.protocol,
            transform=self.transform,
            loss=self.loss,
            levels=levels,
            sampling=self.sampling,
            percent=percent if LOSSES[self.loss].pooled and self.sampling == "full" else float(self.percent),
            disclose_sampling=self.disclose_sampling,
            fixed_mask=self.fixed_mask,
            evaluations=self.evaluations,
            bins=bins,
            pool=pool,
            iterations=steps if self.transform in DEFORMABLE else (),
            grid_spacing=float(self.grid_spacing) if self.transform == BSPLINE else 0.0,
            stride=self.stride if self.transform == DIFFEO else 0,
            radius_mm=float(self.radius_mm or default_radius_mm(geometry.spacing)) if self.loss == "lncc" else 0.0,
            bending=self.bending_weight() if LOSSES[self.loss].two_sided else 0.0,
            elastic_mm=float(self.elastic) if LOSSES[self.loss].two_sided else 0.0,
            seed=self.seed,
            dealer=dealer_fingerprint,
            software=software,
        )

    def _pool(self, dimension: int) -> tuple[int, int, float]:
        """Bins of the joint histogram, and of the random pool the most samples and per cent of the voxels."""
        bins, pool, percent = _POOLS[dimension]
        if dimension == 3 and self.transform in DEFORMABLE:
            pool, percent = _LARGE_POOL, 100.0
        return self.bins or bins, self.pool or pool, percent

    def bending_weight(self) -> float:
        """Of the bending energy per mm², beside the loss's value."""
        return (_FLUID if self.transform == DIFFEO else _BENDING)[self.loss] if self.bending is None else self.bending

    def step_mm(self, fixed: Geometry, factor: int) -> float:
        """The step in mm below which a level with this shrink factor ends."""
        usual = _POOLED_STEP_TOLERANCE if LOSSES[self.loss].pooled else _STEP_TOLERANCE[fixed.dimension]
        per_voxel = self.step_tolerance or usual
        return per_voxel * factor * min(fixed.spacing)

    def to_dict(self) -> dict[str, Any]:
        """For the report; a given initial transform is named, not copied."""
        out = {k: v for k, v in self.__dict__.items() if k != "initial"}
        out["initial"] = self.initial if isinstance(self.initial, str) else self.initial.GetName()
        return out


def default_iterations(levels: tuple[int, ...], transform: str = BSPLINE) -> tuple[int, ...]:
    """Many where they disclose little, few on the finest levels."""
    if transform == DIFFEO:
        return (*(10 for _ in levels[:-2]), 8, 2)[-len(levels) :]
    return (*(6 for _ in levels[:-2]), 4, 1)[-len(levels) :]
