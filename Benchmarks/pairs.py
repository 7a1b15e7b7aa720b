"""The image pairs, the transforms that are true for them, and the distances by which a result is judged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from Benchmarks.rows import DATA, SHIPPED
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.reading import read_volume
from PPIRLogic.images.writing import write_volume

Array = NDArray[np.float64]

DEMO = (SHIPPED / "BrainProtonDensitySliceBSplined10.png", SHIPPED / "BrainProtonDensitySliceR10X13Y17S12.png")
DEMO_OPTIONS = ("--transform", "affine", "--loss", "ssd", "--initial", "identity")
SLICES = (DATA / "BrainProtonDensitySliceBorder20.png", SHIPPED / "BrainProtonDensitySliceR10X13Y17S12.png")
VOLUME = DATA / "brainweb_t1.mha"
LUNG = (SHIPPED / "lung_baseline.mha", SHIPPED / "lung_followup.mha")
LUNG_MASKS = (SHIPPED / "lung_baseline_mask.mha", SHIPPED / "lung_followup_mask.mha")
LANDMARKS = (SHIPPED / "lung_baseline_landmarks.txt", SHIPPED / "lung_followup_landmarks.txt")

NOISE = 0.03  # standard deviation, of the 99th percentile
GRID_MM = 8.0


@dataclass(frozen=True)
class Known:
    """A pair with a known transform from fixed to moving points, and the fixed points at which it is judged."""

    fixed: Path
    moving: Path
    truth: sitk.Transform
    points: Array

    def error(self, transform: sitk.Transform) -> float:
        """Mean target registration error in mm."""
        gaps = map_points(transform, self.points) - map_points(self.truth, self.points)
        return float(np.linalg.norm(gaps, axis=1).mean())


def lung_dice(transform: sitk.Transform) -> float:
    """Of the lung masks, the moving one by nearest neighbour."""
    fixed, moving = (sitk.ReadImage(str(p)) > 0 for p in LUNG_MASKS)
    warped = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, sitk.sitkNearestNeighbor)) > 0
    there = sitk.GetArrayFromImage(fixed) > 0
    return float(2 * np.sum(warped & there) / (warped.sum() + there.sum()))


def affine_of(transform: sitk.Transform) -> Array:
    """(dim, dim+1) matrix of a linear transform, from the images of the origin and of the unit points."""
    dim = transform.GetDimension()
    origin = np.array(transform.TransformPoint([0.0] * dim))
    columns = [np.subtract(transform.TransformPoint(e), origin) / 100 for e in (100 * np.eye(dim)).tolist()]
    return np.column_stack([*columns, origin])


def map_points(transform: sitk.Transform, points: Array) -> Array:
    """Points (n, dim) under a linear transform."""
    affine = affine_of(transform)
    mapped: Array = points @ affine[:, :-1].T + affine[:, -1]
    return mapped


def grid_points(image: sitk.Image, step: int | tuple[int, ...], above: float | None = None) -> Array:
    """Every step-th voxel centre of an image in mm; only where its value is greater than `above`."""
    dim = image.GetDimension()
    steps = (step,) * dim if isinstance(step, int) else step
    array = sitk.GetArrayViewFromImage(image)[tuple(slice(None, None, s) for s in reversed(steps))]
    chosen = np.argwhere(array > above) if above is not None else np.argwhere(np.ones(array.shape, bool))
    affine = Geometry.from_sitk(image).index_to_physical()
    index = chosen[:, ::-1] * np.array(steps)
    points: Array = index @ affine[:, :-1].T + affine[:, -1]
    return points


def rms_distance(a: sitk.Transform, b: sitk.Transform, points: Array) -> float:
    """Root mean square distance of two transforms at `points`."""
    gaps = map_points(a, points) - map_points(b, points)
    return float(np.sqrt(np.mean(np.sum(np.square(gaps), axis=1))))


def landmark_error(transform: sitk.Transform) -> float:
    """Mean distance in mm between transformed fixed landmarks and moving landmarks of the lung pair."""
    fixed, moving = (np.loadtxt(name, skiprows=2) for name in LANDMARKS)
    return float(np.linalg.norm(map_points(transform, fixed) - moving, axis=1).mean())


def correlation(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> float:
    """NCC of the fixed image and SimpleITK's linear resampling of the moving one, over their overlap."""
    inside = sitk.Image(moving.GetSize(), sitk.sitkFloat32) + 1
    inside.CopyInformation(moving)
    overlap, warped = (sitk.Resample(i, fixed, transform, sitk.sitkLinear, 0.0) for i in (inside, moving))
    where = sitk.GetArrayFromImage(overlap) > 0.5
    a, b = (sitk.GetArrayFromImage(i)[where].astype(np.float64) for i in (fixed, warped))
    return float(np.corrcoef(a, b)[0, 1])


def centre_shift(fixed: Path, moving: Path) -> sitk.Transform:
    """The translation that puts the geometric centres of two images on each other."""
    a, b = (read_volume(p, role="fixed").geometry.centre() for p in (fixed, moving))
    return sitk.TranslationTransform(len(a), (b - a).tolist())


@lru_cache(maxsize=4)
def grey(path: Path) -> sitk.Image:
    """An image as one float32 channel; not to be changed."""
    return read_volume(path, role="fixed").to_sitk()


def as_volume_file(path: Path, folder: Path) -> Path:
    """A float32 .mha of an image that every registration program reads alike; .mha files are used as they are."""
    if path.suffix == ".mha":
        return path
    out = folder / (path.stem + ".mha")
    write_volume(read_volume(path, role="fixed"), out)
    return out


# ------------------------------------------------------------------------------------- pairs of known truth


def slices() -> Known:
    """2D: the moving slice was made from the fixed one by the inverse of what is true here."""
    made_by = sitk.Similarity2DTransform()
    made_by.SetCenter((110.5, 128.5))
    made_by.SetScale(1.2)
    made_by.SetAngle(math.radians(10))
    made_by.SetTranslation((13, 17))
    return Known(*SLICES, made_by.GetInverse(), grid_points(grey(SLICES[0]), 5, above=20))


def volume_truth(fixed: sitk.Image) -> sitk.AffineTransform:
    """3D, fixed to moving points: three rotations, three scales, a shear and a translation about the centre."""
    x, y, z = (math.radians(v) for v in (8, 5, -6))
    rotation_x = np.array([[1, 0, 0], [0, math.cos(x), -math.sin(x)], [0, math.sin(x), math.cos(x)]])
    rotation_y = np.array([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    rotation_z = np.array([[math.cos(z), -math.sin(z), 0], [math.sin(z), math.cos(z), 0], [0, 0, 1]])
    shear = np.eye(3)
    shear[0, 1] = 0.02
    truth = sitk.AffineTransform(3)
    truth.SetMatrix((rotation_z @ rotation_y @ rotation_x @ shear @ np.diag([1.04, 0.97, 1.02])).ravel().tolist())
    truth.SetTranslation((9, -7, 5))
    truth.SetCenter(Geometry.from_sitk(fixed).centre().tolist())
    return truth


def volume_pair(folder: Path, seed: int, quick: bool) -> Known:
    """The brain volume and a resampled, noisy copy of it, written to `folder`; quick: at half the resolution.

    moving(y) = fixed(truth⁻¹(y)), so that truth maps a fixed point to the same place in the moving image.
    """
    fixed_file, moving_file = VOLUME, folder / f"brainweb_moved_{seed}.mha"
    fixed = grey(VOLUME)
    if quick:
        fixed_file = folder / "brainweb_half.mha"
        fixed = sitk.Shrink(sitk.DiscreteGaussian(fixed, [1.0, 1.0, 1.0]), [2, 2, 2])
        sitk.WriteImage(fixed, str(fixed_file))
    truth = volume_truth(fixed)
    moved = sitk.Resample(fixed, fixed, truth.GetInverse(), sitk.sitkBSpline, 0.0, sitk.sitkFloat32)
    check_direction(fixed, moved, truth)
    bright = float(np.percentile(sitk.GetArrayViewFromImage(fixed), 99))
    noisy = sitk.GetArrayFromImage(moved)
    noisy += np.random.default_rng(seed).normal(0, NOISE * bright, noisy.shape).astype(np.float32)
    image = sitk.GetImageFromArray(noisy)
    image.CopyInformation(fixed)
    sitk.WriteImage(image, str(moving_file))
    steps = tuple(max(1, round(GRID_MM / s)) for s in fixed.GetSpacing())
    return Known(fixed_file, moving_file, truth, grid_points(fixed, steps, above=0.1 * bright))


def check_direction(fixed: sitk.Image, moved: sitk.Image, truth: sitk.Transform) -> None:
    """A bright fixed point must be found where `truth` says; the other direction must fit clearly worse."""
    right, wrong = (correlation(fixed, moved, t) for t in (truth, truth.GetInverse()))
    if right < 0.98 or wrong > 0.9:
        raise AssertionError(f"The direction of the true transform is wrong: NCC {right:.3f}, inverse {wrong:.3f}.")
