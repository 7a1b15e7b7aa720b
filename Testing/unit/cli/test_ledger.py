"""`ppir ledger`: what it says of the records, and what its owner may do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from PPIRLogic.cli.main import main
from PPIRLogic.disclosure.accounts import UNLIMITED, Accounts, Budget
from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.disclosure.ledger import Entry
from PPIRLogic.disclosure.record_file import FolderLock
from PPIRLogic.network.trust import TrustStore

WIDE = Budget(100.0, 100.0, UNLIMITED, UNLIMITED)
PEER = "7QHX2B3MABCDEFGHJKMNPQRS2345ABCD"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two images on record for one peer, of 18 and 9 numbers."""
    TrustStore(tmp_path).add(PEER, "Hospital A")
    accounts = Accounts(tmp_path / "ledger" / "accounts", Chain(tmp_path))
    for image, name, times in (("1a", "atlas", 2), ("2b", "knee", 1)):
        for k in range(times):
            asked = [Entry("gradient", "party 1", 9, 46, 4, 0, f"{k}")]
            accounts.account(PEER, image, WIDE, name).spend(asked, "s", 10**6, 0)
    return tmp_path


def ledger(home: Path, *options: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and what was printed."""
    code = 0
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for module in ("main", "ledger", "output"):  # output last: a file that is loaded now takes what it is to keep
            patch.setattr(f"PPIRLogic.cli.{module}.print_line", lines.append)
        try:
            main(["ledger", "--home", str(home), "--json", *options])
        except SystemExit as end:
            code = int(end.code or 0)
    return code, [json.loads(line) for line in lines]


def account(home: Path) -> Path:
    return home / "ledger" / "accounts" / f"{PEER}_1a.jsonl"


def test_it_names_the_first_fault_and_what_could_not_be_told(home: Path, tmp_path: Path) -> None:
    code, told = ledger(home, "--verify")
    assert code == 0 and [t["event"] for t in told] == ["verified", "not told"] and told[0]["number"] == 3
    whole = account(home).read_text()
    account(home).write_text(whole.replace('"numbers":9', '"numbers":1'))
    code, told = ledger(home, "--verify")
    assert code == 14 and told[0]["event"] == "fault" and told[0]["line"] == 1
    assert told[0]["file"] == f"ledger/accounts/{PEER}_1a.jsonl" and told[-1]["error"] == "RecordError"
    assert ledger(home)[0] == 14, "nor is it shown as if it were whole"
    account(home).write_text(whole)
    assert ledger(home, "--verify")[0] == 0


def test_it_compares_with_heads(home: Path, tmp_path: Path) -> None:
    _, told = ledger(home, "--heads")
    assert [t["event"] for t in told] == ["head"] and told[0]["head"]["number"] == 3
    file = tmp_path / "heads"
    file.write_text(json.dumps(told[0]["head"]) + "\n")
    code, told = ledger(home, "--against", str(file))
    assert code == 0 and told[-1] == {"event": "compared", "heads": 1, "number": 3}
    file.write_text(file.read_text().replace('"number": 3', '"number": 4'))
    assert ledger(home, "--verify", "--against", str(file))[0] == 2, "not signed by this site"
    assert ledger(home, "--verify", "--against", str(tmp_path / "none"))[0] == 2
    assert ledger(home, "--heads", "--against", str(file))[0] == 2


def test_a_budget_begins_anew_by_the_owner_s_word_and_that_is_on_record(home: Path) -> None:
    code, told = ledger(home, "--reset", "Hospital A/atlas")
    assert code == 2 and "--yes" in told[0]["text"] and len(ledger(home)[1]) == 2
    code, told = ledger(home, "--reset", "Hospital A/atlas", "--yes")
    assert code == 0 and (told[0]["numbers"], told[0]["bits"]) == (18, 828)
    assert [(r["name"], r["numbers"]) for r in ledger(home)[1]] == [("knee", 9)]
    accounts = Accounts(home / "ledger" / "accounts", Chain(home))
    again = accounts.account(PEER, "1a", WIDE, subject=("2b",))
    assert again.total == 0 and [t.numbers.total() for t, _, _ in again._bounds()] == [0, 9, 9]
    audit = [json.loads(line) for line in (home / "audit.jsonl").read_text().splitlines()]
    assert [(r["event"], r["image"], r["numbers"]) for r in audit] == [("budget reset", "1a", 18)]
    assert '"event":"budget reset"' in account(home).read_text() and ledger(home, "--verify")[0] == 0
    for what in ("Hospital A/unknown", "atlas", "nobody/atlas", ""):
        assert ledger(home, "--reset", what, "--yes")[0] == 2


def test_a_rotated_key_changes_nothing_that_counts(home: Path) -> None:
    before = ledger(home)[1]
    assert ledger(home, "--rotate-key")[0] == 0 and ledger(home)[1] == before
    code, told = ledger(home, "--verify")
    assert code == 0 and any(t["event"] == "adopted" for t in told)


def test_what_was_found_is_accepted_with_yes_alone(home: Path) -> None:
    account(home).unlink()
    assert ledger(home, "--verify")[0] == 14 and ledger(home, "--accept")[0] == 2
    code, told = ledger(home, "--accept", "--yes")
    assert code == 0 and told[0]["what"] == "the file is missing"
    assert ledger(home, "--verify")[0] == 0 and ledger(home, "--accept", "--yes")[0] == 0


def test_nothing_is_changed_while_a_service_runs(home: Path) -> None:
    lock = FolderLock(home / "ledger")
    try:
        for options in (("--rotate-key",), ("--reset", "Hospital A/atlas", "--yes"), ("--accept", "--yes")):
            code, told = ledger(home, *options)
            assert code == 3 and "Another `ppir serve`" in told[0]["text"]
        assert ledger(home, "--verify")[0] == 0
    finally:
        lock.release()
