"""A home with a few days of records, and all the ways in which somebody who can write its files may change one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PPIRLogic.disclosure.accounts import UNLIMITED, Accounts, Budget
from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.disclosure.failed_checks import FailedChecks
from PPIRLogic.disclosure.ledger import Entry, SessionLedger
from PPIRLogic.disclosure.record_file import RecordFiles
from PPIRLogic.disclosure.subjects import Subjects
from PPIRLogic.registration.party2.unfinished_sessions import UnfinishedSessions
from PPIRLogic.registration.request import LevelGrant, Request

WIDE = Budget(100.0, 100.0, UNLIMITED, UNLIMITED)
WANTED = Request("i", "fhe", "rigid", "ssd", (2,))
PEERS = ("A" * 32, "B" * 32)


def a_day(home: Path, files: RecordFiles, day: int) -> None:
    """What a site writes in one session of each of two peers."""
    ledger = home / "ledger"
    accounts, failures = Accounts(ledger / "accounts", files), FailedChecks(home, files)
    Subjects(ledger / "subjects.jsonl", b"k" * 32, files).declare(f"image{day}", "", "")
    for peer in PEERS:
        account = accounts.account(peer, "image", WIDE)
        book = SessionLedger(ledger / "sessions" / f"{day}_{peer[0]}.jsonl", {"peer": peer}, files=files)
        for k in range(3):
            asked = [Entry("gradient", "party 1", 9, 46, 4, k, f"{day}{peer[0]}{k}")]
            account.spend(asked, f"{day}", 10**6, 0)
            book.record(asked[0])
        book.seal()
        files.append(home / "audit.jsonl", {"time": day, "event": "session finished", "peer": peer})
    failures.record(PEERS[0], f"{day}")
    if isinstance(files, Chain):
        kept, asked_for = UnfinishedSessions(ledger / "unfinished", files), ("s", PEERS[0], "image", WANTED)
        grant = kept.granted(*asked_for)
        if grant is None:
            kept.begin(*asked_for, [LevelGrant(2, 900, 5, 3, 45)])
        else:
            kept.go_on(*asked_for, grant)


def made(folder: Path, files: Callable[[Path], RecordFiles], days: int = 3) -> tuple[Path, list[Path]]:
    """A home after some days, and copies of it as it was after each."""
    home, copies = folder / "home", []
    for day in range(days):
        a_day(home, files(home), day)
        copies.append(folder / f"day{day}")
        shutil.copytree(home, copies[-1])
    return home, copies


@dataclass(frozen=True)
class Tampering:
    """One change of one file. line: the first that is not as it was (0: of a file that has no lines)."""

    what: str
    file: str
    line: int
    apply: Callable[[Path], object]


def _writes(file: str, lines: list[bytes]) -> Callable[[Path], object]:
    return lambda home: (home / file).write_bytes(b"".join(lines))


def _copies(file: str, source: Path) -> Callable[[Path], object]:
    return lambda home: shutil.copyfile(source / file, home / file)


def edits(home: Path, file: str) -> Iterator[Tampering]:
    """A byte of every line, at several places; a number made smaller, as somebody would who wants budget back."""
    lines = (home / file).read_bytes().splitlines(keepends=True)
    for n, line in enumerate(lines):
        for at in {
            0,
            1,
            len(line) // 3,
            len(line) // 2,
            len(line) - 45,
            len(line) - 20,
            len(line) - 3,
            len(line) - 2,
            len(line) - 1,
        }:
            other = line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :]
            yield Tampering(f"byte {at} of a line", file, n + 1, _writes(file, [*lines[:n], other, *lines[n + 1 :]]))
        for other in (line[:-1] + b" \n", b" " + line, line + b"\n"):
            yield Tampering(
                "blanks", file, n + 1 + other.endswith(b"\n\n"), _writes(file, [*lines[:n], other, *lines[n + 1 :]])
            )
        if b'"numbers":9' in line:
            other = line.replace(b'"numbers":9', b'"numbers":0')
            yield Tampering("an edit", file, n + 1, _writes(file, [*lines[:n], other, *lines[n + 1 :]]))


def cuts(home: Path, file: str) -> Iterator[Tampering]:
    """At the front, in the middle, at the end; whole lines and parts of one; the file."""
    lines = (home / file).read_bytes().splitlines(keepends=True)
    for n in range(len(lines)):
        yield Tampering("a line removed", file, n + 1, _writes(file, lines[:n] + lines[n + 1 :]))
        yield Tampering("a cut at the end", file, n + 1, _writes(file, lines[:n]))
        yield Tampering("a cut at the front", file, 1, _writes(file, lines[n + 1 :]))
        half = lines[n][: len(lines[n]) // 2]
        yield Tampering("a cut within a line", file, n + 1, _writes(file, [*lines[:n], half]))
        yield Tampering("a torn line", file, n + 1, _writes(file, [*lines[:n], half + b"\n", *lines[n + 1 :]]))
    yield Tampering("the file removed", file, 1, lambda home: (home / file).unlink())
    yield Tampering("the file emptied", file, 1, lambda home: (home / file).write_bytes(b""))


def moves(home: Path, file: str) -> Iterator[Tampering]:
    """Lines that are swapped, doubled, or taken from another file."""
    lines = (home / file).read_bytes().splitlines(keepends=True)
    for n in range(len(lines)):
        for m in range(n + 1, len(lines)):
            swapped = [*lines[:n], lines[m], *lines[n + 1 : m], lines[n], *lines[m + 1 :]]
            yield Tampering("two lines swapped", file, n + 1, _writes(file, swapped))
        doubled = [*lines[: n + 1], lines[n], *lines[n + 1 :]]
        yield Tampering("a line doubled", file, n + 2, _writes(file, doubled))
        yield Tampering("a line doubled at the end", file, len(lines) + 1, _writes(file, [*lines, lines[n]]))
        foreign = (home / "audit.jsonl" if file != "audit.jsonl" else home / "ledger/failures.jsonl").read_bytes()
        other = [*lines[:n], foreign.splitlines(keepends=True)[0], *lines[n + 1 :]]
        yield Tampering("a line of another file", file, n + 1, _writes(file, other))


def rollbacks(home: Path, copies: list[Path], file: str) -> Iterator[Tampering]:
    """The file as it was on a day before."""
    now = (home / file).read_bytes()
    for copy in copies:
        if (copy / file).exists() and (former := (copy / file).read_bytes()) != now:
            line = former.count(b"\n") + 1 if now.startswith(former) else 1
            yield Tampering("a rollback", file, line, _copies(file, copy))


def of_the_key(home: Path) -> Iterator[Tampering]:
    key, other = home / "ledger" / "key", bytes(range(32))
    yield Tampering("the key removed", "ledger/key", 0, lambda home: (home / "ledger/key").unlink())
    for content in (b"", key.read_bytes()[:-1], key.read_bytes()[:32], other, key.read_bytes().replace(b"a", b"b")):
        yield Tampering("the key changed", "ledger/key", 0, _writes("ledger/key", [content]))


def of_the_head(home: Path) -> Iterator[Tampering]:
    content = (home / "ledger" / "head").read_bytes()
    yield Tampering("the head removed", "ledger/head", 0, lambda home: (home / "ledger/head").unlink())
    for other in (b"", content[:1], content.replace(b'"number":', b'"numbes":')):
        yield Tampering("the head changed", "ledger/head", 0, _writes("ledger/head", [other]))
