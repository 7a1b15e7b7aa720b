"""Mutual information: weights, histogram, gradient and pool against what numpy and scipy say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.stats import entropy

from PPIRLogic.disclosure.accounts import Budget, ImageAccount
from PPIRLogic.disclosure.ledger import Entry
from PPIRLogic.errors import BudgetError, InputError, OverlapError, PolicyError, ProtocolError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.registration.disclosure_estimate import check_budget, grants
from PPIRLogic.registration.levels import default_factors, make_levels
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.losses.mutual_information import (
    FACTOR,
    HIGH,
    LOW,
    WEIGHT,
    JointHistogram,
    as_factor,
    bin_position,
    fixed_bins,
    one_hot,
    parzen_columns,
    per_unit,
    slopes_of,
)
from PPIRLogic.registration.names import BINS
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party2.policy import Policy
from PPIRLogic.registration.protocols import PROTOCOLS
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.sampling import MIN_POOL
from PPIRLogic.registration.terms import GRADIENT, VALUE, terms_by_stage
from PPIRLogic.secure.integer_sums import over_vectors, sample_part
from PPIRLogic.secure.layout import CHUNK
from PPIRLogic.secure.product import numbers_of

Floats = NDArray[np.float64]
BIN = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)


def weights(position: Floats, bins: int) -> Floats:
    """Cubic B-spline weights (bins, n), by scipy."""
    return np.nan_to_num(BIN(np.arange(bins)[:, None] - position[None, :]))


def samples_of(columns: NDArray[np.int32], bins: int) -> NDArray[np.int32]:
    return sample_part(columns, bins)


def pair(bins: int, samples: int, seed: int = 0) -> tuple[Floats, NDArray[np.int64]]:
    """Moving positions in bins, and fixed bins that depend on them."""
    rng = np.random.default_rng(seed)
    moving = rng.uniform(LOW, HIGH, samples)
    fixed = np.clip(1 - moving + 0.1 * rng.standard_normal(samples), LOW, HIGH)
    return bin_position(moving, bins), fixed_bins(fixed, bins)


@pytest.mark.parametrize("bins", BINS)
def test_weights_are_those_of_the_cubic_spline_and_sum_to_one(bins: int) -> None:
    samples = 2 * CHUNK // bins
    intensities = np.concatenate([[LOW, HIGH, -9.0, 9.0], np.random.default_rng(1).uniform(-0.2, 1.4, samples - 4)])
    position = bin_position(intensities, bins)
    out = np.zeros((bins, 2 * CHUNK), np.int32)
    parzen_columns(position, np.ones(samples, bool), CHUNK // bins, CHUNK, out)
    got = samples_of(out, bins)
    assert (got.sum(axis=0) == WEIGHT).all() and (got >= 0).all()
    assert np.abs(got / WEIGHT - weights(position, bins)).max() < 2 / WEIGHT
    assert out.sum() == WEIGHT * samples, "nothing but the samples' places is filled"


def test_samples_outside_of_the_overlap_weigh_nothing() -> None:
    position, _ = pair(32, 256)
    use = np.random.default_rng(0).random(256) < 0.5
    out = np.zeros((32, CHUNK), np.int32)
    parzen_columns(position, use, 256, CHUNK, out)
    assert ((samples_of(out, 32).sum(axis=0) > 0) == use).all()


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(BINS), st.integers(0, 2**32 - 1))
def test_mutual_information_against_scipy(bins: int, seed: int) -> None:
    position, fixed = pair(bins, 4000, seed)
    counts = weights(position, bins) @ np.eye(bins)[fixed]
    found = JointHistogram.from_sums(np.rint(counts * WEIGHT).astype(int).ravel().tolist(), bins)
    p = found.p
    expected = entropy(p.sum(axis=0)) + entropy(p.sum(axis=1)) - entropy(p.ravel())
    assert np.isclose(found.mutual_information(), expected, rtol=1e-9)
    assert np.isclose(found.samples, 4000, rtol=1e-3)
    assert np.allclose(p, counts / counts.sum(), atol=1e-6)


def test_an_empty_histogram_is_an_overlap_error() -> None:
    with pytest.raises(OverlapError, match="initial transform"):
        JointHistogram.from_sums([0] * 64, 8)


def test_counts_that_no_image_gives_are_refused() -> None:
    """Of a peer or a dealer that lies: their logarithm would be the value of the loss."""
    counts = [WEIGHT] * 64
    assert np.isfinite(JointHistogram.from_sums(counts, 8).mutual_information())
    for at in (0, 37, 63):
        with pytest.raises(ProtocolError, match="negative counts"):
            JointHistogram.from_sums([*counts[:at], -1, *counts[at + 1 :]], 8)


def test_the_operand_is_the_one_hot_of_the_fixed_bins() -> None:
    rng = np.random.default_rng(2)
    bins, samples = 32, 1024
    fixed, inside = rng.integers(0, bins, samples), rng.random(samples) < 0.7
    operand = one_hot(fixed, inside, bins)
    vectors = operand.reshape(-1, bins, CHUNK // bins).transpose(1, 0, 2).reshape(bins, samples)
    assert np.array_equal(vectors, np.eye(bins, dtype=int)[fixed].T * inside)


def exact_gradient(position: Floats, fixed: NDArray[np.int64], steepest: Floats, bins: int, most: int) -> Floats:
    """dMI/dθ as Σ_x S(x)·Σ_t B(x,t)·U(x,t), with the engine's integers of magnitude up to `most`."""
    counts = weights(position, bins) @ np.eye(bins)[fixed]
    histogram = JointHistogram(counts / counts.sum(), float(counts.sum()))
    use = np.ones(position.size, bool)
    slopes, of_slopes = as_factor(slopes_of(position, use, histogram), most)
    factors, of_factors = as_factor(steepest, most)
    g = over_vectors(slopes.astype(np.int64) * one_hot(fixed, use, bins), bins)
    return (factors.astype(np.int64) @ g) / (of_slopes * of_factors) / histogram.samples


@pytest.mark.parametrize("bins", [8, 32])
def test_the_gradient_is_the_slope_of_the_value(bins: int) -> None:
    rng = np.random.default_rng(4)
    position, fixed = pair(bins, 4096)
    position = np.clip(position, 1.2, bins - 2.2)  # clear of the clipped ends
    steepest = rng.standard_normal((3, 4096)) * np.array([[1.0], [30.0], [0.1]])
    got = exact_gradient(position, fixed, steepest, bins, 2**24)

    def value(at: Floats) -> float:
        counts = weights(at, bins) @ np.eye(bins)[fixed]
        return JointHistogram(counts / counts.sum(), float(counts.sum())).mutual_information()

    for k in range(3):
        h = 1e-5 / np.abs(steepest[k]).max()
        slope = (value(position + h * steepest[k]) - value(position - h * steepest[k])) / (2 * h)
        assert abs(slope - got[k]) < 1e-6 * max(1.0, abs(slope)) + 1e-7 * np.abs(steepest[k]).max()


def test_coarse_factors_change_the_gradient_by_less_than_its_samples_do() -> None:
    """What FACTOR rounds off, against the gradient's spread over pools of as many samples."""
    bins, n = 32, 16_384
    rng = np.random.default_rng(5)
    position, fixed = pair(bins, n)
    position = np.clip(position, 1.2, bins - 2.2)
    steepest = rng.standard_normal((3, n)) * rng.uniform(0, 1, n)
    coarse, fine = (exact_gradient(position, fixed, steepest, bins, most) for most in (FACTOR, 2**24))
    others = [exact_gradient(position, fixed, rng.permuted(steepest, axis=1), bins, 2**24) for _ in range(8)]
    assert (np.abs(coarse - fine) < 0.05 * np.std(others, axis=0)).all()


def test_positions_stay_where_every_weight_falls_on_a_bin() -> None:
    for bins in BINS:
        lowest, highest = bin_position(np.array([-1e9, 1e9]), bins)
        assert int(lowest) - 1 >= 0 and int(highest) + 2 <= bins - 1
        assert np.isclose(highest - lowest, per_unit(bins) * (HIGH - LOW))


# ------------------------------------------------------------------------------------- pool, policy, budget


def grid(size: tuple[int, ...]) -> Geometry:
    d = len(size)
    return Geometry(size, (1.0,) * d, (0.0,) * d, tuple(np.eye(d).ravel()))


def request(**changes: object) -> Request:
    return Request(**{"image": "a", "protocol": "fhe", "transform": "rigid", "loss": "mi", "levels": (1,), **changes})  # type: ignore[arg-type]


def test_the_pool_is_random_fixed_and_the_owners() -> None:
    geometry = grid((90, 90, 60))
    first, again = (make_levels(geometry, request(), b"owner")[0].samples for _ in range(2))
    assert np.array_equal(first, again) and len(set(first.tolist())) == first.size == 32_768
    assert len(np.intersect1d(first, make_levels(geometry, request(), b"else")[0].samples)) < 0.3 * first.size
    factors = make_levels(geometry, request(levels=(2, 1)), b"owner")
    assert np.array_equal(factors[1].samples, first), "of the grid, not of the place among the levels"


def test_a_small_pool_is_refused() -> None:
    with pytest.raises(PolicyError, match=str(MIN_POOL)):
        make_levels(grid((90, 90)), request(levels=(4,)))
    assert default_factors(grid((221, 257)), LOSSES["mi"])[0] < default_factors(grid((221, 257)), LOSSES["ncc"])[0]


@pytest.mark.parametrize("bins", [0, 4, 7, 33, 128])
def test_bins_out_of_range_are_refused_on_both_sides(bins: int) -> None:
    with pytest.raises(InputError, match="bins"):
        Parameters(loss="mi", bins=bins)
    with pytest.raises(PolicyError, match="bins"):
        Policy().check(request(bins=bins), "peer", False)


def test_gms_does_not_go_with_a_random_pool() -> None:
    with pytest.raises(InputError, match="gms"):
        Parameters(loss="mi", sampling="gms", percent=20)


def test_what_an_evaluation_opens() -> None:
    level = make_levels(grid((90, 90, 60)), request())[0]
    stages = terms_by_stage(request(bins=16), level)
    assert numbers_of(stages[VALUE]) == 16 * 16 and numbers_of(stages[GRADIENT]) == 6


def test_the_default_budget_does_not_allow_it_and_says_what_would(tmp_path) -> None:  # type: ignore[no-untyped-def]
    levels = make_levels(grid((90, 90, 60)), request())
    account = ImageAccount(tmp_path / "a.jsonl", Budget())
    with pytest.raises(BudgetError, match=r"1030 needed per evaluation.*--budget-percent.*--budget-histograms"):
        check_budget(
            request(), grants(request(), levels, [len(v.samples) for v in levels], account, PROTOCOLS["fhe"]), account
        )


def test_the_number_of_histograms_is_bounded_over_restarts(tmp_path) -> None:  # type: ignore[no-untyped-def]
    budget = Budget(1e6, 1e9, 10**9, 10**9, histograms_per_level=3)
    entries = [Entry("histogram", "party 1", 1024, 46, 1, n, f"r{n}") for n in range(4)]
    account = ImageAccount(tmp_path / "a.jsonl", budget)
    for entry in entries[:2]:
        assert account.spend([entry], "s", 10**6, 0)
    account = ImageAccount(tmp_path / "a.jsonl", budget)
    assert account.histograms_left(1) == 1 and account.histograms_left(2) == 3
    assert not account.spend([entries[1]], "s", 10**6, 0), "an identical request is not counted again"
    assert account.spend([entries[2]], "s", 10**6, 0)
    with pytest.raises(BudgetError, match="joint histograms"):
        account.spend([entries[3]], "s", 10**6, 0)
    assert account.spend([Entry("gradient", "party 1", 6, 46, 1, 9, "g")], "s", 10**6, 0)
