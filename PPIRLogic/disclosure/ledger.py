"""The ledger: every number that is opened, with its bits, by what it is and who learns it.

Append-only JSON lines, one file per session on each side. What outlives sessions and carries the budget is party 2's
account of a peer and an image (`accounts`). Party 2 counts a request, synced, before it answers; an identical repeat
is not counted again. No image content is ever written.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PPIRLogic.disclosure.record_file import PLAIN, RecordFiles, SessionRecords, read_records

VOXEL_BITS = 12  # what one voxel of the quantised fixed image holds


@dataclass(frozen=True)
class Entry:
    """`numbers` numbers of `bits` bits each, of a kind, opened to `to` ('party 1', 'party 2', 'both')."""

    kind: str
    to: str
    numbers: int
    bits: int
    level: int  # shrink factor of the level; 0 where none applies
    evaluation: int = -1
    request: str = ""  # hash of the request

    @property
    def total_bits(self) -> int:
        return self.numbers * self.bits


def geometry_entry(numbers: int) -> Entry:
    """The fixed grid, or the layout of the fixed points: so many numbers of metadata, disclosed once per session."""
    return Entry(GEOMETRY, "party 1", numbers, 64, 0)


def frame_entry(uid: str) -> Entry:
    """The UID of the fixed image's frame of reference, where its owner discloses it: metadata like the grid."""
    return Entry(FRAME, "party 1", 1, 8 * len(uid), 0)


GEOMETRY, FRAME = "geometry", "frame of reference"
METADATA = (GEOMETRY, FRAME)  # listed and not summed: they say nothing of what an image holds
HISTOGRAM = "histogram"  # the kind of entry of a joint histogram
MINT = object()


class Receipt:
    """The right to send so many numbers, in answer to one request: made by the ledger alone, once they are on record.

    False for a request that had been counted before: it may be answered again, and adds nothing.
    """

    def __init__(self, mint: object, numbers: int, fresh: bool = True) -> None:
        if mint is not MINT:
            raise TypeError("Receipts are made by the ledger, when it has counted.")
        self.numbers, self.fresh = numbers, fresh

    def __bool__(self) -> bool:
        return self.fresh


class SessionLedger:
    """The record of one session on one side, kept in memory and, where a folder is given, on disk.

    For reading; what bounds a peer is its `ImageAccount`, which is synced before every answer.
    """

    def __init__(self, path: Path | None, header: dict[str, Any], former: int = 0, files: RecordFiles = PLAIN) -> None:
        """`former`: numbers on record in the files of the connections before, if this one goes on for a lost one.
        `files`: the site's chain of records.

        The file is begun with the first number that depends on what an image holds, or by `begin`: sessions that are
        opened and left must not fill the disk.
        """
        self._path, self._files, self._former = path, files, former
        self.entries: list[Entry] = []
        self._records: SessionRecords | None = None
        self._header = {"time": time.time(), **header}
        self._unwritten: list[dict[str, Any]] = []

    def record(self, entry: Entry, sync: bool = False) -> None:
        """Single numbers are synced by their account; what no account counts (a mask's grid, an image) must be here."""
        if self._path is not None:
            record = {"time": time.time(), **asdict(entry)}
            if entry.kind in METADATA:
                self._unwritten.append(record)
            else:
                self._begun(self._path).add(record, sync=sync)
        self.entries.append(entry)

    def begin(self) -> None:
        """Begin the file now. OutputError where it cannot be, before anything is disclosed."""
        if self._path is not None:
            self._begun(self._path)

    def _begun(self, path: Path) -> SessionRecords:
        """The file, with all that waited for its begin."""
        if self._records is None:
            self._records = self._files.session(path, self._header)
        while self._unwritten:
            self._records.add(self._unwritten[0])
            self._unwritten.pop(0)
        return self._records

    def seal(self) -> None:
        """At the end of the session: put on record how long this ledger is."""
        if self._records is not None:
            self._records.seal()

    def nothing_more(self, numbers: int = 0) -> Receipt:
        """For an answer that adds nothing, under a protocol that disclosed (and recorded) all there is before."""
        return Receipt(MINT, numbers)

    def give(self, entries: list[Entry]) -> Receipt:
        """Record what the other side is about to learn, synced; the right to send it."""
        for entry in entries:
            self.record(entry, sync=True)
        return Receipt(MINT, sum(e.numbers for e in entries))

    @property
    def numbers(self) -> int:
        """All numbers on record that depend on what an image holds; the metadata are listed but not summed."""
        return self._former + sum(e.numbers for e in self.entries if e.kind not in METADATA)

    def summary(self) -> list[dict[str, Any]]:
        """Totals by (kind, to, level): numbers and bits."""
        numbers: Counter[tuple[str, str, int]] = Counter()
        bits: Counter[tuple[str, str, int]] = Counter()
        for e in self.entries:
            numbers[e.kind, e.to, e.level] += e.numbers
            bits[e.kind, e.to, e.level] += e.total_bits
        return [
            {"kind": kind, "to": to, "level": level, "numbers": numbers[kind, to, level], "bits": bits[kind, to, level]}
            for kind, to, level in numbers
        ]


def recorded_numbers(files: Iterable[Path]) -> tuple[int, int]:
    """Numbers in these session ledgers but for the metadata: all of them, and those of evaluations."""
    rows = [record for path in files for _, record in read_records(path)[1:] if record.get("kind") not in METADATA]
    numbers = [(int(r.get("numbers", 0)), int(r.get("evaluation", -1)) >= 0) for r in rows]
    return sum(n for n, _ in numbers), sum(n for n, evaluated in numbers if evaluated)
