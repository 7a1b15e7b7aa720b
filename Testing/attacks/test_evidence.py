"""What is on record cannot be lost without a word: a new key would recognise no image, and every budget begin anew."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import pytest
from recording import Record
from system_support import Phantom, account_numbers, grid, owner, shared, two_sites
from thief import Thief

from PPIRLogic.disclosure.accounts import Budget
from PPIRLogic.errors import BudgetError, OutputError
from PPIRLogic.local_processes import Site
from PPIRLogic.registration.party2 import site as serving

GRID = grid((64, 64), (1.0, 1.0), (0.0, 0.0))
IMAGE = shared(Phantom.make(GRID).on(GRID), budget=Budget())


def read_more(site: Site, two: Site) -> int:
    """Voxels that a peer reads, session after session, until its budget is used up."""
    read = 0
    with owner(two, IMAGE) as one, contextlib.suppress(BudgetError):
        while True:
            with Thief(site, one.address) as thief:
                read += len(thief.read(range(3000)))
    return read


@pytest.mark.parametrize("damage", ["removed", "emptied", "cut"])
def test_a_lost_key_is_not_made_anew(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    one_site, two = two_sites(tmp_path)
    first = read_more(one_site, two)
    assert first > 300 and read_more(one_site, two) == 0
    key = two.home / "ledger" / "key"
    whole = key.read_bytes()
    spoiled = {"removed": None, "emptied": b"", "cut": whole[:-1]}[damage]
    key.unlink() if spoiled is None else key.write_bytes(spoiled)
    before = account_numbers(two.home)
    with pytest.raises(OutputError, match="from a backup"):
        read_more(one_site, two)
    assert account_numbers(two.home) == before
    key.write_bytes(whole)
    assert read_more(one_site, two) == 0, "put back, it counts as before"
    if damage != "removed":
        return
    key.unlink()
    monkeypatch.setattr(serving, "_check_that_nothing_is_on_record", lambda path: None)
    for path in (two.home / "ledger").glob("subjects.jsonl"):
        path.unlink()
    again = read_more(one_site, two)
    assert again == first
    record("the key by which images are recognised is removed", f"{again} voxels more, a new key", "nothing is served")


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_records_are_for_their_owner_alone(tmp_path: Path) -> None:
    one_site, two = two_sites(tmp_path)
    former = os.umask(0)
    try:
        read_more(one_site, two)
    finally:
        os.umask(former)
    records = [p for p in two.home.rglob("*") if (p.is_file() and p.suffix in (".jsonl", ".json")) or p.name == "key"]
    assert len(records) >= 6
    assert {stat.S_IMODE(p.stat().st_mode) for p in records} == {0o600}
