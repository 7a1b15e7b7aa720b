"""Accounts and budgets: counted before answered, on disk, once per request, never beyond the limit."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from PPIRLogic.disclosure import record_file
from PPIRLogic.disclosure.accounts import UNLIMITED, Accounts, Budget, ImageAccount
from PPIRLogic.disclosure.ledger import Entry
from PPIRLogic.disclosure.record_file import append_record
from PPIRLogic.errors import BudgetError, OutputError

WIDE = Budget(100.0, 100.0, UNLIMITED, UNLIMITED)


def entries(request: str, numbers: int = 10, bits: int = 46, level: int = 4) -> list[Entry]:
    """One evaluation: gradient and value."""
    return [
        Entry("gradient", "party 1", numbers - 1, bits, level, 0, request),
        Entry("value", "party 1", 1, bits, level, 0, request),
    ]


def spend_until_refused(account: ImageAccount, voxels: int, numbers: int = 10, **options: Any) -> int:
    """Numbers opened by requests of `numbers` until one is refused."""
    spent = 0
    for k in range(10_000):
        try:
            account.spend(entries(f"r{k}", numbers, **options), "s", voxels, spent)
        except BudgetError:
            return spent
        spent += numbers
    raise AssertionError("never refused")


def test_budget_in_numbers_per_level(tmp_path: Path) -> None:
    account = ImageAccount(tmp_path / "a", Budget(5.0, 100.0, UNLIMITED, UNLIMITED))
    assert spend_until_refused(account, 2000, bits=1) == 100
    assert account.opened(4) == 100 and account.left(4, 2000, 1) == 0
    assert account.left(2, 16_000, 1) == 800  # another level has its own


def test_budget_in_bits_per_level(tmp_path: Path) -> None:
    """30 % of 2000 voxels of 12 bits are 7200 bits: 156 numbers of 46 bits, 112 of 64."""
    budget = Budget(100.0, 30.0, UNLIMITED, UNLIMITED)
    assert spend_until_refused(ImageAccount(tmp_path / "a", budget), 2000, numbers=4, bits=46) == 156
    assert spend_until_refused(ImageAccount(tmp_path / "b", budget), 2000, numbers=4, bits=64) == 112


def test_default_budget_is_5_percent_of_the_numbers_and_20_percent_of_the_bits(tmp_path: Path) -> None:
    """The numbers are what ends a run under fhe (46 bits each), the bits under mpc (64)."""
    account = ImageAccount(tmp_path / "a", Budget())
    assert account.left(4, 6000, 46) == 300
    assert account.left(4, 6000, 64) == 6000 * 12 // 5 // 64 == 225


def test_budget_per_session_and_per_image(tmp_path: Path) -> None:
    assert spend_until_refused(ImageAccount(tmp_path / "a", Budget(100, 100, 70, UNLIMITED)), 10**6) == 70
    account = ImageAccount(tmp_path / "b", Budget(100, 100, UNLIMITED, 70))
    assert spend_until_refused(account, 10**6) == 70
    with pytest.raises(BudgetError):
        account.spend(entries("other", level=1), "another session", 10**6, 0)


def test_the_last_number_that_fits_is_given_and_the_next_is_not(tmp_path: Path) -> None:
    account = ImageAccount(tmp_path / "a", Budget(1.0, 100.0, UNLIMITED, UNLIMITED))
    with pytest.raises(BudgetError, match=r"needs 21 numbers.*factor 4, and 20 are left"):
        account.spend(entries("a", 21), "s", 2000, 0)
    assert account.spend(entries("b", 20), "s", 2000, 0)
    with pytest.raises(BudgetError):
        account.spend(entries("c", 2), "s", 2000, 0)
    assert account.total == 20


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(2, 60), st.sampled_from([46, 64]), st.sampled_from([1, 2, 4])), max_size=40))
def test_no_sequence_of_requests_passes_any_limit(
    tmp_path_factory: pytest.TempPathFactory, requests: list[tuple[int, int, int]]
) -> None:
    path = tmp_path_factory.mktemp("account") / "a"
    account, voxels, session = ImageAccount(path, Budget(10.0, 30.0, 400, 300)), 2000, 0
    for k, (numbers, bits, level) in enumerate(requests):
        try:
            account.spend(entries(f"{k}", numbers, bits, level), "s", voxels, session)
            session += numbers
        except BudgetError:
            continue
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    assert sum(r["numbers"] for r in lines) == session == account.total <= 300
    for level in (1, 2, 4):
        assert sum(r["numbers"] for r in lines if r["level"] == level) <= 200
        assert sum(r["bits"] for r in lines if r["level"] == level) <= 7200


def test_what_was_opened_survives_reopening(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder" / "a.jsonl"
    first = ImageAccount(path, WIDE)
    first.spend(entries("x", 10, 46, 4), "s", 10**6, 0)
    first.spend(entries("y", 5, 64, 2), "s", 10**6, 0)
    again = ImageAccount(path, WIDE)
    assert (again.opened(4), again.opened(2), again.total) == (10, 5, 15)
    assert again.left(4, 1000, 46) == first.left(4, 1000, 46) == (12_000 - 460) // 46
    assert not again.spend(entries("x"), "s", 10**6, 0)


@pytest.mark.parametrize("kept", [1, 20, -3, -2])
def test_a_torn_last_line_is_passed_over_and_kept_apart(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a"
    ImageAccount(path, WIDE).spend(entries("x"), "s", 10**6, 0)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:kept])
    torn = ImageAccount(path, WIDE)
    assert torn.total == 10
    torn.spend(entries("y", 7), "s", 10**6, 0)
    assert ImageAccount(path, WIDE).total == 17  # with the torn line between the two
    assert path.read_bytes().startswith(whole + whole[:kept])


def test_a_last_line_that_lacks_nothing_but_its_end_counts(tmp_path: Path) -> None:
    """It may have been answered for all that is known, so it is never left out."""
    path = tmp_path / "a"
    ImageAccount(path, WIDE).spend(entries("x"), "s", 10**6, 0)
    path.write_bytes(path.read_bytes()[:-1])
    account = ImageAccount(path, WIDE)
    assert account.total == 10 and not account.spend(entries("x"), "s", 10**6, 0)
    account.spend(entries("y", 7), "s", 10**6, 0)
    assert ImageAccount(path, WIDE).total == 17


DAMAGED = [
    b'{"level":4}',
    b'{"level":4,"numbers":10,"bits":460}',
    b'{"level":4,"numbers":null,"bits":460,"request":"x"}',
    b'{"level":"four","numbers":10,"bits":460,"request":"x"}',
    b'{"level":4,"numbers":[10],"bits":460,"request":"x"}',
    b'{"level":4,"numbers":NaN,"bits":460,"request":"x"}',
    b'"level":4,"numbers":10,"bits":460,"request":"x"}',
    b'{"level":4,"numbers":1\xff0,"bits":460,"request":"x"}',
    b'{"level":4,"numb{"level":4,"numbers":10,"bits":460,"request":"x"}',
    b"\0\0\0}",
]


@pytest.mark.parametrize("record", DAMAGED)
def test_a_damaged_record_is_refused_in_words(tmp_path: Path, record: bytes) -> None:
    """What was disclosed is not known then, so nothing is granted, and the file stays as it is."""
    path = tmp_path / "aabb_img1.jsonl"
    ImageAccount(path, WIDE).spend(entries("x"), "s", 10**6, 0)
    content = path.read_bytes() + record + b"\n"
    path.write_bytes(content)
    accounts = Accounts(tmp_path)
    for read in (lambda: accounts.account("aa-bb", "img1", WIDE), accounts.rows):
        with pytest.raises(OutputError, match=r"aabb_img1.jsonl is damaged at line 2.*Put back a copy, or move"):
            read()
    assert path.read_bytes() == content
    assert accounts.account("aa-bb", "img2", WIDE).total == 0  # the others are not concerned


def test_an_identical_request_is_counted_once(tmp_path: Path) -> None:
    account = ImageAccount(tmp_path / "a", Budget(100, 100, UNLIMITED, 25))
    assert account.spend(entries("x"), "s", 10**6, 0)
    size = (tmp_path / "a").stat().st_size
    for _ in range(3):
        assert not account.spend(entries("x"), "s", 10**6, 0)
    assert account.total == 10 and (tmp_path / "a").stat().st_size == size
    assert account.spend(entries("y"), "s", 10**6, 0)
    with pytest.raises(BudgetError):
        account.spend(entries("z"), "s", 10**6, 0)
    assert not account.spend(entries("y"), "s", 10**6, 0)  # a repeat is free even when nothing is left


class FullDisk:
    """A file on a disk that takes `room` more bytes; beyond, a short write or ENOSPC."""

    def __init__(self, path: Path, room: int) -> None:
        self._file, self._room = open(path, "a+b", buffering=0), room  # noqa: SIM115

    def write(self, data: bytes) -> int:
        if not self._room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self._file.write(data[: self._room]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@pytest.mark.parametrize("room", [0, 1, 30])
def test_a_full_disk_leaves_the_account_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    path = tmp_path / "a"
    account = ImageAccount(path, WIDE)
    account.spend(entries("x"), "s", 10**6, 0)
    before = path.read_bytes()
    monkeypatch.setattr(record_file, "open", lambda p, *a, **k: FullDisk(p, room), raising=False)
    with pytest.raises(OutputError, match="nothing is disclosed"):
        account.spend(entries("y"), "s", 10**6, 0)
    assert path.read_bytes() == before and account.total == 10
    monkeypatch.undo()
    assert account.spend(entries("y"), "s", 10**6, 0)  # not taken for counted


def test_a_failed_sync_leaves_the_account_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    account = ImageAccount(path, WIDE)
    account.spend(entries("x"), "s", 10**6, 0)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        account.spend(entries("y"), "s", 10**6, 0)
    assert path.read_bytes() == before and account.total == 10


def test_a_spending_is_synced_before_it_is_granted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append((tmp_path / "a").read_bytes()))
    account = ImageAccount(tmp_path / "a", WIDE)
    assert account.spend(entries("x"), "s", 10**6, 0)
    assert len(synced) == 1 and b'"request":"x"' in synced[0] and synced[0].endswith(b"\n")


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        append_record(tmp_path / "file" / "a", {})


def test_two_threads_share_one_budget(tmp_path: Path) -> None:
    account = ImageAccount(tmp_path / "a", Budget(100, 100, UNLIMITED, 300))
    granted: list[int] = []
    start = threading.Barrier(2)

    def spend(thread: int) -> None:
        start.wait()
        for k in range(30):
            try:
                granted.append(account.spend(entries(f"{thread}-{k}"), "s", 10**6, 0).numbers)
            except BudgetError:
                return

    threads = [threading.Thread(target=spend, args=(t,)) for t in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sum(granted) == account.total == ImageAccount(tmp_path / "a", WIDE).total == 300


def test_accounts_are_kept_per_peer_and_image(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path)
    one = accounts.account("aa-bb", "img1", WIDE)
    assert accounts.account("aa-bb", "img1", WIDE) is one
    one.spend(entries("x"), "s", 10**6, 0)
    assert accounts.account("aa-bb", "img2", WIDE).total == accounts.account("cc-dd", "img1", WIDE).total == 0
    (row,) = accounts.rows()
    assert row == {"peer": "aabb", "image": "img1", "name": "", "level": 4, "numbers": 10, "bits": 460}


def test_images_are_shown_by_the_name_they_had_last(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "accounts")
    accounts.account("aa-bb", "img1", WIDE, "atlas").spend(entries("x"), "s", 10**6, 0)
    accounts.account("aa-bb", "img2", WIDE, "Größe / 2").spend(entries("y"), "s", 10**6, 0)
    accounts.account("cc-dd", "img1", WIDE, "head").spend(entries("z"), "s", 10**6, 0)
    read = Accounts(tmp_path / "accounts")  # as another process does
    assert [(r["peer"], r["name"]) for r in read.rows()] == [("aabb", "head"), ("aabb", "Größe / 2"), ("ccdd", "head")]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"img1": 7}', b"\xff\xfe"])
def test_a_damaged_names_file_costs_names_only(tmp_path: Path, content: bytes) -> None:
    Accounts(tmp_path).account("aa", "img1", WIDE, "atlas").spend(entries("x"), "s", 10**6, 0)
    (tmp_path / "names.json").write_bytes(content)
    assert [r["numbers"] for r in Accounts(tmp_path).rows()] == [10]
    account = Accounts(tmp_path).account("aa", "img1", WIDE, "head")
    assert account.total == 10 and Accounts(tmp_path).rows()[0]["name"] == "head"
