"""What makes a pair hard: parts of the moving image, thick slices, far places, what scanners and bodies do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from Benchmarks.hard_pairs import Pair
from PPIRLogic.transforms.linear import rotation_of

Points = NDArray[np.float64]
VIEWS = {  # shares of the axes x, y, z that remain
    "full": (0, 1, 0, 1, 0, 1), "top": (0, 1, 0, 1, 0.5, 1), "bottom": (0, 1, 0, 1, 0, 0.5),
    "left": (0, 0.5, 0, 1, 0, 1), "right": (0.5, 1, 0, 1, 0, 1), "front": (0, 1, 0, 0.5, 0, 1),
    "back": (0, 1, 0.5, 1, 0, 1), "right bottom": (0.5, 1, 0, 1, 0, 0.5), "left top": (0, 0.5, 0, 1, 0.5, 1),
    "front bottom": (0, 1, 0, 0.5, 0, 0.5), "back top": (0, 1, 0.5, 1, 0.5, 1),
}  # fmt: skip
FLAT_VIEWS = {
    "full": (0, 1, 0, 1), "left": (0, 0.5, 0, 1), "right": (0.5, 1, 0, 1), "front": (0, 1, 0, 0.5),
    "back": (0, 1, 0.5, 1), "right front": (0.5, 1, 0, 0.5), "left back": (0, 0.5, 0.5, 1),
}  # fmt: skip
SLABS = ((20, 3.0), (20, 5.0), (30, 5.0), (40, 4.0))  # slices, mm
RANDOM, TURNED = 20, 6


@dataclass(frozen=True)
class Place:
    """A rotation about the middle of an image, and a shift: where its voxels are put."""

    turn: Points
    shift: Points

    @classmethod
    def drawn(cls, degrees: float, mm: float, generator: np.random.Generator, dim: int = 3) -> Place:
        axis, way = (v / np.linalg.norm(v) for v in generator.normal(size=(2, 3)))
        if dim == 2:
            way = way[:2] / np.linalg.norm(way[:2])
            return cls(rotation_of(np.deg2rad(degrees) * np.sign(axis[:1])), mm * way)
        return cls(rotation_of(np.deg2rad(degrees) * axis), mm * way)

    @classmethod
    def still(cls, dim: int) -> Place:
        return cls(np.eye(dim), np.zeros(dim))

    def put(self, image: sitk.Image, points: Points) -> tuple[sitk.Image, Points]:
        dim = image.GetDimension()
        middle = [(n - 1) / 2 for n in image.GetSize()]
        centre = np.array(image.TransformContinuousIndexToPhysicalPoint(middle))
        out = sitk.Image(image)
        out.SetOrigin((self.turn @ (np.array(image.GetOrigin()) - centre) + centre + self.shift).tolist())
        out.SetDirection((self.turn @ np.reshape(image.GetDirection(), (dim, dim))).ravel().tolist())
        return out, (points - centre) @ self.turn.T + centre + self.shift


Change = Callable[[sitk.Image], sitk.Image]


@dataclass(frozen=True)
class Case:
    """What is done to the moving image, and where it is put then. kind: the sort of case it is counted in."""

    name: str
    kind: str
    change: Change
    place: Place

    def made(self, pair: Pair) -> tuple[sitk.Image, Points, NDArray[np.bool_]]:
        """The image, where all points of the pair lie then, and which of them it shows."""
        image, points = self.place.put(self.change(pair.moving), pair.moving_points)
        index = np.array([image.TransformPhysicalPointToContinuousIndex(p) for p in points.tolist()])
        return image, points, ((index >= -0.5) & (index <= np.array(image.GetSize()) - 0.5)).all(axis=1)


def cases(pair: Pair, quick: bool = False) -> Iterator[Case]:
    """The cases of a pair, always the same. quick: a few of each kind."""
    yield from _parts(pair, quick)
    yield from _places(pair, quick)
    yield from _harmed(pair, quick)


def _same(image: sitk.Image) -> sitk.Image:
    return image


def _parts(pair: Pair, quick: bool) -> Iterator[Case]:
    dim = pair.moving.GetDimension()
    still, views = Place.still(dim), VIEWS if dim == 3 else FLAT_VIEWS
    for name in [*views][:4] if quick else views:
        kind = "full view" if name == "full" else "quarter" if " " in name else "half"
        yield Case(f"view {name}", kind, lambda image, n=name: view(image, n), still)
    for slices, mm in (SLABS[:1] if quick else SLABS) if dim == 3 else ():
        yield Case(f"slab {slices} x {mm:g} mm", "slab", lambda image, s=slices, h=mm: slab(image, s, h), still)


def _places(pair: Pair, quick: bool) -> Iterator[Case]:
    """Up to 30° and 40 mm away, whole and half; turned by 90° and 180°; 100 mm away."""
    dim, generator = pair.moving.GetDimension(), np.random.default_rng(11)
    halves = [*(VIEWS if dim == 3 else FLAT_VIEWS)][1 : 1 + 2 * dim]
    for number in range(2 if quick else RANDOM):
        place = Place.drawn(generator.uniform(0, 30), generator.uniform(0, 40), generator, dim)
        yield Case(f"random {number}", "random", _same, place)
        half = halves[number % len(halves)]
        yield Case(f"random half {number}", "random half", lambda image, n=half: view(image, n), place)
    for number in range(1 if quick else TURNED):
        place = Place.drawn((90.0, 180.0)[number % 2], (0.0, 100.0)[number % 3 == 0], generator, dim)
        yield Case(f"turned {number}", "turned, far", _same, place)


def _harmed(pair: Pair, quick: bool) -> Iterator[Case]:
    """What scanners and bodies do, where the image lies and at two random places."""
    dim, generator = pair.moving.GetDimension(), np.random.default_rng(12)
    kinds: dict[str, Change] = {
        "noise 10 %": lambda image: noisy(image, 0.1), "noise 20 %": lambda image: noisy(image, 0.2),
        "bias": biased, "padding": lambda image: padded(image, 0.0), "padding below": lambda image: padded(image, -1.0),
        "other grid": regridded,
    }  # fmt: skip
    if pair.limit_mm < 10:  # in a head
        middle = pair.moving_points.mean(axis=0)
        kinds["lesion"] = lambda image: with_lesion(image, middle)
    if pair.brain is not None:
        kinds["no skull"] = lambda image: sitk.Mask(image, sitk.Cast(pair.brain, sitk.sitkUInt8))
    for kind, change in kinds.items():
        for number in range(1 if quick else 3):
            place = Place.drawn(generator.uniform(0, 30), generator.uniform(0, 40), generator, dim)
            yield Case(f"{kind} {number}", kind, change, place if number else Place.still(dim))


def view(image: sitk.Image, name: str) -> sitk.Image:
    size = image.GetSize()
    share = (VIEWS if len(size) == 3 else FLAT_VIEWS)[name]
    return image[tuple(slice(int(share[2 * k] * n), int(share[2 * k + 1] * n)) for k, n in enumerate(size))]


def slab(image: sitk.Image, slices: int, mm: float) -> sitk.Image:
    """So many thick slices from the middle of an image."""
    smooth = sitk.RecursiveGaussian(image, mm / 2.5, False, sitk.RecursiveGaussianImageFilter.ZeroOrder, 2)
    size, spacing = image.GetSize(), image.GetSpacing()
    first = max(0.0, (size[2] - slices * mm / spacing[2]) / 2)
    origin = image.TransformContinuousIndexToPhysicalPoint((0.0, 0.0, first))
    new_spacing = (spacing[0], spacing[1], mm)
    return sitk.Resample(
        smooth, (size[0], size[1], slices), sitk.Transform(), sitk.sitkLinear, origin, new_spacing, image.GetDirection()
    )


def noisy(image: sitk.Image, share: float) -> sitk.Image:
    """Gaussian noise; its deviation is this share of the 99th percentile above the least value."""
    array = sitk.GetArrayFromImage(image)
    bright = float(np.percentile(array, 99) - array.min())
    array += np.random.default_rng(5).normal(0, share * bright, array.shape).astype(np.float32)
    return _like(array, image)


def biased(image: sitk.Image) -> sitk.Image:
    """Brightness that drifts across the field of view, from 0.5 to 1.9 times."""
    array = sitk.GetArrayFromImage(image)
    low = array.min()
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in array.shape), indexing="ij")
    field = 0.35 * axes[0] - 0.25 * axes[1] - 0.3 * axes[-1] ** 2 + 0.15
    return _like((low + (array - low) * np.exp(field)).astype(np.float32), image)


def padded(image: sitk.Image, value: float) -> sitk.Image:
    """Wider on some sides by what shows nothing. value: of the range of the image, from its least value."""
    array = sitk.GetArrayViewFromImage(image)
    low, high = float(array.min()), float(np.percentile(array, 99))
    wide = [int(60 / h) for h in image.GetSpacing()]
    before, after = ([n if k % 2 == side else n // 6 for k, n in enumerate(wide)] for side in (0, 1))
    return sitk.ConstantPad(image, before, after, low + value * (high - low))


def regridded(image: sitk.Image) -> sitk.Image:
    """On a grid of other, longer voxels whose axes run otherwise; its points stay where they are."""
    dim = image.GetDimension()
    other = sitk.Flip(sitk.PermuteAxes(image, [*range(1, dim), 0]), [True] + [False] * (dim - 1))
    spacing = [h * f for h, f in zip(other.GetSpacing(), (1.2, 1.7, 2.3), strict=False)]
    size = [int(n * h / new) for n, h, new in zip(other.GetSize(), other.GetSpacing(), spacing, strict=True)]
    smooth = sitk.DiscreteGaussian(other, [float((new / 2.5) ** 2) for new in spacing])
    return sitk.Resample(
        smooth, size, sitk.Transform(), sitk.sitkLinear, other.GetOrigin(), spacing, other.GetDirection()
    )


def with_lesion(image: sitk.Image, middle: Points) -> sitk.Image:
    """A bright ball of 30 mm, and a dark rim of 8 mm around it, beside the middle of the head."""
    array = sitk.GetArrayFromImage(image)
    bright, dark = (float(np.percentile(array, share)) for share in (99.5, 40))
    dim = image.GetDimension()
    index = np.indices(array.shape)[::-1].reshape(dim, -1).T * np.array(image.GetSpacing())
    points = index @ np.reshape(image.GetDirection(), (dim, dim)).T + np.array(image.GetOrigin())
    away = np.linalg.norm(points - (middle + np.array([25.0, -15.0, 10.0])[:dim]), axis=1).reshape(array.shape)
    array[away < 23] = dark
    array[away < 15] = bright
    return _like(array, image)


def _like(array: NDArray[np.float32], image: sitk.Image) -> sitk.Image:
    out = sitk.GetImageFromArray(array)
    out.CopyInformation(image)
    return out
