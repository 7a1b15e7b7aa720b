"""The chain of a home: appended by several processes, adopted from a former release, rotated, accepted, whole."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from PPIRLogic.disclosure import chain as chain_module
from PPIRLogic.disclosure import chain_keys
from PPIRLogic.disclosure.accounts import UNLIMITED, Accounts, Budget
from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.disclosure.chain_head import read_head
from PPIRLogic.disclosure.ledger import Entry, SessionLedger
from PPIRLogic.disclosure.ledger_key import read_key
from PPIRLogic.errors import OutputError, RecordError

WIDE = Budget(100.0, 100.0, UNLIMITED, UNLIMITED)
FORMER = [
    '{"time":1,"session":"s","level":4,"numbers":9,"bits":414,"request":"a"}\n',
    '{"time":2,"session":"s","level":4,"numbers":5,"bits":230,"request":"b"}\n',
]


def asked(request: str, numbers: int = 9) -> list[Entry]:
    return [Entry("gradient", "party 1", numbers, 46, 4, 0, request)]


def session(home: Path, name: str = "s") -> SessionLedger:
    return SessionLedger(home / "ledger" / "sessions" / f"{name}.jsonl", {"peer": "p"}, files=Chain(home))


def append_many(home: Path, name: str, count: int) -> None:
    chain = Chain(home)
    for k in range(count):
        chain.log(name, k=k)


def audit(home: Path) -> list[dict[str, Any]]:
    return [row for _, row in Chain(home).read(home / "audit.jsonl")]


def test_threads_and_processes_write_one_chain(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    threads = [threading.Thread(target=append_many, args=(tmp_path, f"t{n}", 15)) for n in range(2)]
    threads += [threading.Thread(target=lambda: [chain.log("shared") for _ in range(15)]) for _ in range(2)]
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=append_many, args=(tmp_path, "p", 30))
    process.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    process.join()
    report = Chain(tmp_path).verify()
    assert (report.faults, report.number) == ([], 90) and process.exitcode == 0
    assert [row["k"] for row in audit(tmp_path) if row["event"] == "p"] == list(range(30))


class Killed(BaseException):
    """As if the process had ended here."""


@pytest.mark.parametrize("at", ["before the record", "within it", "after it"])
def test_a_process_that_is_killed_at_a_record_leaves_a_whole_chain(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that has the chain open goes on, and so does one that opens it."""
    other = Chain(tmp_path)
    other.log("first")
    honest = chain_module.append_line

    def append(path: Path, line: bytes, sync: bool = True) -> None:
        honest(path, {"before the record": b"", "within it": line[:40], "after it": line}[at], sync)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(chain_module, "append_line", append)
        Chain(tmp_path).log("second")
    other.log("third")
    Chain(tmp_path).log("fourth")
    assert Chain(tmp_path).verify().faults == []
    there = ["first", *(["second"] if at == "after it" else []), "third", "fourth"]
    assert [row["event"] for row in audit(tmp_path)] == there


def test_a_head_that_a_power_cut_left_behind_is_said_and_caught_up(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    chain.log("one")
    former = (tmp_path / "ledger" / "head").read_bytes()
    for k in range(3):
        chain.log(f"more {k}")
    (tmp_path / "ledger" / "head").write_bytes(former)
    (fault,) = Chain(tmp_path).verify().faults
    assert str(fault).startswith("ledger/head, line 1: it is 3 records behind")
    late = Chain(tmp_path)
    late.open()
    assert [row["event"] for row in late.news] == ["head was behind"] and late.news[0]["records"] == 3
    assert Chain(tmp_path).verify().faults == []


def test_one_torn_turn_of_the_head_is_no_loss(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    for k in range(3):
        chain.log(f"{k}")
    path, whole = tmp_path / "ledger" / "head", (tmp_path / "ledger" / "head").read_bytes()
    for torn in (whole[:100] + b"\0" * 924 + whole[1024:], whole[:1024] + whole[1024:1100]):
        path.write_bytes(torn)
        Chain(tmp_path).open()
        path.write_bytes(whole)
    key = read_key(tmp_path / "ledger" / "key")
    assert key is not None and read_head(path, b"another key") is None


def test_a_full_disk_leaves_the_chain_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain(tmp_path)
    chain.log("one")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OutputError, match="nothing is disclosed"):
        patch.setattr(os, "fsync", full)
        chain.log("two")
    chain.log("three")
    assert Chain(tmp_path).verify().faults == [] and [r["event"] for r in audit(tmp_path)] == ["one", "three"]


def test_a_session_that_was_killed_is_sealed_when_the_records_are_opened_next(tmp_path: Path) -> None:
    book = session(tmp_path)
    book.record(asked("x")[0])
    assert Chain(tmp_path).verify().open_ends == ["ledger/sessions/s.jsonl"]
    Chain(tmp_path).open()
    assert Chain(tmp_path).verify().open_ends == []
    book.record(asked("y")[0])  # it was not dead
    book.seal()
    book.seal()
    report = Chain(tmp_path).verify()
    assert (report.faults, report.open_ends) == ([], []) and len(
        Chain(tmp_path).read(tmp_path / "ledger/seals.jsonl")
    ) == 2
    path = tmp_path / "ledger" / "sessions" / "s.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    (fault,) = Chain(tmp_path).verify().faults
    assert (fault.file, fault.line) == ("ledger/sessions/s.jsonl", 3)


def former_home(home: Path) -> Path:
    """As release 0.1 wrote it."""
    (home / "ledger" / "accounts").mkdir(parents=True)
    account = home / "ledger" / "accounts" / "peer_image.jsonl"
    account.write_text("".join(FORMER))
    (home / "ledger" / "key").write_bytes(bytes(range(32)))
    (home / "audit.jsonl").write_text('{"time":1,"event":"listening"}\n')
    return account


def test_records_of_a_former_release_are_adopted_once_and_on_record(tmp_path: Path) -> None:
    account = former_home(tmp_path)
    assert Chain(tmp_path).verify().files == {} and len(Chain(tmp_path).read(account)) == 2, "reading adopts nothing"
    first = Chain(tmp_path)
    first.open(sessions=True)
    assert [row["event"] for row in first.news] == ["records adopted"] and first.image_key == bytes(range(32))
    again = Chain(tmp_path)
    again.open()
    assert again.news == [] and account.read_text() == "".join(FORMER), "what was there is not touched"
    kept = Accounts(account.parent, again).account("peer", "image", WIDE)
    assert kept.total == 14 and kept.spend(asked("c"), "s", 10**6, 0)
    report = Chain(tmp_path).verify()
    assert (report.faults, report.adopted) == ([], 3)
    for line, text in ((1, account.read_text().replace('"numbers":9', '"numbers":0', 1)), (2, FORMER[0]), (1, "")):
        whole = account.read_text()
        account.write_text(text)
        (fault,) = Chain(tmp_path).verify().faults
        assert (fault.file, fault.line) == ("ledger/accounts/peer_image.jsonl", line)
        account.write_text(whole)


@pytest.mark.parametrize("without", [("head",), ("adopted",), ("head", "adopted"), ("key", "head", "adopted")])
def test_what_was_adopted_is_not_adopted_again_without_a_word(without: tuple[str, ...], tmp_path: Path) -> None:
    """Whoever takes codes, head and list away does not get a former release's home: the key says that it is none."""
    account = former_home(tmp_path)
    Chain(tmp_path).open()
    account.write_text(FORMER[0])
    (tmp_path / "audit.jsonl").write_text('{"time":1,"event":"listening"}\n')
    for name in without:
        path = tmp_path / "ledger" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(RecordError, match=r"missing|damaged"):
        Chain(tmp_path).open()


@pytest.mark.parametrize("stop", ["write_private_file", "new_head"])
def test_an_adoption_that_a_crash_ended_is_made_again(
    stop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    former_home(tmp_path)
    honest, count = getattr(chain_keys, stop), [0]
    for crash_at in range(3):

        def crash(*args: Any, crash_at: int = crash_at) -> None:
            count[0] += 1
            if count[0] > crash_at:
                raise Killed
            honest(*args)

        count[0] = 0
        with monkeypatch.context() as patch:
            patch.setattr(chain_keys, stop, crash)
            try:
                Chain(tmp_path).open()
            except Killed:
                assert len((tmp_path / "ledger" / "key").read_bytes()) == 32
    Chain(tmp_path).open()
    assert Chain(tmp_path).verify().faults == []
    assert [row["event"] for row in audit(tmp_path)].count("records adopted") == 1


def test_a_new_key_authenticates_what_the_former_did_and_resets_no_budget(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    account = Accounts(tmp_path / "ledger" / "accounts", chain).account("peer", "image", WIDE)
    account.spend(asked("a"), "s", 10**6, 0)
    former = read_key(tmp_path / "ledger" / "key")
    running = session(tmp_path)
    Chain(tmp_path).rotate_key()
    now = read_key(tmp_path / "ledger" / "key")
    assert former is not None and now is not None
    assert now[0].images == former[0].images and now[0].chain != former[0].chain and not now[0].former
    assert Accounts(tmp_path / "ledger" / "accounts", Chain(tmp_path)).account("peer", "image", WIDE).total == 9
    running.record(asked("b")[0])  # a session of another process, under way
    running.seal()
    chain.log("of a process that knew the former key")
    assert Chain(tmp_path).verify().faults == []
    assert "ledger key rotated" in [row["event"] for row in audit(tmp_path)]


@pytest.mark.parametrize("crash_at", [1, 2, 3])
def test_a_rotation_that_a_crash_ended_is_ended(crash_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Chain(tmp_path).log("one")
    honest, count = os.replace, [0]

    def crash(*args: Any) -> None:
        count[0] += 1
        if count[0] == crash_at:
            raise Killed
        honest(*args)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "replace", crash)
        Chain(tmp_path).rotate_key()
    Chain(tmp_path).open()
    key = read_key(tmp_path / "ledger" / "key")
    assert key is not None and not key[0].former and Chain(tmp_path).verify().faults == []


def test_a_key_is_not_rotated_over_a_change(tmp_path: Path) -> None:
    Chain(tmp_path).log("one")
    path = tmp_path / "audit.jsonl"
    path.write_text(path.read_text().replace("one", "two"))
    with pytest.raises(RecordError, match="damaged at line 1"):
        Chain(tmp_path).rotate_key()


@pytest.mark.parametrize("damage", ["a record", "a file", "the head", "what was adopted"])
def test_an_owner_accepts_what_was_found_and_that_is_on_record(damage: str, tmp_path: Path) -> None:
    account = former_home(tmp_path)
    for k in range(3):
        Accounts(account.parent, Chain(tmp_path)).account("peer", "image", WIDE).spend(asked(f"{k}"), "s", 10**6, 0)
    number, _ = Chain(tmp_path).position()
    if damage == "a record":
        account.write_text("".join(account.read_text().splitlines(keepends=True)[:-1]))
    elif damage == "a file":
        account.unlink()
    elif damage == "the head":
        (tmp_path / "ledger" / "head").unlink()
    else:
        shutil.rmtree(tmp_path / "ledger" / "adopted")
    with pytest.raises(RecordError, match="--accept"):
        Chain(tmp_path).open()
    assert Chain(tmp_path).accept() != [] and Chain(tmp_path).accept() == []
    assert Chain(tmp_path).verify().faults == [] and Chain(tmp_path).position()[0] > number - (damage == "a file")
    (row,) = [row for row in audit(tmp_path) if row["event"] == "records accepted by the owner"]
    assert row["faults"] >= 1 and row["found"]
    left = Accounts(account.parent, Chain(tmp_path)).account("peer", "image", WIDE)
    assert left.total == {"a record": 32, "a file": 0}.get(damage, 41)
    left.spend(asked("after"), "s", 10**6, 0)
    assert Chain(tmp_path).verify().faults == []


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_what_others_could_read_is_tightened_and_what_is_not_a_record_stays(tmp_path: Path) -> None:
    former_home(tmp_path)
    (tmp_path / "image.nrrd").write_text("")
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    Chain(tmp_path).open()
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path, *tmp_path.rglob("*"))}
    assert modes.pop("image.nrrd") == 0o644
    assert set(modes.values()) == {0o600, 0o700} and modes[tmp_path.name] == modes["ledger"] == 0o700


def test_the_code_of_a_record_is_found_by_its_number(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    codes = {}
    for k in range(12):
        chain.log("event", text='"chain":[1,3,"","00"],"mac":"' + "0" * 32)
        codes[k + 1] = chain.position()[1]
    assert {n: Chain(tmp_path).code_of(n) for n in codes} == codes and Chain(tmp_path).code_of(99) == ""
    lines = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert all(json.loads(line)["mac"] == codes[n] for n, line in enumerate(lines, 1))
