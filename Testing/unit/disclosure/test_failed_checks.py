"""Failed checks of a peer: on record, and blocking until a person lifts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from PPIRLogic.cli.main import main
from PPIRLogic.disclosure.failed_checks import MAX_FAILURES, FailedChecks
from PPIRLogic.errors import OutputError, PolicyError
from PPIRLogic.network.trust import TrustStore

PEER, OTHER = "A" * 28, "B" * 28


def test_three_failures_block_until_a_person_lifts_them(tmp_path: Path) -> None:
    failures = FailedChecks(tmp_path)
    for n in range(MAX_FAILURES):
        FailedChecks(tmp_path).check(PEER)
        assert failures.count(PEER) == n
        failures.record(PEER, "session")
    FailedChecks(tmp_path).check(OTHER)
    with pytest.raises(PolicyError, match="ppir trust lift"):
        FailedChecks(tmp_path).check(PEER)  # another process, after a restart
    assert FailedChecks(tmp_path).lift(PEER) == 3
    failures.check(PEER)
    failures.record(PEER, "session")
    assert failures.count(PEER) == 1 and failures.lift(OTHER) == 0


def test_a_damaged_record_of_failures_serves_nobody(tmp_path: Path) -> None:
    failures = FailedChecks(tmp_path)
    failures.record(PEER, "session")
    path = tmp_path / "ledger" / "failures.jsonl"
    path.write_bytes(b"{]\n" + path.read_bytes())
    with pytest.raises(OutputError, match="damaged"):
        failures.check(OTHER)


def test_the_command_that_lifts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, failures = TrustStore(tmp_path), FailedChecks(tmp_path)
    peer = store.add("7QHX2B3MABCDEFGHJKMNPQRS2345ABCD", "Hospital B").fingerprint
    for _ in range(3):
        failures.record(peer, "session")
    main(["trust", "--home", str(tmp_path)])
    assert "3 failed checks" in capsys.readouterr().out
    main(["trust", "lift", "Hospital B", "--home", str(tmp_path)])
    assert failures.count(peer) == 0
