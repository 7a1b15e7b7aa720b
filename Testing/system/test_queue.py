"""More callers than sessions: they wait in order, hear of it, may leave, and every result is right."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from system_support import SOON, Phantom, motion_of, owner, plain_grid, shared, wait_until

from PPIRLogic.errors import BusyError
from PPIRLogic.local_processes import Site, make_sites
from PPIRLogic.progress import CancelToken, Progress
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.request import Request

GEOMETRY = plain_grid(2)
PHANTOM = Phantom.make(GEOMETRY)
MOVING = PHANTOM.on(GEOMETRY, motion_of("rigid", GEOMETRY))
RUN = Parameters(transform="rigid", loss="ssd", levels=(4,), threads=1, initial="identity", skip_check=True)


def hold(site: Site, address: str) -> Any:
    """A session that goes on until its channel is closed."""
    from system_support import call

    channel = call(site, address)
    channel.send("open", {**Request("fixed", "fhe", "rigid", "ncc", (4,)).to_dict(), "nonce": bytes(32)})
    assert channel.receive(SOON).kind == "opened"
    return channel


class Caller(threading.Thread):
    def __init__(self, site: Site, address: str) -> None:
        super().__init__(daemon=True)
        self.site, self.address, self.token = site, address, CancelToken()
        self.steps: list[Progress] = []
        self.result: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.result = register(
                MOVING, self.address, home=self.site.home, parameters=RUN, progress=self.steps.append, cancel=self.token
            )
        except Exception as error:
            self.result = error

    def waits(self, before: int) -> bool:
        words = f"waiting, {before} before you"
        return wait_until(lambda: any(s.stage == "waiting" and words in s.detail for s in list(self.steps)))


def test_callers_wait_their_turn(tmp_path: Path) -> None:
    names = ("A", "B", "C", "D")
    sites = make_sites(tmp_path, names)
    with owner(sites["B"], shared(PHANTOM.on(GEOMETRY)), max_sessions=1, queue=2, threads=1) as one:
        held = hold(sites["A"], one.address)
        first = Caller(sites["C"], one.address)
        assert first.waits(0)
        second = Caller(sites["D"], one.address)
        assert second.waits(1)
        third = Caller(sites["A"], one.address)
        third.join(SOON)
        assert "as many sessions as it can, and 2 wait already" in str(third.result)
        held.close()
        for caller in (first, second):
            caller.join(60)
            assert caller.result.complete and caller.result.numbers == caller.result.peer_numbers
        opened = [e["peer"] for e in one.told("session")]
        assert opened == [sites[n].fingerprint for n in ("A", "C", "D")]
        assert first.result.levels[-1].transforms == second.result.levels[-1].transforms


def test_one_that_waits_may_leave(tmp_path: Path) -> None:
    """By a cancel, or because it is lost: its place in the queue is free, nothing was opened for it."""
    sites = make_sites(tmp_path, ("A", "B", "C", "D"))
    with owner(sites["B"], shared(PHANTOM.on(GEOMETRY)), max_sessions=1, queue=1, threads=1) as one:
        held = hold(sites["A"], one.address)
        first = Caller(sites["C"], one.address)
        assert first.waits(0)
        first.token.cancel()
        first.join(SOON)
        assert not first.is_alive() and "cancelled" in str(first.result)
        assert wait_until(lambda: len(one.told("session ended")) == 1)
        second = Caller(sites["D"], one.address)
        assert second.waits(0)
        held.close()
        second.join(60)
        assert second.result.complete
        assert len(one.told("session")) == 2


def test_one_site_cannot_fill_the_queue(tmp_path: Path) -> None:
    """A site with a session and one more waiting is told so; another site gets a place and is served."""
    sites = make_sites(tmp_path, ("A", "B", "C"))
    with owner(sites["B"], shared(PHANTOM.on(GEOMETRY)), max_sessions=1, queue=4, threads=1) as one:
        held = hold(sites["A"], one.address)
        greedy = Caller(sites["A"], one.address)
        assert greedy.waits(0)
        again = Caller(sites["A"], one.address)
        again.join(SOON)
        assert isinstance(again.result, BusyError) and "1 of your own wait already" in str(again.result)
        other = Caller(sites["C"], one.address)
        assert other.waits(1)
        held.close()
        for caller in (greedy, other):
            caller.join(60)
            assert caller.result.complete and caller.result.numbers == caller.result.peer_numbers


@pytest.mark.long
def test_more_callers_than_places_for_a_while(tmp_path: Path) -> None:
    """The short form of `make load`: results, counts and order are right, and nobody is refused."""
    from load import press, problems

    load = press(0.08, tmp_path, callers=4)
    assert problems(load) == []
    assert load.right >= 4 and load.most_waiting >= 1 and load.served >= 2
