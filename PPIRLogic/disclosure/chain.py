"""The chain of a site's records: ledger, accounts, failed tests and audit log, so that a change of any is found.

Every record carries its place and a code under a key of this site (`chain_check` has the form); a head says how far
they go (`chain_head`). Whoever can write the files and does not have the key cannot change, cut, swap or roll back one
of them unnoticed. Whoever puts back the whole home can: a peer, or a syslog, that holds a newer head finds that
(`heads`). Records are appended under a lock of the home: sessions, commands and services write side by side.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from PPIRLogic.disclosure.chain_check import (
    AUDIT,
    HEAD,
    NOTHING,
    SEALS,
    UNFINISHED,
    Adopted,
    Fault,
    FileCheck,
    Report,
    check_file,
    check_home,
    link,
    names_of,
    sealed_line,
    tags_of,
    unsealed,
)
from PPIRLogic.disclosure.chain_head import WHAT_TO_DO, Head, new_head, read_head, write_head
from PPIRLogic.disclosure.ledger_key import LedgerKey, read_key
from PPIRLogic.disclosure.record_file import (
    RecordFiles,
    SessionRecords,
    append_line,
    locked_file,
    on_disk,
    read_records,
    read_whole,
)
from PPIRLogic.errors import RecordError
from PPIRLogic.files import make_private_directory, tighten, write_private_file

Stamp = tuple[int, int, int, int]


class Chain(RecordFiles):
    """The records of one home. Made without looking at the disk; opened by the first record, or by `open`.

    Thread-safe, and safe beside other processes. `news` are the audit records that opening made.
    """

    def __init__(self, home: Path) -> None:
        self.home, self._folder = home, home / "ledger"
        self._key_file, self._head_file = self._folder / "key", self._folder / "head"
        self._lock, self._depth = threading.RLock(), 0
        self._key: LedgerKey | None = None
        self._adopted, self._adopted_name = Adopted(), ""
        self._known: dict[str, tuple[int, str, Stamp | None]] = {}  # by file: lines of the chain, code of the last
        self._opened = False
        self.news: list[dict[str, Any]] = []

    # ------------------------------------------------------------------------------------------ opening

    def open(self, sessions: bool = False) -> None:
        """Check this site's records and make the chain where there is none yet. sessions: the session ledgers, too.

        Records of a former release are adopted once, which is put on record. RecordError, with what to do, where
        something was changed, cut or rolled back, or the key or the head is lost.
        """
        with self._held():
            self._load_or_make_key()
            head = self._head()
            report = self._check(head, sessions)
            if report.faults:
                raise _damaged(report.faults, self.home)
            behind = report.number - head.number
            if behind > 0:
                head = self._put_head(Head(report.number, report.mac, report.file, head.adopted, turn=head.turn + 1))
            self._known = {
                name: (f.count, f.last, _stamp(self.home / name)) for name, f in report.files.items() if sessions
                or not name.startswith("ledger/sessions")
            }  # fmt: skip
            self._opened = True
            self._tell_of_adoption(head)
            if behind > 0:
                self.news.append(self.log("head was behind", records=behind, why="a power cut, or it was put back"))
            self._seal_open_ends(report)

    @property
    def image_key(self) -> bytes:
        """The key under which images are recognised."""
        self._open_once()
        assert self._key is not None
        return self._key.images

    def _open_once(self) -> None:
        with self._lock:
            if not self._opened:
                self.open()

    def _load_or_make_key(self) -> None:
        """A new home gets the key of a former release, so that a crash between two files leaves what can go on."""
        tighten_home(self.home)
        if (found := read_key(self._key_file)) is None:
            self._refuse_if_anything_is_on_record()
            on_disk(lambda: write_private_file(self._key_file, LedgerKey.new().images))
            found = read_key(self._key_file)
            assert found is not None
        self._key, former_release = found
        if former_release:
            self._check_former_release()
            self._seal_grants()
            self._adopt("records adopted", Head())
        elif self._key.former:
            self._end_rotation()

    def _check_former_release(self) -> None:
        """RecordError where the key looks like that of a former release, and the records do not."""
        assert self._key is not None
        if self._head_file.exists():
            if read_head(self._head_file, self._key.chain) is None:
                raise self._not_our_head()
        elif self._chained():
            read_head(self._head_file, self._key.chain)  # says that it is missing

    def _chained(self) -> list[Path]:
        """Files with lines of a chain."""
        return [self.home / name for name in names_of(self.home) if b',"chain":[' in read_whole(self.home / name)]

    def _refuse_if_anything_is_on_record(self) -> None:
        """Without the key no image is recognised, and no record authenticated: to make one anew would reset budgets."""
        kept = [path for name in ("accounts/*.jsonl", "subjects.jsonl", "head") for path in self._folder.glob(name)]
        if kept := [*kept, *self._chained()]:
            raise RecordError(
                f"The key {self._key_file}, by which budgets recognise images and records are authenticated, is missing"
                f" although {kept[0].name} is there: put it back from a backup. Without it nothing that is on record"
                f" counts; to begin anew all the same, move the folder {self._folder} and {self.home / AUDIT} away."
            )

    def _not_our_head(self) -> RecordError:
        return RecordError(
            f"The head {self._head_file} and the key {self._key_file} do not belong together: one of them was changed,"
            f" or the folder was put together from several times. {WHAT_TO_DO}"
        )

    # ------------------------------------------------------------------------------------------ adopting

    def _adopt(self, why: str, head: Head, details: dict[str, Any] | None = None) -> Head:
        """Take all lines as they are now: their tags go into a file of their own, which the head names."""
        assert self._key is not None
        key, files = self._key.chain, {}
        for name in names_of(self.home):
            data = read_whole(self.home / name)
            codes = [str(value.get("mac", "")) for _, value in _values(data) if "chain" in value]
            files[name] = [len(data), tags_of(key, name, data), len(codes), codes[-1] if codes else ""]
        if files or head.number:
            document = {"time": time.time(), "why": why, "number": head.number, "former": head.mac, "files": files,
                        "details": details or {"files": len(files)}}  # fmt: skip
            name = f"ledger/adopted/{head.number}.json"
            head = replace(head, adopted=f"{name}:{self.write_sealed(self.home / name, document)}")
        head = replace(head, next_file="", next_mac="", turn=head.turn + 1)
        on_disk(lambda: new_head(self._head_file, key, head))
        on_disk(lambda: self._key.write(self._key_file) if self._key is not None else None)
        return head

    def _load_adopted(self, named: str) -> Adopted:
        """What the head says was adopted; RecordError if that is missing or not the one."""
        assert self._key is not None
        if named == self._adopted_name:
            return self._adopted
        name, _, mac = named.rpartition(":")
        data = read_whole(self.home / name) if name else b""
        document = unsealed(self._key.chain, name, data) if data.endswith(f'"{mac}"}}\n'.encode()) else None
        if name and document is None:
            raise _damaged([Fault(name, 1, "it is missing or was changed; it holds what was adopted")], self.home)
        if document is not None:
            files = {str(k): (int(v[0]), str(v[1]), int(v[2]), str(v[3])) for k, v in document["files"].items()}
            self._adopted = Adopted(int(document["number"]), str(document["former"]), files)
        else:
            self._adopted = Adopted()
        self._adopted_name = named
        return self._adopted

    def _tell_of_adoption(self, head: Head) -> None:
        """The record that follows on an adoption says so; made here if a crash came between the two."""
        if not head.adopted or head.number != self._load_adopted(head.adopted).number:
            return
        document = json.loads(read_whole(self.home / head.adopted.rpartition(":")[0]))
        self.news.append(self.log(document["why"], **document["details"]))

    def log(self, event: str, **details: Any) -> dict[str, Any]:
        """Append to the audit log."""
        record = {"time": round(time.time(), 3), "event": event, **details}
        self.append(self.home / AUDIT, record)
        return record

    # ------------------------------------------------------------------------------------------ writing

    def append(self, path: Path, record: dict[str, Any], sync: bool = True) -> None:
        """Append a record of the home, synced, whatever `sync` says: the numbers have no gap after a power cut.

        RecordError if the file is not as this site left it.
        """
        self._open_once()
        with self._held():
            self._append(self._name(path), record)

    def _append(self, name: str, record: dict[str, Any]) -> str:
        head = self._head()
        count, _ = self._state_of(name)
        after = "" if head.file == name else head.file
        assert self._key is not None
        line, mac = sealed_line(self._key.chain, name, record, [count + 1, head.number + 1, after, link(head.mac)])
        head = self._put_head(replace(head, next_file=name, next_mac=mac, turn=head.turn + 1))
        append_line(self.home / name, line)
        self._put_head(Head(head.number + 1, mac, name, head.adopted, turn=head.turn + 1))
        self._known[name] = (count + 1, mac, _stamp(self.home / name))
        return mac

    def session(self, path: Path, header: dict[str, Any]) -> SessionRecords:
        """A new session ledger. Its header is a record of the home, its entries follow on that."""
        self._open_once()
        with self._held():
            return _ChainedSession(self, path, self._append(self._name(path), header))

    def add_entry(self, path: Path, record: dict[str, Any], count: int, last: str, sync: bool) -> str:
        """Append the next entry of a session ledger; returns its code."""
        with self._held():
            self._head()  # finds a key that was replaced
            assert self._key is not None
            line, mac = sealed_line(self._key.chain, self._name(path), record, [count + 1, link(last)])
            append_line(path, line, sync)
            return mac

    def seal(self, path: Path, count: int, last: str) -> None:
        """Put on record how long a session ledger is; its lines are synced before."""
        with self._held():
            on_disk(lambda: _sync(path))
            self._append(SEALS, {"time": time.time(), "file": self._name(path), "lines": count, "last": last})

    def _seal_open_ends(self, report: Report) -> None:
        """Of sessions that were killed. One that still runs is sealed again at its end: a seal says 'at least'."""
        for name in report.open_ends:
            found = report.files[name]
            self.seal(self.home / name, found.count, found.last)

    def _state_of(self, name: str) -> tuple[int, str]:
        """Lines and last code of a file, which must be as this site left it, or as others of its processes went on."""
        stamp = _stamp(self.home / name)
        count, last, known = self._known.get(name, (0, "", None))
        if stamp != known or stamp is None:
            found = self._look(name)
            self._known[name] = count, last, stamp = found.count, found.last, _stamp(self.home / name)
        return count, last

    def _look(self, name: str) -> FileCheck:
        """Check one file by itself, and against what is known of it."""
        assert self._key is not None
        found = check_file(name, read_whole(self.home / name), self._key.chain, self._adopted.files.get(name))
        count, last, _ = self._known.get(name, (0, "", None))
        if found.fault is None and count and found.code_at(count) not in ("", last):
            line = 1 + max([n for n, _ in found.values], default=0)
            what = "records from here on are missing: they were cut, or the file rolled back"
            found.fault = Fault(name, line, what)
        if found.fault is not None:
            raise _damaged([found.fault], self.home)
        return found

    # ------------------------------------------------------------------------------------------ reading

    def read(self, path: Path) -> list[tuple[int, dict[str, Any]]]:
        """All records with their line numbers; RecordError where the file by itself shows a change.

        Before there is a chain they are read as a former release wrote them.
        """
        with self._lock:
            if not self._can_check():
                return read_records(path)
            return self._look(self._name(path)).values

    def _can_check(self) -> bool:
        if self._key is None:
            found = read_key(self._key_file)
            if found is None:
                if self._head_file.exists() or self._chained():
                    self._refuse_if_anything_is_on_record()
                return False
            self._key = found[0]
            if found[1]:
                try:
                    self._check_former_release()
                finally:
                    self._key = None
                return False
        self._head()
        return True

    def verify(self) -> Report:
        """Check all that this site has on record, session ledgers too; RecordError where there is no key or head.

        Before there is a chain, an empty report.
        """
        if not self._can_check():
            return Report()
        with self._held():
            head = self._head()
            report = self._check(head, sessions=True)
            if report.number > head.number:
                behind = f"it is {report.number - head.number} records behind: put back, or the power was cut"
                report.faults.append(Fault(HEAD, 1, behind))
            return report

    def position(self) -> tuple[int, str]:
        """Number and code of the last record."""
        self._open_once()
        with self._held():
            head = self._head()
            return head.number, head.mac

    def code_of(self, number: int) -> str:
        """The code of one record of the home, by number; '' if there is no such record."""
        if number == 0:
            return NOTHING
        pattern = re.compile(rb',"chain":\[\d+,%d,"[^"]*","[0-9a-f]*"\],"mac":"([0-9a-f]{32})"}$' % number, re.M)
        found = (pattern.search(read_whole(self.home / name)) for name in names_of(self.home))
        return next((match[1].decode() for match in found if match), "")

    def _check(self, head: Head, sessions: bool) -> Report:
        assert self._key is not None
        return check_home(self.home, self._key.chain, self._load_adopted(head.adopted), head.last, sessions)

    # ------------------------------------------------------------------------------------------ the owner's commands

    def accept(self) -> list[Fault]:
        """Take the records as they are, whatever was found; which is put on record. Returns what was found."""
        with self._held():
            found = read_key(self._key_file)
            if found is None:
                raise RecordError(f"The key {self._key_file} is missing: put it back from a backup.")
            self._key, self._adopted_name, self._adopted, self._opened = found[0], "", Adopted(), False
            faults, head = self._whatever_is_wrong() if not found[1] else ([], Head())
            if faults:
                details = {"found": [str(fault)[:300] for fault in faults[:20]], "faults": len(faults)}
                self._adopt("records accepted by the owner", head, details)
                for fault in faults:
                    if fault.file.startswith(UNFINISHED):  # such a session does not go on
                        (self.home / fault.file).unlink(missing_ok=True)
            self.open(sessions=True)
            return faults

    def _whatever_is_wrong(self) -> tuple[list[Fault], Head]:
        """All that a check finds, and a head from which numbers go on."""
        assert self._key is not None
        head, faults = Head(), []
        try:
            head = read_head(self._head_file, self._key.chain) or head
            head = self._head()
            report = self._check(head, sessions=True)
        except RecordError as error:
            faults.append(Fault(HEAD, 1, str(error)))
            report = check_home(self.home, self._key.chain, Adopted(), head.last)
        highest = max([head.number, *(r.number for f in report.files.values() for r in f.records)])
        return faults + report.faults, replace(head, number=highest)

    def rotate_key(self) -> None:
        """Authenticate all records under a new key from now on. Images are recognised under the same one as before."""
        self.open(sessions=True)
        with self._held():
            assert self._key is not None
            former = self._key
            self._key = replace(LedgerKey.new(), images=former.images, former=former.chain)
            on_disk(lambda: self._key.write(self._key_file) if self._key is not None else None)
            self._end_rotation()
            self._opened = False
            self.open(sessions=True)

    def _end_rotation(self) -> None:
        """From the key file with both keys on; also after a crash. What the former key authenticates is checked."""
        assert self._key is not None
        both, ready = self._key, replace(self._key, former=b"")
        if read_head(self._head_file, both.chain) is None:
            self._key = replace(both, chain=both.former)
            head = self._head()
            if faults := self._check(head, sessions=True).faults:
                raise _damaged(faults, self.home)
            self._key = replace(both)
            self._adopted_name, self._adopted = "", Adopted()
            self._adopt("ledger key rotated", head)
        self._key = ready
        self._seal_grants()
        on_disk(lambda: ready.write(self._key_file))

    # ------------------------------------------------------------------------------------------ the head and the lock

    def _head(self) -> Head:
        """The head as it is now; where a process was killed between a record and its head, with that record."""
        assert self._key is not None
        head = read_head(self._head_file, self._key.chain)
        if head is None:
            found = read_key(self._key_file)  # another process may have replaced it
            self._key = found[0] if found is not None else self._key
            head = read_head(self._head_file, self._key.chain)
            if head is None:
                raise self._not_our_head()
        if head.next_mac and _ends_with(self.home / head.next_file, head.next_mac):
            head = Head(head.number + 1, head.next_mac, head.next_file, head.adopted, turn=head.turn)
        self._load_adopted(head.adopted)
        return head

    def _put_head(self, head: Head) -> Head:
        assert self._key is not None
        write_head(self._head_file, self._key.chain, head)
        return head

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Here no other thread or process writes records of this home."""
        with self._lock:
            if self._depth:
                yield
                return
            if not self._folder.is_dir():
                on_disk(lambda: make_private_directory(self._folder))
            with locked_file(self._folder / "chain.lock", lambda: None):
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1

    def _name(self, path: Path) -> str:
        return path.relative_to(self.home).as_posix()

    def write_sealed(self, path: Path, record: dict[str, Any]) -> str:
        """Replace a file by one record, sealed; returns its code. OutputError if the disk refuses it."""
        if self._key is None:
            self._open_once()
        assert self._key is not None
        line, mac = sealed_line(self._key.chain, self._name(path), record, [])
        on_disk(lambda: make_private_directory(path.parent))
        on_disk(lambda: write_private_file(path, line))
        return mac

    def read_sealed(self, path: Path) -> dict[str, Any] | None:
        """What `write_sealed` wrote there; None if it is anything else."""
        self._open_once()
        assert self._key is not None
        return unsealed(self._key.chain, self._name(path), read_whole(path))

    def _seal_grants(self) -> None:
        """Of unfinished sessions, as they are: with what else is adopted, or under a new key."""
        for path in (self.home / UNFINISHED).glob("*.json"):
            for _, value in _values(read_whole(path)):
                self.write_sealed(path, {k: v for k, v in value.items() if k not in ("mac", "chain")})


class _ChainedSession(SessionRecords):
    def __init__(self, chain: Chain, path: Path, mac: str) -> None:
        self._chain, self._path = chain, path
        self._count, self._sealed, self._last = 1, 1, mac
        self._writes = threading.Lock()

    def add(self, record: dict[str, Any], sync: bool = False) -> None:
        with self._writes:
            self._last = self._chain.add_entry(self._path, record, self._count, self._last, sync)
            self._count += 1

    def seal(self) -> None:
        with self._writes:
            if self._count > self._sealed:
                self._chain.seal(self._path, self._count, self._last)
                self._sealed = self._count


def _damaged(faults: list[Fault], home: Path) -> RecordError:
    first = faults[0]
    more = f" ({len(faults) - 1} more: `ppir ledger --verify`)" if len(faults) > 1 else ""
    return RecordError(
        f"The record {home / first.file} is damaged at line {first.line}: {first.what}{more}. So what was disclosed is"
        f" not known for certain, and nothing goes on. {WHAT_TO_DO}"
    )


def tighten_home(home: Path) -> None:
    """Take from other users of the computer what they may do with a site's records and the folders above them.

    What they could write to, keys and the list of trusted peers, is refused elsewhere: a person should look at it.
    """
    trust = home / "trust.json"
    files = [home / AUDIT, *home.glob("transform-*.h5")]
    files += [trust] if trust.exists() and not trust.stat().st_mode & 0o022 else []
    own = [home] if os.path.realpath(home) != os.path.realpath(os.path.expanduser("~")) else []
    tighten(home / "ledger", home / "authorities", home / "identity" / "certificate.pem", *files)
    tighten(home / "identity", *own, below=False)


def _stamp(path: Path) -> Stamp | None:
    try:
        s = path.stat()
    except OSError:
        return None
    return s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino


def _sync(path: Path) -> None:
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def _ends_with(path: Path, mac: str) -> bool:
    """Whether the last line of a file is the record with this code."""
    try:
        with path.open("rb") as file:
            file.seek(-min(64, file.seek(0, os.SEEK_END)), os.SEEK_END)
            return file.read().rstrip().endswith(f'"{mac}"}}'.encode())
    except OSError:
        return False


def _values(data: bytes) -> list[tuple[int, dict[str, Any]]]:
    found = []
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append((number, value))
    return found
