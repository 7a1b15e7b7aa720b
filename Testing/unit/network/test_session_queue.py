"""Places for sessions and the queue for them, without any network."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from PPIRLogic.errors import BusyError, Cancelled
from PPIRLogic.network.session_queue import SessionQueue


class Waiter(threading.Thread):
    """One that wants a place; `got` is set when it has one, `news` is what it heard."""

    def __init__(self, places: SessionQueue, peer: str = "", **options: Any) -> None:
        """`peer`: one of its own, unless a name is given."""
        super().__init__(daemon=True)
        self.places, self.peer, self.options = places, peer or str(id(self)), options
        self.got, self.leave, self.news = threading.Event(), threading.Event(), []
        self.problem: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.places.take(self.peer, self.news.append, self._check, **self.options)
            self.got.set()
        except Exception as error:
            self.problem = error

    def _check(self) -> None:
        if self.leave.is_set():
            raise Cancelled("it left")

    def waits(self) -> Waiter:
        end = time.monotonic() + 10
        while not self.news and time.monotonic() < end:
            time.sleep(0.01)
        assert self.news and not self.got.is_set()
        return self


def nothing(*_: Any) -> None:
    pass


def test_those_who_wait_come_in_the_order_in_which_they_came() -> None:
    places = SessionQueue(1, 3)
    places.take("holder", nothing, nothing)
    waiters = [Waiter(places).waits() for _ in range(3)]
    assert [w.news[0] for w in waiters] == [0, 1, 2]
    for i, waiter in enumerate(waiters):
        places.give_back("holder" if not i else waiters[i - 1].peer)
        assert waiter.got.wait(10)
        assert not any(later.got.is_set() for later in waiters[i + 1 :])
    last = waiters[2].news  # one that gets its place at once may miss the word before
    assert last[0] == 2 and last == sorted(set(last), reverse=True)


def test_the_queue_is_bounded_and_may_be_empty() -> None:
    places = SessionQueue(1, 1)
    places.take("holder", nothing, nothing)
    waiter = Waiter(places).waits()
    with pytest.raises(BusyError, match="1 wait already"):
        places.take("another", nothing, nothing)
    places.give_back("holder")
    assert waiter.got.wait(10)
    none = SessionQueue(1, 0)
    none.take("holder", nothing, nothing)
    with pytest.raises(BusyError, match="as many sessions as it can; try again"):
        none.take("another", nothing, nothing)
    with pytest.raises(BusyError, match="as many sessions as it can; try again"):
        none.take("holder", nothing, nothing)


def test_who_leaves_frees_its_place_in_the_queue() -> None:
    places = SessionQueue(1, 2)
    places.take("holder", nothing, nothing)
    first, second = Waiter(places).waits(), Waiter(places).waits()
    first.leave.set()
    first.join(10)
    assert isinstance(first.problem, Cancelled)
    third = Waiter(places).waits()
    places.give_back("holder")
    assert second.got.wait(10) and not third.got.is_set()


def test_nobody_overtakes_but_one_that_returns() -> None:
    places = SessionQueue(1, 1)
    places.take("holder", nothing, nothing)
    waiter = Waiter(places).waits()
    returning = Waiter(places, returns=True).waits()
    places.give_back("holder")
    assert returning.got.wait(10) and not waiter.got.is_set()
    places.give_back(returning.peer)
    assert waiter.got.wait(10)


def test_one_peer_has_a_quarter_of_the_queue_and_the_others_the_rest() -> None:
    places = SessionQueue(1, 8)
    places.take("greedy", nothing, nothing)
    greedy = [Waiter(places, "greedy").waits() for _ in range(2)]
    with pytest.raises(BusyError, match="2 of your own wait already, the most that one site may have"):
        places.take("greedy", nothing, nothing)
    others = [Waiter(places).waits() for _ in range(6)]
    with pytest.raises(BusyError, match="8 wait already"):
        places.take("somebody", nothing, nothing)
    greedy[0].leave.set()
    greedy[0].join(10)
    Waiter(places, "greedy").waits()  # the place of one that left is free for the same peer
    holder = "greedy"
    for waiter in (greedy[1], *others):
        places.give_back(holder)
        assert waiter.got.wait(10)
        holder = waiter.peer


@pytest.mark.parametrize("queue, each", [(0, 1), (1, 1), (4, 1), (8, 2), (40, 10)])
def test_the_quarter_is_one_at_least(queue: int, each: int) -> None:
    assert SessionQueue(2, queue).each == each


def test_no_more_of_a_peer_return_to_the_front_than_can_have_been_at_work() -> None:
    """Otherwise the names of old unfinished sessions would keep everybody else out."""
    places = SessionQueue(2, 8, of_peer=2)
    for _ in range(2):
        places.take("holder", nothing, nothing)
    waiting = Waiter(places).waits()
    back = [Waiter(places, "greedy", returns=True).waits() for _ in range(2)]
    with pytest.raises(BusyError, match="2 of your own"):
        places.take("greedy", nothing, nothing, returns=True)
    for waiter, left in zip((*back, waiting), ("holder", "holder", "greedy"), strict=True):
        places.give_back(left)
        assert waiter.got.wait(10)


def test_one_peer_has_all_sessions_but_one_and_is_passed_over_beyond_that() -> None:
    places = SessionQueue(2, 8)
    places.take("greedy", nothing, nothing)
    more = [Waiter(places, "greedy").waits() for _ in range(2)]
    with pytest.raises(BusyError, match=r"serves 1 of your sessions.*2 of your own wait already"):
        places.take("greedy", nothing, nothing)
    places.take("other", nothing, nothing)  # at once, past those that wait
    third = Waiter(places).waits()
    places.give_back("other")
    assert third.got.wait(10) and not any(w.got.is_set() for w in more)
    places.give_back("greedy")
    assert more[0].got.wait(10) and not more[1].got.is_set()


@pytest.mark.parametrize("sessions, of_peer, most", [(1, 0, 1), (2, 0, 1), (5, 0, 4), (2, 2, 2)])
def test_the_sessions_of_a_peer(sessions: int, of_peer: int, most: int) -> None:
    places = SessionQueue(sessions, 0, of_peer)
    for _ in range(most):
        places.take("greedy", nothing, nothing)
    words = "the most that one site may have there; try again" if most < sessions else "as many sessions as it can"
    with pytest.raises(BusyError, match=words):
        places.take("greedy", nothing, nothing)
