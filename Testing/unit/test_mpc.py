"""Secret sharing with a dealer, and the three protocols against each other on the same integers."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from PPIRLogic.errors import DealerError, FixedPointError, PPIRError, ProtocolError, VersionError
from PPIRLogic.network.channel import Channel, memory_pair
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.messages import PROTOCOL_VERSION, error_from
from PPIRLogic.registration.dealer.dealer import Dealer
from PPIRLogic.registration.dealer.orders import MAX_COLUMNS, Order
from PPIRLogic.secure.integer_sums import ring_dot
from PPIRLogic.secure.layout import CHUNK, GROUP, group_size
from PPIRLogic.secure.mpc.one_time_masks import mask_of_columns, mask_of_operand, share_of_product
from PPIRLogic.secure.product import Term

K0, K1 = b"0" * 32, b"1" * 32
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


# ------------------------------------------------------------------------------------ the shares themselves


@settings(max_examples=25, deadline=None)
@given(
    samples=st.sampled_from([1, 7, 1000, GROUP - 1, GROUP, GROUP + 1]),
    columns=st.integers(1, 3),
    where=st.tuples(st.integers(0, 64), st.integers(0, 10**6)),
    seed=st.integers(0, 2**32 - 1),
)
def test_shares_of_both_parties_add_up_to_the_product(
    samples: int, columns: int, where: tuple[int, int], seed: int
) -> None:
    generator = np.random.default_rng(seed)
    s = generator.integers(-(2**31), 2**31, (columns, samples))
    v = generator.integers(-(2**31), 2**31, samples)
    order = Order(*where, samples, columns, tuple((k, "J") for k in range(columns)))
    first, second = share_of_product(K0, *where, columns), order.correlation(K0, K1)
    for group in range(-(-samples // GROUP)):
        count = group_size(samples, group)
        part = slice(group * GROUP, group * GROUP + count)
        a, b = mask_of_columns(K0, *where, group, columns, count), mask_of_operand(K1, where[0], "J", group, count)
        e, f = s[:, part] - a, v[part] - b
        first = first + [ring_dot(row, f) for row in s[:, part]]
        second = second + [ring_dot(row, b) for row in e]
    wrapped = [int(x) % 2**64 for x in s.astype(object) @ v.astype(object)]
    assert (first + second).astype(np.uint64).tolist() == wrapped


def test_no_two_masks_share_an_address() -> None:
    """One word of every mask of several levels, evaluations, groups and operands: all different."""
    words = [int(mask_of_columns(K0, v, e, g, 1, 1)[0, 0]) for v in range(4) for e in range(20) for g in range(5)]
    words += [int(share_of_product(K0, v, e, 1)[0]) for v in range(4) for e in range(20)]
    words += [int(mask_of_operand(K0, v, o, g, 1)[0]) for v in range(4) for o in ("J", "J2", "M") for g in range(5)]
    assert len(set(words)) == len(words) == 540


def test_columns_of_one_evaluation_have_masks_of_their_own() -> None:
    masks = mask_of_columns(K0, 1, 2, 0, 5, 500)
    assert masks.shape == (5, 500) and len(np.unique(masks)) == 2500


def test_ring_dot_wraps_at_64_bits() -> None:
    a, b = np.array([2**63 - 1, 5], np.int64), np.array([3, -7], np.int64)
    assert ring_dot(a, b) == (((2**63 - 1) * 3 - 35) + 2**63) % 2**64 - 2**63


# --------------------------------------------------------------------------------- three protocols, one result


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


# ------------------------------------------------------------------------------------- a sum out of range


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


# ---------------------------------------------------------------------------------------- nothing twice


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


# ------------------------------------------------------------------------------------------- orders


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


# ---------------------------------------------------------------------------------------- who may take part


NAME = b"n" * 32


class Waiting:
    """A dealer, and parties that come to it over channels in memory."""

    def __init__(self, home: Path) -> None:
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.dealer = Dealer("127.0.0.1:0", load_or_create_identity(home), home, self.events.put)
        assert self.events.get()["event"] == "listening"
        self.sessions = self.dealer.dealing.sessions
        self._channels: list[Channel] = []
        self._threads: list[threading.Thread] = []

    def comes(self, who: str, role: int, other: str, name: bytes = NAME, version: int = PROTOCOL_VERSION) -> Channel:
        """A party with this fingerprint, which names the other one's."""
        here, there = memory_pair(who, "dealer")
        there.peer_fingerprint = who
        self._channels += [here, there]
        self._threads.append(threading.Thread(target=self.dealer.serve_connection, args=(there,), daemon=True))
        self._threads[-1].start()
        here.send("join", {"session": name, "role": role, "other": other, "version": version})
        return here

    def is_waiting(self) -> None:
        assert self.events.get(timeout=5)["event"] == "joined"

    def close(self) -> None:
        self.dealer.stop()
        for channel in self._channels:
            channel.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Waiting]:
    one = Waiting(tmp_path)
    yield one
    one.close()


def is_refused(channel: Channel, text: str) -> None:
    error = error_from(channel.receive(5))
    assert isinstance(error, DealerError) and text in str(error)


@pytest.mark.parametrize(
    ("who", "role", "other", "text"),
    [
        ("C", 2, "A", "do not name each other"),  # A named B
        ("B", 2, "C", "do not name each other"),
        ("C", 2, "D", "do not name each other"),
        ("A", 2, "A", "do not name each other"),
        ("C", 1, "B", "joined the session already"),
    ],
)
def test_who_does_not_belong_to_a_session_takes_no_place_in_it(
    waiting: Waiting, who: str, role: int, other: str, text: str
) -> None:
    first = waiting.comes("A", 1, "B")
    waiting.is_waiting()
    is_refused(waiting.comes(who, role, other), text)
    session = waiting.sessions[NAME]
    assert list(session.channels) == list(session.peers) == [1] and not session.complete.is_set()
    assert waiting.events.get(timeout=5)["event"] == "session ended"  # the stranger's own
    second = waiting.comes("B", 2, "A")  # the place is still there for whom A named
    keys = [channel.receive(5).data["key"] for channel in (first, second)]
    assert [len(k) for k in keys] == [32, 32] and keys[0] != keys[1]
    first.send("order", {"level": 0, "evaluation": 0, "samples": 3, "columns": 1, "outputs": 1, "terms": [[0, "J"]]})
    dealt = second.receive(5)
    order = Order(0, 0, 3, 1, ((0, "J"),))
    assert dealt.kind == "correlation" and np.frombuffer(dealt.payload, "<i8") == order.correlation(*keys)


def test_a_party_of_an_older_build_is_told_to_update(waiting: Waiting) -> None:
    error = error_from(waiting.comes("A", 1, "B", version=1).receive(5))
    assert isinstance(error, VersionError) and "Update PPIRExtension at the site that calls it" in str(error)
    assert waiting.sessions == {}


def test_the_order_in_which_two_parties_come_does_not_matter(waiting: Waiting) -> None:
    second = waiting.comes("B", 2, "A")
    waiting.is_waiting()
    first = waiting.comes("A", 1, "B")
    assert [channel.receive(5).kind for channel in (first, second)] == ["joined", "joined"]


def test_a_session_ends_for_both_and_its_place_becomes_free(waiting: Waiting) -> None:
    first, second = waiting.comes("A", 1, "B"), waiting.comes("B", 2, "A")
    assert [channel.receive(5).kind for channel in (first, second)] == ["joined", "joined"]
    first.close()
    is_refused(second, "The other party left the session")
    end = time.monotonic() + 5
    while waiting.sessions and time.monotonic() < end:
        time.sleep(0.01)
    assert not waiting.sessions
