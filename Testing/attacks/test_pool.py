"""The pool of joint histograms: whoever may choose among pools reads the voxels that two of them differ by."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from recording import Record
from system_support import grid

from PPIRLogic.registration.levels import Level, make_levels
from PPIRLogic.registration.names import BINS
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.sampling import MIN_POOL, Indices, block_order, pool_size, random_pool
from PPIRLogic.secure.prg import derive_key

OWNER = bytes(range(16))
WANTED = Request("fixed", "fhe", "affine", "mi", (4, 2, 1), evaluations=40, seed=1)
SEEDS = 200


def levels(request: Request, size: tuple[int, ...]) -> list[Level]:
    return make_levels(grid(size, (1.0,) * len(size), (0.0,) * len(size)), request, OWNER)


def chosen_pool(order: Indices, seed: int, most: int) -> Indices:
    """As it was: from party 1's seed too, and as many samples as party 1 says."""
    key = derive_key(seed.to_bytes(8, "big") + OWNER, "pool")
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(derive_key(key, "pool", 0), "big")))
    return order[np.sort(generator.choice(order.size, most, replace=False))]


def test_party_1_cannot_draw_until_a_voxel_is_in_the_pool(record: Record) -> None:
    order = block_order((60, 60, 60), (2, 2, 2))
    wanted = order[[1000, 50_000, 90_000]]
    tries = next(n for n in range(1, 2000) if np.isin(wanted, chosen_pool(order, n, 32_768)).all())
    pools = [levels(replace(WANTED, seed=n), (60, 60, 60))[-1].samples for n in range(2, SEEDS)]
    first = levels(WANTED, (60, 60, 60))[-1].samples
    assert all(np.array_equal(first, pool) for pool in pools)
    record(
        "three chosen voxels into the pool of mi (party 1 tries seeds)",
        f"done after {tries} tries",
        f"{SEEDS} seeds, one pool: the owner's secret alone draws it",
    )


def closest_pools(voxels: int) -> int:
    """Voxels by which the two most similar pools differ that can be asked for, of one level of about so many voxels."""
    axis = round(voxels ** (1 / 3)) + 4
    found: dict[int, dict[bytes, Indices]] = {}
    for bins, percent, seed, factors in product(BINS, (1.0, 100.0), (1, 7), ((2, 1), (1,))):
        asked = replace(WANTED, bins=bins, percent=percent, seed=seed, levels=factors)
        spline = {"transform": "bspline", "grid_spacing": 10.0, "iterations": (1,) * len(factors)}
        for request in (asked, replace(asked, **spline)):  # type: ignore[arg-type]
            for level in levels(request, (axis,) * 3):
                found.setdefault(level.factor, {})[level.samples.tobytes()] = level.samples
    pairs = [pair for pools in found.values() for pair in combinations(pools.values(), 2)]
    return min((len(np.setxor1d(*pair)) for pair in pairs), default=10**9)


def test_two_histograms_never_differ_by_few_voxels(record: Record) -> None:
    """Over all that a request may say: seeds, shares, bins, levels, kinds of transform; sizes about those of a pool."""
    order = block_order((60, 60, 60), (2, 2, 2))
    small = order[:32_900]
    fewest = len(np.setdiff1d(chosen_pool(small, 1, 32_768), chosen_pool(small, 2, 32_768)))
    assert 0 < fewest <= 132
    closest = min(closest_pools(voxels) for voxels in (33_000, 34_000, 40_000, 41_500, 60_000, 66_000, 90_000))
    assert closest >= MIN_POOL // 2
    record(
        "the difference of two joint histograms of one level (party 1 chooses size and seed)",
        f"{fewest} voxels",
        f"none, or {closest} voxels and another smoothing",
    )


@pytest.mark.parametrize("voxels", [2048, 2100, 32_768, 33_000, 40_959, 40_960, 50_000])
def test_a_pool_is_a_level_or_far_from_it(voxels: int) -> None:
    order, size = np.arange(voxels, dtype=np.int32), pool_size(3, False)
    pool = random_pool(order, size, OWNER, 1)
    assert pool.size % 1024 == 0 and (pool.size == size or voxels - pool.size < 1024)
    assert voxels - pool.size < 1024 or voxels - pool.size >= size // 4
