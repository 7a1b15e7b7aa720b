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


def test_a_subject_is_blocked_by_all_its_peers_together_and_lifted_by_lifting_them(tmp_path: Path) -> None:
    failures = FailedChecks(tmp_path)
    for peer in (PEER, OTHER, OTHER):
        failures.record(peer, "session", "scan")
    assert failures.count_of_subject("scan") == 3 and failures.count_of_subject("another") == 0
    failures.check("C" * 28, "another")
    with pytest.raises(PolicyError, match="serves this image to nobody"):
        failures.check("C" * 28, "scan")
    assert failures.lift(PEER) == 1
    failures.check("C" * 28, "scan")


def test_an_answer_that_does_not_fail_leaves_nothing(tmp_path: Path) -> None:
    failures = FailedChecks(tmp_path)
    for _ in range(2 * MAX_FAILURES):
        with failures.attempt(PEER, "scan", "session"):
            pass
    with pytest.raises(KeyError), failures.attempt(PEER, "scan", "session"):
        raise KeyError
    with failures.attempt(PEER, "scan", "session"):
        assert failures.count(PEER) == 0


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
