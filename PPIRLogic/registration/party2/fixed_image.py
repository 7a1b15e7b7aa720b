"""Party 2's image as the fixed operands of a level: normalised by its owner, smoothed, sampled, quantised."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.disclosure.subjects import sketch
from PPIRLogic.errors import PolicyError
from PPIRLogic.images.door import as_mask, check_volume
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.intensities import INTENSITY_CENTRE, fill_outside, normalise, robust_range
from PPIRLogic.images.interpolation import MovingImage
from PPIRLogic.images.pyramid import axis_factors, build_level, margin_voxels, shrink, smooth
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.extra_levels import detail
from PPIRLogic.registration.levels import Level, make_levels
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.losses.mutual_information import fixed_bins, one_hot
from PPIRLogic.registration.names import DETAIL
from PPIRLogic.registration.operands import FIXED_BOUND, FIXED_SCALE, square_shift
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.rules import grid_problem
from PPIRLogic.registration.symmetric.half_field import HalfField
from PPIRLogic.registration.symmetric.half_image import HalfImage
from PPIRLogic.registration.terms import loss_at
from PPIRLogic.secure.product import Columns
from PPIRLogic.transforms.linear import LinearTransform


@dataclass
class FixedImage:
    """A shared image and its optional mask (same array shape, inside where it is not 0). Raw intensities stay here.

    name: what peers see. volume: grey, 2D or 3D. InputError: what a file would be refused
    for, a mask of another shape or type.

    >>> grid = Geometry((4, 3), (1.0, 1.0), (0.0, 0.0), (1, 0, 0, 1))
    >>> shared = FixedImage("atlas", Volume(np.arange(12.0).reshape(3, 4), grid))
    >>> shared.geometry.describe()
    '4×3 voxels, 1×1 mm'
    """

    name: str
    volume: Volume
    mask: NDArray[np.bool_] | None = None
    _prepared: dict[str, Volume] = field(default_factory=dict, repr=False)

    kind: ClassVar[str] = "images"

    def __post_init__(self) -> None:
        check_volume(self.volume, f"The fixed image '{self.name}'")
        self.volume = replace(self.volume, name=self.name)  # what is said of it to peers never has the file's name
        if self.mask is not None:
            self.mask = as_mask(self.mask, self.volume, f"The mask of '{self.name}'")

    @property
    def losses(self) -> tuple[str, ...]:
        """That an image can be compared by."""
        return tuple(LOSSES)

    @property
    def geometry(self) -> Geometry:
        """The grid, which peers are told."""
        return self.volume.geometry

    def levels(self, request: Request, seed: bytes) -> list[Level]:
        """All levels; `seed` draws random pools. PolicyError for a request of points, or a grid that does not fit."""
        if request.loss not in self.losses:
            raise PolicyError(f"'{request.image}' is an image: register an image to it (ppir register).")
        if problem := grid_problem(request, self.geometry):
            raise PolicyError(problem)
        return make_levels(self.geometry, request, seed)

    def identifier(self, key: bytes) -> str:
        """A short keyed digest by which budgets recognise the image under any name; useless without the key."""
        digest = hmac.new(key, digestmod=hashlib.sha256)
        for part in self.volume.array:  # a slice at a time: no second copy of the image
            digest.update(np.ascontiguousarray(part).data)
        digest.update(repr(self.volume.geometry).encode())
        return digest.hexdigest()[:16]

    def sketch(self, key: bytes) -> str:
        """By which nearly the same voxels are recognised."""
        return sketch(self.volume.array, key)

    @property
    def subject(self) -> str:
        """What the file says of whose image it is, as a digest; '' if it says nothing."""
        return self.volume.subject

    @property
    def frame(self) -> str:
        """The UID of its DICOM frame of reference; '' if its file has none. Peers get it from owners who say so."""
        return self.volume.frame

    def _normalised(self, mask_mode: str) -> Volume:
        """The whole image, normalised by robust percentiles.

        Where a mask is used, these are of the inside, and the outside holds the mean of the inside before anything is
        smoothed: no voxel outside has a part in any number.
        """
        use = "none" if mask_mode == "none" or self.mask is None else "inside"
        if use not in self._prepared:
            mask = self.mask if use == "inside" else None
            scaled = normalise(self.volume, robust_range(self.volume, mask))
            self._prepared = {use: scaled if mask is None else fill_outside(scaled, mask)}
        return self._prepared[use]

    def mask_at(self, level: Level) -> NDArray[np.bool_]:
        """The mask at the samples of a level, (N,); all true without a mask."""
        if self.mask is None:
            return np.ones(len(level.samples), bool)
        as_volume = Volume(self.mask.astype(np.float32), self.volume.geometry, self.name)
        factors = axis_factors(self.volume.geometry, level.factor)
        return shrink(as_volume, factors).array.reshape(-1)[level.samples] > 0.5

    def measurable_voxels(self, level: Level, mask_mode: str) -> int:
        """Voxels of the level about which a run can learn anything: the denominator of the budget."""
        if mask_mode == "none" or self.mask is None:
            return len(level.samples)
        return int(np.count_nonzero(self.mask_at(level)))

    def half(self, level: Level, request: Request, former: HalfField | None, threads: int) -> HalfImage:
        """This image as a half that moves, at a level; `former`: its half after the levels before."""
        image = smooth(self._normalised(request.fixed_mask), level.sigma_mm)
        still = LinearTransform.identity("affine", self.geometry.centre())
        moving = MovingImage(image, margin_voxels(self.geometry, level.margin_mm), cubic=LOSSES[request.loss].cubic)
        start = former or HalfField.identity(level.geometry)
        bending, elastic = request.bending, request.elastic_mm
        return HalfImage(level, self.geometry, moving, still, start, bending, elastic, threads)

    def operands(self, level: Level, names: Iterable[str], request: Request) -> dict[str, Columns]:
        """The named integer operands at the level's samples, (N,) int32.

        J: 12-bit signed intensity, 2048 per unit around 0.5. J2: its square, low bits dropped by `square_shift`.
        M: the mask. MJ, MJ2: products with it.
        """
        loss = loss_at(request, level)
        volume = self._normalised(request.fixed_mask)
        if level.purpose == DETAIL:
            volume = shrink(detail(volume, level.sigma_mm), axis_factors(self.volume.geometry, level.factor))
        else:
            volume = loss.prepared(build_level(volume, level.factor, level.sigma_mm), level.factor)
        values = (volume.array.reshape(-1)[level.samples].astype(np.float64) - INTENSITY_CENTRE) * FIXED_SCALE
        j = np.clip(np.rint(values), -FIXED_BOUND, FIXED_BOUND).astype(np.int32)
        out: dict[str, Columns] = {}
        if "B" in names:
            inside = self.mask_at(level) if request.fixed_mask == "private" else np.ones(len(level.samples), bool)
            chosen = fixed_bins(volume.array.reshape(-1)[level.samples], loss.width)
            return {"B": one_hot(chosen, inside, loss.width)}
        for name in names:
            square = name.endswith("2")
            operand = _square(j, square_shift(len(j))) if square else j
            if name.startswith("M"):
                inside = self.mask_at(level).astype(np.int32)
                operand = inside if name == "M" else operand * inside
            out[name] = operand
        return out


def _square(j: Columns, shift: int) -> Columns:
    """J² without its low bits, rounded."""
    half = (1 << shift) >> 1
    return np.minimum((j * j + half) >> shift, FIXED_BOUND**2 >> shift).astype(np.int32)
