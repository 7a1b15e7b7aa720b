"""The key and the head of a home's records, and what was adopted: what a chain is authenticated with."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from PPIRLogic.disclosure.chain_check import (
    AUDIT,
    UNFINISHED,
    Adopted,
    Fault,
    Report,
    check_home,
    names_of,
    sealed_line,
    tags_of,
    unsealed,
)
from PPIRLogic.disclosure.chain_head import WHAT_TO_DO, Head, new_head, read_head, write_head
from PPIRLogic.disclosure.ledger_key import LedgerKey, read_key
from PPIRLogic.disclosure.record_file import locked_file, on_disk, read_whole
from PPIRLogic.errors import RecordError
from PPIRLogic.files import make_private_directory, tighten, write_private_file


class KeyAndHead:
    """The key and the head of one home, read and written under its lock.

    Thread-safe, and safe beside other processes. Made without looking at the disk.
    """

    def __init__(self, home: Path) -> None:
        self.home, self._folder = home, home / "ledger"
        self._key_file, self._head_file = self._folder / "key", self._folder / "head"
        self._lock, self._depth = threading.RLock(), 0
        self._key: LedgerKey | None = None
        self._adopted, self._adopted_name = Adopted(), ""

    # --------------------------------------------------------------------------------------------------------- the key

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

    # -------------------------------------------------------------------------------------------------------- adopting

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
            head = replace(head, adopted=f"{name}:{self._write_sealed(self.home / name, document)}")
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
            raise damaged([Fault(name, 1, "it is missing or was changed; it holds what was adopted")], self.home)
        if document is not None:
            files = {str(k): (int(v[0]), str(v[1]), int(v[2]), str(v[3])) for k, v in document["files"].items()}
            self._adopted = Adopted(int(document["number"]), str(document["former"]), files)
        else:
            self._adopted = Adopted()
        self._adopted_name = named
        return self._adopted

    def _end_rotation(self) -> None:
        """From the key file with both keys on; also after a crash. What the former key authenticates is checked."""
        assert self._key is not None
        two_keys, ready = self._key, replace(self._key, former=b"")
        if read_head(self._head_file, two_keys.chain) is None:
            self._key = replace(two_keys, chain=two_keys.former)
            head = self._head()
            if faults := self._check(head, sessions=True).faults:
                raise damaged(faults, self.home)
            self._key = replace(two_keys)
            self._adopted_name, self._adopted = "", Adopted()
            self._adopt("ledger key rotated", head)
        self._key = ready
        self._seal_grants()
        on_disk(lambda: ready.write(self._key_file))

    def _check(self, head: Head, sessions: bool) -> Report:
        assert self._key is not None
        return check_home(self.home, self._key.chain, self._load_adopted(head.adopted), head.last, sessions)

    # ------------------------------------------------------------------------------------------- the head and the lock

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

    # ---------------------------------------------------------------------------------------------------- sealed files

    def _write_sealed(self, path: Path, record: dict[str, Any]) -> str:
        assert self._key is not None
        line, mac = sealed_line(self._key.chain, self._name(path), record, [])
        on_disk(lambda: make_private_directory(path.parent))
        on_disk(lambda: write_private_file(path, line))
        return mac

    def _seal_grants(self) -> None:
        """Of unfinished sessions, as they are: with what else is adopted, or under a new key."""
        for path in (self.home / UNFINISHED).glob("*.json"):
            for _, value in _values(read_whole(path)):
                self._write_sealed(path, {k: v for k, v in value.items() if k not in ("mac", "chain")})


def damaged(faults: list[Fault], home: Path) -> RecordError:
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
