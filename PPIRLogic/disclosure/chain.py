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
    unsealed,
)
from PPIRLogic.disclosure.chain_head import Head, read_head
from PPIRLogic.disclosure.chain_keys import KeyAndHead, damaged
from PPIRLogic.disclosure.ledger_key import LedgerKey, read_key
from PPIRLogic.disclosure.record_file import (
    RecordFiles,
    SessionRecords,
    append_line,
    on_disk,
    read_records,
    read_whole,
)
from PPIRLogic.errors import RecordError

Stamp = tuple[int, int, int, int]


class Chain(KeyAndHead, RecordFiles):
    """The records of one home. Opened by the first record, or by `open`.

    `news` are the audit records that opening made.
    """

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._known: dict[str, tuple[int, str, Stamp | None]] = {}  # by file: lines of the chain, code of the last
        self._opened = False
        self.news: list[dict[str, Any]] = []

    # --------------------------------------------------------------------------------------------------------- opening

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
                raise damaged(report.faults, self.home)
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

    def _tell_of_adoption(self, head: Head) -> None:
        """The record that follows on an adoption says so; made here if a crash came between the two."""
        if not head.adopted or head.number != self._load_adopted(head.adopted).number:
            return
        document = json.loads(read_whole(self.home / head.adopted.rpartition(":")[0]))
        self.news.append(self.log(document["why"], **document["details"]))

    # --------------------------------------------------------------------------------------------------------- writing

    def append(self, path: Path, record: dict[str, Any], sync: bool = True) -> None:
        """Append a record of the home, synced, whatever `sync` says: the numbers have no gap after a power cut.

        RecordError if the file is not as this site left it.
        """
        self._open_once()
        with self._held():
            self._append(self._name(path), record)

    def log(self, event: str, **details: Any) -> dict[str, Any]:
        """Append to the audit log."""
        record = {"time": round(time.time(), 3), "event": event, **details}
        self.append(self.home / AUDIT, record)
        return record

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
            raise damaged([found.fault], self.home)
        return found

    def write_sealed(self, path: Path, record: dict[str, Any]) -> str:
        """Replace a file by one record, sealed; returns its code. OutputError if the disk refuses it."""
        if self._key is None:
            self._open_once()
        return self._write_sealed(path, record)

    # --------------------------------------------------------------------------------------------------------- reading

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

    def read_sealed(self, path: Path) -> dict[str, Any] | None:
        """What `write_sealed` wrote there; None if it is anything else."""
        self._open_once()
        assert self._key is not None
        return unsealed(self._key.chain, self._name(path), read_whole(path))

    # -------------------------------------------------------------------------------------------- the owner's commands

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


def _stamp(path: Path) -> Stamp | None:
    try:
        s = path.stat()
    except OSError:
        return None
    return s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino


def _sync(path: Path) -> None:
    with open(path, "r+b") as file:
        os.fsync(file.fileno())
