"""What a run costs on a real network: messages that wait for an answer, and a line with delay, limit and loss."""

from __future__ import annotations

from pathlib import Path

import pytest

from PPIRLogic.local_processes import make_sites


@pytest.mark.parametrize("protocol", ["fhe", "mpc"])
def test_one_round_trip_for_an_evaluation(protocol: str, tmp_path: Path) -> None:
    """One for the offer, the opening, every level, every evaluation (under fhe another for its test) and the end."""
    if protocol == "mpc":
        pytest.importorskip("torch")
    from network import LEVELS, round_trips

    in_all, evaluations, answers = round_trips(protocol, make_sites(tmp_path, ("A", "B", "third"), "third"))
    assert answers == evaluations * (2 if protocol == "fhe" else 1) > 2
    assert in_all == 3 + len(LEVELS) + answers


@pytest.mark.long
@pytest.mark.parametrize("protocol", ["fhe", "mpc"])
def test_a_long_slow_line_that_loses_packets(protocol: str, tmp_path: Path) -> None:
    """The same path and the same bytes as over a line without fault, only later."""
    if protocol == "mpc":
        pytest.importorskip("torch")
    from netlab import Line, network, problem
    from network import run

    if why := problem():
        pytest.skip(why)
    with network(Line(), sites=1):
        pass  # what is left over by a test that was killed would show here
    straight = run(protocol, Line(), tmp_path / "straight")
    bad = run(protocol, Line(rtt=20, rate=100, loss=0.2), tmp_path / "bad")
    assert bad.path == straight.path
    assert abs(bad.sent - straight.sent) < 0.05 * straight.sent + 10_000, "signs of life and TLS records aside"
