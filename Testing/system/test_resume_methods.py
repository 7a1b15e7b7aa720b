"""A connection lost under mutual information and under a B-spline, at either stage of an evaluation, and verified.

The run goes on with the undisturbed run's result bit for bit; an answer that was counted and lost is counted once
more, a joint histogram among them, because it may have arrived; nothing else is.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
from proxy import Proxy
from resume_support import Place, a_place, at, path_of, undisturbed_path
from system_support import PATIENCE, Phantom, grid, motion_of, rows_of, wait_until

from PPIRLogic.errors import BudgetError
from PPIRLogic.registration.parameters import Parameters

GEOMETRY = grid((128, 112), (1.0, 1.2), (-10.0, 5.0))
PHANTOM = Phantom.make(GEOMETRY)
FIXED, MOVING = PHANTOM.on(GEOMETRY), PHANTOM.on(GEOMETRY, motion_of("rigid", GEOMETRY))
COMMON = Parameters(levels=(2, 1), step_tolerance=1e-6, loss_tolerance=0.0, evaluations=5, threads=1)
MI = replace(COMMON, transform="rigid", loss="mi", bins=8, initial="centres", skip_check=True)
SPLINE = replace(
    COMMON, transform="bspline", loss="ssd", grid_spacing=40.0, iterations=(2, 2), initial=sitk.AffineTransform(2),
)  # fmt: skip
METHODS = {"mi": MI, "spline": SPLINE}
CASES = [("mi", "fhe"), ("spline", "mpc")]
LONG_CASES = [pytest.param(*case, marks=pytest.mark.long) for case in (
    ("mi", "mpc"), ("spline", "fhe"),
)]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    with a_place(tmp_path_factory.mktemp("calm"), FIXED, MOVING) as one:
        return {name: undisturbed_path(one, parameters) for name, parameters in METHODS.items()}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with a_place(tmp_path, FIXED, MOVING) as one:
        yield one


def begin(place: Place, protocol: str, *, to_be_killed: bool = False) -> None:
    """Party 2 is a process where it is to be killed."""
    if protocol == "mpc":
        pytest.importorskip("torch")
        place.deal()
    if to_be_killed:
        place.serve()
    else:
        place.share()


def counted(place: Place) -> list[dict[str, Any]]:
    """The account's records, one for each request that was answered or may have been."""
    files = (place.sites["B"].home / "ledger" / "accounts").glob("*.jsonl")
    return [r for f in files for r in rows_of(f)]


def requests_of(path: list[Any]) -> Counter[int]:
    """Values asked for, level by level, by an undisturbed run."""
    return Counter({index: level[4] for index, level in enumerate(v for v in path if isinstance(v, tuple))})


@pytest.mark.parametrize("method, protocol", CASES + LONG_CASES)
def test_a_line_that_is_cut_before_and_during_a_gradient_and_between_levels(
    method: str, protocol: str, place: Place, undisturbed: dict[str, list[Any]]
) -> None:
    """A progress report comes before the gradient of the point it reports: what is cut there is that request."""
    begin(place, protocol)
    line = place.line()

    def cut_within_the_request() -> None:
        line.room = 3000  # bytes that still pass

    cuts = at(("evaluation", 11, line.cut), ("level", 20, line.cut), ("evaluation", 21, cut_within_the_request))
    result = place.run(line.address, parameters=replace(METHODS[method], protocol=protocol), progress=cuts)
    assert path_of(result) == undisturbed[method] and result.reconnections == 3
    place.both_sides_agree(result)
    if method == "mi":
        assert histograms(place) == sum(requests_of(undisturbed[method]).values()), "none was counted and lost"


def histograms(place: Place) -> int:
    return sum(r.get("histograms", 0) for r in counted(place))


@pytest.mark.parametrize("method, protocol, lost", [
    ("mi", "fhe", "gradient"),
    *(pytest.param(*c, marks=pytest.mark.long) for c in (("spline", "fhe", "gradient"), ("mi", "fhe", "value"))),
])  # fmt: skip
def test_an_answer_that_was_counted_and_lost_at_either_stage(
    method: str, protocol: str, lost: str, place: Place, undisturbed: dict[str, list[Any]]
) -> None:
    begin(place, protocol)
    line = place.line()
    hold = at(("evaluation", 21, lambda: hold_answers(place, line, 1 if lost == "gradient" else 2)))

    def progress(step: Any) -> None:
        hold(step)
        if step.stage == "reconnecting":
            line.delay = 0.0

    result = place.run(line.address, parameters=replace(METHODS[method], protocol=protocol), progress=progress)
    assert path_of(result) == undisturbed[method] and result.reconnections == 1
    place.both_sides_agree(result)
    if method == "mi":
        expected = sum(requests_of(undisturbed[method]).values()) + (lost == "value")
        assert histograms(place) == expected, "the lost histogram is counted, once more and no oftener"


def hold_answers(place: Place, line: Proxy, requests: int) -> None:
    """Answers hang in the line from now on; after so many were counted it is cut, with the last one in it."""
    before = len(counted(place))

    def cut_when_counted() -> None:
        assert wait_until(lambda: len(counted(place)) >= before + requests, PATIENCE)
        line.cut()

    line.delay = 0.5
    threading.Thread(target=cut_when_counted, daemon=True).start()


@pytest.mark.parametrize("method, protocol", [
    ("mi", "fhe"),
    pytest.param("spline", "fhe", marks=pytest.mark.long),
])  # fmt: skip
def test_party_2_is_killed_and_started_again(
    method: str, protocol: str, place: Place, undisturbed: dict[str, list[Any]]
) -> None:
    begin(place, protocol, to_be_killed=True)
    again = at(("evaluation", 21, place.serve_again))
    result = place.run(parameters=replace(METHODS[method], protocol=protocol), progress=again)
    assert path_of(result) == undisturbed[method] and result.reconnections == 1
    place.both_sides_agree(result)


def test_the_limit_of_histograms_is_neither_spent_twice_nor_escaped(
    place: Place, undisturbed: dict[str, list[Any]]
) -> None:
    """With a limit of just what a run needs a cut line costs nothing; one histogram that was lost costs one."""
    assert set(requests_of(undisturbed["mi"]).values()) == {MI.evaluations}
    place.share(histograms=MI.evaluations)
    line = place.line()
    result = place.run(line.address, parameters=MI, progress=at(("evaluation", 11, line.cut), ("level", 20, line.cut)))
    assert path_of(result) == undisturbed["mi"] and result.reconnections == 2
    place.both_sides_agree(result)


def test_a_lost_histogram_counts_against_the_limit(place: Place) -> None:
    place.share(histograms=MI.evaluations)
    line = place.line()
    hold = at(("evaluation", 21, lambda: hold_answers(place, line, 2)))

    def progress(step: Any) -> None:
        hold(step)
        if step.stage == "reconnecting":
            line.delay = 0.0

    result = place.run(line.address, parameters=MI, progress=progress)
    assert not result.complete and isinstance(result.error, BudgetError) and "joint histograms" in str(result.error)
    assert histograms(place) == 2 * MI.evaluations
    assert result.levels[-1].transforms, "the best so far is kept"
