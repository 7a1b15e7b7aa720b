"""What a loss is: the numbers it needs opened, and its value, gradient and Hessian from them.

A loss sees only exact sums: party 1's own (`Sums.gram`: all products of its columns S, I, Ω) and the opened ones
(`Sums.joint`: column × fixed operand). It never sees an image.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import OverlapError
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.request import Request
from PPIRLogic.secure.product import Term

DEFORMABLE_COLUMNS = 2  # of a B-spline: I, Ω, then the gradient's axes


@dataclass(frozen=True)
class Sums:
    """Everything a loss may use at one transform, in real units (intensity normalised, lengths in mm).

    gram (d+2, d+2): products of party 1's columns S_1…S_d, I, Ω over the overlap. joint: {(column, operand): sum}.
    """

    gram: NDArray[np.float64]
    joint: dict[tuple[int, str], float]

    @property
    def parameters(self) -> int:
        return len(self.gram) - 2

    @property
    def overlap(self) -> float:
        """Voxels in the overlap."""
        return float(self.gram[-1, -1])


@dataclass(frozen=True)
class Evaluation:
    """A loss at one transform, and the quadratic model that is minimised around it.

    gradient (d,) and hessian (d, d) are empty where a loss opens its gradient apart and has not yet done so.
    """

    value: float
    gradient: NDArray[np.float64]
    hessian: NDArray[np.float64]
    overlap: float


@dataclass(frozen=True)
class IntensityFit:
    """min Σ_Ω (J − gain·I∘T − offset)², divided by `scale`, is `value`.

    free: gain and offset are those that fit best, not 1 and 0.
    """

    value: float
    gain: float
    offset: float
    scale: float
    overlap: float
    free: bool


class Loss(ABC):
    """One loss. `operands` are the fixed operands it needs, in the order in which they are sent.

    words: what its value means, for the report. bending: the usual weight of the bending energy of a B-spline beside
    its value, mm². affine_loss: what finds the affine transform that comes before a deformation; empty: this one.
    """

    name: str
    operands: tuple[str, ...]
    words: str = ""
    bending: float = 3.0
    affine_loss: str = ""
    windowed: bool = False  # compares windows, whose radius is `Parameters.radius_mm`
    width: int = 1  # how many vectors each operand holds
    smoothing: float = 1.0  # times the usual smoothing of a level
    pooled: bool = False  # evaluated over a random pool of a level's voxels
    cubic: bool = False  # the moving image is interpolated by cubic B-splines, else linearly
    two_sided: bool = False  # both images move, each owner learns the force on its own
    masks_itself: bool = False  # its operands are zero outside of a private mask, and that is all it needs

    @abstractmethod
    def terms(self, parameters: int) -> Sequence[Term]:
        """The numbers to open at every evaluation of a transform with d parameters."""

    def gradient_terms(self, parameters: int) -> Sequence[Term]:
        """The numbers to open, besides, where the optimiser takes a step from."""
        return ()

    def control_point_terms(self, axes: int, control_points: int) -> Sequence[Term]:
        """The same for a deformable transform: one number per control point and axis."""
        return [
            Term(DEFORMABLE_COLUMNS + a, "J", "gradient", control_points, per_control_point=True) for a in range(axes)
        ]

    def configured(self, request: Request, finer: int = 0) -> Loss:
        """This loss with the settings of a request, at a level that so many finer ones follow."""
        return self

    @abstractmethod
    def evaluate(self, sums: Sums) -> Evaluation:
        """OverlapError if nothing is left of the overlap."""

    def fit(self, sums: Sums) -> IntensityFit:
        """The least-squares fit behind the value; only of losses that are one. OverlapError as `evaluate`."""
        raise NotImplementedError

    def prepared(self, volume: Volume, factor: int) -> Volume:
        """A normalised, smoothed image as this loss compares it, at a level; each owner does it to its own."""
        return volume


def check_overlap(sums: Sums) -> None:
    """OverlapError unless at least one voxel lies in the overlap (and in the mask)."""
    if sums.overlap < 0.5:
        raise OverlapError(
            "No voxel of the fixed image (inside its mask, if one is used) falls inside the moving image under this"
            " transform. Start from the geometric centres or give an initial transform."
        )


def image_terms(parameters: int) -> list[Term]:
    """Σ S_k·J for every parameter, and Σ I·J for the value."""
    gradient = [Term(k, "J", "gradient") for k in range(parameters)]
    return [*gradient, Term(parameters, "J", "value")]
