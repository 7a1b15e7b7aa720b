"""Places, rates and short records by any key."""

from __future__ import annotations

import threading

import pytest

from PPIRLogic.network import quota
from PPIRLogic.network.quota import KEYS, Quota, RateLimit, Repeats, in_seconds, network_of


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(quota.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("127.0.0.1", "127.0.0.1"), ("10.0.0.7", "10.0.0.7"), ("::1", "::/64"), ("::ffff:10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("fe80::1%eth0", "fe80::/64"), ("room 7", "room 7"),
    ],
)  # fmt: skip
def test_an_address_counts_as_itself_and_of_ipv6_the_network_of_one_site(host: str, network: str) -> None:
    assert network_of(host) == network


def test_a_quota_is_of_each_key_whatever_threads_do() -> None:
    places, got = Quota(5), list[bool]()
    threads = [threading.Thread(target=lambda: got.append(places.take("room"))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == 5 == places.taken("room") and places.take("another room")
    places.give_back("room")
    assert places.take("room") and not places.take("room")
    for _ in range(9):
        places.give_back("another room")
    assert places.taken("another room") == 0


def test_a_rate_has_its_burst_and_says_when_to_try_again(clock: list[float]) -> None:
    rate = RateLimit(3, 10.0)
    assert [rate.take("A") for _ in range(5)] == [0, 0, 0, 10, 10]
    assert rate.take("B") == 0
    clock[0] += 4
    assert rate.wait("A") == pytest.approx(6)
    clock[0] += 6
    assert rate.take("A") == 0 and rate.take("A") == 10
    rate.give_back("A")
    assert rate.take("A") == 0
    clock[0] += 1000
    assert [rate.take("A") for _ in range(4)] == [0, 0, 0, 10]


def test_a_rate_keeps_no_more_keys_than_it_may() -> None:
    rate = RateLimit(1, 60.0)
    for number in range(KEYS + 50):
        rate.take(str(number))
    assert len(rate._full) == KEYS and rate.take(str(KEYS)) > 0


def test_repeats_are_counted_in_the_next_line_or_when_there_is_room(clock: list[float]) -> None:
    lines = Repeats(2, 60.0)
    assert [lines.passes("A") for _ in range(5)] == [0, 0, None, None, None]
    assert lines.due() == []
    clock[0] += 60
    assert lines.passes("A") == 3
    assert lines.passes("A") is None
    clock[0] += 60
    assert lines.due() == [("A", 1)] and lines.due() == []
    assert lines.passes("A") is None
    assert lines.due(everything=True) == [("A", 1)]
    clock[0] += 60
    lines.passes("A")
    lines.give_back("A")
    assert lines.passes("A") == 0


def test_when_to_try_again_is_said_in_whole_seconds() -> None:
    assert [in_seconds(s) for s in (0.01, 1.0, 1.5, 60.0)] == [
        "in 1 second", "in 1 second", "in 2 seconds", "in 60 seconds",
    ]  # fmt: skip
