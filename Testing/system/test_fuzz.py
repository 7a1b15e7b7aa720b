"""Short seeded runs of `make fuzz`: every handler of a message and every file of a peer, on all sides."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("cases", [50, pytest.param(1500, marks=pytest.mark.long)])
def test_no_case_is_a_finding(cases: int) -> None:
    pytest.importorskip("torch", reason="conversations of every protocol are recorded, mpc's among them")
    from fuzz import SINGLE, fuzz
    from fuzz_subjects import SUBJECTS

    rows = fuzz(cases, seed=20)
    assert [finding for row in rows for finding in row.findings] == []
    assert len(rows) == SINGLE + 2 * len(SUBJECTS) and sum(row.cases for row in rows) >= cases
    for row in rows:
        alike = len(row.outcomes) == 1 and row.cases >= 100  # of few cases all may end alike
        assert not alike, f"{row.name}: the cases all end alike: {row.outcomes}"
        assert row.grown_mb < 150, f"{row.name}: memory grew by {row.grown_mb:.0f} MB"
    for who in ("party 1", "party 2"):
        endings = {outcome for row in rows if row.name.startswith(who) for outcome in row.outcomes}
        assert endings >= {"accepted", "ProtocolError", "PeerError"}, f"{who}: {endings}"


def test_a_handler_that_lets_errors_through_is_found() -> None:
    from fuzz import run
    from fuzz_targets import Target

    class Faulty(Target):
        name = "faulty"

        def case(self, draw: object) -> str:
            raise KeyError("levels")

    assert len(run(Faulty(), 3, 1).findings) == 3
