"""What a registration takes and gives: its parameters, its progress, its cancel token and its result."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import SimpleITK as sitk

from PPIRLogic.errors import Cancelled, InputError, PPIRError
from PPIRLogic.images import Geometry, Volume
from PPIRLogic.levels import MOST_STRIDE, default_factors, factors_problem
from PPIRLogic.losses import LOSSES
from PPIRLogic.losses.lncc import default_radius_mm
from PPIRLogic.losses.mattes import BINS
from PPIRLogic.peer.messages import Request
from PPIRLogic.protocols import NAMES
from PPIRLogic.sampling import SMALLEST_POOL, Sampling
from PPIRLogic.transforms import (
    BSPLINE,
    DEFORMABLE,
    DIFFEO,
    TRANSFORMS,
    DiffeoTransform,
    LinearTransform,
    SplineTransform,
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
            (f"a pool must have at least {SMALLEST_POOL} samples", self.pool is None or self.pool >= SMALLEST_POOL),
            ("gms sampling does not go with mi, which has a random pool", (self.loss, self.sampling) != ("mi", "gms")),
            ("the grid spacing must be a number of mm above 0", 0 < self.grid_spacing < 1e4),
            ("iterations must be whole numbers from 1 to 1000", all(1 <= v <= 1000 for v in self.iterations or ())),
            (f"the stride must be a whole number from 2 to {MOST_STRIDE}", 2 <= self.stride <= MOST_STRIDE),
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


class CancelToken:
    """Set `cancel()` from any thread: the run stops at the next block of work and both sides are told."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait up to so many seconds; True once cancelled."""
        return self._event.wait(seconds)

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        if self._event.is_set():
            raise Cancelled("The registration was cancelled.")


@dataclass(frozen=True)
class Progress:
    """What a progress callback gets. Times in seconds, bytes on the wire, numbers opened so far."""

    stage: str  # connecting | waiting | opened | level | evaluation | reconnecting | finished
    level: int = 0
    levels: int = 0
    factor: int = 0
    evaluation: int = 0
    value: float = float("nan")
    seconds: float = 0.0
    bytes_sent: int = 0
    bytes_received: int = 0
    numbers: int = 0
    detail: str = ""


@dataclass
class LevelRecord:
    """One level in the report. `values`: the loss at the start and at every accepted step; `parameters` likewise."""

    factor: int
    shape: list[int]
    spacing: list[float]
    samples: int
    evaluations: int = 0
    iterations: int = 0
    reason: str = ""
    seconds: float = 0.0
    values: list[float] = field(default_factory=list)
    steps_mm: list[float] = field(default_factory=list)
    overlap: float = 0.0
    transforms: list[list[float]] = field(default_factory=list)
    kind: str = ""  # of the transform that the level moves
    smallest_jacobian: float | None = None  # of a deformable one, at the level's voxels


@dataclass
class RegistrationResult:
    """The outcome. `transform` maps fixed to moving points (LPS, mm). `complete` is False if the run ended early."""

    transform: sitk.Transform
    linear: LinearTransform  # of a deformable one, the affine part
    first: LinearTransform
    fixed_geometry: Geometry
    levels: list[LevelRecord]
    ledger: list[dict[str, Any]]
    parameters: dict[str, Any]
    request: Request
    normalisation: dict[str, Any]
    seconds: float
    bytes_sent: int
    bytes_received: int
    dealer_bytes_sent: int
    dealer_bytes_received: int
    numbers: int
    peer_numbers: int | None
    complete: bool
    stop_reason: str
    error: PPIRError | None = None
    reconnections: int = 0
    peer: dict[str, str] = field(default_factory=dict)
    spline: SplineTransform | None = None
    diffeo: DiffeoTransform | None = None

    def inverse(self) -> sitk.Transform:
        """Moving to fixed points. InputError for a B-spline, whose inverse is not known."""
        if self.diffeo is not None:
            return self.diffeo.inverse_to_sitk()
        if self.spline is not None:
            raise InputError("A B-spline has no inverse here: register with the transform diffeo for one.")
        return self.transform.GetInverse()

    def warp(self, moving: Volume) -> Volume:
        """The moving image resampled (linear, 0 outside) on the fixed grid; of that party 1 knows the geometry."""
        reference = self.fixed_geometry.to_sitk_reference()
        image = sitk.Resample(moving.to_sitk(), reference, self.transform, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
        return Volume.from_sitk(image, moving.name)
