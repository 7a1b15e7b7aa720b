"""Which voxels take part: public order, urs pools and gms blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from PPIRLogic.errors import InputError
from PPIRLogic.registration.names import SAMPLINGS
from PPIRLogic.registration.sampling import (
    Sampling,
    block_order,
    choose_blocks,
    expand_blocks,
    level_samples,
    unit_size,
)

SEED = b"p" * 32


def interior(shape: tuple[int, ...], margin: tuple[int, ...]) -> np.ndarray:
    inside = np.zeros(shape, bool)
    inside[tuple(slice(m, n - m) for n, m in zip(shape, margin[::-1], strict=True))] = True
    return np.flatnonzero(inside)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_order_is_a_permutation_of_the_interior(data: st.DataObject) -> None:
    dim = data.draw(st.integers(2, 3))
    shape = tuple(data.draw(st.lists(st.integers(2, 40), min_size=dim, max_size=dim)))
    margin = tuple(data.draw(st.integers(0, (n - 1) // 2)) for n in shape[::-1])
    order = block_order(shape, margin)
    assert order.dtype == np.int32
    assert np.array_equal(np.sort(order), interior(shape, margin))


def test_order_of_a_large_volume_is_a_permutation_too() -> None:
    shape, margin = (70, 100, 110), (1, 2, 3)  # large blocks, ragged on every axis
    assert np.array_equal(np.sort(block_order(shape, margin)), interior(shape, margin))


@pytest.mark.parametrize(
    ("shape", "block"),
    [((32, 48), (8, 8)), ((16, 24, 32), (8, 8, 8)), ((96, 64, 128), (16, 16, 32))],
)
def test_a_unit_of_the_order_is_one_compact_block(shape: tuple[int, ...], block: tuple[int, ...]) -> None:
    order = block_order(shape, (0,) * len(shape))
    unit = int(np.prod(block))
    assert unit % unit_size(order.size, len(shape)) == 0, "a gms block lies within one block of the order"
    where = np.array(np.unravel_index(order, shape)).reshape(len(shape), -1, unit)
    first, last = where.min(axis=2).T, where.max(axis=2).T
    assert ((last - first + 1) == block).all() and (first % block == 0).all()


def test_a_level_that_is_all_margin_is_refused_in_itk_order() -> None:
    with pytest.raises(InputError, match="30×8"):
        block_order((8, 30), (0, 4))
    assert block_order((8, 30), (4, 0)).size == 22 * 8


# ---------------------------------------------------------------------------------------------------- urs


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 5000), percent=st.floats(0.01, 100))
def test_urs_draws_exactly_its_share_in_the_same_order(size: int, percent: float) -> None:
    order = np.random.default_rng(1).permutation(size).astype(np.int32)
    pool = level_samples(order, Sampling("urs", percent), SEED, 2)
    assert pool.size == max(1, round(size * percent / 100))
    place = np.empty(size, int)
    place[order] = np.arange(size)
    assert (np.diff(place[pool]) > 0).all()  # no voxel twice, public order kept


def test_urs_is_repeatable_and_differs_by_level_and_seed() -> None:
    order = np.arange(10_000, dtype=np.int32)

    def pool(seed: bytes, level: int) -> set[int]:
        return set(level_samples(order, Sampling("urs", 20), seed, level).tolist())

    assert pool(SEED, 0) == pool(SEED, 0)
    for other in (pool(SEED, 1), pool(b"q" * 32, 0)):
        assert 280 < len(pool(SEED, 0) & other) < 520  # 400 expected by chance


def test_urs_takes_every_voxel_with_the_same_chance() -> None:
    order, counts = np.arange(1000, dtype=np.int32), np.zeros(1000)
    for level in range(400):
        counts[level_samples(order, Sampling("urs", 25), SEED, level)] += 1
    assert abs(counts[:500].mean() - 100) < 3
    assert np.abs(counts - 100).max() < 6 * np.sqrt(400 * 0.25 * 0.75)


def test_the_other_methods_offer_the_whole_level() -> None:
    order = np.arange(50, dtype=np.int32)
    for method in set(SAMPLINGS) - {"urs"}:
        assert np.array_equal(level_samples(order, Sampling(method, 10), SEED, 0), order)


@pytest.mark.parametrize("percent", [0, -1, 100.001, float("nan")])
def test_a_percentage_outside_its_range_is_refused(percent: float) -> None:
    with pytest.raises(InputError):
        Sampling("urs", percent)


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="full, urs, gms"):
        Sampling("random")


# ---------------------------------------------------------------------------------------------------- gms


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.floats(0.1, 100))
def test_gms_chooses_exactly_its_share(weights: list[float], percent: float) -> None:
    blocks = choose_blocks(np.array(weights), percent, SEED, 1)
    assert blocks.size == max(1, round(len(weights) * percent / 100))
    assert (np.diff(blocks) > 0).all() and blocks[0] >= 0 and blocks[-1] < len(weights)
    assert np.array_equal(blocks, choose_blocks(np.array(weights), percent, SEED, 1))


def test_gms_draws_single_blocks_in_proportion_to_their_weights() -> None:
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    draws = [int(choose_blocks(weights, 25, SEED, level)[0]) for level in range(4000)]
    assert np.abs(np.bincount(draws, minlength=4) / 4000 - weights / 10).max() < 0.047  # six standard errors


def test_gms_chooses_flat_blocks_last() -> None:
    weights = np.r_[np.zeros(50), np.full(50, 1e-3)]
    assert choose_blocks(weights, 50, SEED, 0).tolist() == list(range(50, 100))


def test_gms_draws_uniformly_where_all_blocks_are_flat() -> None:
    counts = np.zeros(10)
    for level in range(2000):
        blocks = choose_blocks(np.zeros(10), 30, SEED, level)
        assert blocks.size == 3 and (np.diff(blocks) > 0).all()
        counts[blocks] += 1
    assert np.abs(counts - 600).max() < 6 * np.sqrt(2000 * 0.3 * 0.7)
    assert np.array_equal(choose_blocks(np.zeros(10), 30, SEED, 1), choose_blocks(np.ones(10), 30, SEED, 1))


@settings(max_examples=60, deadline=None)
@given(samples=st.integers(1, 3000), unit=st.sampled_from([64, 512]), data=st.data())
def test_chosen_blocks_cover_their_own_samples_and_no_others(samples: int, unit: int, data: st.DataObject) -> None:
    units = -(-samples // unit)
    blocks = np.array(sorted(data.draw(st.sets(st.integers(0, units - 1)))), np.int64)
    use = expand_blocks(blocks, unit, samples)
    assert use.shape == (samples,)
    assert np.array_equal(use, np.isin(np.arange(samples) // unit, blocks))


def test_units_by_dimension_and_size() -> None:
    few, many = 64 * 8192 - 1, 64 * 8192
    assert [unit_size(few, 2), unit_size(many, 2), unit_size(few, 3), unit_size(many, 3)] == [8, 8, 512, 2048]
    assert [unit_size(672, 2), unit_size(3060, 2), unit_size(53_375, 3), unit_size(2**21, 3)] == [2, 8, 128, 8192]
    assert unit_size(10, 2) == 1
