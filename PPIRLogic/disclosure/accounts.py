"""What each peer has learned of each image, over all sessions, and the budget that bounds it.

A budget belongs to a subject: all that is shared of one patient or series, copies of an image above all. Three totals
are held to it: that of one peer, that of all peers for whom one authority vouches, and that of everybody.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PPIRLogic.disclosure.ledger import HISTOGRAM, MINT, VOXEL_BITS, Entry, Receipt
from PPIRLogic.disclosure.record_file import PLAIN, RecordFiles, damaged
from PPIRLogic.errors import BudgetError, InputError
from PPIRLogic.files import make_private_directory, write_private_file

UNLIMITED = 2**62
RESET = "budget reset"  # the event of such a record


@dataclass(frozen=True)
class Budget:
    """The most a peer may learn about one subject.

    percent_per_level: numbers opened at a level, over all sessions, as per cent of the voxels of that level that
    can be measured. bits_percent_per_level: the same in bits, of 12 bits per such voxel. numbers_per_session and
    numbers_per_image count one session, and all sessions of one peer. histograms_per_level: joint histograms opened at
    a level, over all sessions: many of one pool of samples name single voxels. times_per_subject: all peers together
    may learn so many times what one may.
    Errors: InputError (a limit that is no number of at least 0).

    >>> Budget()
    Budget(percent_per_level=5.0, bits_percent_per_level=20.0, numbers_per_session=20000, numbers_per_image=200000,
           histograms_per_level=200, times_per_subject=2.0)
    >>> from dataclasses import replace
    >>> replace(Budget(), numbers_per_session=500).numbers_per_session
    500
    """

    percent_per_level: float = 5.0
    bits_percent_per_level: float = 20.0
    numbers_per_session: int = 20_000
    numbers_per_image: int = 200_000
    histograms_per_level: int = 200
    times_per_subject: float = 2.0

    def __post_init__(self) -> None:
        for name, value in self.__dict__.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            counted = name in ("numbers_per_session", "numbers_per_image", "histograms_per_level")
            if not (number and 0 <= value <= UNLIMITED and not (counted and value != int(value))):  # also refuses NaN
                kind = "whole number" if counted else "number"
                raise InputError(
                    f"Unusable budget: {name.replace('_', ' ')} is {value!r}; it must be a {kind} from 0 to 2^62."
                )


@dataclass
class Totals:
    """What is on record of some sessions: numbers, bits and joint histograms by level (shrink factor)."""

    numbers: Counter[int] = field(default_factory=Counter)
    bits: Counter[int] = field(default_factory=Counter)
    histograms: Counter[int] = field(default_factory=Counter)

    def take(self, level: int, numbers: int, bits: int, histograms: int) -> None:
        self.numbers[level] += numbers
        self.bits[level] += bits
        self.histograms[level] += histograms

    def add(self, other: Totals) -> None:
        for mine, theirs in ((self.numbers, other.numbers), (self.bits, other.bits)):
            mine.update(theirs)
        self.histograms.update(other.histograms)

    def left(self, budget: Budget, level: int, voxels: int, bits: int, times: float = 1.0) -> int:
        """Numbers of `bits` bits that may still be opened at a level of so many voxels; `times` the budget."""
        by_bits = int(times * voxels * VOXEL_BITS * budget.bits_percent_per_level / 100) - self.bits[level]
        by_numbers = int(times * voxels * budget.percent_per_level / 100) - self.numbers[level]
        return min(by_numbers, by_bits // bits, int(times * budget.numbers_per_image) - self.numbers.total())

    def histograms_left(self, budget: Budget, level: int, times: float = 1.0) -> int:
        return int(times * budget.histograms_per_level) - self.histograms[level]


@dataclass
class Shares:
    """What is on record of one subject beyond one account: of its peers, of authorities, and of everybody."""

    peers: dict[str, Totals] = field(default_factory=dict)
    groups: dict[str, Totals] = field(default_factory=dict)
    everybody: Totals = field(default_factory=Totals)

    def of(self, peer: str, group: str) -> list[tuple[Totals, bool, str]]:
        """The totals that a peer's spending belongs to, whether all peers share it, and in words whose it is."""
        found = [(self.peers.setdefault(peer, Totals()), False, "this peer, with copies")]
        if group:
            found.append((self.groups.setdefault(group, Totals()), False, "all peers of its authority"))
        return [*found, (self.everybody, True, "all peers together")]


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
        self.totals = Totals()
        for row in rows:
            self.totals.take(*_counts_of(row))

    def to_rows(self) -> list[dict[str, int]]:
        """Sums by level, for the one that they are about."""
        t = self.totals
        return [
            {"level": level, "numbers": n, "bits": t.bits[level], "histograms": t.histograms[level]}
            for level, n in sorted(t.numbers.items())
        ]

    @property
    def total(self) -> int:
        return self.totals.numbers.total()

    def opened(self, level: int) -> int:
        """Numbers opened so far at the level with this shrink factor."""
        return self.totals.numbers[level]

    def _bounds(self) -> list[tuple[Totals, float, str]]:
        """Every total that the budget bounds, how many times it does, and whose it is."""
        return [(self.totals, 1.0, "")]

    def histograms_left(self, level: int) -> int:
        """Joint histograms that may still be opened at the level with this shrink factor."""
        return max(0, min(t.histograms_left(self.budget, level, times) for t, times, _ in self._bounds()))

    def left(self, level: int, voxels: int, bits: int, session_numbers: int = 0) -> int:
        """Numbers of `bits` bits that may still be opened at this level by a session that opened so many."""
        rooms = [t.left(self.budget, level, voxels, bits, times) for t, times, _ in self._bounds()]
        return max(0, min(*rooms, self.budget.numbers_per_session - session_numbers))

    def left_in_all(self) -> int:
        """Numbers that may still be opened over all levels."""
        return min(int(times * self.budget.numbers_per_image) - t.numbers.total() for t, times, _ in self._bounds())


def _counts_of(row: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Level, numbers, bits and joint histograms of a row; ValueError, KeyError, TypeError or OverflowError if bad."""
    level, numbers, bits = (int(row[k]) for k in ("level", "numbers", "bits"))
    histograms = int(row.get("histograms", 0))
    if min(level, numbers, bits, histograms) < 0:
        raise ValueError("A record holds a negative number.")
    return level, numbers, bits, histograms


class ImageAccount(DisclosureRecord):
    """The record of one peer and one image that the owner keeps on disk, over all sessions.

    Thread-safe; a spending is on disk before `spend` returns. A budget is checked against everything on record,
    so it survives restarts and clock changes (times are written, never compared).
    """

    def __init__(
        self, path: Path, budget: Budget, shares: Shares | None = None, peer: str = "", group: str = "",
        lock: threading.RLock | None = None, files: RecordFiles = PLAIN,
    ) -> None:  # fmt: skip
        """files: the site's chain of records.

        shares: of the subject, which its other accounts change too, under the same `lock`. group: the authority that
        vouches for the peer."""
        super().__init__(budget)
        self._path, self._shares, self._peer, self.group = path, shares, peer, group
        self._lock, self._files = lock or threading.RLock(), files
        self.by_group: dict[str, Totals] = {}
        self._seen: set[str] = set()
        self._sessions: Counter[tuple[str, int]] = Counter()
        for number, record in files.read(path):
            try:
                if record.get("event") == RESET:
                    self._forget()
                    continue
                counts = _counts_of(record)
                self._take(*counts, str(record["request"]), str(record.get("session", "")))
                if by := str(record.get("group", "")):
                    self.by_group.setdefault(by, Totals()).take(*counts)
            except (KeyError, TypeError, ValueError, OverflowError):
                raise damaged(path, number) from None

    def _forget(self) -> None:
        """The owner reset the budget: what was opened before counts no more."""
        self.totals, self.by_group = Totals(), {}

    def reset(self) -> None:
        """Begin the budget anew, by the owner's word; on record in the account itself."""
        with self._lock:
            self._files.append(self._path, {"time": time.time(), "event": RESET, "numbers": 0, "request": ""})
            self._forget()

    def _take(self, level: int, numbers: int, bits: int, histograms: int, request: str, session: str) -> None:
        self._sessions[session, level] += numbers
        self.totals.take(level, numbers, bits, histograms)
        if request:
            self._seen.add(request)

    def opened_by(self, session: str, level: int | None = None) -> int:
        """Numbers opened so far by this session, over all of its connections; at one level, or at all."""
        return sum(n for (name, at), n in self._sessions.items() if name == session and level in (None, at))

    def _bounds(self) -> list[tuple[Totals, float, str]]:
        shared = self._shares.of(self._peer, self.group) if self._shares is not None else []
        times = self.budget.times_per_subject
        return [*super()._bounds(), *((t, times if everybody else 1.0, whose) for t, everybody, whose in shared)]

    def _whose(self, level: int, voxels: int, bits: int, left: int) -> str:
        """Whose total leaves no more, where it is not the peer's own of this image."""
        found = [w for t, times, w in self._bounds() if t.left(self.budget, level, voxels, bits, times) <= left]
        return f" (by {found[0]})" if found and found[0] else ""

    def spend(
        self, entries: list[Entry], session: str, voxels: int, session_numbers: int, granted: int | None = None
    ) -> Receipt:
        """Count one request's entries, synced, or raise BudgetError. A false receipt if it was counted before.

        granted: numbers that this session may open at the level, over all of its connections; None: as many as the
        budget allows.
        """
        first = entries[0]
        numbers = sum(e.numbers for e in entries)
        with self._lock:
            if first.request in self._seen:
                return Receipt(MINT, numbers, fresh=False)
            self._check(first.level, numbers, max(e.bits for e in entries), voxels, session_numbers)
            if granted is not None and self.opened_by(session, first.level) + numbers > granted:
                raise BudgetError(
                    f"This session was granted {granted} numbers at the level with shrink factor {first.level}, and"
                    f" {self.opened_by(session, first.level)} are opened. Start a new run to ask for more."
                )
            histograms = int(any(e.kind == HISTOGRAM for e in entries))
            if histograms > self.histograms_left(first.level):
                raise BudgetError(
                    f"The owner of the fixed image allows {self.budget.histograms_per_level} joint histograms at the"
                    f" level with shrink factor {first.level}, and they are used up (ppir serve --budget-histograms)."
                )
            self._put(first, numbers, sum(e.total_bits for e in entries), histograms, session)
            return Receipt(MINT, numbers)

    def _check(self, level: int, numbers: int, bits: int, voxels: int, session_numbers: int) -> None:
        left = self.left(level, voxels, bits, session_numbers)
        if numbers > left:
            raise BudgetError(
                f"The disclosure budget is used up{self._whose(level, voxels, bits, left)}: this evaluation needs"
                f" {numbers} numbers at the level with shrink factor {level}, and {left} are left. The owner of the"
                " fixed image can raise it (ppir serve --budget-percent, --budget-session, --budget-image,"
                " --budget-subject)."
            )

    def _put(self, entry: Entry, numbers: int, bits: int, histograms: int, session: str) -> None:
        """On disk first, then in every total."""
        record = {
            "time": time.time(),
            "session": session,
            "level": entry.level,
            "numbers": numbers,
            "bits": bits,
            "request": entry.request,
        }
        if histograms:
            record["histograms"] = histograms
        if self.group:
            record["group"] = self.group
        self._files.append(self._path, record)
        for totals, _, _ in self._bounds()[1:]:
            totals.take(entry.level, numbers, bits, histograms)
        self._take(entry.level, numbers, bits, histograms, entry.request, session)


class Accounts:
    """All accounts of a site, under one folder: one file per (peer, image).

    An image is known by a keyed digest. `names.json`, for reading only, says what it was last offered as; nothing
    depends on it, so a names file that is lost or damaged costs the names and no more.
    """

    def __init__(self, folder: Path, files: RecordFiles = PLAIN) -> None:
        """files: the site's chain of records."""
        self._folder, self._files = folder, files
        self._lock = threading.RLock()
        self._open: dict[tuple[str, str], ImageAccount] = {}
        self._shares: dict[tuple[str, ...], Shares] = {}

    def account(
        self,
        peer: str,
        image: str,
        budget: Budget,
        name: str = "",
        subject: tuple[str, ...] = (),
        group: str | None = None,
    ) -> ImageAccount:
        """The account of a peer with an image. subject: digests of all images that belong together, this one's too.
        group: the authority that vouches for the peer ('': none; None: as it was).

        OutputError where the record of any of these is damaged: what was disclosed of the subject is not known then.
        """
        peer = peer.replace("-", "")
        with self._lock:
            key = (peer, image)
            if key not in self._open:
                shares = self._shares_of(tuple(sorted({image, *subject})))
                path = self._folder / f"{peer}_{image}.jsonl"
                self._open[key] = ImageAccount(path, budget, shares, peer, lock=self._lock, files=self._files)
            self._open[key].budget = budget
            if group is not None:
                self._open[key].group = group
            if name:
                self._remember(image, name)
            return self._open[key]

    def reset(self, peer: str, image: str) -> tuple[int, int]:
        """Begin the budget of a peer for an image anew; returns the numbers and bits that count no more."""
        account = self.account(peer, image, Budget())
        numbers, bits = account.total, account.totals.bits.total()
        account.reset()
        self._shares.clear()
        return numbers, bits

    def _shares_of(self, images: tuple[str, ...]) -> Shares:
        """What is on record of a subject, read once."""
        if images not in self._shares:
            shares = Shares()
            for path in sorted(p for image in images for p in self._folder.glob(f"*_{image}.jsonl")):
                account = ImageAccount(path, Budget(), files=self._files)
                shares.everybody.add(account.totals)
                shares.peers.setdefault(path.stem.partition("_")[0], Totals()).add(account.totals)
                for group, totals in account.by_group.items():
                    shares.groups.setdefault(group, Totals()).add(totals)
            self._shares[images] = shares
        return self._shares[images]

    def _remember(self, image: str, name: str) -> None:
        names = self._names()
        if names.get(image) != name:
            with contextlib.suppress(OSError):
                make_private_directory(self._folder)
                write_private_file(self._folder / "names.json", json.dumps({**names, image: name}).encode())

    def name_of(self, image: str) -> str:
        """What an image was last offered as, '' if that is not known."""
        return self._names().get(image, "")

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
                for row in ImageAccount(path, Budget(), files=self._files).to_rows()
            ]
        return rows
