"""Sums of products of three under secret sharing: exact shares, masks used once, orders checked, nothing shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from PPIRLogic.errors import PPIRError, ProtocolError
from PPIRLogic.registration.columns.mutual_information import FactorColumns
from PPIRLogic.registration.dealer.orders import Order, read_order
from PPIRLogic.registration.losses.mutual_information import one_hot
from PPIRLogic.secure.integer_sums import over_vectors, ring_dot
from PPIRLogic.secure.layout import CHUNK
from PPIRLogic.secure.mpc.triple_products import MAX_ENTRIES, MAX_FACTORS, Factored, FirstMasks, SecondMasks
from PPIRLogic.secure.product import Term

K0, K1 = b"0" * 32, b"1" * 32
BINS, SAMPLES = 8, 9 * CHUNK // 8  # more than one group
TERMS = [Term(k, "B", "gradient", vectors=BINS, largest=255**2) for k in range(2)]
SHAPE = Factored(3, 5, SAMPLES * BINS, BINS, 2, "B")


def columns(seed: int) -> FactorColumns:
    rng = np.random.default_rng(seed)
    slopes = rng.integers(-255, 256, SAMPLES * BINS, np.int32)
    return FactorColumns(slopes, rng.integers(-255, 256, (2, SAMPLES), np.int32), BINS)


def operand(seed: int) -> NDArray[np.int32]:
    return one_hot(np.random.default_rng(seed).integers(0, BINS, SAMPLES), np.ones(SAMPLES, bool), BINS)


@settings(max_examples=10, deadline=None)
@given(st.booleans(), st.tuples(st.integers(0, 64), st.integers(0, 10**6)), st.integers(0, 2**32 - 1))
def test_the_shares_add_up_to_the_product(by_sample: bool, where: tuple[int, int], seed: int) -> None:
    """Written out once more, with values that fill the ring."""
    shape = replace(SHAPE, level=where[0], evaluation=where[1], by_sample=by_sample)
    rng = np.random.default_rng(seed)
    u, v = rng.integers(-(2**62), 2**62, (2, shape.samples))
    s = rng.integers(-(2**62), 2**62, (2, shape.points))
    dealt = shape.correlation(K0, K1)
    mine, theirs = FirstMasks(K0, shape), SecondMasks(K1, shape)
    totals = np.zeros((2, shape.points if by_sample else 1), np.int64)
    for group in shape.groups:
        at, entries = shape.part(group), shape.entries(group)
        b, h, a = theirs.operand(group), theirs.inner(group), mine.outer(group)
        first = over_vectors(u[entries] * (v[entries] - b), BINS) + mine.inner_share(group)
        second = over_vectors((u[entries] - mine.inner(group)) * b, BINS) + dealt[at]
        known = first + second - h
        if by_sample:
            rest = dealt[shape.points :].reshape(2, -1)[:, at]
            totals[:, at] = s[:, at] * known + mine.outer_shares(group) + (s[:, at] - a) * h + rest
        else:
            totals[:, 0] += [ring_dot(r, known) for r in s[:, at]]
            totals[:, 0] += [ring_dot(r, h) for r in s[:, at] - a]
    if not by_sample:
        totals[:, 0] += mine.sum_shares() + dealt[shape.points :]
    wanted = s * over_vectors(u * v, BINS)
    assert np.array_equal(totals, wanted if by_sample else wanted.sum(axis=1, keepdims=True))


def test_no_two_masks_share_an_address() -> None:
    words: list[int] = []
    for level in (0, 1):
        for evaluation in (0, 1, 2):
            shape = replace(SHAPE, level=level, evaluation=evaluation)
            mine, theirs = FirstMasks(K0, shape), SecondMasks(K0, shape)
            for g in shape.groups:
                words += [int(m.flat[0]) for m in (mine.inner(g), mine.outer(g), mine.inner_share(g), theirs.inner(g))]
                words += [int(mine.outer_shares(g)[0, 0])]
            words += [int(mine.sum_shares()[0])]
        words += [int(theirs.operand(g)[0]) for g in shape.groups]
    assert len(set(words)) == len(words) == 2 * (3 * (2 * 5 + 1) + 2)


# ------------------------------------------------------------------------------------------ what is shown


def said(opened: Any, receiver: str, kind: str) -> list[NDArray[np.int64]]:
    found = [m for _, to, m in opened.sent if to == receiver and m.kind == kind]
    return [np.frombuffer(m.payload, "<u4").astype(np.int64) for m in found]


def test_what_travels_is_uniform_and_only_the_sums_are_opened(exchange: Callable[..., Any]) -> None:
    """The masked sums that party 1 gets on the way show nothing of g, however the image is chosen."""
    opened = exchange("mpc", {"B": operand(1)})
    source = columns(2)
    numbers = opened.evaluate(source, TERMS)
    g = over_vectors(source._slopes.astype(np.int64) * operand(1), BINS)
    assert numbers == (source._factors.astype(np.int64) @ g).tolist()
    masked = np.concatenate(said(opened, "party 1", "data")[-2:])
    sent = np.concatenate(said(opened, "party 2", "request"))
    assert masked.size == SAMPLES and sent.size == SAMPLES * (BINS + 2)
    limit = 6 / np.sqrt(SAMPLES)
    for values in (masked, sent):
        assert abs(values.mean() / 2**32 - 0.5) < limit and abs(values.std() / 2**32 - 12**-0.5) < limit
    assert abs(np.corrcoef(masked, g)[0, 1]) < limit
    group = SHAPE.part(0)
    assert abs(np.corrcoef(sent[: group.stop * BINS], source._slopes[: group.stop * BINS])[0, 1]) < limit
    answers = [m for _, _, m in opened.sent if m.kind == "answer"]
    share = np.frombuffer(answers[0].payload, "<u8")
    assert len(answers) == 1 and share.size == 2 and (share < 2**32).all(), "no bit where masks do not cancel"


def test_the_narrow_histogram_opens_no_high_bits(exchange: Callable[..., Any]) -> None:
    """Above the ring's bits the shares would add up to something of b."""
    opened = exchange("mpc", {"B": operand(1)})
    part = CHUNK // BINS
    weights = np.random.default_rng(0).integers(0, 257, (2, SAMPLES), np.int32)
    block = np.zeros((2, SAMPLES // part, CHUNK), np.int32)
    block[:, :, -part:] = weights.reshape(2, -1, part)
    terms = [Term(r, "B", "histogram", BINS, largest=256) for r in range(2)]
    got = np.reshape(opened.evaluate(block.reshape(2, -1), terms), (2, BINS))
    bins = operand(1).reshape(-1, BINS, part).transpose(1, 0, 2).reshape(BINS, -1)
    assert np.array_equal(got, weights.astype(np.int64) @ bins.T)
    assert sum(v.size for v in said(opened, "party 2", "request")) == 2 * SAMPLES
    share = np.frombuffer(next(m for _, _, m in opened.sent if m.kind == "answer").payload, "<u8")
    assert share.size == 2 * BINS and (share < 2**32).all()


def test_the_dealer_is_told_sizes_only(exchange: Callable[..., Any]) -> None:
    views = []
    for seed in (1, 2):
        opened = exchange("mpc", {"B": operand(seed)})
        opened.evaluate(columns(seed), TERMS, 5)
        views.append([(m.kind, m.data, m.payload) for _, to, m in opened.sent if to == "dealer"])
    assert views[0] == views[1] == [("order", replace(SHAPE, level=0).to_dict(), b"")]


def test_party_2_masks_no_sum_twice(exchange: Callable[..., Any]) -> None:
    """(g + r) − h and (g' + r) − h would show g' − g: not even the dealer's refusal is waited for."""
    opened = exchange("mpc", {"B": operand(1)})
    opened.evaluate(columns(1), TERMS, 5)
    opened._product._used.clear()
    opened._product.link.timeout = 0.5
    before = len(said(opened, "party 1", "data"))
    with pytest.raises(PPIRError):
        opened.evaluate(columns(2), TERMS, 5)
    assert len(said(opened, "party 1", "data")) == before
    assert any("never used twice" in str(p) for p in opened.problems)


# ------------------------------------------------------------------------------------------------ orders


def test_an_order_is_read_as_it_was_written() -> None:
    assert read_order(SHAPE.to_dict()) == SHAPE
    plain = {"level": 0, "evaluation": 0, "samples": 10, "columns": 1, "outputs": 1, "terms": [[0, "J"]]}
    assert isinstance(read_order(plain), Order)


@pytest.mark.parametrize(
    "change",
    [
        {"level": -1}, {"level": 65}, {"evaluation": 10**6 + 1}, {"evaluation": True}, {"samples": 0},
        {"samples": CHUNK + 1}, {"samples": MAX_ENTRIES + CHUNK}, {"samples": 1.0}, {"vectors": 1}, {"vectors": 3},
        {"vectors": 128}, {"vectors": None}, {"columns": 0}, {"columns": MAX_FACTORS + 1}, {"operand": "B" * 17},
        {"operand": 1}, {"by_sample": 1}, {"by_sample": None},
    ],
)  # fmt: skip
def test_an_order_out_of_range_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        read_order(SHAPE.to_dict() | change)


def test_terms_that_are_not_alike_are_refused() -> None:
    first = TERMS[0]
    for other in (replace(first, column=2), replace(first, column=1, operand="C"), replace(first, column=1, vectors=4)):
        with pytest.raises(ProtocolError, match="alike"):
            Factored.of([first, other], SAMPLES * BINS, 0, 0)
