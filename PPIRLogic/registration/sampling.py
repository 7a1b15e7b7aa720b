"""Which voxels of a level take part, and in which order.

The order is public and block-wise (neighbours in space are neighbours in the vector), so that a chunk of an
encrypted operand is a compact region. Three ways:

- full: every voxel of the level inside the border margin;
- urs: a fixed random subset of that many per cent, drawn once per level from the run's agreed seed (public
  randomness; reveals nothing);
- gms: per level, party 1 chooses compact blocks with probability proportional to the mean gradient magnitude of
  its warped moving image (Sabuncu & Ramadge 2004). Under fhe the choice stays unknown to party 2: unchosen rows
  are zero. Under mpc it would be visible, so it must be allowed by name, and is in the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import InputError, PolicyError
from PPIRLogic.registration.names import BINS, SAMPLINGS
from PPIRLogic.secure.layout import CHUNK
from PPIRLogic.secure.prg import derive_key

_BLOCK_2D = (8, 8)
_BLOCK_3D_SMALL = (8, 8, 8)
_BLOCK_3D_LARGE = (16, 16, 32)  # exactly one chunk of 8192 voxels
_FEW_CHUNKS = 64
MIN_POOL = 2048
_POOL_UNIT = CHUNK // min(BINS)  # fits any number of bins: another number makes no other pool
_MIN_BLOCKS = 256
Indices = NDArray[np.int32]


@dataclass(frozen=True)
class Sampling:
    """How many voxels take part. `percent` of the level's voxels (urs) or blocks (gms), 0 < percent ≤ 100."""

    method: str = "full"
    percent: float = 100.0
    disclose: bool = False  # gms under mpc: party 2 sees which blocks were chosen

    def __post_init__(self) -> None:
        if self.method not in SAMPLINGS:
            raise InputError(f"Unknown sampling '{self.method}'. Choose one of {', '.join(SAMPLINGS)}.")
        if not 0 < self.percent <= 100:
            raise InputError(f"The sampling percentage must lie between 0 and 100, not {self.percent:g}.")


def block_order(shape: tuple[int, ...], margin: tuple[int, ...]) -> Indices:
    """Raster indices of the voxels at least `margin` voxels from the border, block by block.

    `shape` is the array shape (z, y, x) or (y, x); `margin` in ITK order (x, y[, z]).
    """
    inner = [np.arange(m, n - m, dtype=np.int32) for n, m in zip(shape, margin[::-1], strict=True)]
    if any(axis.size < 1 for axis in inner):
        raise InputError(f"No voxel of a {'×'.join(map(str, shape[::-1]))} level lies inside its border margin.")
    strides = np.cumprod([1, *shape[:0:-1]])[::-1].astype(np.int32)
    raster = inner[0] * strides[0]
    for axis, stride in zip(inner[1:], strides[1:], strict=True):
        raster = raster[..., None] + axis * stride
    return _blockwise(raster, _block_of(raster))


def _block_of(raster: Indices) -> tuple[int, ...]:
    if raster.ndim == 2:
        return _BLOCK_2D
    return _BLOCK_3D_LARGE if raster.size >= _FEW_CHUNKS * CHUNK else _BLOCK_3D_SMALL


def _blockwise(raster: Indices, block: tuple[int, ...]) -> Indices:
    padded = np.pad(raster, [(0, -n % b) for n, b in zip(raster.shape, block, strict=True)], constant_values=-1)
    split = [v for n, b in zip(padded.shape, block, strict=True) for v in (n // b, b)]
    axes = [*range(0, 2 * raster.ndim, 2), *range(1, 2 * raster.ndim, 2)]
    flat = padded.reshape(split).transpose(axes).reshape(-1)
    return np.ascontiguousarray(flat[flat >= 0])


def unit_size(samples: int, dimension: int) -> int:
    """Samples per gms block, a power of two: at most 8 in 2D, 512 in 3D, a chunk where the level has many chunks.

    A level has at least 256 blocks, as far as that is possible: a few large ones do not determine a transform.
    """
    largest = 8 if dimension == 2 else CHUNK if samples >= _FEW_CHUNKS * CHUNK else 512
    return min(largest, 1 << max(0, (samples // _MIN_BLOCKS).bit_length() - 1))


def level_samples(order: Indices, sampling: Sampling, seed: bytes, level: int) -> Indices:
    """The public pool of a level: all of `order`, or its urs subset (in the same order)."""
    if sampling.method != "urs":
        return order
    count = max(1, round(order.size * sampling.percent / 100))
    generator = _generator(seed, "urs", level)
    return order[np.sort(generator.choice(order.size, count, replace=False))]


def random_pool(order: Indices, size: int, seed: bytes, factor: int) -> Indices:
    """The public random pool of a level for joint histograms, in the order of `order`, whole units of samples.

    It follows from the owner's `seed`, the level's grid and the loss alone: party 1 chooses neither members nor size.
    A level that has hardly more voxels than `size` is taken whole, so that two pools of one image never differ by few
    voxels: the difference of two histograms would name them. PolicyError for fewer than MIN_POOL: a histogram of few
    samples names voxels, too.
    """
    count = (order.size if order.size < 1.25 * size else size) // _POOL_UNIT * _POOL_UNIT
    if count < MIN_POOL:
        raise PolicyError(
            f"A joint histogram of {count} samples would name single voxels; at least {MIN_POOL} are needed at"
            f" every level. Leave out the coarsest level ({order.size} voxels)."
        )
    return order[np.sort(_generator(seed, "pool", factor).choice(order.size, count, replace=False))]


def pool_size(dimension: int, deformable: bool) -> int:
    """Samples of a pool, where a level has so many: a slice has few, and each control point needs some around it."""
    if dimension == 2:
        return 65_536
    return 131_072 if deformable else 32_768


def choose_blocks(weights: NDArray[np.float64], percent: float, seed: bytes, level: int) -> NDArray[np.int64]:
    """Sorted indices of round(percent) of the blocks, drawn without replacement ∝ weight (Efraimidis-Spirakis)."""
    count = max(1, round(weights.size * percent / 100))
    if not weights.any():
        weights = np.ones_like(weights)
    uniform = _generator(seed, "gms", level).random(weights.size)
    keys = np.log(uniform) / np.maximum(weights, 1e-12 * weights.max())
    return np.sort(np.argsort(-keys, kind="stable")[:count])


def expand_blocks(blocks: NDArray[np.int64], unit: int, samples: int) -> NDArray[np.bool_]:
    """Which of the samples lie in the chosen blocks, (samples,)."""
    chosen = np.zeros(-(-samples // unit) * unit, bool).reshape(-1, unit)
    chosen[blocks] = True
    return chosen.reshape(-1)[:samples]


def _generator(seed: bytes, *label: str | int) -> np.random.Generator:
    """Repeatable draws that protect nothing (which voxels are looked at), seeded from a session's seed."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(derive_key(seed, *label), "big")))
