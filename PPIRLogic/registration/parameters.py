"""How to register: the settings of a run, checked, and the request made from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import SimpleITK as sitk

from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.registration.catalogue import shown_name, warn_of_former, wire_name
from PPIRLogic.registration.levels import default_factors
from PPIRLogic.registration.losses import LOSSES, Loss
from PPIRLogic.registration.losses.lncc import default_radius_mm
from PPIRLogic.registration.names import factors_problem
from PPIRLogic.registration.options import OPTIONS, default
from PPIRLogic.registration.protocols import PROTOCOLS
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.transform_kinds import TRANSFORMS, TransformKind

_BINS = {2: 16, 3: 32}  # a slice has few voxels
_POOLED_STEP_TOLERANCE = 0.005
_COARSE_LOSS_TOLERANCE = 1e-3
_POOLED_LOSS_TOLERANCE = 3e-5  # below, a step of mi gains less than another pool of samples would change
_STARTS, _RATIO_STARTS, _POOLED_STARTS = 120, 200, 36
_STEP_TOLERANCE = {2: 0.0005, 3: 0.002}


@dataclass(frozen=True)
class Parameters:
    """How to register. Lengths in mm; defaults, ranges and meaning of every field: `options.OPTIONS`, and the page
    'Options' of the documentation.

    A deformable transform comes after an affine one, which is found first unless an initial transform is given.
    initial: 'compare', 'identity', 'centres', or an sitk.Transform from fixed to moving points. None in an optional
    field lets the program choose.
    Errors: InputError naming the field, the value and the range.

    >>> Parameters(transform="rigid", levels=(4, 2)).evaluations
    40
    >>> Parameters(evaluations=0)
    Traceback (most recent call last):
    PPIRLogic.errors.InputError: Unusable number of evaluations 0: it must be a whole number from 1 to 10000.
    """

    transform: str = default("transform")
    loss: str = default("loss")
    protocol: str = default("protocol")
    sampling: str = default("sampling")
    percent: float = default("percent")
    disclose_sampling: bool = default("disclose_sampling")
    levels: tuple[int, ...] | None = default("levels")
    evaluations: int = default("evaluations")
    step_tolerance: float | None = default("step_tolerance")
    loss_tolerance: float = default("loss_tolerance")
    initial: str | sitk.Transform = default("initial")  # noqa: RUF009 - a constant of the table
    starts: int | None = default("starts")
    skip_check: bool = default("skip_check")
    mask: str = default("mask")
    fixed_mask: str | None = default("fixed_mask")
    bins: int | None = default("bins")
    seed: int = default("seed")
    threads: int = default("threads")
    grid_spacing: float = default("grid_spacing")
    iterations: tuple[int, ...] | None = default("iterations")
    bending: float | None = default("bending")
    stride: int = default("stride")
    elastic: float = default("elastic")
    radius_mm: float | None = default("radius_mm")

    def __post_init__(self) -> None:
        for name, option in OPTIONS.items():
            value = getattr(self, name)
            if name == "protocol" and isinstance(value, str):
                warn_of_former(value)
                value = shown_name(wire_name(value))
            if name == "levels" and isinstance(value, tuple) and (problem := factors_problem(value)):
                raise InputError(problem)
            value = option.checked(value)
            object.__setattr__(self, name, wire_name(value) if name == "protocol" else value)
        if LOSSES[self.loss].pooled and self.sampling == "gms":
            raise InputError(f"Unusable parameter: gms sampling does not go with {self.loss}, which has a random pool.")

    def request(
        self, image: str, geometry: Geometry, dealer_fingerprint: str, software: str, usual_mask: str = "none"
    ) -> Request:
        """What these settings ask for of an image on this grid. usual_mask: the use of its mask, if none is named."""
        loss, kind = LOSSES[self.loss], TRANSFORMS[self.transform]
        levels = self.levels or default_factors(geometry, loss)
        return Request(
            image=image,
            protocol=self.protocol,
            transform=self.transform,
            loss=self.loss,
            levels=levels,
            sampling=self.sampling,
            percent=float(self.percent),
            disclose_sampling=self.disclose_sampling,
            fixed_mask=self.fixed_mask or usual_mask,
            evaluations=self.evaluations,
            bins=self.bins or _BINS[geometry.dimension],
            iterations=(self.iterations or kind.default_iterations(levels)) if kind.deformable else (),
            grid_spacing=float(self.grid_spacing) if "grid_spacing" in kind.uses else 0.0,
            stride=self.stride if "stride" in kind.uses else 0,
            radius_mm=float(self.radius_mm or default_radius_mm(geometry.spacing)) if loss.windowed else 0.0,
            bending=self.bending_weight() if loss.two_sided else 0.0,
            elastic_mm=float(self.elastic) if loss.two_sided else 0.0,
            seed=self.seed,
            starts=self._starts(loss, self.fixed_mask or usual_mask)
            if self.initial == "compare" and self._checked(kind)
            else 0,
            skip_check=self.skip_check or not self._checked(kind),
            dealer=dealer_fingerprint,
            software=software,
        )

    def _starts(self, loss: Loss, fixed_mask: str) -> int:
        """Values at most where starts are compared; one of mi inside a private mask is a joint histogram."""
        pooled = _POOLED_STARTS if fixed_mask == "private" else _RATIO_STARTS
        return self.starts or (pooled if loss.pooled else _STARTS)

    def _checked(self, kind: TransformKind) -> bool:
        """Whether starts are compared and the end is checked: of linear transforms, under protocols that are exact."""
        return not kind.deformable and PROTOCOLS[self.protocol].exact if self.protocol in PROTOCOLS else False

    def bending_weight(self) -> float:
        """Of the bending energy per mm², beside the loss's value."""
        usual = TRANSFORMS[self.transform].bending_factor * LOSSES[self.loss].bending
        return usual if self.bending is None else self.bending

    def least_decrease(self, finest: bool = True) -> float:
        """The relative decrease of the loss below which a level ends; where none was chosen, coarse levels end sooner:
        what they leave, the next level finds.
        """
        if self.loss_tolerance != default("loss_tolerance"):
            return self.loss_tolerance
        usual = _POOLED_LOSS_TOLERANCE if LOSSES[self.loss].pooled else self.loss_tolerance
        return usual if finest else _COARSE_LOSS_TOLERANCE

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
