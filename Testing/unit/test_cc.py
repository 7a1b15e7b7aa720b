"""Local cross-correlation of two halves: the formula, the same on shares, the dealer's part, the halves' fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from PPIRLogic.errors import PolicyError, ProtocolError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.interpolation import MovingImage
from PPIRLogic.images.volume import Volume
from PPIRLogic.network.channel import memory_pair
from PPIRLogic.network.service import Told
from PPIRLogic.progress import CancelToken
from PPIRLogic.registration.dealer.dealer import DealerSession, Dealing, Joined
from PPIRLogic.registration.dealer.orders import CcOrder
from PPIRLogic.registration.disclosure_estimate import most_numbers
from PPIRLogic.registration.levels import Level, make_levels
from PPIRLogic.registration.losses.cross_correlation import (
    FLOOR,
    FORCE,
    FORCE_BITS,
    IMAGE_BITS,
    ROOT_BITS,
    SHIFT,
    SUM_BITS,
    TERM_BITS,
    TERM_SHIFT,
    UNIT_BITS,
    HalfColumns,
    correlation,
    forces,
    half_columns,
    normalised,
    window_size,
    window_sums,
)
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party2.policy import Policy
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.rules import request_problem
from PPIRLogic.registration.symmetric.half_field import HalfField, whole
from PPIRLogic.registration.symmetric.half_image import MIN_JACOBIAN, HalfImage
from PPIRLogic.registration.symmetric.one_time_masks import ROUNDS, box_of, first_share, wire_mask
from PPIRLogic.registration.symmetric.protocol import CcFixed, CcProduct, coarse_of_published
from PPIRLogic.registration.symmetric.shares import INVERSE_BITS, VOXEL_BITS, CcShares
from PPIRLogic.registration.terms import FIELD, GRADIENT, VALUE, terms_by_stage
from PPIRLogic.secure.product import LevelInfo, Link, numbers_of
from PPIRLogic.transforms import DiffeoTransform, LinearTransform
from PPIRLogic.transforms.displacement_field import (
    composed,
    exponential,
    inverse_error_mm,
    jacobian_determinant,
    smoothed,
)

Array = NDArray[Any]
GRID = Geometry((24, 30, 26), (1.5, 1.0, 1.2), (3.0, 4.0, 5.0), (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
PLANE = Geometry((60, 50), (1.0, 1.5), (-7.0, 2.0), (1.0, 0.0, 0.0, 1.0))
SCALE = 2.0**22  # of the warped images below
UNIT = 2.0**UNIT_BITS


def request(**changes: Any) -> Request:
    settings: dict[str, Any] = {
        "image": "x", "protocol": "mpc", "transform": "diffeo", "loss": "cc", "levels": (1,), "iterations": (3,),
        "stride": 5, "evaluations": 12, "bending": 100.0,
    }  # fmt: skip
    return Request(**{**settings, **changes})


def level_of(grid: Geometry) -> Level:
    return make_levels(grid, request())[0]


def image(shape: tuple[int, ...], seed: int, sigma: float = 1.2) -> Array:
    """A smooth random image with flat regions, within [−0.5, 0.5]."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return np.clip(np.maximum(noise / np.abs(noise).max(), 0.02) - 0.3, -0.5, 0.5)


def columns_of(picture: Array, slope: float = 2.0**-10) -> tuple[HalfColumns, Array, Array]:
    """An owner's part, with 1/√E and the gradient that it stands for; all voxels are inside."""
    whole_numbers = np.rint(picture * SCALE).astype(np.int32)
    gradient = np.rint(np.stack(np.gradient(picture)) * SCALE).astype(np.int32)
    x, root = normalised(whole_numbers, np.ones(picture.shape, np.int32), SCALE)
    return half_columns(x, root, gradient, slope), root, gradient


def pair_of(level: Level) -> tuple[HalfColumns, HalfColumns]:
    assert level.control_points is not None
    one = image(box_of(level.control_points), 1)
    other = 0.7 * ndimage.shift(one, 0.8, order=1, mode="nearest") + 0.1 * image(one.shape, 2)
    return columns_of(one)[0], columns_of(other)[0]


def window_mean(picture: Array) -> Array:
    """Over the part of the window inside the image."""
    kernel = np.ones((5,) * picture.ndim)
    total = ndimage.convolve(picture, kernel, mode="constant")
    return np.asarray(total / ndimage.convolve(np.ones_like(picture), kernel, mode="constant"))


# ------------------------------------------------------------------------------------------------ the formula


@pytest.mark.parametrize("shape", [(9, 12), (7, 8, 11), (3, 9)])
def test_window_sums_are_those_of_a_convolution(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(-(2**40), 2**40, shape)
    wanted = ndimage.convolve(values, np.ones((5,) * len(shape), np.int64), mode="constant")
    assert np.array_equal(window_sums(values), wanted)
    full = window_sums(np.full((5, 5), 2**62))
    assert full[2, 2] == 2**62 and full[0, 0] == 2**62  # 25 and 9 times, modulo 2^64


@pytest.mark.parametrize("grid", [GRID, PLANE], ids=["3D", "2D"])
def test_forces_are_those_of_the_published_formula(grid: Geometry) -> None:
    """(D/EF)·(J̄ − (D/E)Ī)·∇I in float64, with the floor in E and F."""
    shape = grid.array_shape
    i = image(shape, 1)
    j = 0.7 * ndimage.shift(i, 0.8, order=1, mode="nearest") + 0.1 * image(shape, 2)
    (one, _, gradient), (two, _, _) = columns_of(i), columns_of(j)
    i_bar, j_bar = i - window_mean(i), j - window_mean(j)
    floor = window_size(i.ndim) * FLOOR**2

    def sums(picture: Array) -> Array:
        return ndimage.convolve(picture, np.ones((5,) * i.ndim), mode="constant")

    d, e, f = sums(i_bar * j_bar), sums(i_bar**2) + floor, sums(j_bar**2) + floor
    wanted = d / (e * f) * (j_bar - d / e * i_bar) * gradient / SCALE
    rho = correlation(one, two)
    assert np.abs(rho / UNIT - d / np.sqrt(e * f)).max() < 4e-4
    found = forces(one, two, rho) / 2.0**TERM_BITS / SCALE / 2.0**-10
    assert np.abs(found - wanted).max() < 5e-3 * np.abs(wanted).max()
    assert np.sqrt(np.mean((found - wanted) ** 2)) < 1e-2 * np.sqrt(np.mean(wanted**2))
    assert np.abs(rho).max() <= UNIT + 1 and rho.mean() > 0.3 * UNIT  # and the images are alike, so there is something


def test_no_image_leaves_the_range_of_the_shift() -> None:
    """|D·P·Q| < 2^60, by Cauchy-Schwarz, for equal, opposite and extreme images."""
    rng = np.random.default_rng(5)
    pictures = [np.where(rng.random((20, 21)) < p, 1.0, -1.0) for p in (0.5, 0.02)] + [np.zeros((20, 21))]
    made = [columns_of(p)[0] for p in pictures]
    for one in made:
        for other in made:
            for sign in (1, -1):
                v = window_sums(one.image * other.image).astype(object) * one.root * other.root * sign
                assert max(abs(int(x)) for x in v.ravel()) < 2**60
    assert 2 * (IMAGE_BITS + ROOT_BITS) == 60 and SHIFT == 60 - UNIT_BITS


# -------------------------------------------------------------------------------------------------- on shares


@pytest.mark.parametrize("grid", [GRID, PLANE], ids=["3D", "2D"])
def test_shares_hold_the_similarity_and_both_forces(cc_exchange: Callable[..., Any], grid: Geometry) -> None:
    level = level_of(grid)
    first, second = pair_of(level)
    opened = cc_exchange(level.control_points, first, second)
    mine, theirs = opened.both(lambda s: s.similarity())
    assert level.control_points is not None
    v = window_sums(first.image * second.image) * first.root * second.root
    rho = (opened.sides[0]._rho + opened.sides[1]._rho).reshape(v.shape)
    excess = rho - (v >> SHIFT)
    assert set(np.unique(excess)) == {0, 1}  # exact but for one unit, everywhere; and never more
    assert 0.3 < excess.mean() < 0.7
    assert int((mine + theirs)[0]) == int(np.sum(rho * rho))

    (here_1, there_1), (here_2, there_2) = opened.both(lambda s: s.forces())
    for own, other, found in ((first, second, here_1 + there_2), (second, first, there_1 + here_2)):
        wanted = np.concatenate([level.control_points.box_sums(f) for f in forces(own, other, correlation(own, other))])
        assert np.abs(found - wanted).max() < 2e-4 * np.abs(wanted).max() and wanted.any()


@pytest.mark.parametrize("grid", [GRID, PLANE], ids=["3D", "2D"])
def test_terms_are_shortened_to_one_unit_and_their_sums_are_exact(
    cc_exchange: Callable[..., Any], grid: Geometry, monkeypatch: pytest.MonkeyPatch
) -> None:
    level = level_of(grid)
    first, second = pair_of(level)
    opened = cc_exchange(level.control_points, first, second)
    seen: dict[int, list[Any]] = {}
    shifted = CcShares._shifted

    def watched(self: CcShares, stage: str, *values: Any) -> Any:
        out = shifted(self, stage, *values)
        if stage == "shorten":
            seen[opened.sides.index(self)] = [*values, *out]
        return out

    monkeypatch.setattr(CcShares, "_shifted", watched)
    opened.both(lambda s: s.similarity())
    (here_1, there_1), (here_2, there_2) = opened.both(lambda s: s.forces())
    rho = opened.sides[0]._rho + opened.sides[1]._rho
    terms = [a + b for a, b in zip(seen[0], seen[1], strict=True)]
    for found, wanted in zip(terms[:3], (rho * first.unit.ravel(), rho * second.unit.ravel(), rho * rho), strict=True):
        assert np.array_equal(found, wanted)
    for found, short in zip(terms[:3], terms[3:], strict=True):
        excess = short - (found >> TERM_SHIFT)
        assert set(np.unique(excess)) <= {0, 1} and 0.2 < excess.mean() < 0.8
    mine, theirs, square = (t.reshape(first.image.shape) for t in terms[3:])
    assert level.control_points is not None
    for own, term, force in ((first, theirs, here_1 + there_2), (second, mine, there_1 + here_2)):
        each = [term * a - square * b for a, b in zip(own.slopes, own.products, strict=True)]
        assert np.array_equal(force, np.concatenate([level.control_points.box_sums(v) for v in each]))


def test_extreme_values_are_shifted_exactly(cc_exchange: Callable[..., Any]) -> None:
    """Values up to 2^62 on either side of zero, on shares that wrap round."""
    level = level_of(PLANE)
    first, second = pair_of(level)
    opened = cc_exchange(level.control_points, first, second)
    count = first.image.size
    rng = np.random.default_rng(0)
    v = rng.integers(-(2**62) + 1, 2**62, count)
    v[:4] = (2**62 - 1, -(2**62), 0, -1)
    part = rng.integers(-(2**63), 2**63 - 1, count)
    shares = {id(opened.sides[0]): part, id(opened.sides[1]): v - part}

    def shift(side: Any) -> Any:
        side._order("shift")
        return side._shifted("shift", shares[id(side)])[0]

    mine, theirs = opened.both(shift)
    assert set(np.unique(mine + theirs - (v >> SHIFT))) <= {0, 1}


def test_the_published_openings_are_the_papers(cc_exchange: Callable[..., Any]) -> None:
    level = level_of(PLANE)
    first, second = pair_of(level)
    opened = cc_exchange(level.control_points, first, second)
    opened.both(lambda s: s.similarity())
    shares = opened.both(lambda s: s.published())
    factor, c2, c3 = (shares[0] + shares[1]).reshape(3, *first.image.shape)
    x, y = first.image / 2.0**IMAGE_BITS, second.image / 2.0**IMAGE_BITS
    e, f = (2.0 ** (2 * ROOT_BITS) / c.root.astype(float) ** 2 for c in (first, second))
    d = window_sums(first.image * second.image) / 4.0**IMAGE_BITS
    for found, wanted in (
        (factor / 4.0 ** (IMAGE_BITS + INVERSE_BITS), d / (e * f)),
        (c2 / 2.0**VOXEL_BITS, y - d / e * x),
        (c3 / 2.0**VOXEL_BITS, x - d / f * y),
    ):
        assert np.abs(found - wanted).max() < 2e-3 * np.abs(wanted).max()
    assert level.control_points is not None
    for rank, (own, other) in enumerate(((first, second), (second, first))):
        coarse = coarse_of_published(shares[0] + shares[1], rank, own, level.control_points)
        wanted = np.concatenate([level.control_points.box_sums(f) for f in forces(own, other, correlation(own, other))])
        assert np.abs(coarse - wanted).max() < 5e-3 * np.abs(wanted).max()


# ----------------------------------------------------------------------------------------- masks and the dealer


def test_no_two_masks_of_an_evaluation_share_an_address() -> None:
    names = (
        "x",
        "root",
        "scaled",
        "r",
        "r first",
        "r square",
        "rho",
        "unit",
        "term",
        "square",
        "a0",
        "a1",
        "a2",
        "b0",
        "b1",
        "b2",
        "e",
        "z",
    )
    words = [
        int(wire_mask(key, name, level, evaluation, 1)[0])
        for key in (b"0" * 32, b"1" * 32) for name in names for level in range(3) for evaluation in range(5)
    ]  # fmt: skip
    words += [int(first_share(b"0" * 32, r, v, e, 1)[0]) for r in ROUNDS for v in range(3) for e in range(5)]
    assert len(set(words)) == len(words)


def test_an_evaluation_cannot_be_repeated_on_either_side() -> None:
    mine, theirs = memory_pair("party 1", "party 2")
    info = LevelInfo(0, 10, ())
    one, two = CcProduct(Link(mine, b"s" * 32, 1, lambda: None)), CcFixed(Link(theirs, b"s" * 32, 1, lambda: None))
    one.open_level(info, b"")
    two.open_level(info, {}, b"", b"")
    one._used.add((0, 4))
    terms = terms_by_stage(request(), level_of(PLANE))[VALUE]
    half: Any = object.__new__(HalfImage)
    with pytest.raises(ProtocolError, match="never used twice"):
        one.evaluate(half, terms, 4, lambda: pytest.fail("it was announced"))
    two.move_image(lambda former: half)
    two._used.add((0, 4))
    with pytest.raises(ProtocolError, match="used already"):
        two.receive({"evaluation": 4, "length": 0.0}, terms)
    with pytest.raises(ProtocolError, match="does not exist"):
        two.receive({"evaluation": 5, "length": 0.3}, terms)
    force = terms_by_stage(request(), level_of(PLANE))[GRADIENT]
    with pytest.raises(ProtocolError, match="no similarity"):
        two.receive({"evaluation": 6}, force)
    mine.close()
    theirs.close()


GOOD = {"level": 0, "evaluation": 0, "samples": 10, "cc": "product"}


@pytest.mark.parametrize(
    "change",
    [
        {"cc": "all"}, {"cc": 3}, {"cc": None}, {"samples": 0}, {"samples": 2**40}, {"samples": -1}, {"level": 65},
        {"evaluation": -1}, {"level": True}, {"cc": "force"}, {"cc": "force", "knots": [[1] * 6]},
        {"cc": "force", "knots": [[40, 8, 0, 1, 40, 3], [40, 8, 0, 1, 40, 3]]},
    ],
)  # fmt: skip
def test_the_dealer_refuses_orders_that_are_malformed(change: dict[str, Any]) -> None:
    assert CcOrder.from_dict(GOOD).samples == 10
    with pytest.raises(ProtocolError):
        CcOrder.from_dict(GOOD | change)


def test_the_dealer_deals_a_round_once() -> None:
    mine, dealers = memory_pair("party 1", "dealer")
    theirs, other = memory_pair("party 2", "dealer")
    session = Joined((b"0" * 32, b"1" * 32))
    session.channels = {1: dealers, 2: other}
    mine.send("order", GOOD)
    mine.send("order", GOOD)
    with pytest.raises(ProtocolError, match="never dealt twice"):
        DealerSession(Dealing(Told(lambda event: None)), dealers, session, 1, b"").deal()
    sent = np.frombuffer(theirs.receive(5).payload, "<i8")
    whole_product = wire_mask(b"0" * 32, "x", 0, 0, 10) * wire_mask(b"1" * 32, "x", 0, 0, 10)
    assert np.array_equal(sent + first_share(b"0" * 32, "product", 0, 0, 10), whole_product)
    for channel in (mine, dealers, theirs, other):
        channel.close()


# ------------------------------------------------------------------------------------- requests and estimates


@pytest.mark.parametrize(
    "change, words",
    [
        ({"transform": "affine", "iterations": ()}, "goes with the transform diffeo"),
        ({"transform": "bspline"}, "goes with the transform diffeo"),
        ({"protocol": "fhe"}, "protocol mpc"),
        ({"protocol": "fhe_v1"}, "protocol mpc"),
        ({"fixed_mask": "private"}, "none or fill"),
        ({"fixed_mask": "disclosed"}, "none or fill"),
        ({"sampling": "urs"}, "every voxel"),
        ({"iterations": (1, 2)}, "one count"),
        ({"stride": 1}, "stride"),
        ({"loss": "lncc", "protocol": "published"}, "loss cc alone"),
        ({"loss": "mi", "transform": "rigid", "iterations": (), "protocol": "published"}, "loss cc alone"),
    ],
)
def test_what_does_not_go_together_is_said(change: dict[str, Any], words: str) -> None:
    assert words in request_problem(request(**change))
    assert not request_problem(request()) and not request_problem(request(protocol="published"))


def test_the_default_policy_refuses_the_published_openings() -> None:
    Policy().check(request(), "", False)
    with pytest.raises(PolicyError, match="protocol 'published_cc' is not permitted"):
        Policy().check(request(protocol="published"), "", False)


@pytest.mark.parametrize("stride", [5, 6, 8])
def test_a_step_opens_less_than_a_64th_of_what_is_published(stride: int) -> None:
    grid = Geometry((58, 79, 129), (2.7, 2.7, 2.5), (0.0,) * 3, tuple(np.eye(3).ravel()))
    level = make_levels(grid, request(stride=stride))[0]
    ours, published = (
        terms_by_stage(request(stride=stride, protocol=p), level)[GRADIENT] for p in ("mpc", "published")
    )
    assert sum(t.outputs for t in published) == 3 * len(level.samples)
    assert 64 * sum(t.outputs for t in ours) < sum(t.outputs for t in published)
    assert level.control_points is not None and level.control_points.bits >= 3  # of the projection's weights, per axis
    grant = most_numbers(request(stride=stride), grid)[0]
    field = sum(t.outputs for t in terms_by_stage(request(stride=stride), level)[FIELD])
    assert grant.most == 12 + 3 * grant.numbers_per_gradient + field
    assert grant.shown == 3 * sum(t.outputs for t in ours)  # what party 2 learns
    assert ours[0].kind == FORCE and all(t.revealed_to_both for t in ours)


def test_the_bending_travels_with_the_request_of_this_loss_alone() -> None:
    asked = Parameters(transform="diffeo", loss="cc", protocol="mpc", elastic=2.0).request("x", GRID, "", "")
    assert asked.bending == 300.0 and asked.elastic_mm == 2.0
    assert Request.from_dict({**asked.to_dict()}) == asked
    assert Parameters(transform="diffeo", loss="ncc", elastic=2.0).request("x", GRID, "", "").elastic_mm == 0
    assert replace(asked, bending=-1.0).to_dict() and FORCE_BITS < SUM_BITS
    with pytest.raises(ProtocolError, match="bending"):
        Request.from_dict(replace(asked, bending=-1.0).to_dict())


# ------------------------------------------------------------------------------------------------- the halves


def half_image(bending: float = 1.0) -> HalfImage:
    level, still = level_of(PLANE), LinearTransform.identity("affine", PLANE.centre())
    volume = Volume((image(PLANE.array_shape, 1) + 0.5).astype(np.float32), PLANE, "moving")
    moving = MovingImage(volume, (0, 0), cubic=True)
    return HalfImage(level, PLANE, moving, still, HalfField.identity(PLANE), bending, 0.0, 1)


@pytest.mark.parametrize("height, moves", [(3.0, True), (40.0, True), (4000.0, False)])
def test_a_step_that_would_fold_is_shortened_or_refused(height: float, moves: bool) -> None:
    """Neighbouring control points pulled in opposite directions: a longer pull folds sooner."""
    half = half_image()
    here, there = half.level.control_points.counts if half.level.control_points else (0, 0)
    half._step = np.zeros((2, here, there))
    half._step[0, here // 2, 3:-3:2] = height
    half._step[0, here // 2, 4:-3:2] = -height
    unlimited = half.start.displaced(half._dense(half._quantised(half._step)))
    assert (jacobian_determinant(unlimited, PLANE).min() > MIN_JACOBIAN) == (height < 10)
    half.try_step(1.0)
    assert jacobian_determinant(half._field, PLANE).min() > MIN_JACOBIAN
    assert bool(half.trial.any()) == moves
    half.keep()
    assert np.array_equal(half.finished().field, half._field)


def test_a_whole_that_folds_leaves_the_last_good_field(monkeypatch: pytest.MonkeyPatch) -> None:
    import PPIRLogic.registration.party1.level_runs.symmetric as runs

    good = DiffeoTransform.identity(LinearTransform.identity("affine", PLANE.centre()), PLANE)
    folded = replace(good, field=wave(PLANE, 60.0, 4))
    assert jacobian_determinant(folded.field, PLANE).min() < 0
    for found, kept in ((folded, False), (replace(good, field=wave(PLANE, 1.0, 4)), True)):
        run, level = FakeRun(good), level_of(PLANE)
        one = runs.SymmetricRun(run, FakeSession(level), level, half_image()._warp._moving)  # type: ignore[arg-type]
        monkeypatch.setattr(runs, "whole", lambda affine, first, second, found=found: found)
        one.run(3, 0)
        assert (run.best is found) == kept and (run.best is good) != kept
        assert one.record.reason == ("iterations" if kept else "folding")


class FakeRun:
    """What a level needs of a run."""

    def __init__(self, best: DiffeoTransform) -> None:
        self.best, self.records, self.parameters = best, [], Parameters(threads=1)
        self.halves: Any = None
        self.cancel, self.report_progress = CancelToken(), lambda *a, **k: None


class FakeSession:
    """A peer that answers nothing but zeros."""

    def __init__(self, level: Level) -> None:
        self.request, self.levels, self.geometry = request(), [level], PLANE

    def open_level(self, *_: Any) -> None:
        pass

    def evaluate(self, level: Level, half: HalfImage, stage: str, terms: Any, details: Any = None) -> list[int]:
        return [0] * numbers_of(terms)


def wave(grid: Geometry, height_mm: float, seed: int) -> Array:
    noise = np.random.default_rng(seed).normal(size=(grid.dimension, *grid.array_shape)).astype(np.float32)
    noise[(slice(None), *[slice(6, -6)] * grid.dimension)] *= 3
    field = smoothed(noise, grid, 5.0)
    return np.asarray(field * np.float32(height_mm / np.sqrt(np.square(field).sum(axis=0)).max()))


def test_the_whole_leads_from_fixed_to_moving_points() -> None:
    """φ₁∘φ₂⁻¹: a middle point's two images correspond, in this direction and in no other."""
    velocities = wave(PLANE, 3.0, 1), wave(PLANE, 2.0, 2)
    first, second = (HalfField.identity(PLANE).moved(v) for v in velocities)
    found = whole(LinearTransform.identity("affine", PLANE.centre()), first, second)
    reached = composed(found.field, second.field, PLANE)  # middle → fixed → moving
    inside = (slice(None), slice(8, -8), slice(8, -8))
    assert np.abs(reached - first.field)[inside].max() < 0.15
    turned = composed(found.field, first.field, PLANE)
    assert np.abs(turned - second.field)[inside].max() > 1.0  # so that the test can fail
    assert inverse_error_mm(found.field, found.inverse, PLANE).mean() < 0.05
    swapped = whole(found.affine, second, first)
    assert np.abs(swapped.field - found.inverse)[inside].max() < 0.15
    assert isinstance(found, DiffeoTransform) and found.statistics()["jacobian"]["folded_percent"] == 0


def test_a_half_is_its_levels_flows_and_goes_back() -> None:
    coarse = Geometry((30, 25), (2.0, 3.0), (-6.5, 2.75), PLANE.direction)
    start = HalfField.identity(coarse).moved(wave(coarse, 3.0, 3))
    half = start.on_grid(PLANE).moved(wave(PLANE, 1.0, 4))
    flow = exponential(wave(PLANE, 1.0, 4), PLANE)
    assert np.allclose(half.field, composed(start.on_grid(PLANE).field, flow, PLANE))
    assert inverse_error_mm(half.field, half.inverse, PLANE).mean() < 0.02
