"""The dealer's part of local cross-correlation: every mask once, every round once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from PPIRLogic.errors import ProtocolError
from PPIRLogic.network.channel import memory_pair
from PPIRLogic.network.service import UnrecordedAudit
from PPIRLogic.registration.dealer.dealer import DealerSession, Dealing, Joined
from PPIRLogic.registration.dealer.orders import CcOrder
from PPIRLogic.registration.symmetric.one_time_masks import ROUNDS, first_share, wire_mask


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
        DealerSession(Dealing(UnrecordedAudit(lambda event: None)), dealers, session, 1, b"").deal()
    sent = np.frombuffer(theirs.receive(5).payload, "<i8")
    whole_product = wire_mask(b"0" * 32, "x", 0, 0, 10) * wire_mask(b"1" * 32, "x", 0, 0, 10)
    assert np.array_equal(sent + first_share(b"0" * 32, "product", 0, 0, 10), whole_product)
    for channel in (mine, dealers, theirs, other):
        channel.close()
