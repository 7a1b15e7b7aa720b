"""Orders to the dealer: taken in range or refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from PPIRLogic.errors import ProtocolError
from PPIRLogic.registration.dealer.orders import MAX_COLUMNS, Order

order_maps = st.fixed_dictionaries(
    {
        "level": st.integers(0, 64),
        "evaluation": st.integers(0, 10**6),
        "samples": st.integers(1, 2**31),
        "columns": st.integers(1, MAX_COLUMNS),
        "outputs": st.just(1),
        "terms": st.lists(st.tuples(st.just(0), st.sampled_from(["J", "J2", "M"])).map(list), min_size=1, max_size=5),
    }
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(), st.binary())
junk = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
fields = st.sampled_from(["level", "evaluation", "samples", "columns", "outputs", "terms", "other"])


@settings(max_examples=60, deadline=None)
@given(order_maps)
def test_a_good_order_is_taken_as_it_is(data: dict[str, Any]) -> None:
    order = Order.from_dict(data)
    assert (order.level, order.evaluation) == (data["level"], data["evaluation"])
    assert (order.samples, order.columns) == (data["samples"], data["columns"])
    assert [list(t) for t in order.terms] == data["terms"]


@settings(max_examples=120, deadline=None)
@given(order_maps, st.dictionaries(fields, junk), st.sets(fields))
def test_any_order_is_taken_or_a_protocol_error(data: dict[str, Any], over: dict[str, Any], drop: set[str]) -> None:
    merged = {k: v for k, v in (data | over).items() if k not in drop}
    try:
        order = Order.from_dict(merged)
    except ProtocolError:
        return
    assert 0 <= order.level <= 64 and 0 <= order.evaluation <= 10**6
    assert 1 <= order.columns <= MAX_COLUMNS and 1 <= order.samples <= 2**31
    assert len(order.terms) <= 4 * MAX_COLUMNS
    assert all(0 <= c < order.columns and isinstance(o, str) for c, o in order.terms)


@pytest.mark.parametrize(
    "change",
    [
        {"level": -1}, {"level": 65}, {"evaluation": 10**6 + 1}, {"samples": 0}, {"columns": 0},
        {"columns": MAX_COLUMNS + 1}, {"outputs": 3}, {"outputs": 0}, {"outputs": 128}, {"outputs": 32},
        {"level": True}, {"samples": 1.0}, {"terms": [[5, "J"]]}, {"terms": [[0, "J", 1]]}, {"terms": [[0, 1]]},
        {"terms": [[0, "J" * 17]]}, {"terms": {}}, {"terms": []}, {"terms": [0]},
        {"terms": [[0, "J"]] * (4 * MAX_COLUMNS + 1)},
    ],
)  # fmt: skip
def test_an_order_out_of_range_is_refused(change: dict[str, Any]) -> None:
    good = {"level": 0, "evaluation": 0, "samples": 10, "columns": 5, "outputs": 1, "terms": [[4, "J"]]}
    assert Order.from_dict(good).terms == ((4, "J"),)
    with pytest.raises(ProtocolError):
        Order.from_dict(good | change)


def test_the_largest_order_is_more_than_any_loss_needs() -> None:
    """An affine in 3D with a private mask: 14 columns, their 105 products, 15 terms of the image's own."""
    assert MAX_COLUMNS == 256 and MAX_COLUMNS >= 14 + 105
    terms = [[k % MAX_COLUMNS, "J"] for k in range(4 * MAX_COLUMNS)]
    largest = {"level": 64, "evaluation": 10**6, "samples": 2**31, "columns": MAX_COLUMNS, "outputs": 1, "terms": terms}
    assert len(Order.from_dict(largest).terms) == 4 * MAX_COLUMNS
