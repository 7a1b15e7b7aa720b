"""A symmetric registration whose dealer, peer or own program goes away: what is kept, and what is on record."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from resume_support import Place, a_place, at
from symmetric_support import pair
from system_support import Program, account_numbers, ledger_rows, save, session_files

from PPIRLogic.disclosure.accounts import Budget
from PPIRLogic.errors import BudgetError, Cancelled, DealerError, PeerError, PPIRError
from PPIRLogic.progress import CancelToken
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.result import RegistrationResult
from PPIRLogic.registration.simulate import simulate

PARTIES = ("party 1", "party 2")
INITIAL = sitk.AffineTransform(2)
INITIAL.SetTranslation([3.0, -2.0])
RUN = Parameters(
    transform="diffeo", loss="cc", protocol="mpc", levels=(2, 1), iterations=(4, 3), step_tolerance=1e-6,
    loss_tolerance=0.0, evaluations=12, initial=INITIAL, threads=1,
)  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    fixed, moving, _ = pair(2)
    with a_place(tmp_path, fixed, moving) as one:
        one.deal()
        one.serve()
        yield one


@pytest.fixture(scope="module")
def first_level() -> RegistrationResult:
    """What the first level leads to where nothing happens."""
    fixed, moving, _ = pair(2)
    parameters = replace(RUN, protocol="clear", levels=(2,), iterations=(4,))
    return simulate(fixed, moving, parameters=parameters)


def both_sides_agree(place: Place, numbers: int) -> None:
    """Each side's record is the other's, row by row; no request is there twice; the account says the same."""
    mine, theirs = (session_files(place.sites[site].home)[-1] for site in ("A", "B"))
    assert ledger_rows(mine) == ledger_rows(theirs)
    rows = [json.loads(line) for line in theirs.read_text().splitlines()[1:]]
    requests = [(r["request"], r["kind"]) for r in rows if r["request"]]
    assert len(requests) == len(set(requests))
    opened = {to: sum(r["numbers"] for r in rows if r["kind"] != "geometry" and r["to"] == to) for to in PARTIES}
    assert sum(opened.values()) == numbers and all(opened.values())
    assert account_numbers(place.sites["B"].home) == opened["party 1"]


def the_first_level_is_kept(found: RegistrationResult, calm: RegistrationResult) -> None:
    """Level 1 opened nothing of party 2's half yet, so the result is the whole transform of level 1/2."""
    assert not found.complete and found.diffeo is not None and calm.diffeo is not None
    assert found.levels[0].values == pytest.approx(calm.levels[0].values, abs=1e-4)
    assert len(found.levels) == 2 and 2 <= len(found.levels[1].values) < 1 + RUN.iterations[1]  # type: ignore[index]
    off = np.sqrt(np.square(found.diffeo.field - calm.diffeo.field).sum(axis=0))
    assert off.max() < 0.05 and np.abs(calm.diffeo.field).max() > 1.0
    assert found.diffeo.statistics()["jacobian"]["smallest"] > 0


def kill_dealer(place: Place) -> None:
    assert place.third is not None
    place.third.process.kill()
    place.third.process.wait()


def kill_party_2(place: Place) -> None:
    assert place.second is not None
    place.second.process.kill()
    place.second.process.wait()


@pytest.mark.parametrize(
    "kill, error", [(kill_dealer, DealerError), (kill_party_2, PeerError)], ids=["dealer", "party 2"]
)
def test_a_loss_in_mid_run_keeps_the_last_finished_level(
    place: Place, first_level: RegistrationResult, kill: Callable[[Place], None], error: type[PPIRError]
) -> None:
    """Patience does not help: party 2's half of the level is gone."""
    result = place.run(parameters=RUN, progress=at(("evaluation", 22, lambda: kill(place))))
    assert isinstance(result.error, error) and result.reconnections == 0
    the_first_level_is_kept(result, first_level)
    both_sides_agree(place, result.numbers)


def test_a_loss_within_the_first_level_leaves_the_initial_transform(place: Place) -> None:
    result = place.run(parameters=RUN, progress=at(("evaluation", 13, lambda: kill_dealer(place))))
    assert isinstance(result.error, DealerError) and result.diffeo is not None
    assert not np.any(result.diffeo.field) and np.allclose(result.linear.translation, INITIAL.GetTranslation())
    assert result.levels[0].values == sorted(result.levels[0].values, reverse=True)
    both_sides_agree(place, result.numbers)


def test_a_line_that_is_cut_within_a_round_counts_nothing_that_was_not_opened(
    place: Place, first_level: RegistrationResult
) -> None:
    """Masked values are on their way: the round's numbers were neither opened nor counted."""
    line = place.line()

    def cut_in_the_round() -> None:
        line.room = 3000  # bytes that still pass

    result = place.run(line.address, parameters=RUN, progress=at(("evaluation", 22, cut_in_the_round)))
    assert isinstance(result.error, PeerError)
    the_first_level_is_kept(result, first_level)
    assert place.second is not None and place.second.wait_for("session ended")
    both_sides_agree(place, result.numbers)


def test_a_dealer_that_is_absent_is_named_before_anything_is_opened(place: Place) -> None:
    kill_dealer(place)
    with pytest.raises(DealerError, match=re.escape(place.dealer)):
        place.run(parameters=RUN, reconnect=0.0)
    assert account_numbers(place.sites["B"].home) == 0


def test_a_cancel_in_mid_run_keeps_the_last_finished_level(place: Place, first_level: RegistrationResult) -> None:
    token = CancelToken()
    result = place.run(parameters=RUN, progress=at(("evaluation", 22, token.cancel)), cancel=token)
    assert isinstance(result.error, Cancelled)
    the_first_level_is_kept(result, first_level)
    both_sides_agree(place, result.numbers)
    assert place.second is not None and place.second.wait_for("session ended") and place.second.running


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_party_1_leaves_whole_files_or_none(place: Place, tmp_path: Path, how: signal.Signals) -> None:
    out = tmp_path / "out"
    out.mkdir()
    sitk.WriteTransform(INITIAL, str(tmp_path / "a.tfm"))
    run = Program(
        place.sites["A"].home, "register", save(place.moving, tmp_path / "m.mha"), "--peer", place.address, "--image",
        "fixed", "--dealer", place.dealer, "--dealer-fingerprint", place.sites["third"].fingerprint, "--protocol",
        "mpc", "--transform", "diffeo", "--loss", "cc", "--levels", "2,1", "--iterations", "4,40", "--step-tolerance",
        1e-6, "--loss-tolerance", 0, "--initial", tmp_path / "a.tfm", "--output", out / "T.h5", "--inverse",
        out / "I.h5", "--report", out / "R.json", "--threads", 1,
    )  # fmt: skip
    with run:
        run.wait_for("progress", lambda e: e["stage"] == "evaluation" and e["level"] == 2 and e["evaluation"] >= 2)
        run.process.send_signal(how)
        run.process.wait(60)
        assert place.second is not None and place.second.wait_for("session ended")
        if how == signal.SIGKILL:
            assert list(out.iterdir()) == []
            return
        assert run.ends() == 130 and run.event("error")["error"] == "Cancelled"
    assert {p.name for p in out.iterdir()} == {"T.h5", "I.h5", "R.json", "R.html"}
    report = json.loads((out / "R.json").read_text())
    assert report["complete"] is False and report["levels"][0]["reason"] == "iterations"
    mine = sum(r["numbers"] for r in report["disclosed"]["rows"] if r["to"] == "party 1" and r["kind"] != "geometry")
    assert 0 < mine <= account_numbers(place.sites["B"].home)
    for name in ("T.h5", "I.h5"):
        sitk.ReadTransform(str(out / name))


@pytest.mark.long
def test_a_small_budget_says_what_would_fit_and_that_does(tmp_path: Path) -> None:
    fixed, moving, _ = pair(2)
    budget = Budget(60.0, 600.0, 10**9, 10**9)
    with pytest.raises(BudgetError, match="iterations of") as refused:
        simulate(fixed, moving, parameters=replace(RUN, iterations=(40, 40)), budget=budget)
    fits = [int(n) for n in re.findall(r"enough for (\d+) iterations", str(refused.value))]
    assert len(fits) == 2 and all(0 < n < 40 for n in fits)
    shorter: dict[str, Any] = {"iterations": tuple(fits), "evaluations": 10 + max(fits)}
    assert simulate(fixed, moving, parameters=replace(RUN, **shorter), budget=budget).complete
