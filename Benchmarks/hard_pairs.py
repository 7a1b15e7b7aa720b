"""Pairs whose truth is known, to be made hard by `hard_cases`: a lung, heads of one and of two contrasts, slices.

Heads are those of `Resources/SampleData`, and a real one where PPIR_BENCH_DATA names a folder that holds `ixi7`, or
lies beside it. What is made of them (half the resolution, a mixed contrast) is written to the folder of the results.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from Benchmarks.mutual_information import slice_pair
from Benchmarks.pairs import LANDMARKS, LUNG, grid_points, map_points, slices
from Benchmarks.rows import DATA
from PPIRLogic.images.reading import read_volume

Points = NDArray[np.float64]
HEADS = (DATA / "brainweb_t1.mha", DATA / "brainweb_t2_rotated.mha")
DATA_VARIABLE = "PPIR_BENCH_DATA"
_NOISE = 0.03  # of the 99th percentile: two scans of one head are never the same


@dataclass(frozen=True)
class Pair:
    """A fixed file, the moving image, and where points of the one lie in the other.

    limit_mm: mean error up to which an end is right: two voxels, 3 mm at most, of one body; 12 mm of parts of a
    breathing lung, whose landmarks an affine transform leaves 5 to 10 mm apart. levels: None for the usual ones.
    brain: of the moving image, where it is known.
    """

    name: str
    fixed: Path
    moving: sitk.Image
    fixed_points: Points
    moving_points: Points
    limit_mm: float
    losses: tuple[str, ...]
    levels: tuple[int, ...] | None = None
    brain: sitk.Image | None = None

    @property
    def modalities(self) -> int:
        return 1 if "ncc" in self.losses else 2


def lung(folder: Path) -> Pair:
    marks = [np.loadtxt(name, skiprows=2) for name in LANDMARKS]
    moving = sitk.ReadImage(str(LUNG[1]), sitk.sitkFloat32)
    return Pair("lung", LUNG[0], moving, marks[0], marks[1], 12.0, ("ncc", "mi"), (4, 2))


def head_truth() -> sitk.Transform:
    """Of the T1 head to the T2 head."""
    return sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.0, 0.0, np.deg2rad(-10.0), (-15.0, 0.0, 0.0))


def full_heads(folder: Path) -> Pair:
    """T1 and T2 of one head at full resolution, without the last level."""
    fixed, moving = (sitk.ReadImage(str(f), sitk.sitkFloat32) for f in HEADS)
    return _known("t1-t2", HEADS[0], fixed, moving, head_truth(), ("mi",), levels=(4, 2))


def same_heads(folder: Path) -> Pair:
    fixed = sitk.ReadImage(str(HEADS[0]), sitk.sitkFloat32)
    moving = sitk.Resample(fixed, fixed, head_truth().GetInverse(), sitk.sitkLinear, 0.0)
    return _known("t1-t1", HEADS[0], fixed, moving, head_truth(), ("ncc",), levels=(4, 2))


def _half(image: sitk.Image) -> sitk.Image:
    return sitk.Shrink(sitk.DiscreteGaussian(image, [1.0, 1.0, 1.0]), [2, 2, 2])


@lru_cache(maxsize=1)
def _half_heads() -> tuple[sitk.Image, sitk.Image]:
    return _half(sitk.ReadImage(str(HEADS[0]), sitk.sitkFloat32)), _half(
        sitk.ReadImage(str(HEADS[1]), sitk.sitkFloat32)
    )


def _half_pair(name: str, make: Callable[[sitk.Image, sitk.Image], sitk.Image], folder: Path, *losses: str) -> Pair:
    """A head of 2 mm against what `make` gives of it where the T2 head lies (T1 there, T2)."""
    fixed, other = _half_heads()
    file = folder / "head_2mm.mha"
    if not file.is_file():
        sitk.WriteImage(fixed, str(file))
    there = sitk.Resample(fixed, other, head_truth().GetInverse(), sitk.sitkBSpline, 0.0)
    brain = sitk.Resample(_brain_of(fixed), other, head_truth().GetInverse(), sitk.sitkNearestNeighbor, 0)
    return _known(name, file, fixed, make(sitk.Maximum(there, 0.0), other), head_truth(), losses, brain=brain)


def half_same(folder: Path) -> Pair:
    return _half_pair("head t1-t1", lambda t1, t2: _noisy(t1, 1), folder, "ncc", "mi")


def half_t2(folder: Path) -> Pair:
    return _half_pair("head t1-t2", lambda t1, t2: t2, folder, "mi")


def half_pd(folder: Path) -> Pair:
    """A mixture of T1 and T2, as flat as an image of proton density: grey matter brightest, little contrast."""
    return _half_pair("head t1-pd", lambda t1, t2: _noisy(_scaled(t1) * 0.5 + _scaled(t2) * 0.5, 2), folder, "mi")


def real_head(folder: Path) -> Pair | None:
    """A real head against itself where another scan would lie, with other intensities and noise."""
    place = Path(os.environ.get(DATA_VARIABLE, ""))
    file = next((f for p in (place, place.parent) if (f := p / "ixi7" / "IXI012_T1.nrrd").is_file()), None)
    if file is None:
        return None
    fixed = sitk.ReadImage(str(file), sitk.sitkFloat32)
    centre = fixed.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in fixed.GetSize()])
    truth = sitk.Euler3DTransform(centre, 0.08, -0.06, 0.1, (9.0, -6.0, 7.0))
    moved = sitk.Resample(fixed, fixed, truth.GetInverse(), sitk.sitkBSpline, 0.0)
    moved = _noisy(sitk.Pow(_scaled(sitk.Maximum(moved, 0.0)), 0.8), 3)
    tissue = sitk.ReadImage(str(file.with_name("IXI012_tissue.nrrd"))) > 0
    brain = sitk.BinaryDilate(sitk.BinaryMorphologicalClosing(tissue, [3, 3, 3]), [1, 1, 1])
    brain = sitk.Resample(brain, fixed, truth.GetInverse(), sitk.sitkNearestNeighbor, 0)
    return _known("real t1-t1", file, fixed, moved, truth, ("ncc", "mi"), brain=brain)


def same_slices(folder: Path) -> Pair:
    known = slices()
    moving = read_volume(known.moving, role="moving").to_sitk()
    return Pair("slice pd-pd", known.fixed, moving, known.points, map_points(known.truth, known.points), 2.0, ("ncc",))


def two_slices(folder: Path) -> Pair:
    known = slice_pair()
    moving = read_volume(known.moving, role="moving").to_sitk()
    return Pair("slice t1-pd", known.fixed, moving, known.points, map_points(known.truth, known.points), 2.0, ("mi",))


PAIRS: dict[str, Callable[[Path], Pair | None]] = {
    "head t1-t2": half_t2, "head t1-t1": half_same, "head t1-pd": half_pd, "real t1-t1": real_head,
    "slice t1-pd": two_slices, "slice pd-pd": same_slices, "lung": lung, "t1-t2": full_heads, "t1-t1": same_heads,
}  # fmt: skip


def _known(
    name: str, file: Path, fixed: sitk.Image, moving: sitk.Image, truth: sitk.Transform, losses: tuple[str, ...],
    levels: tuple[int, ...] | None = None, brain: sitk.Image | None = None,
) -> Pair:  # fmt: skip
    """Judged at a grid of points of about 8 mm in the head."""
    bright = float(np.percentile(sitk.GetArrayViewFromImage(fixed), 99))
    steps = tuple(max(1, round(8.0 / s)) for s in fixed.GetSpacing())
    points = grid_points(fixed, steps, above=0.1 * bright)
    return Pair(name, file, moving, points, map_points(truth, points), 3.0, losses, levels, brain)


def _scaled(image: sitk.Image) -> sitk.Image:
    """Its 99th percentile becomes 1."""
    return image / float(np.percentile(sitk.GetArrayViewFromImage(image), 99))


def _noisy(image: sitk.Image, seed: int) -> sitk.Image:
    array = sitk.GetArrayFromImage(image)
    array += np.random.default_rng(seed).normal(0, _NOISE * np.percentile(array, 99), array.shape).astype(np.float32)
    out = sitk.GetImageFromArray(array)
    out.CopyInformation(image)
    return out


def _brain_of(t1: sitk.Image) -> sitk.Image:
    """The brain of a T1 head of 2 mm: what is bright, without the bridges to the skin, filled."""
    bright = _scaled(sitk.DiscreteGaussian(t1, [2.0] * 3)) > 0.35
    parts = sitk.ConnectedComponent(sitk.BinaryErode(bright, [4, 4, 4]))
    largest = sitk.RelabelComponent(parts) == 1
    return sitk.BinaryFillhole(sitk.BinaryMorphologicalClosing(sitk.BinaryDilate(largest, [5, 5, 5]), [4, 4, 4]))
