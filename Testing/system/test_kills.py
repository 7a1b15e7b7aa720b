"""The short forms of `make faults`: kills at seeded moments, and a clock that jumps."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from system_support import OPEN, Phantom, account_numbers, motion_of, owner, plain_grid, shared

from PPIRLogic.errors import BudgetError
from PPIRLogic.local_processes import make_sites
from PPIRLogic.progress import Progress
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register


@pytest.mark.long
def test_a_kill_of_each_party_at_any_moment() -> None:
    """Under fhe, where there are two: files whole, ledgers whole and agreed, runs gone on with."""
    from kills import RUNS, kill_often

    rows = kill_often(2, seed=11, runs=RUNS[:1])
    assert [broken for row in rows for broken in row["broken"]] == []
    assert [(row["victim"], len(row["outcomes"])) for row in rows] == [("party 1", 1), ("party 2", 1)]


@pytest.mark.long
def test_ten_kills_at_any_moment() -> None:
    """Party 1, party 2 and the dealer, under fhe and mpc: files whole, ledgers whole and agreed, runs gone on with."""
    pytest.importorskip("torch")
    from kills import RUNS, kill_often

    rows = kill_often(10, seed=11, runs=(RUNS[0], RUNS[-1]))
    assert [broken for row in rows for broken in row["broken"]] == []
    assert sum(len(row["outcomes"]) for row in rows) == 10 and {row["victim"] for row in rows} == {
        "party 1", "party 2", "dealer",
    }  # fmt: skip


@pytest.mark.parametrize("days", [-4000, 4000])
def test_the_clock_jumps_during_a_run(days: int, tmp_path: Path) -> None:
    """Ten years forth or back: the run goes on, the count stays, and no budget starts anew."""
    geometry = plain_grid(2)
    phantom = Phantom.make(geometry)
    sites = make_sites(tmp_path, ("A", "B"))
    moving = phantom.on(geometry, motion_of("rigid", geometry))
    p = Parameters(transform="rigid", loss="ssd", levels=(4, 2), threads=1, evaluations=5)
    real, jumped = time.time, [0.0]

    def progress(step: Progress) -> None:
        if step.stage == "evaluation":
            jumped[0] = 86400.0 * days

    budget = replace(OPEN, numbers_per_image=60)
    with (
        owner(sites["B"], shared(phantom.on(geometry), budget=budget)) as one,
        mock.patch("time.time", lambda: real() + jumped[0]),
    ):
        first = register(moving, one.address, home=sites["A"].home, parameters=p, progress=progress)
        assert first.complete and first.reconnections == 0
        assert account_numbers(one.home) == first.numbers == first.peer_numbers <= 60
        with pytest.raises(BudgetError):
            for _ in range(3):
                again = register(moving, one.address, home=sites["A"].home, parameters=p, progress=progress)
                assert again.complete
        assert account_numbers(one.home) <= 60
