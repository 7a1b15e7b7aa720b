"""What a registration returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import SimpleITK as sitk

from PPIRLogic.errors import InputError, PPIRError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.doubts import doubts_of
from PPIRLogic.registration.level_record import CheckRecord, LevelRecord, StartsRecord
from PPIRLogic.registration.request import Request
from PPIRLogic.transforms import BSplineTransform, DiffeoTransform, LinearTransform


@dataclass
class RegistrationResult:
    """The outcome of a registration.

    transform: maps fixed to moving points (LPS, mm). linear: of a deformable one, the affine part; spline, diffeo: the
    other part. complete: False if the run ended early; then `stop_reason` and `error` say why. levels: one record each.
    covered: the share of the fixed grid that lies in the moving image; inside: of what the moving image shows, the
    share that lies in the fixed grid. starts: where it began, if starts were compared; check: the end against
    transforms around it. ledger: numbers and bits by kind, receiver and level. numbers: all that were
    opened, counted here; peer_numbers: as the peer counted them (None if it could not say). fixed_frame: the UID of the
    fixed image's DICOM frame of reference, if its owner discloses it. seconds; bytes on the wire.

    >>> result = register(read_volume("moving.nrrd"), "hospital-b.example:7443")  # doctest: +SKIP
    >>> result.complete, result.doubts, result.numbers == result.peer_numbers  # doctest: +SKIP
    (True, [], True)
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
    covered: float | None = None
    inside: float | None = None
    starts: StartsRecord | None = None
    check: CheckRecord | None = None
    fixed_frame: str = ""

    @property
    def doubts(self) -> list[str]:
        """What speaks against the transform of a run that ended, in words; empty if nothing does."""
        return doubts_of(self.levels, self.linear, self.covered, self.inside, self.check, self.starts)

    @property
    def doubt(self) -> str:
        """The same as one text."""
        return " ".join(self.doubts)

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
