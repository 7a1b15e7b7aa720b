"""Secret sharing with a dealer, and the three protocols against each other on the same integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from PPIRLogic.errors import FixedPointError, PPIRError, ProtocolError
from PPIRLogic.secure.layout import CHUNK, GROUP
from PPIRLogic.secure.product import Term

TERMS = [Term(0, "J", "gradient"), Term(1, "J", "gradient"), Term(2, "J", "overlap"), Term(2, "J2", "overlap")]


@pytest.fixture
def crypten() -> None:
    """Installations on Python versions without torch come without mpc."""
    pytest.importorskip("torch")
    from PPIRLogic.secure.mpc.crypten import load_crypten

    load_crypten()


def level(samples: int, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Three columns (two of 16 bits, one of ones) and two fixed operands."""
    generator = np.random.default_rng(seed)
    columns = generator.integers(-32767, 32768, (3, samples)).astype(np.int32)
    columns[2] = 1
    image = generator.integers(-2048, 2049, samples).astype(np.int32)
    return columns, {"J": image, "J2": image * image}


def exact(columns: np.ndarray, operands: dict[str, np.ndarray], terms: list[Term] = TERMS) -> list[int]:
    return [int(columns[t.column].astype(np.int64) @ operands[t.operand].astype(np.int64)) for t in terms]


@pytest.mark.parametrize("samples", [1, 500, CHUNK, GROUP + CHUNK + 3])
def test_all_protocols_open_the_same_integers(exchange: Callable[..., Any], crypten: None, samples: int) -> None:
    columns, operands = level(samples)
    expected = exact(columns, operands)
    for protocol in ("clear", "fhe", "mpc"):
        assert exchange(protocol, operands).evaluate(columns, TERMS) == expected, protocol


def test_later_evaluations_are_exact_too(exchange: Callable[..., Any], crypten: None) -> None:
    _, operands = level(3000)
    for protocol in ("clear", "fhe", "mpc"):
        opened = exchange(protocol, operands, threads=1)
        for evaluation in range(3):
            columns, _ = level(3000, seed=10 + evaluation)
            assert opened.evaluate(columns, TERMS, evaluation) == exact(columns, operands), protocol


@pytest.mark.parametrize("active", [[0], [1, 3], [0, 2, 9, 10], list(range(11))])
@pytest.mark.parametrize("protocol", ["clear", "fhe"])
def test_chunks_that_are_left_out_count_as_zero(exchange: Callable[..., Any], protocol: str, active: list[int]) -> None:
    samples = 10 * CHUNK + 17
    columns, operands = level(samples)
    used = np.isin(np.arange(samples) // CHUNK, active)
    expected = exact(np.where(used, columns, 0), operands)
    assert exchange(protocol, operands, active=active).evaluate(columns, TERMS) == expected


def test_what_party_2_gets_under_fhe_has_one_size_whatever_chunks_are_used(exchange: Callable[..., Any]) -> None:
    columns, operands = level(9 * CHUNK)
    shapes = []
    for active in ([4], [0, 1, 2, 7]):
        opened = exchange("fhe", operands, active=active)
        opened.evaluate(columns, TERMS)
        sent = [m for sender, _, m in opened.sent if sender == "party 1"]
        shapes.append([(m.kind, sorted(m.data.items()), len(m.payload)) for m in sent])
    assert shapes[0] == shapes[1]


def test_every_chunk_takes_part_under_mpc(exchange: Callable[..., Any], crypten: None) -> None:
    _, operands = level(3 * CHUNK)
    with pytest.raises(ProtocolError, match="every chunk"):
        exchange("mpc", operands, active=[0, 2])


TOO_LARGE = {  # (samples, |S|, |V|): each passes one of the limits of `check_range`
    "sum": (3000, 32767, 2048**2),
    "norm": (4, 2**31 - 1, 1),
    "absolute sum": (20_000, 2**20, 1),
}


@pytest.mark.parametrize("limit", TOO_LARGE)
def test_clear_and_fhe_refuse_the_same_columns_before_anything_is_sent(
    exchange: Callable[..., Any], limit: str
) -> None:
    samples, s, v = TOO_LARGE[limit]
    terms, fixed = [Term(0, "J", "gradient"), Term(1, "J", "value")], {"J": np.full(samples, v, np.int32)}
    good = np.stack([np.arange(samples) % 100, np.ones(samples)]).astype(np.int32)
    bad = np.stack([good[0], np.full(samples, -s)]).astype(np.int32)  # in one column only
    texts = set()
    for protocol in ("clear", "fhe"):
        opened = exchange(protocol, fixed)
        before = len(opened.sent)
        with pytest.raises(FixedPointError, match="Nothing was sent") as refused:
            opened.evaluate(bad, terms)
        assert len(opened.sent) == before
        texts.add(str(refused.value))
        assert opened.evaluate(good, terms) == exact(good, fixed, terms)  # and the level goes on
    assert len(texts) == 1


def test_mpc_has_room_for_what_the_others_refuse(exchange: Callable[..., Any], crypten: None) -> None:
    samples, s, v = TOO_LARGE["sum"]
    columns, fixed = np.full((1, samples), s, np.int32), {"J": np.full(samples, v, np.int32)}
    assert exchange("mpc", fixed).evaluate(columns, [Term(0, "J", "value")]) == [samples * s * v]


def test_party_1_refuses_to_use_masks_twice(exchange: Callable[..., Any], crypten: None) -> None:
    columns, operands = level(200)
    opened = exchange("mpc", operands)
    opened.evaluate(columns, TERMS, 4)
    before = len(opened.sent)
    with pytest.raises(ProtocolError, match="never used twice"):
        opened.evaluate(columns, TERMS, 4)
    assert len(opened.sent) == before  # nothing left this side
    assert opened.evaluate(columns, TERMS, 5) == exact(columns, operands)


def test_party_2_refuses_to_open_a_level_twice(exchange: Callable[..., Any], crypten: None) -> None:
    """V − b and V' − b would show V' − V."""
    columns, operands = level(200)
    opened = exchange("mpc", operands)
    assert opened.evaluate(columns, TERMS) == exact(columns, operands)
    before = len(opened.sent)
    with pytest.raises(ProtocolError, match="level were used already; they are never used twice"):
        opened._side.open_level(opened.level, {k: v + 1 for k, v in operands.items()}, b"3" * 32, b"4" * 32)
    assert len(opened.sent) == before  # nothing left that side
    assert opened.evaluate(columns, TERMS, 1) == exact(columns, operands)


def test_the_dealer_refuses_to_deal_twice(exchange: Callable[..., Any], crypten: None) -> None:
    columns, operands = level(200)
    opened = exchange("mpc", operands)
    opened.evaluate(columns, TERMS, 4)
    opened._product._used.clear()  # a party 1 that forgets, as after a crash
    with pytest.raises(PPIRError):
        opened._product.link.timeout = 0.5
        opened.evaluate(columns + 1, TERMS, 4)
    assert any("never dealt twice" in str(p) for p in opened.problems)
    dealt = [m for sender, _, m in opened.sent if sender == "dealer" and m.kind == "correlation"]
    assert len(dealt) == 1
    answers = [m for sender, _, m in opened.sent if sender == "party 2" and m.kind == "answer"]
    assert len(answers) == 1
