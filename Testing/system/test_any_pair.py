"""Any pair gives the right transform or a warning: parts of a lung against the whole of it, from any place.

The short form of `make bench-pairs`. The truth is known by landmarks of two breath-holds: an affine transform of the
whole lungs leaves about 7 mm of them, and a wrong one tens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from system_support import Phantom, motion_of, plain_grid

from Benchmarks.hard_cases import Place, slab
from Benchmarks.pairs import slices
from PPIRLogic.cli.demo import DATA
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.reading import read_volume
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.extra_runs import UNCHECKED
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.result import RegistrationResult
from PPIRLogic.registration.simulate import OPEN_BUDGET, RunningPeers, peers, simulate
from PPIRLogic.transforms.linear import rotation_of

FOUND_MM = 10.0  # the landmarks of a part, which an affine transform fits more loosely
LEVELS = (4,)
FIXED_POINTS, MOVING_POINTS = (
    np.loadtxt(DATA / f"lung_{name}_landmarks.txt", skiprows=2) for name in ("baseline", "followup")
)


@pytest.fixture(scope="module")
def world() -> Iterator[RunningPeers]:
    with peers(DATA / "lung_baseline.mha", protocol="clear") as made:
        yield made


def part_of(volume: Volume, axis: int, low: float, high: float) -> Volume:
    """The slices of a volume from one share of an axis (x, y, z) to another."""
    grid = volume.geometry
    first, last = int(low * grid.size[axis]), int(high * grid.size[axis])
    window = [slice(None)] * 3
    window[2 - axis] = slice(first, last)
    index = np.zeros(4)
    index[axis], index[3] = first, 1
    size = [*grid.size]
    size[axis] = last - first
    origin = tuple(grid.index_to_physical() @ index)
    return Volume(
        np.ascontiguousarray(volume.array[tuple(window)]), Geometry(tuple(size), grid.spacing, origin, grid.direction)
    )


def placed(volume: Volume, degrees: tuple[float, float, float], shift: tuple[float, float, float]) -> Volume:
    """The same voxels at another place: turned about the origin of the world, and shifted."""
    grid, turn = volume.geometry, rotation_of(np.deg2rad(degrees))
    direction = turn @ np.reshape(grid.direction, (3, 3))
    return Volume(
        volume.array, Geometry(grid.size, grid.spacing, tuple(turn @ grid.origin + shift), tuple(direction.ravel()))
    )


def run(world: RunningPeers, moving: Volume, **options: object) -> RegistrationResult:
    parameters = Parameters(protocol="clear", levels=LEVELS, **options)  # type: ignore[arg-type]
    return register(moving, world.peer, home=world.home, parameters=parameters)


def error_mm(result: RegistrationResult, moving: Volume, turn: np.ndarray | None = None) -> float:
    """Mean distance of the landmarks in the moving image; `turn` (3, 4): where its voxels were placed."""
    points = MOVING_POINTS if turn is None else MOVING_POINTS @ turn[:, :3].T + turn[:, 3]
    affine = moving.geometry.physical_to_index()
    index = points @ affine[:, :3].T + affine[:, 3]
    inside = ((index >= 0) & (index <= np.array(moving.geometry.size) - 1)).all(axis=1)
    found = np.array([result.transform.TransformPoint(p) for p in FIXED_POINTS[inside].tolist()])
    return float(np.linalg.norm(found - points[inside], axis=1).mean())


def moving_lung() -> Volume:
    return read_volume(DATA / "lung_followup.mha")


@pytest.mark.parametrize(("axis", "low", "high"), [(2, 0.5, 1.0), (0, 0.0, 0.5)], ids=["top", "left"])
def test_half_of_a_lung_finds_its_place_in_the_whole(world: RunningPeers, axis: int, low: float, high: float) -> None:
    moving = part_of(moving_lung(), axis, low, high)
    result = run(world, moving)
    assert result.starts is not None and result.starts.values >= 7
    assert error_mm(result, moving) < FOUND_MM
    assert result.doubts == []


def test_a_lung_that_lies_elsewhere(world: RunningPeers) -> None:
    degrees, shift = (20.0, -15.0, 10.0), (60.0, -30.0, 25.0)
    moving = placed(moving_lung(), degrees, shift)
    result = run(world, moving)
    turn = np.column_stack([rotation_of(np.deg2rad(degrees)), shift])
    assert error_mm(result, moving, turn) < FOUND_MM
    assert result.doubts == []


def test_a_slice_of_a_head_is_not_turned_by_180_degrees() -> None:
    """It is nearly symmetric, and 1.2 times larger in the other image, which no start can follow: both fit alike."""
    known = slices()
    result = simulate(known.fixed, known.moving, parameters=Parameters(protocol="clear", loss="ncc", threads=1))
    assert known.error(result.transform) < 0.01 and result.doubts == []


@pytest.mark.parametrize("loss", ["ncc", pytest.param("mi", marks=pytest.mark.long)])
def test_a_thin_slab_finds_its_place_within_a_voxel(world: RunningPeers, loss: str) -> None:
    """20 slices of 3 mm of the same lung, from the default start; the voxels of the lung are 1.4 mm wide."""
    whole = read_volume(DATA / "lung_baseline.mha").to_sitk()
    truth, points = Place.drawn(8.0, 9.0, np.random.default_rng(3)), FIXED_POINTS
    cut, there = truth.put(slab(whole, 20, 3.0), points)
    result = run(world, Volume.from_sitk(cut, "slab"), loss=loss)
    index = np.array([cut.TransformPhysicalPointToContinuousIndex(p) for p in there.tolist()])
    inside = ((index >= 0) & (index <= np.array(cut.GetSize()) - 1)).all(axis=1)
    found = np.array([result.transform.TransformPoint(p) for p in points[inside].tolist()])
    assert inside.sum() >= 5 and np.linalg.norm(found - there[inside], axis=1).mean() < min(whole.GetSpacing())
    assert result.doubts == []


@pytest.mark.parametrize(
    ("axis", "shift"),
    [((0.0, 0.0, np.pi), (0, 0, 0)), ((np.pi / 2, 0.0, 0.0), (0, 0, 0)), ((0.0, 0.0, 0.0), (0, 70, 0))],
    ids=["turned by 180", "turned by 90", "shifted by 70 mm"],
)
def test_a_wrong_end_is_never_silent(
    world: RunningPeers, axis: tuple[float, float, float], shift: tuple[float, float, float]
) -> None:
    """From a start that leads astray: the search ends, and what it found is said to be in doubt."""
    moving = moving_lung()
    start = sitk.VersorRigid3DTransform()
    start.SetCenter(moving.geometry.centre().tolist())
    start.SetMatrix(rotation_of(np.array(axis)).ravel().tolist())
    start.SetTranslation([float(v) for v in shift])
    result = run(world, moving, initial=start)
    assert result.complete and result.starts is None
    wrong = error_mm(result, moving) > 2 * FOUND_MM
    assert wrong == bool(result.doubts), result.doubts
    assert wrong, "a start that leads to the truth proves nothing"


def test_without_its_check_the_same_end_is_silent(world: RunningPeers) -> None:
    """What the check is worth: the end of a search that went astray, and nothing else speaks against it."""
    moving = moving_lung()
    start = sitk.VersorRigid3DTransform()
    start.SetCenter(moving.geometry.centre().tolist())
    start.SetMatrix(rotation_of(np.array([0.0, 0.0, np.pi])).ravel().tolist())
    found = [run(world, moving, initial=start, transform="rigid", skip_check=skip) for skip in (False, True)]
    assert np.array_equal(*(r.transform.GetParameters() for r in found)), "the check moves nothing"
    assert found[0].doubts and not found[1].doubts and found[1].check is None


def test_an_end_that_the_budget_cannot_check_is_said() -> None:
    """The search takes all that the owner grants; what was not checked is not taken for right without a word."""
    grid = plain_grid(2)
    phantom, said = Phantom.make(grid), []
    result = simulate(
        phantom.on(grid), phantom.on(grid, motion_of("rigid", grid)),
        budget=replace(OPEN_BUDGET, numbers_per_session=30),
        parameters=Parameters(transform="rigid", loss="ssd", levels=(4,), evaluations=5, threads=1),
        progress=lambda step: said.append(step.detail) if step.stage == "note" else None,
    )  # fmt: skip
    assert result.check is None and said == [UNCHECKED]


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_larger_slice_is_not_found_upside_down(tmp_path: Path, noise: float) -> None:
    """A slice of a head, 1.2 times larger, where it lies and turned by 180 degrees; from the usual starts."""
    known = slices()
    image = read_volume(known.moving, role="moving").to_sitk()
    array = sitk.GetArrayFromImage(image).astype(float)
    array += noise * np.percentile(array, 99) * np.random.default_rng(4).standard_normal(array.shape)
    noisy = sitk.GetImageFromArray(array.astype(np.float32))
    noisy.CopyInformation(image)
    with peers(known.fixed, protocol="clear") as world:
        for degrees in (0.0, 180.0):
            turn = np.array([[np.cos(a := np.deg2rad(degrees)), -np.sin(a)], [np.sin(a), np.cos(a)]])
            moving = sitk.Image(noisy)
            moving.SetOrigin((turn @ noisy.GetOrigin()).tolist())
            moving.SetDirection((turn @ np.reshape(noisy.GetDirection(), (2, 2))).ravel().tolist())
            result = register(
                Volume.from_sitk(moving), world.peer, home=world.home, parameters=Parameters(protocol="clear")
            )
            due = [turn @ known.truth.TransformPoint(p) for p in known.points.tolist()]
            found = [result.transform.TransformPoint(p) for p in known.points.tolist()]
            assert np.linalg.norm(np.subtract(found, due), axis=1).mean() < 0.3 and not result.doubts
