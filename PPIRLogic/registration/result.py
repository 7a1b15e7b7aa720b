"""What a registration returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import SimpleITK as sitk

from PPIRLogic.errors import InputError, PPIRError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.request import Request
from PPIRLogic.transforms import BSplineTransform, DiffeoTransform, LinearTransform

FEWEST_TRIALS = 3  # steps that were tried in vain, from which on a run is in doubt


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
    """The outcome of a registration.

    transform: maps fixed to moving points (LPS, mm). linear: of a deformable one, the affine part; spline, diffeo: the
    other part. complete: False if the run ended early; then `stop_reason` and `error` say why. levels: one record each.
    ledger: numbers and bits by kind, receiver and level. numbers: all that were opened, counted here; peer_numbers: as
    the peer counted them (None if it could not say). seconds; bytes on the wire.
    """

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
    spline: BSplineTransform | None = None
    diffeo: DiffeoTransform | None = None

    @property
    def doubt(self) -> str:
        """Why the transform of a run that ended is not to be trusted; empty if nothing speaks against it."""
        tried = max((record.evaluations - 1 for record in self.levels), default=0)
        if any(record.iterations or record.reason == "loss" for record in self.levels) or tried < FEWEST_TRIALS:
            return ""
        return (
            f"No step was accepted: up to {tried} were tried at each level, and none lowered the loss. The transform is"
            " the one the run started from. Look at the images: they may be too thin, too different, or too far apart"
            " for this loss; try another --initial, --loss or --levels."
        )

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
