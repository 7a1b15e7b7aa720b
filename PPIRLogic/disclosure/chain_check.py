"""Whether a site's records are whole: each line's own code, its place in its file, and its place among all records.

A record of a chain is a line of JSON that ends in `"chain":[…],"mac":"…"`:

    [line, number, after, former]   a record of the home: its place in its file, its number among all records of the
                                    home, the file of the record before (empty: this one), and that one's code
    [line, former]                  an entry of a session ledger: its place, and the code of the line before

The code covers all that stands before it and the name of the file. Numbers go up by one over all files, so whatever
is cut from one file, or rolled back in it, is missed by the others; the head says where the last one is.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PPIRLogic.disclosure.record_file import read_whole

AUDIT = "audit.jsonl"
SESSIONS, SEALS = "ledger/sessions", "ledger/seals.jsonl"
UNFINISHED, GRANTS = "ledger/unfinished", "ledger/grants.jsonl"
HEAD = "ledger/head"
NOTHING = "0" * 32  # the code before the first record
_BEGIN = b'{"time"'
_MAC = b',"mac":"'
_LINK = 16  # hex digits of a code that the next record repeats
_TAG = 8  # hex digits that stand for an adopted line


AdoptedFile = tuple[int, str, int, str]


@dataclass(frozen=True)
class Fault:
    """What was found first in a file: its name below the home, the line, and what is wrong there."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.what}"


@dataclass(frozen=True)
class Record:
    """A record of the home, found whole: where it stands, and what it says of the one before it."""

    file: str
    line: int
    number: int
    after: str
    former: str
    mac: str


@dataclass
class FileCheck:
    """What was found in one file. skipped: lines of the chain that were adopted as they were; codes: of the others;
    skipped_last: of the last adopted one.

    values: all records, with their lines. lines: those that have to have a code.
    """

    name: str
    records: list[Record] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    values: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    skipped: int = 0
    skipped_last: str = ""
    lines: int = 0
    fault: Fault | None = None

    @property
    def count(self) -> int:
        return self.skipped + len(self.codes)

    @property
    def last(self) -> str:
        return self.codes[-1] if self.codes else self.skipped_last

    def code_at(self, place: int) -> str | None:
        """The code of one of its lines, by place; None for one that is not there. '' for one that was adopted."""
        if place <= self.skipped:
            return ""
        return self.codes[place - self.skipped - 1] if place <= self.count else None


@dataclass(frozen=True)
class Adopted:
    """Lines that are taken as they were found at one time, and changes of which are found: by file.

    number, mac: the last record of the home then. files: of each its bytes, the tags of its lines, how many of these
    have a code, and the last code.
    """

    number: int = 0
    mac: str = NOTHING
    files: Mapping[str, AdoptedFile] = field(default_factory=dict)


@dataclass
class Report:
    """What a check of a home found. number, mac, file: the last record; open_ends: session ledgers that nothing seals.
    brief: session ledgers of which the first line alone was looked at.

    """

    faults: list[Fault] = field(default_factory=list)
    number: int = 0
    mac: str = NOTHING
    file: str = ""
    files: dict[str, FileCheck] = field(default_factory=dict)
    open_ends: list[str] = field(default_factory=list)
    brief: set[str] = field(default_factory=set)

    @property
    def lines(self) -> int:
        return sum(f.lines for f in self.files.values())

    @property
    def adopted(self) -> int:
        return sum(len(f.values) - len(f.codes) for f in self.files.values())


def names_of(home: Path) -> list[str]:
    """All files of records below a home."""
    places = [home.glob(AUDIT), *(home.glob(f"ledger/{inner}*.jsonl") for inner in ("", "accounts/", "sessions/"))]
    return sorted(path.relative_to(home).as_posix() for place in places for path in place)


def sealed_line(key: bytes, name: str, record: Mapping[str, Any], chain: Sequence[Any]) -> tuple[bytes, str]:
    """A record as a line of a chain, and its code."""
    body = json.dumps({**record, "chain": list(chain)}, separators=(",", ":")).encode()[:-1]
    mac = _code(key, name, body)
    return body + _MAC + mac.encode() + b'"}\n', mac


def unsealed(key: bytes, name: str, data: bytes) -> dict[str, Any] | None:
    """What a file of one sealed record holds; None if this site did not write it so, under that name."""
    try:
        value = json.loads(data)
        mac, _ = value.pop("mac"), value.pop("chain")
        line, now = sealed_line(key, name, value, [])
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    return value if isinstance(mac, str) and hmac.compare_digest(now, mac) and line == data else None


def link(mac: str) -> str:
    """What the next record repeats of a code."""
    return mac[:_LINK]


def _code(key: bytes, name: str, body: bytes) -> str:
    return hmac.digest(key, name.encode() + b"\n" + body, "sha256")[:16].hex()


def tags_of(key: bytes, name: str, data: bytes) -> str:
    """What stands for the lines of a file that are adopted: eight hex digits for each, each of all lines up to it."""
    tags, state = [], b""
    for line in data.split(b"\n"):
        state = hmac.digest(key, b"adopted\n" + name.encode() + b"\n" + state + line, "sha256")
        tags.append(state.hex()[:_TAG])
    return "".join(tags)


def check_file(
    name: str, data: bytes, key: bytes, adopted: AdoptedFile | None = None, others: Iterable[str] = ()
) -> FileCheck:
    """Check one file by itself. others: names of files that a line may have been taken from, to say so."""
    found = FileCheck(name)
    size, tags, found.skipped, found.skipped_last = adopted or (0, "", 0, "")
    first = 1
    if adopted is not None:
        first += data[:size].count(b"\n")
        found.fault = _check_adopted(name, data[:size], key, tags)
        found.values += _plain_values(data[:size].split(b"\n"))
    torn = 0
    pieces = data[size:].split(b"\n")
    for line, text in enumerate(pieces, first):
        if not text and (line == first + len(pieces) - 1 or (line == first and size)):
            continue  # what ends the file, or the adopted part of it
        found.lines += 1
        value = _value_of(text)
        if value is None and text and (text.startswith(_BEGIN) or _BEGIN.startswith(text)) and not text.endswith(b'"}'):
            torn = torn or line  # by a crash, or by somebody: then a record is missing
            continue
        problem = _take(found, line, text, value, key, others)
        if problem and found.fault is None:
            found.fault = Fault(name, torn or line, "it was cut" if torn else problem)
        torn = 0
    return found


def _take(
    found: FileCheck, line: int, text: bytes, value: dict[str, Any] | None, key: bytes, others: Iterable[str]
) -> str:
    """Take in one line of the chain; what is wrong with it, if anything is."""
    body, mac = text[:-42], text[-34:-2].decode("ascii", "replace")
    if value is None or text[-42:-34] != _MAC or not text.startswith(b"{"):
        return "it was changed, or not written by this site: it has no code"
    if not hmac.compare_digest(_code(key, found.name, body).encode(), mac.encode("ascii", "replace")):
        source = next((o for o in others if o != found.name and _code(key, o, body) == mac), "")
        return f"it was taken from {source}" if source else "it was changed: its code does not fit"
    place, *rest = value["chain"]
    problem = ""
    if place > found.count + 1:
        count = place - found.count - 1
        problem = f"{count} line{'s' if count > 1 else ''} before it {'are' if count > 1 else 'is'} missing"
    elif place <= found.count:
        problem = "it stands twice, or not in its place"
    elif len(rest) == 1 and rest[0] != link(found.last):
        problem = "it does not follow on the line before it"
    if place <= found.count:
        return problem
    found.values.append((line, value))
    found.codes += ["?"] * (place - found.count - 1) + [mac]
    if len(rest) == 3:
        number, after, former = rest
        found.records.append(Record(found.name, line, number, after or found.name, former, mac))
    return problem


def _value_of(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _plain_values(lines: Iterable[bytes]) -> list[tuple[int, dict[str, Any]]]:
    found = ((n, _value_of(raw)) for n, raw in enumerate(lines, 1) if raw.strip())
    return [(n, value) for n, value in found if value is not None]


def _check_adopted(name: str, data: bytes, key: bytes, tags: str) -> Fault | None:
    now = tags_of(key, name, data)
    for at in range(0, max(len(tags), len(now)), _TAG):
        if tags[at : at + _TAG] != now[at : at + _TAG]:
            return Fault(name, at // _TAG + 1, "it is not as it was when this site's records were adopted")
    return None


def check_home(home: Path, key: bytes, adopted: Adopted, last: tuple[int, str, str], sessions: bool = True) -> Report:
    """Check all records. last: number, code and file of the last one, as the head has them.

    sessions: session ledgers as well, not only that they are there.
    """
    report, known_ends = Report(), set[str]()
    names = sorted({*names_of(home), *adopted.files})
    for name in names:
        known = adopted.files.get(name)
        if name.startswith(SESSIONS) and not sessions and name in (known_ends := known_ends or _known_ends(report)):
            report.brief.add(name)
        if known is not None and not (home / name).exists():
            report.faults.append(Fault(name, 1, "the file is missing"))
        elif name not in report.brief or known is None:
            data = _first_line(home / name) if name in report.brief else read_whole(home / name)
            report.files[name] = check_file(name, data, key, known, names)
    report.faults += [f.fault for f in report.files.values() if f.fault is not None]
    records = sorted((r for f in report.files.values() for r in f.records), key=lambda r: r.number)
    _check_order(report, records, adopted, last)
    _check_seals(report)
    _check_grants(report, home, key)
    return report


def _known_ends(report: Report) -> set[str]:
    """Session ledgers that are sealed; seals come before session ledgers in the order of names."""
    return {str(value.get("file")) for _, value in report.files[SEALS].values} if SEALS in report.files else set()


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline()


def _check_order(report: Report, records: list[Record], adopted: Adopted, last: tuple[int, str, str]) -> None:
    """Numbers go up by one, each record names the code of the one before, and the last is not before the head's."""
    number, mac, file = adopted.number, adopted.mac, ""
    for r in records:
        if r.number > number + 1:
            _missing(report, r.after)
        elif r.number <= number:
            _fault(report, Fault(r.file, r.line, "it is of another time than the other records: it was rolled back"))
            continue
        elif r.former != link(mac):
            _fault(report, Fault(r.file, r.line, f"it does not follow on the record before it, the last of {file}"))
        if r.number == last[0] and r.mac != last[1]:
            _fault(
                report, Fault(r.file, r.line, "it is not the record that the head has: rolled back, and gone on with")
            )
        number, mac, file = r.number, r.mac, r.file
    if number < last[0]:
        _missing(report, last[2])
    report.number, report.mac, report.file = number, mac, file


def _fault(report: Report, fault: Fault) -> None:
    """One fault for a file: what follows from the first is not said."""
    if fault.file not in {f.file for f in report.faults}:
        report.faults.append(fault)


def _missing(report: Report, name: str) -> None:
    """Records are missing, of which the last was one of this file."""
    there = report.files.get(name)
    if there is None or not (there.lines or there.values):
        _fault(report, Fault(name, 1, "the file is missing"))
    else:
        line = 1 + max([n for n, _ in there.values], default=0)
        _fault(report, Fault(name, line, "records from here on are missing: they were cut, or the file rolled back"))


def _check_seals(report: Report) -> None:
    """Every session ledger is at least as long as it was when it was sealed."""
    sealed: dict[str, int] = {}
    for _, value in report.files[SEALS].values if SEALS in report.files else ():
        name, place, code = str(value.get("file")), int(value.get("lines", 0)), str(value.get("last"))
        sealed[name] = max(place, sealed.get(name, 0))
        there = report.files.get(name)
        if name in report.brief:
            continue
        found = there.code_at(place) if there is not None else None
        if there is None or found is None:
            _missing(report, name)
        elif found not in ("", code):
            _fault(report, Fault(name, 1, "it is not the session ledger that was sealed"))
    for name, found_file in report.files.items():
        if (
            name.startswith(SESSIONS)
            and name not in report.brief
            and found_file.count > max(sealed.get(name, 0), found_file.skipped)
        ):
            report.open_ends.append(name)


def _check_grants(report: Report, home: Path, key: bytes) -> None:
    """A grant of an unfinished session is as this site wrote it last."""
    losses: dict[str, int] = {}
    for _, value in report.files[GRANTS].values if GRANTS in report.files else ():
        losses[str(value.get("session"))] = int(value.get("losses", 0))
    for path in sorted((home / UNFINISHED).glob("*.json")):
        name = path.relative_to(home).as_posix()
        try:
            grant = unsealed(key, name, path.read_bytes())
        except OSError:
            continue  # it ended just now
        if grant is None:
            _fault(report, Fault(name, 1, "it was changed, or not written by this site"))
        elif int(grant.get("losses", 0)) < losses.get(path.stem, 0):
            _fault(report, Fault(name, 1, "it is of another time than the other records: it was rolled back"))
