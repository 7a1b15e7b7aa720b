"""Local cross-correlation of two moving halves (Avants et al. 2008), as whole numbers that each owner makes of its own.

In a window of 5 voxels per axis, with Ī, J̄ the images less the mean of their own window: D = Σ Ī·J̄, E = Σ Ī²,
F = Σ J̄², CC = D²/(E·F). With ρ = D/√(E·F), î = Ī/√E, ĵ = J̄/√F (all at most 1 in magnitude) CC = ρ² and

    force on party 1's half   2·(D/EF)·(J̄ − (D/E)Ī)·∇I  =  2·(ρ·ĵ − ρ²·î)·∇I/√E
    force on party 2's half   2·(D/EF)·(Ī − (D/F)J̄)·∇J  =  2·(ρ·î − ρ²·ĵ)·∇J/√F

E and F have a floor, so that flat regions, which hold noise alone, count for nothing. Everything but ρ, ρ·ĵ, ρ·î and
ρ² is one owner's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import Ring
from PPIRLogic.registration.losses.base import Evaluation, Loss, Sums
from PPIRLogic.secure.product import Term

RADIUS = 2  # voxels: a window of 5 per axis
FLOOR = 0.02  # under the local standard deviation, of the image's normalised range
IMAGE_BITS = 15  # of Ī, per unit of the normalised range
ROOT_BITS = 15  # of 1/√E
UNIT_BITS = 18  # of ρ, î, ĵ
TERM_BITS = 20  # of ρ·ĵ, ρ·î, ρ², so that the slopes have as many: what is rounded coarsely, steps amplify
TERM_SHIFT = 2 * UNIT_BITS - TERM_BITS
SHIFT = 2 * IMAGE_BITS + 2 * ROOT_BITS - UNIT_BITS  # from D·(1/√E)·(1/√F), below 2^60, to ρ
FORCE_BITS = 40  # of one voxel's part of a force, on average: what the owner's unit of a is chosen for
SUM_BITS = 62  # of its sum over all voxels, with the weights of the control points

SIMILARITY, FORCE, HALF, VOXELS = "similarity", "coarse force", "half field", "voxel force"


class CrossCorrelation(Loss):
    """1 − mean of CC over the voxels of the level, a voxel outside of an image counting as 0.

    Not a loss of products with a fixed operand: both images move, and `level_runs.symmetric` runs its levels.
    """

    name = "cc"
    words = (
        "1 − the mean over the voxels of the squared correlation of the two images in a window around each, both moved"
        " to the middle"
    )
    bending = 30.0
    affine_loss = "ncc"
    operands = ()
    two_sided = True
    cubic = True  # the gradient of linear interpolation jumps from voxel to voxel: steps would amplify every rounding

    def terms(self, parameters: int) -> Sequence[Term]:
        """The mean."""
        return [Term(0, "", SIMILARITY)]

    def evaluate(self, sums: Sums) -> Evaluation:
        raise NotImplementedError("cc moves both images; see level_runs.symmetric")


@dataclass(frozen=True, eq=False)
class HalfColumns:
    """One owner's part at one position of its half, over a box of voxels, int64 (…, y, x).

    image: Ī. root: 1/√E, rounded down. unit: î. slopes: a = ∇I/√E, (dim, …). products: î·a.
    """

    image: Ring
    root: Ring
    unit: Ring
    slopes: Ring
    products: Ring


def window_sums(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums over 5 voxels per axis, 0 beyond the border; modulo 2^64."""
    out = values
    for axis in range(values.ndim):
        total = np.cumsum(out, axis=axis)
        size = values.shape[axis]
        high = np.minimum(np.arange(size) + RADIUS, size - 1)
        low = np.arange(size) - RADIUS - 1
        lower = np.take(total, np.maximum(low, 0), axis=axis)
        shape = [1] * values.ndim
        shape[axis] = size
        out = np.take(total, high, axis=axis) - np.where((low >= 0).reshape(shape), lower, 0)
    return out


def normalised(
    image: NDArray[np.int32], inside: NDArray[np.int32], intensity: float
) -> tuple[Ring, NDArray[np.float64]]:
    """Ī and 1/√E (real, per unit of the normalised range) of a warped image in a box.

    intensity: integers per unit of `image`. inside: 1 where the image is known; elsewhere Ī = 0.
    """
    inside64 = inside.astype(np.int64)
    count = np.maximum(window_sums(inside64), 1)
    mean = window_sums(image.astype(np.int64) * inside64) / count
    centred = np.where(inside64 > 0, image - mean, 0.0) * (2.0**IMAGE_BITS / intensity)
    x = np.rint(centred).astype(np.int64)
    return x, 2.0**IMAGE_BITS / np.sqrt(window_sums(x * x) + _floor(x.ndim))


def half_columns(x: Ring, root: NDArray[np.float64], gradient: NDArray[np.int32], slope: float) -> HalfColumns:
    """From `normalised` and the gradient of the warped image; slope: what a is of gradient·(1/√E)."""
    a = np.rint(gradient * (root * slope)).astype(np.int64)
    n = np.rint(x * (root * 2.0 ** (UNIT_BITS - IMAGE_BITS))).astype(np.int64)
    half = 1 << (UNIT_BITS - 1)
    return HalfColumns(x, np.floor(root * 2.0**ROOT_BITS).astype(np.int64), n, a, (a * n + half) >> UNIT_BITS)


def _floor(dimension: int) -> int:
    return math.ceil(window_size(dimension) * (FLOOR * 2**IMAGE_BITS) ** 2)


def window_size(dimension: int) -> int:
    return int((2 * RADIUS + 1) ** dimension)


def _shifted(values: Ring, bits: int) -> Ring:
    return (values + (1 << (bits - 1))) >> bits


def correlation(first: HalfColumns, second: HalfColumns) -> Ring:
    """ρ in units of 2^-UNIT_BITS, rounded: what the shares hold, to one unit."""
    return _shifted(window_sums(first.image * second.image) * first.root * second.root, SHIFT)


def forces(own: HalfColumns, other: HalfColumns, rho: Ring) -> Ring:
    """Per voxel and axis, on the half of `own`, without the factor 2; 2^TERM_BITS of a's units to one."""
    term, square = _shifted(rho * other.unit, TERM_SHIFT), _shifted(rho * rho, TERM_SHIFT)
    return np.stack([term * a - square * b for a, b in zip(own.slopes, own.products, strict=True)])
