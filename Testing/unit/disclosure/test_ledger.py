"""The ledger of one session."""

from __future__ import annotations

import json
from pathlib import Path

from PPIRLogic.disclosure.ledger import Entry, SessionLedger


def entries(request: str, numbers: int = 10, bits: int = 46, level: int = 4) -> list[Entry]:
    """One evaluation: gradient and value."""
    return [
        Entry("gradient", "party 1", numbers - 1, bits, level, 0, request),
        Entry("value", "party 1", 1, bits, level, 0, request),
    ]


def test_session_ledger_sums_by_kind_receiver_and_level(tmp_path: Path) -> None:
    record = SessionLedger(tmp_path / "s.jsonl", {"session": "abc"})
    for entry in entries("x", 7, 46, 2) + entries("y", 7, 46, 2) + entries("z", 3, 46, 1):
        record.record(entry)
    assert record.numbers == 17
    assert record.summary()[0] == {"kind": "gradient", "to": "party 1", "level": 2, "numbers": 12, "bits": 552}
    assert sum(row["bits"] for row in record.summary()) == 17 * 46
    lines = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert lines[0]["session"] == "abc" and len(lines) == 7
    assert [line["numbers"] for line in lines[1:]] == [6, 1, 6, 1, 2, 1]
