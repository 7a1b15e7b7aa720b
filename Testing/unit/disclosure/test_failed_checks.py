"""Failed checks of a peer: on record, and blocking until a person lifts them."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from PPIRLogic.cli.main import main
from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.disclosure.failed_checks import MAX_FAILURES, FailedChecks
from PPIRLogic.errors import Cancelled, OutputError, PeerError, PolicyError, VerificationError
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


def test_tests_that_pass_leave_nothing_and_one_that_is_left_does_not_close_the_image(tmp_path: Path) -> None:
    failures = FailedChecks(tmp_path)
    for _ in range(2 * MAX_FAILURES):
        with failures.test(PEER, "session", subject="scan"):
            pass
    assert failures.count(PEER) == 0
    with pytest.raises(KeyError), failures.test(PEER, "session", subject="scan"):
        raise KeyError
    assert failures.count(PEER) == 1 and failures.count_of_subject("scan") == 0


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
    assert "3 failed or unfinished tests" in capsys.readouterr().out
    main(["trust", "lift", "Hospital B", "--home", str(tmp_path)])
    assert failures.count(peer) == 0
    audit = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [(r["event"], r["peer"], r["tests"]) for r in audit] == [("tests lifted", peer, 3)]


def test_a_test_is_on_record_before_it_begins_and_comes_off_only_when_it_passes(tmp_path: Path) -> None:
    failures = FailedChecks(tmp_path)
    with failures.test(PEER, "s"):
        assert FailedChecks(tmp_path).count(PEER) == 1  # as another process would find it after a crash
    assert failures.count(PEER) == 0
    with pytest.raises(VerificationError), failures.test(PEER, "s"):
        raise VerificationError
    for problem in (PeerError("cut"), KeyboardInterrupt()):
        with pytest.raises(type(problem)), failures.test(PEER, "s"):
            raise problem
    assert FailedChecks(tmp_path).count(PEER) == MAX_FAILURES  # one failed, two were left
    began = []
    with pytest.raises(PolicyError, match=f"ppir trust lift {PEER}"), failures.test(PEER, "s"):
        began.append(True)
    with failures.test(OTHER, "s"):
        began.append(False)
    assert began == [False]
    assert failures.lift(PEER) == MAX_FAILURES and FailedChecks(tmp_path).count(PEER) == 0


def test_sessions_of_one_peer_test_one_at_a_time_so_that_three_means_three(tmp_path: Path) -> None:
    """Twenty sessions at once, all guessing wrong: three of them may."""
    guessed, refused = [], []

    def guess(number: int) -> None:
        try:
            with FailedChecks(tmp_path).test(PEER, str(number)):
                guessed.append(number)
                raise VerificationError
        except PolicyError:
            refused.append(number)
        except VerificationError:
            pass

    threads = [threading.Thread(target=guess, args=(k,)) for k in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(guessed) == MAX_FAILURES and len(refused) == 20 - MAX_FAILURES


def test_a_test_that_waits_for_another_one_can_be_cancelled(tmp_path: Path) -> None:
    failures = FailedChecks(tmp_path)

    def cancel() -> None:
        raise Cancelled("stop")

    with failures.test(PEER, "s"), pytest.raises(Cancelled), failures.test(PEER, "s", cancel):
        raise AssertionError("not reached")
    assert failures.count(PEER) == 0


def test_a_test_whose_process_was_killed_is_entered_when_its_peer_is_tested_next(tmp_path: Path) -> None:
    failures = FailedChecks(tmp_path)
    with failures.test(PEER, "s"):
        (left,) = (tmp_path / "ledger" / "tests").glob("*.json")
        content = left.read_bytes()
    left.write_bytes(content)
    assert failures.count(PEER) == 1 and not (tmp_path / "ledger" / "failures.jsonl").exists()
    with failures.test(PEER, "s"):
        assert [row["event"] for _, row in Chain(tmp_path).read(tmp_path / "ledger" / "failures.jsonl")] == ["left"]
    assert failures.count(PEER) == 1 and not left.exists()
    assert Chain(tmp_path).verify().faults == []
