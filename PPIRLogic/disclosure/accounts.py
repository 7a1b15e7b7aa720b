"""What each peer has learned of each image, over all sessions, and the budget that bounds it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PPIRLogic.disclosure.ledger import HISTOGRAM, MINT, VOXEL_BITS, Entry, Receipt
from PPIRLogic.disclosure.record_file import append_record, damaged, read_records
from PPIRLogic.errors import BudgetError, InputError

UNLIMITED = 2**62


@dataclass(frozen=True)
class Budget:
    """The most a peer may learn about one image.

    percent_per_level: numbers opened at a level, over all sessions, as per cent of the voxels of that level that
    can be touched. bits_percent_per_level: the same in bits, of 12 bits per such voxel. numbers_per_session and
    numbers_per_image count one session, and all sessions of one peer with one image. histograms_per_level: joint
    histograms opened at a level, over all sessions: many of one pool of samples name single voxels.
    Errors: InputError (a limit that is no number of at least 0).

    >>> Budget()
    Budget(percent_per_level=5.0, bits_percent_per_level=20.0, numbers_per_session=20000, numbers_per_image=200000,
           histograms_per_level=200)
    >>> from dataclasses import replace
    >>> replace(Budget(), numbers_per_session=500).numbers_per_session
    500
    """

    percent_per_level: float = 5.0
    bits_percent_per_level: float = 20.0
    numbers_per_session: int = 20_000
    numbers_per_image: int = 200_000
    histograms_per_level: int = 200

    def __post_init__(self) -> None:
        for name, value in self.__dict__.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (number and 0 <= value <= UNLIMITED):  # also refuses NaN
                raise InputError(
                    f"Unusable budget: {name.replace('_', ' ')} is {value!r}; it must be a number from 0 to 2^62."
                )


class DisclosureRecord:
    """The numbers that one peer has learned of one image, by level, and the budget that bounds them.

    `rows`: records of the form of `to_rows`, such as an owner's offer tells the peer about itself.
    Errors: ValueError, KeyError, TypeError, OverflowError (a row that is none).

    >>> record = DisclosureRecord(Budget(numbers_per_image=100), [{"level": 4, "numbers": 30, "bits": 900}])
    >>> record.total, record.left(4, voxels=10_000, bits=30), record.left(2, voxels=10_000, bits=30)
    (30, 70, 70)
    """

    def __init__(self, budget: Budget, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self.budget = budget
        self._levels: Counter[int] = Counter()
        self._bits: Counter[int] = Counter()
        self._histograms: Counter[int] = Counter()
        for row in rows:
            self._add(row)

    def _add(self, row: Mapping[str, Any]) -> None:
        level, numbers, bits = (int(row[k]) for k in ("level", "numbers", "bits"))
        histograms = int(row.get("histograms", 0))
        if min(level, numbers, bits, histograms) < 0:
            raise ValueError("A record holds a negative number.")
        self._levels[level] += numbers
        self._bits[level] += bits
        self._histograms[level] += histograms

    def to_rows(self) -> list[dict[str, int]]:
        """Sums by level, for the one that they are about."""
        return [
            {"level": level, "numbers": n, "bits": self._bits[level], "histograms": self._histograms[level]}
            for level, n in sorted(self._levels.items())
        ]

    @property
    def total(self) -> int:
        return sum(self._levels.values())

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


class ImageAccount(DisclosureRecord):
    """The record of one peer and one image that the owner keeps on disk, over all sessions.

    Thread-safe; a spending is on disk before `spend` returns. A budget is checked against everything on record,
    so it survives restarts and clock changes (times are written, never compared).
    """

    def __init__(self, path: Path, budget: Budget) -> None:
        super().__init__(budget)
        self._path = path
        self._lock = threading.Lock()
        self._seen: set[str] = set()
        self._sessions: Counter[str] = Counter()
        for number, record in read_records(path):
            try:
                self._take(record, str(record["request"]), str(record.get("session", "")))
            except (KeyError, TypeError, ValueError, OverflowError):
                raise damaged(path, number) from None

    def _take(self, record: Mapping[str, Any], request: str, session: str) -> None:
        self._add(record)
        self._sessions[session] += int(record["numbers"])
        if request:
            self._seen.add(request)

    def opened_by(self, session: str) -> int:
        """Numbers opened so far by this session, over all of its connections."""
        return self._sessions[session]

    def spend(self, entries: list[Entry], session: str, voxels: int, session_numbers: int) -> Receipt:
        """Count one request's entries, synced, or raise BudgetError. A false receipt if it was counted before."""
        first = entries[0]
        numbers = sum(e.numbers for e in entries)
        with self._lock:
            if first.request in self._seen:
                return Receipt(MINT, numbers, fresh=False)
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
            self._take(record, first.request, session)
            return Receipt(MINT, numbers)


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
            name = names.get(image, "")
            rows += [
                {"peer": peer, "image": image, "name": name, **{k: row[k] for k in ("level", "numbers", "bits")}}
                for row in ImageAccount(path, Budget()).to_rows()
            ]
        return rows
