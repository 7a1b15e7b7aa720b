"""Slot products: exact against numpy under every protocol, hidden from the key holder, bounded as stated."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from PPIRLogic.errors import ProtocolError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.pyramid import level_geometry
from PPIRLogic.registration.columns.mutual_information import FactorColumns
from PPIRLogic.registration.control_points import SUM_BITS, VALUE_BITS, ControlPointMap, control_point_map_of
from PPIRLogic.registration.losses.mutual_information import one_hot
from PPIRLogic.secure.fhe import ring, slots
from PPIRLogic.secure.fhe.bfv import GROUP, uniform_polynomial
from PPIRLogic.secure.fhe.evaluator import Evaluator, Operand, switch_modulus
from PPIRLogic.secure.fhe.key_holder import KeyHolder
from PPIRLogic.secure.fhe.parameters import KEPT, PRIMES, Q_KEPT
from PPIRLogic.secure.fhe.slots import RANGE, SLOT_MODULI, SlotMultiplier, combine_moduli, encrypt_slots, open_slots
from PPIRLogic.secure.layout import CHUNK
from PPIRLogic.secure.product import Term

SEED = bytes(range(32))


def control_points(size: tuple[int, ...] = (40, 36, 14), factor: int = 1, spacing: float = 9.0) -> ControlPointMap:
    g = Geometry(size, (1.0, 1.2, 2.0)[: len(size)], (0.0,) * len(size), np.eye(len(size)).ravel())
    return control_point_map_of(g, level_geometry(g, factor), factor, 2.0, spacing, 1, 2)


def brute_force(p: ControlPointMap, values: NDArray[np.int64]) -> list[int]:
    """R of the kept control points in Python's integers, one control point at a time."""
    grid = p.on_grid(values).astype(object)
    for axis, weights in zip(reversed(p.axes), reversed(p.weights), strict=True):
        dense = np.zeros((axis.control_points, axis.size), object)
        for i in range(axis.size):
            for t in range(4):
                dense[axis.start[i] + t, i] += int(weights[i, t])
        grid = np.moveaxis(np.tensordot(dense, grid, (1, 0)), 0, -1)  # the axes come round once
    return [int(v) for v in grid.reshape(-1)[p.kept]]


@pytest.mark.parametrize("size", [(40, 36, 14), (61, 47)])
def test_pooling_is_the_sum_over_b_splines(size: tuple[int, ...]) -> None:
    p = control_points(size)
    values = np.random.default_rng(0).integers(-(2**23), 2**23, len(p.samples))
    assert p.sums(values).tolist() == brute_force(p, values)
    assert 0 < p.count < math.prod(p.counts)  # control points beyond the margin are not opened


@pytest.mark.parametrize("spacing", [4.0, 9.0, 18.0])
def test_sums_stay_within_the_exact_range_whatever_the_images(spacing: float) -> None:
    p = control_points((40, 36, 28), spacing=spacing)
    largest = int(np.abs(p.sums(np.full(len(p.samples), 2**VALUE_BITS))).max())
    assert largest < 2**SUM_BITS and largest <= RANGE // 2
    assert largest * max(SLOT_MODULI) // 2**VALUE_BITS < 2**63  # sums of pads modulo t do not wrap either


def test_a_pooling_survives_the_wire_and_junk_does_not() -> None:
    p = control_points()
    assert ControlPointMap.from_wire(p.to_wire()) == p and ControlPointMap.from_wire(p.to_wire()).digest() == p.digest()
    assert control_points(spacing=5.0).digest() != p.digest()
    good = p.to_wire()
    bad: list[Any] = [None, [], "x", good[:1], [good[0], [1, 2]], [[*good[0][:5], 1.5], good[1]]]
    for at, value in ((0, 5000), (1, 0), (1, 2000), (2, -1), (3, 0), (4, 0), (4, 41), (5, 39), (5, -1)):
        row = list(good[0])
        row[at] = value
        bad.append([row, *good[1:]])
    for rows in bad:
        with pytest.raises(ProtocolError):
            ControlPointMap.from_wire(rows)


@pytest.mark.parametrize("protocol", ["clear", "fhe", "mpc"])
def test_pooled_products_are_exact(protocol: str, exchange: Callable[..., Any]) -> None:
    """The largest magnitudes that may occur, and noise; two evaluations, as masks are fresh for each."""
    p = control_points((64, 56, 24), spacing=8.0)  # more than one group of samples
    random = np.random.default_rng(1)
    n = len(p.samples)
    assert n > GROUP
    fixed = random.choice([-2048, -3, 0, 1, 2048], n).astype(np.int32)
    columns = random.choice([-4095, 0, 7, 4095], (5, n)).astype(np.int32)
    opened = exchange(protocol, {"J": fixed}, control_points=p)
    terms = [Term(c, "J", "gradient", p.count, per_control_point=True) for c in (4, 2, 3)]
    for evaluation in range(2):
        found = opened.evaluate(columns, terms, evaluation)
        wanted = [v for c in (4, 2, 3) for v in p.sums(columns[c].astype(np.int64) * fixed).tolist()]
        assert found == wanted
        columns = -columns[::-1]
    one = opened.evaluate(columns, [Term(1, "J", "value")], 2)  # the same level still opens single sums
    assert one == [int(columns[1].astype(np.int64) @ fixed)]


@pytest.mark.parametrize("protocol", ["clear", "fhe", "mpc"])
def test_pooled_products_of_three_are_exact(protocol: str, exchange: Callable[..., Any]) -> None:
    """The bins of a random pool of samples: Σ_x B_k(x)·S(x)·Σ_t U(x,t)·B(x,t), at the largest magnitudes."""
    whole, bins, samples = control_points((72, 64, 28), spacing=8.0), 2, GROUP + CHUNK
    random = np.random.default_rng(2)
    p = replace(whole, pool=np.sort(random.choice(whole.samples, samples, replace=False)))
    chosen = random.integers(0, bins, samples)
    u = random.choice([-2047, 0, 5, 2047], (bins, samples)).astype(np.int32)
    s = random.choice([-4095, 0, 7, 4095], (3, samples)).astype(np.int32)
    entries = u.reshape(bins, -1, CHUNK // bins).transpose(1, 0, 2).reshape(-1)
    opened = exchange(protocol, {"B": one_hot(chosen, np.ones(samples, bool), bins)}, control_points=p, vectors=bins)
    terms = [Term(c, "B", "gradient", p.count, per_control_point=True, vectors=bins) for c in range(3)]
    g = u[chosen, np.arange(samples)].astype(np.int64)
    for evaluation in range(2):
        found = opened.evaluate(FactorColumns(entries, s, bins), terms, evaluation)
        assert found == [v for row in s for v in p.sums(g * row).tolist()]
        s = -s[::-1]
    sent = [m for a, _, m in opened.sent if a == "party 1" and m.kind == "request"]
    if protocol == "fhe":  # as much as for one vector, and one ciphertext more for each modulus, to be compared
        assert sum(len(m.payload) for m in sent) == 2 * (3 * (samples // CHUNK) + 1) * 2 * slots.PRODUCT_BYTES
    if protocol == "mpc":
        assert sum(len(m.payload) for m in sent) == 2 * 8 * (bins + 3) * samples


def test_a_pool_is_part_of_what_both_sides_compare() -> None:
    whole = control_points()
    one, other = (replace(whole, pool=whole.samples[:: 2 + k]) for k in range(2))
    assert len({whole.digest(), one.digest(), other.digest()}) == 3
    assert one.sums(np.ones(len(one.samples), np.int64)).tolist() == brute_force(one, np.ones(len(one.samples), int))


def test_the_dealer_and_the_peer_learn_no_value_under_mpc(exchange: Callable[..., Any]) -> None:
    p = control_points((40, 36, 14))
    column = np.full((1, len(p.samples)), 4095, np.int32)
    opened = exchange("mpc", {"J": np.full(len(p.samples), 7, np.int32)}, control_points=p)
    opened.evaluate(column, [Term(0, "J", "gradient", p.count, per_control_point=True)])
    sent = [m for a, b, m in opened.sent if (a, b) == ("party 1", "party 2") and m.kind == "request"]
    masked = np.concatenate([np.frombuffer(m.payload, "<u8") for m in sent])
    assert len(np.unique(masked)) == len(masked)  # a constant column looks like 64 random bits
    assert abs(float(np.mean(masked / 2.0**64)) - 0.5) < 6 * math.sqrt(1 / 12 / len(masked))
    orders = [m for a, b, m in opened.sent if b == "dealer"]
    assert all(not len(m.payload) for m in orders)


# ----------------------------------------------------------------------------------------------- the scheme


class Level:
    """One encrypted group of values, and a multiplier for it."""

    def __init__(self, channel: int, values: NDArray[np.int32]) -> None:
        self.keys, self.channel = KeyHolder(SEED), channel
        self.operand = Operand(8)
        packed = encrypt_slots(self.keys, values, "J", channel, 0).reshape(8, -1)
        for lane in range(8):
            self.operand.fill(SEED, slots.slot_name("J", channel), lane, lane, packed[lane].tobytes())
        self.multiplier = SlotMultiplier(Evaluator(SEED, self.keys.public_key().tobytes()))

    def multiply(self, column: NDArray[np.int32]) -> tuple[bytes, NDArray[np.int64]]:
        message, pads = self.multiplier.multiply([(column, self.operand.data[0])], self.channel, 8)
        return message.tobytes(), pads


@pytest.fixture(scope="module")
def level() -> Level:
    return Level(0, np.random.default_rng(5).integers(-2048, 2049, GROUP).astype(np.int32))


@pytest.mark.parametrize("channel", [0, 1])
def test_every_slot_opens_to_product_plus_pad(channel: int) -> None:
    values = np.random.default_rng(2).integers(-2048, 2049, GROUP).astype(np.int32)
    column = np.random.default_rng(3).integers(-4095, 4096, GROUP).astype(np.int32)
    here = Level(channel, values)
    message, pads = here.multiply(column)
    opened = open_slots(here.keys, message, channel, 8)
    product = column.astype(np.int64) * values
    assert np.array_equal((opened - pads - product) % SLOT_MODULI[channel], np.zeros(GROUP))


def test_moduli_suit_the_ring_and_the_bounds_in_the_text() -> None:
    for t in SLOT_MODULI:
        assert t % (2 * ring.DEGREE) == 1 and all(t % k for k in range(2, math.isqrt(t) + 1))
        assert t not in PRIMES and 2**28 < t < 2**29
        worst = 21 * ring.DEGREE * t // 2 + ring.DEGREE * t // 4 + 21 * (2 * ring.DEGREE + 1)
        most = worst / PRIMES[-1] + ring.DEGREE / 2 + 1  # with the rounding of c1 times a ternary secret
        assert most / (Q_KEPT / t) < 2.0**-43  # even the worst noise hardly ever carries
    assert 2**57.99 < math.prod(SLOT_MODULI) < 2**slots.SLOT_BITS
    assert math.log2(RANGE // 2) == pytest.approx(56.998, abs=1e-3)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, Q_KEPT - 1), min_size=1, max_size=9), st.sampled_from([*SLOT_MODULI, 2**30 - 1, 2]))
def test_floors_are_exact(values: list[int], t: int) -> None:
    """⌊t·v/Q'⌋ by mixed radix, against Python's integers."""
    residues = np.array([[v % p for v in values] for p in PRIMES[:KEPT]], np.uint32)
    assert slots.floors(residues, t).tolist() == [v * t // Q_KEPT for v in values]


def test_every_coefficient_that_travels_is_uniform(level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modulo each kept prime, so modulo Q'; the control is a pad of zero over a product of zero."""
    column = np.zeros(GROUP, np.int32)

    def first_parts() -> NDArray[np.uint32]:
        return ring.unpack30(level.multiply(column)[0]).reshape(2, KEPT, GROUP)[0]

    sent = first_parts()
    for i, prime in enumerate(PRIMES[:KEPT]):
        counts = np.histogram(sent[i], 64, (0, prime))[0]
        assert float(np.sum((counts - GROUP / 64) ** 2) / (GROUP / 64)) < 63 + 6 * math.sqrt(2 * 63)
    assert abs(np.corrcoef(sent[0], first_parts()[0])[0, 1]) < 6 / math.sqrt(GROUP)
    monkeypatch.setattr(SlotMultiplier, "uniform_polynomial", lambda self, below: np.zeros(GROUP, np.uint32))
    message, pads = level.multiply(column)
    phases = slots.phases(level.keys, message, 8)
    small = np.minimum(phases[0], PRIMES[0] - phases[0].astype(np.int64))
    assert small.max() < 1000 and not pads.any()


def test_what_the_key_holder_opens_is_uniform_and_unrelated(level: Level) -> None:
    """The opened slots of a constant column: flat, and not correlated with the products; the pads are what hides."""
    column = np.full(GROUP, 1000, np.int32)
    message, pads = level.multiply(column)
    opened = open_slots(level.keys, message, 0, 8)
    t = SLOT_MODULI[0]
    counts, _ = np.histogram(opened, 64, (0, t))
    expected = GROUP / 64
    assert float(np.sum((counts - expected) ** 2) / expected) < 63 + 6 * math.sqrt(2 * 63)
    bare = (opened - pads) % t  # positive control: without the pads the products lie open
    bare = np.where(bare > t // 2, bare - t, bare)
    fixed = np.random.default_rng(5).integers(-2048, 2049, GROUP)
    wrapped = (1000 * fixed + t // 2) % t - t // 2
    assert np.array_equal(bare, wrapped)
    assert abs(np.corrcoef(opened, wrapped)[0, 1]) < 6 / math.sqrt(GROUP)


def test_c1_does_not_confirm_a_guess_of_the_column(level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key holder who guesses the column can compute c1 of the product; the encryption of zero must hide it."""
    column = np.random.default_rng(8).integers(-50, 50, GROUP).astype(np.int32)

    def second_part() -> NDArray[np.uint32]:
        received = ring.unpack30(level.multiply(column)[0]).reshape(2, KEPT, 8, ring.DEGREE)
        return received[1]

    guess = _c1_of(column)
    assert (second_part() == guess).mean() < 0.001
    with monkeypatch.context() as patch:  # positive control: no encryption of zero
        patch.setattr(ring, "ternary", lambda random, out: out.fill(0) or 1)
        patch.setattr(ring, "centred_binomial", lambda words, out: out.fill(0))
        assert (second_part() == guess).all()


def _c1_of(column: NDArray[np.int32]) -> NDArray[np.uint32]:
    """round(column·a·Q'/Q) modulo the kept primes, from public polynomials, (3, 8, n)."""
    m = slots.slots_to_polynomials(slots._by_lane(column), SLOT_MODULI[0])
    a = np.stack([uniform_polynomial(SEED, slots.slot_name("J", 0), lane) for lane in range(8)])
    product = np.empty((4, GROUP), np.uint32)
    for i, prime in enumerate(PRIMES):
        x = np.empty(GROUP, np.uint32)
        ring.lift(m, prime, x)
        ring.forward(x, prime)
        y = (x.reshape(-1, 8).astype(np.uint64) * a[:, i].T % prime).astype(np.uint32).reshape(-1)
        ring.inverse(y, prime)
        product[i] = y
    return np.stack([slots._by_chunk(part).reshape(8, -1) for part in switch_modulus(product)])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(RANGE // 2) + 1, RANGE // 2), min_size=1, max_size=20))
def test_residues_determine_a_sum(values: list[int]) -> None:
    residues = np.array([[v % t for v in values] for t in SLOT_MODULI], np.int64)
    assert combine_moduli(residues) == values


def test_malformed_products_are_refused(level: Level) -> None:
    message, _ = level.multiply(np.ones(GROUP, np.int32))
    with pytest.raises(ProtocolError, match="bytes"):
        open_slots(level.keys, message[:-1], 0, 8)
    with pytest.raises(ProtocolError, match="out of range"):
        open_slots(level.keys, b"\xff" * len(message), 0, 8)


# --------------------------------------------------------------------------------------- what a test is made of


def test_challenges_are_uniform_and_the_same_on_both_sides() -> None:
    one, other = slots.challenges(SEED, 0, 20_000), slots.challenges(SEED, 1, 20_000)
    assert np.array_equal(one, slots.challenges(SEED, 0, 20_000)) and one.max() < SLOT_MODULI[0]
    counts = np.histogram(one, 64, (0, SLOT_MODULI[0]))[0]
    assert float(np.sum((counts - 312.5) ** 2) / 312.5) < 63 + 6 * math.sqrt(2 * 63)
    assert np.mean(one == other) < 0.01 and not np.array_equal(one, slots.challenges(bytes(32), 0, 20_000))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(range(2)))
def test_multiples_and_combinations_are_exact(seed: int, channel: int) -> None:
    t, draw = SLOT_MODULI[channel], np.random.default_rng(seed)
    m = draw.integers(-(t // 2), t // 2 + 1, 8 * 16).astype(np.int32)
    factors, out = draw.integers(0, t, 8).astype(np.uint32), np.empty(8 * 16, np.int32)
    slots._multiples(m, factors, t, out)
    wanted = [int(v) * int(factors[i % 8]) % t for i, v in enumerate(m)]
    assert [int(v) % t for v in out] == wanted and 2 * np.abs(out, dtype=np.int64).max() <= t
    values = draw.integers(0, t, (3, slots.DEGREE)).astype(np.uint32)
    exact = sum(v.astype(object) * int(f) for v, f in zip(values, factors, strict=False)) % t
    assert slots.combined(values, factors[:3], t).tolist() == exact.tolist()


def test_a_copy_under_a_factor_opens_to_multiples() -> None:
    """α·J under the second secret, by its product with a column of ones, and α itself as a constant."""
    values, factor = np.random.default_rng(2).integers(-2048, 2049, GROUP).astype(np.int32), 123456789
    t, keys = SLOT_MODULI[1], KeyHolder(SEED)
    multiplier = SlotMultiplier(Evaluator(SEED, keys.public_key().tobytes()))
    operand, alpha = Operand(8), Operand(1)
    packed = encrypt_slots(keys, values, "J", 1, 0, factor).reshape(8, -1)
    for lane in range(8):
        operand.fill(SEED, slots.slot_name("J", 1), lane, lane, packed[lane].tobytes())
    alpha.fill(SEED, slots.slot_name(slots.ALPHA, 1), 0, 0, slots.encrypt_factor(keys, factor, 1).tobytes())
    for column, data, wanted in (
        (np.ones(GROUP, np.int32), operand.data[0], values.astype(np.int64) * factor % t),
        (values, alpha.data[0], np.where(np.arange(GROUP) < slots.DEGREE, values.astype(np.int64) * factor % t, 0)),
    ):
        message, pads = multiplier.multiply([(slots.reduced(column, 1), data)], 1, 8)
        assert np.array_equal((open_slots(keys, message.tobytes(), 1, 8) - pads) % t, wanted)


def test_a_request_of_slots_sends_one_ciphertext_more_for_each_modulus(exchange: Callable[..., Any]) -> None:
    """Docs/privacy/verified.md: 369 kB for the test of a request, whatever the number of voxels and axes."""
    p = control_points((40, 36, 14))
    opened = exchange("fhe", {"J": np.full(len(p.samples), 7, np.int32)}, control_points=p)
    before = len(opened.sent)
    columns = np.full((3, len(p.samples)), 5, np.int32)
    terms = [Term(c, "J", "gradient", p.count, per_control_point=True) for c in range(3)]
    assert opened.evaluate(columns, terms) == 3 * p.sums(np.full(len(p.samples), 35)).tolist()
    sent = [(a, m) for a, _, m in opened.sent[before:]]
    checks = [m for a, m in sent if a == "party 1" and m.kind == "request" and set(m.data) == {"channel"}]
    assert [len(m.payload) for m in checks] == [slots.PRODUCT_BYTES] * 2 == [184_320] * 2
    assert sum(len(m.payload) for a, m in sent if a == "party 2" and m.kind == "test") == 32 + 32 + 32
