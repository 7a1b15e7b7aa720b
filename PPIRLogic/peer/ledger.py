"""The ledger: every number that is opened, with its bits, by what it is and who learns it.

Append-only JSON lines, one file per session on each side, and on party 2 one per (peer, image) that outlives
sessions and carries the budget. Party 2 appends and syncs to disk before it answers (`count`), keyed by the hash
of the request: an identical repeat is not counted again. No image content is ever written.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PPIRLogic.errors import BudgetError, OutputError

VOXEL_BITS = 12  # what one voxel of the quantised fixed image holds
UNLIMITED = 2**62
_BEGIN = b'{"time"'  # of every record


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
    return Entry("geometry", "party 1", numbers, 64, 0)


HISTOGRAM = "histogram"  # the kind of entry of a joint histogram
_MINT = object()


class Receipt:
    """The right to send so many numbers, in answer to one request: made by the ledger alone, once they are on record.

    False for a request that had been counted before: it may be answered again, and adds nothing.
    """

    def __init__(self, mint: object, numbers: int, fresh: bool = True) -> None:
        if mint is not _MINT:
            raise TypeError("Receipts are made by the ledger, when it has counted.")
        self.numbers, self.fresh = numbers, fresh

    def __bool__(self) -> bool:
        return self.fresh


@dataclass(frozen=True)
class Budget:
    """The most a peer may learn about one image.

    percent_per_level: numbers opened at a level, over all sessions, as per cent of the voxels of that level that
    can be touched. bits_percent_per_level: the same in bits, of 12 bits per such voxel. numbers_per_session and
    numbers_per_image count one session, and all sessions of one peer with one image. histograms_per_level: joint
    histograms opened at a level, over all sessions: many of one pool of samples name single voxels.
    """

    percent_per_level: float = 5.0
    bits_percent_per_level: float = 20.0
    numbers_per_session: int = 20_000
    numbers_per_image: int = 200_000
    histograms_per_level: int = 200


def append_record(path: Path, record: dict[str, Any], sync: bool = True) -> None:
    """Append one whole line and, by default, sync it; OutputError (nothing was answered) if the disk refuses it."""
    data = (json.dumps(record, separators=(",", ":")) + "\n").encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            if before and _last_byte(file, before) != b"\n":
                data = b"\n" + data  # a crash tore the line before; keep it apart
            try:
                if file.write(data) != len(data):
                    raise OSError("the disk is full")
                if sync:
                    os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                raise
    except OSError as error:
        raise OutputError(
            f"The ledger {path.name} could not be written ({error.strerror or error}); nothing is disclosed that is"
            " not on record. Free some space or check the folder's permissions."
        ) from error


def _last_byte(file: Any, size: int) -> bytes:
    file.seek(size - 1)
    return bytes(file.read(1))


def read_records(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """All whole records with their line numbers; OutputError if one is damaged.

    A line that a crash tore (begun by us, without an end) was never synced, so nothing it stood for was answered.
    """
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise OutputError(f"The account {path} cannot be read: {error.strerror}. Check its permissions.") from error
    records = []
    for number, line in enumerate((raw.strip() for raw in lines), 1):
        begun = line.startswith(_BEGIN) or _BEGIN.startswith(line)
        if not line or (begun and b"}" not in line):
            continue
        try:
            record = json.loads(line)
        except ValueError:
            raise _damaged(path, number) from None
        if not isinstance(record, dict):
            raise _damaged(path, number)
        records.append((number, record))
    return records


def _damaged(path: Path, line: int) -> OutputError:
    return OutputError(
        f"The account {path} is damaged at line {line}, so what was disclosed is not known. Put back a copy, or move"
        " the file away knowing that this peer's budget for the image then starts anew."
    )


class SessionLedger:
    """The record of one session on one side, kept in memory and, where a folder is given, on disk.

    For reading; what bounds a peer is its `ImageAccount`, which is synced before every answer.
    """

    def __init__(self, path: Path | None, header: dict[str, Any], former: int = 0) -> None:
        """`former`: numbers on record in the files of the connections before, if this one goes on for a lost one."""
        self._path, self._former = path, former
        self.entries: list[Entry] = []
        if path is not None:
            append_record(path, {"time": time.time(), **header})

    def record(self, entry: Entry, sync: bool = False) -> None:
        """Single numbers are synced by their account; what no account counts (a mask's grid, an image) must be here."""
        if self._path is not None:
            append_record(self._path, {"time": time.time(), **asdict(entry)}, sync=sync)
        self.entries.append(entry)

    def nothing_more(self, numbers: int = 0) -> Receipt:
        """For an answer that adds nothing, under a protocol that disclosed (and recorded) all there is before."""
        return Receipt(_MINT, numbers)

    def give(self, entries: list[Entry]) -> Receipt:
        """Record what the other side is about to learn, synced; the right to send it."""
        for entry in entries:
            self.record(entry, sync=True)
        return Receipt(_MINT, sum(e.numbers for e in entries))

    @property
    def numbers(self) -> int:
        """All numbers on record that depend on what an image holds; its geometry is listed but not summed."""
        return self._former + sum(e.numbers for e in self.entries if e.kind != "geometry")

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
    """Numbers in these session ledgers but for the geometry: all of them, and those of evaluations."""
    rows = [record for path in files for _, record in read_records(path)[1:] if record.get("kind") != "geometry"]
    numbers = [(int(r.get("numbers", 0)), int(r.get("evaluation", -1)) >= 0) for r in rows]
    return sum(n for n, _ in numbers), sum(n for n, evaluated in numbers if evaluated)


class ImageAccount:
    """What one peer has learned of one image over all sessions, and the budget that bounds it.

    Thread-safe; a spending is on disk before `spend` returns. A budget is checked against everything on record,
    so it survives restarts and clock changes (times are written, never compared).
    """

    def __init__(self, path: Path, budget: Budget) -> None:
        self._path, self.budget = path, budget
        self._lock = threading.Lock()
        self._levels: Counter[int] = Counter()
        self._bits: Counter[int] = Counter()
        self._histograms: Counter[int] = Counter()
        self._seen: set[str] = set()
        self._sessions: Counter[str] = Counter()
        for number, record in read_records(path):
            try:
                level, numbers, bits = (int(record[k]) for k in ("level", "numbers", "bits"))
                histograms = int(record.get("histograms", 0))
                if min(level, numbers, bits, histograms) < 0:
                    raise ValueError
                self._take(level, numbers, bits, histograms, str(record["request"]), str(record.get("session", "")))
            except (KeyError, TypeError, ValueError, OverflowError):
                raise _damaged(path, number) from None

    def _take(self, level: int, numbers: int, bits: int, histograms: int, request: str, session: str) -> None:
        self._sessions[session] += numbers
        self._levels[level] += numbers
        self._bits[level] += bits
        self._histograms[level] += histograms
        if request:
            self._seen.add(request)

    @property
    def total(self) -> int:
        return sum(self._levels.values())

    def opened_by(self, session: str) -> int:
        """Numbers opened so far by this session, over all of its connections."""
        return self._sessions[session]

    def opened(self, level: int) -> int:
        """Numbers opened so far at the level with this shrink factor."""
        return self._levels[level]

    def histograms_left(self, level: int) -> int:
        """Joint histograms that may still be opened at the level with this shrink factor."""
        return max(0, self.budget.histograms_per_level - self._histograms[level])

    def left(self, level: int, voxels: int, bits: int, session_numbers: int = 0) -> int:
        """Numbers of `bits` bits that may still be opened at this level by a session that opened so many."""
        b = self.budget
        by_bits = int(voxels * VOXEL_BITS * b.bits_percent_per_level / 100) - self._bits[level]
        room = (
            int(voxels * b.percent_per_level / 100) - self._levels[level],
            by_bits // bits,
            b.numbers_per_image - self.total,
            b.numbers_per_session - session_numbers,
        )
        return max(0, min(room))

    def spend(self, entries: list[Entry], session: str, voxels: int, session_numbers: int) -> Receipt:
        """Count one request's entries, synced, or raise BudgetError. A false receipt if it was counted before."""
        first = entries[0]
        numbers = sum(e.numbers for e in entries)
        with self._lock:
            if first.request in self._seen:
                return Receipt(_MINT, numbers, fresh=False)
            left = self.left(first.level, voxels, max(e.bits for e in entries), session_numbers)
            if numbers > left:
                raise BudgetError(
                    f"The disclosure budget is used up: this evaluation needs {numbers} numbers at the level with"
                    f" shrink factor {first.level}, and {left} are left. The owner of the fixed image can raise it"
                    " (ppir serve --budget-percent, --budget-session, --budget-image)."
                )
            histograms = int(any(e.kind == HISTOGRAM for e in entries))
            if histograms > self.histograms_left(first.level):
                raise BudgetError(
                    f"The owner of the fixed image allows {self.budget.histograms_per_level} joint histograms at the"
                    f" level with shrink factor {first.level}, and they are used up (ppir serve --budget-histograms)."
                )
            bits = sum(e.total_bits for e in entries)
            record = {
                "time": time.time(),
                "session": session,
                "level": first.level,
                "numbers": numbers,
                "bits": bits,
                "request": first.request,
            }
            if histograms:
                record["histograms"] = histograms
            append_record(self._path, record)
            self._take(first.level, numbers, bits, histograms, first.request, session)
            return Receipt(_MINT, numbers)


class FolderLock:
    """Holds a folder for one process: two that count apart from each other would each grant the whole budget.

    The operating system releases it when the process ends, however it ends.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(folder / "lock", "a+b")  # noqa: SIM115 - held until `release`
        except OSError as error:
            raise OutputError(f"The ledger folder {folder} cannot be used: {error.strerror}.") from error
        try:
            if sys.platform == "win32":
                import msvcrt

                self._file.seek(0)
                msvcrt.locking(self._file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise OutputError(
                f"Another `ppir serve` uses the ledger in {folder}. Stop it, let it serve this image too"
                " (ppir serve A B …), or give this one a folder of its own with --home."
            ) from None

    def release(self) -> None:
        self._file.close()


class Accounts:
    """All accounts of a site, under one folder: one file per (peer, image).

    An image is known by a keyed digest. `names.json`, for reading only, says what it was last offered as; nothing
    depends on it, so a names file that is lost or damaged costs the names and no more.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._open: dict[tuple[str, str], ImageAccount] = {}

    def account(self, peer: str, image: str, budget: Budget, name: str = "") -> ImageAccount:
        with self._lock:
            key = (peer, image)
            if key not in self._open:
                self._open[key] = ImageAccount(self._folder / f"{peer.replace('-', '')}_{image}.jsonl", budget)
            self._open[key].budget = budget
            if name:
                self._remember(image, name)
            return self._open[key]

    def _remember(self, image: str, name: str) -> None:
        names = self._names()
        if names.get(image) != name:
            new = self._folder / "names.json.new"
            with contextlib.suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True)
                new.write_text(json.dumps({**names, image: name}), encoding="utf-8")
                new.replace(self._folder / "names.json")

    def _names(self) -> dict[str, str]:
        try:
            found = json.loads((self._folder / "names.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}

    def rows(self) -> list[dict[str, Any]]:
        """For `ppir ledger`: per peer, image (digest, and name if known) and level the numbers and bits on record."""
        rows, names = [], self._names()
        for path in sorted(self._folder.glob("*.jsonl")):
            peer, _, image = path.stem.partition("_")
            account, name = ImageAccount(path, Budget()), names.get(image, "")
            rows += [
                {"peer": peer, "image": image, "name": name, "level": level, "numbers": n, "bits": account._bits[level]}
                for level, n in sorted(account._levels.items())
            ]
        return rows
