"""What the two sides of a symmetric registration can make of what they learn: as published, and from coarse forces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from algebra import correlation
from numpy.typing import NDArray
from recording import Record
from scipy.sparse.linalg import LinearOperator, lsmr

from PPIRLogic.images.intensities import normalise, robust_range
from PPIRLogic.images.reading import read_volume
from PPIRLogic.registration.levels import Level, make_levels
from PPIRLogic.registration.losses.cross_correlation import (
    IMAGE_BITS,
    ROOT_BITS,
    TERM_BITS,
    UNIT_BITS,
    HalfColumns,
    half_columns,
    normalised,
)
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.symmetric.one_time_masks import box_of
from PPIRLogic.registration.symmetric.shares import INVERSE_BITS, VOXEL_BITS
from PPIRLogic.transforms.bspline_basis import gather, spread

Array = NDArray[Any]
SAMPLES = Path(__file__).parents[2] / "Resources" / "SampleData"
SCALE = 2.0**22


@pytest.fixture(scope="module")
def level() -> Level:
    geometry = read_volume(SAMPLES / "BrainProtonDensitySliceBorder20.png").geometry
    return make_levels(geometry, Request("x", "mpc", "diffeo", "cc", (1,), iterations=(1,), stride=5))[0]


@pytest.fixture(scope="module")
def halves(level: Level) -> tuple[HalfColumns, HalfColumns]:
    """Two real slices of the same head in place, where a force tells most, with noise, as their owners prepare them."""
    names = "BrainT1SliceBorder20.png", "BrainProtonDensitySliceBorder20.png"
    return columns(names[0], level, 0), columns(names[1], level, 1)


def columns(name: str, level: Level, seed: int) -> HalfColumns:
    assert level.control_points is not None
    volume = read_volume(SAMPLES / name)
    picture = normalise(volume, robust_range(volume, None)).array.astype(float)
    picture += 1e-3 * np.random.default_rng(seed).normal(size=picture.shape)
    inner = picture[tuple(slice(m, -m) for m in level.control_points.margin[::-1])]
    assert inner.shape == box_of(level.control_points)
    gradient = np.rint(np.stack(np.gradient(inner)[::-1]) * SCALE).astype(np.int32)
    whole = np.rint((inner - 0.5) * SCALE).astype(np.int32)
    x, root = normalised(whole, np.ones(inner.shape, np.int32), SCALE)
    return half_columns(x, root, gradient, 2.0**-12)


def test_published_openings_give_both_images_on_what_really_travels(
    cc_exchange: Callable[..., Any], level: Level, halves: tuple[HalfColumns, HalfColumns], record: Record
) -> None:
    """c₁ = D/EF, c₂, c₃ are opened: D/F = E·c₁, so J̄ = (Ī − c₃)/(D/F) at party 1, and Ī at party 2 likewise."""
    opened = cc_exchange(level.control_points, *halves)
    opened.both(lambda s: s.similarity())
    shares = opened.both(lambda s: s.published())
    factor, c2, c3 = (shares[0] + shares[1]).reshape(3, -1).astype(float)
    factor /= 4.0 ** (IMAGE_BITS + INVERSE_BITS)
    c2, c3 = c2 / 2.0**VOXEL_BITS, c3 / 2.0**VOXEL_BITS
    i_bar, j_bar = (h.image.ravel() / 2.0**IMAGE_BITS for h in halves)
    e, f = (4.0**ROOT_BITS / h.root.ravel().astype(float) ** 2 for h in halves)
    # the openings are rounded; where D is not tiny they say everything
    clear, other = (np.abs(factor * sums) > 0.05 for sums in (e, f))
    found = [
        correlation((i_bar - c3)[clear] / (e * factor)[clear], j_bar[clear]),
        correlation((j_bar - c2)[other] / (f * factor)[other], i_bar[other]),
    ]
    assert min(found) > 0.99 and clear.mean() > 0.3

    coarse, ours, blurred = attack_on_coarse_force(cc_exchange, level, halves)
    assert abs(ours) < 0.35 and abs(blurred) < 0.6 and coarse * 30 < 3 * i_bar.size
    record(
        "the other image from one step of local cross-correlation (curious party)",
        f"published, three numbers per voxel: J̄ r = {found[0]:.4f} at party 1, Ī r = {found[1]:.4f} at party 2",
        f"mpc, {coarse} numbers for {i_bar.size} voxels: least squares give J̄ r = {ours:+.2f}"
        f" (and the force, voxel by voxel, r = {blurred:+.2f}); steps add up, the budget bounds them",
    )


def attack_on_coarse_force(
    cc_exchange: Callable[..., Any], level: Level, halves: tuple[HalfColumns, HalfColumns]
) -> tuple[int, float, float]:
    """Party 1 solves its coarse force for ρ·ĵ − ρ²·î, voxel by voxel, of which it knows all weights.

    How many numbers it has, and how its solution correlates with J̄ and with the force itself.
    """
    assert level.control_points is not None
    control_points, first = level.control_points, halves[0]
    opened = cc_exchange(control_points, *halves, evaluation=1)
    opened.both(lambda s: s.similarity())
    (here, _), (_, there) = opened.both(lambda s: s.forces())
    force = (here + there) / 2.0**TERM_BITS
    rho = (opened.sides[0]._rho + opened.sides[1]._rho) / 2.0**UNIT_BITS
    units = [h.unit.ravel() / 2.0**UNIT_BITS for h in halves]
    hidden = rho * units[1] - rho**2 * units[0]
    weights = [w.astype(float) for w in control_points.weights]
    window = tuple(slice(m, n - m) for m, n in zip(control_points.margin[::-1], control_points.shape, strict=True))
    box = first.image.shape

    def forward(guess: Array) -> Array:
        out = []
        for slope in first.slopes:
            grid = np.zeros(control_points.shape)
            grid[window] = guess.reshape(box) * slope
            out.append(gather(grid, control_points.axes, weights).ravel()[control_points.kept])
        return np.concatenate(out)

    def back(numbers: Array) -> Array:
        total = np.zeros(box)
        for slope, part in zip(first.slopes, np.asarray(numbers).reshape(len(first.slopes), -1), strict=True):
            full = np.zeros(int(np.prod(control_points.counts)))
            full[control_points.kept] = part
            total += slope * spread(full.reshape(control_points.counts), control_points.axes, weights)[window]
        return total.ravel()

    shape = (force.size, first.image.size)
    guess = lsmr(LinearOperator(shape, matvec=forward, rmatvec=back, dtype=float), force, maxiter=300)[0]
    assert np.linalg.norm(forward(guess) - force) < 0.05 * np.linalg.norm(force)  # the equations are solved
    image = guess / first.root.ravel()
    return force.size, correlation(image, halves[1].image.ravel()), correlation(guess, hidden)


def test_what_travels_on_shares_looks_random(
    cc_exchange: Callable[..., Any], level: Level, halves: tuple[HalfColumns, HalfColumns], record: Record
) -> None:
    """Every value that either side receives, against what it hides; unmasked, the same measure says 1."""
    opened = cc_exchange(level.control_points, *halves)
    opened.both(lambda s: s.similarity())
    opened.both(lambda s: s.forces())
    worst, seen = 0.0, set()
    for side, receiver in ((0, "party 2"), (1, "party 1")):
        own = halves[side]
        hidden = [own.image, own.root, own.unit, *own.slopes, *own.products]
        for _, _, message in (m for m in opened.sent if m[1] == receiver and m[2].kind == "data"):
            numbers = np.frombuffer(message.payload, "<i8")
            seen.add(message.data["name"])
            worst = max(worst, *(abs(correlation(numbers, h.ravel())) for h in hidden))
            high = np.bincount((numbers >> 60) & 15, minlength=16)  # uniform: chi-square with 15 degrees of freedom
            assert np.sum((high - numbers.size / 16) ** 2) / (numbers.size / 16) < 60
    chance = 6 / np.sqrt(halves[0].image.size)
    assert seen == {
        "x", "root", "scaled", "r", "rho", "unit", "r first", "r second", "r square", "term", "square", "a0", "a1",
        "b0", "b1",
    }  # fmt: skip
    assert worst < chance
    assert correlation(halves[0].image.ravel(), halves[0].image.ravel()) > 0.999
    record(
        "an image from the masked values of a symmetric registration (curious party)",
        "unmasked: r = 1",
        f"largest of all correlations with what they hide {worst:.4f} (chance {chance:.4f})",
    )
