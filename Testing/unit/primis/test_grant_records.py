"""Grants in the owner's ledger: part of the chain, with their bits."""

from __future__ import annotations

from pathlib import Path

import pytest

from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.errors import RecordError
from PPIRLogic.primis.grant_records import GrantRecords
from PPIRLogic.primis.keys import GRANTS_ON_RECORD

IMAGE, PEER = "ab" * 16, "AAAA-BBBB"


def test_the_bits_of_a_code_count_once_for_a_peer(tmp_path: Path) -> None:
    records = GrantRecords(tmp_path)
    for bits in ([10, 20, 30], [10], [10, 20, 30]):
        records.granted(IMAGE, PEER, bits, purpose="study", expires=9)
    records.granted(IMAGE, "CCCC", [10], purpose="other", expires=9)
    records.granted("cd" * 16, PEER, [7], purpose="study", expires=9)
    rows = records.rows()
    given = [row.pop("given") for row in rows]
    assert [(one["level"], one["purpose"], one["expires"]) for one in given[0]] == [
        ("classification", "study", 9),
        ("overview", "study", 9),
        ("classification", "study", 9),
    ]
    assert [one["purpose"] for one in given[1]] == ["other"] and all(one["time"] > 1e9 for g in given for one in g)
    assert rows == [
        {"peer": "AAAABBBB", "image": IMAGE, "level": "classification", "bits": 60, "grants": 3},
        {"peer": "CCCC", "image": IMAGE, "level": "overview", "bits": 10, "grants": 1},
        {"peer": "AAAABBBB", "image": "cd" * 16, "level": "overview", "bits": 7, "grants": 1},
    ]
    assert [r["bits"] for r in GrantRecords(tmp_path).all(IMAGE, PEER)] == [[10, 20, 30], [10], [10, 20, 30]]


def test_other_records_are_no_grants(tmp_path: Path) -> None:
    records = GrantRecords(tmp_path)
    records.resealed(IMAGE, "cd" * 16)
    records.escrowed("")
    assert records.all() == [] == records.rows()
    assert len((tmp_path / GRANTS_ON_RECORD).read_text().splitlines()) == 2


def test_a_grant_that_is_taken_out_of_the_ledger_is_found(tmp_path: Path) -> None:
    records = GrantRecords(tmp_path)
    for _ in range(3):
        records.granted(IMAGE, PEER, [10], purpose="study", expires=9)
    path = tmp_path / GRANTS_ON_RECORD
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])
    assert [fault.file for fault in Chain(tmp_path).verify().faults] == [GRANTS_ON_RECORD]
    with pytest.raises(RecordError, match=GRANTS_ON_RECORD):
        GrantRecords(tmp_path).granted(IMAGE, PEER, [10], purpose="study", expires=9)
