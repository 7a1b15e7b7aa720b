"""`make fuzz`: seeded cases for every handler of a message, counted, timed and written to Docs/robustness.md."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fuzz_targets import (
    FUZZED,
    Certificates,
    Conversations,
    Dealing,
    Frames,
    Handshake,
    Maps,
    Party1,
    Party2,
    Sockets,
    Target,
    record,
)
from record import memory_mb, surroundings, write_section

from PPIRLogic.errors import PPIRError
from PPIRLogic.peer.channel.wire import Gone
from PPIRLogic.simulate import Site, make_sites

DEADLINE = 20.0  # seconds for one case: beyond any wait that a handler may have
WARM = 200  # cases before memory is measured for the first time


@dataclass
class Row:
    """What a target's cases came to. `findings`: seed of the case and what went wrong."""

    name: str
    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    slowest: float = 0.0
    grown_mb: float = 0.0
    findings: list[str] = field(default_factory=list)


def run(target: Target, cases: int, seed: int) -> Row:
    """Run a target's cases, each with a seed of its own, so that a finding can be repeated alone."""
    row, began, at_first = Row(target.name), time.monotonic(), 0.0
    for number in range(cases):
        name = f"{seed}/{target.name}/{number}"
        if number % 100 == 0:
            faulthandler.dump_traceback_later(100 * DEADLINE, exit=True)  # a hang inside native code
        before = time.monotonic()
        try:
            row.outcomes[target.case(random.Random(name))] += 1
        except (PPIRError, Gone) as error:
            row.outcomes[type(error).__name__] += 1
        except Exception as error:
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"
            row.findings.append(f"{name}: {type(error).__name__} at {where}: {error}")
        taken = time.monotonic() - before
        row.slowest = max(row.slowest, taken)
        if taken > DEADLINE:
            row.findings.append(f"{name}: took {taken:.0f} s")
        row.cases += 1
        if number == min(WARM, cases // 2):
            at_first = memory_mb()
    faulthandler.cancel_dump_traceback_later()
    row.seconds = time.monotonic() - began
    row.grown_mb = memory_mb() - at_first
    return row


@contextlib.contextmanager
def stage() -> Iterator[tuple[dict[str, Site], Conversations]]:
    """Sites in memory where there is such a folder (every count is synced), and recorded valid sessions."""
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="ppir-fuzz-", dir=shm if shm.is_dir() else None))
    try:
        sites = make_sites(folder, ("A", "B", "third"))
        sites |= {"stranger": make_sites(folder, ("stranger",))["stranger"]}
        yield sites, record(sites)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def targets(sites: dict[str, Site], recorded: Conversations) -> Iterator[Target]:
    a, b, third, stranger = (sites[n] for n in ("A", "B", "third", "stranger"))
    yield Frames(recorded)
    yield Maps(recorded)
    yield Certificates(b, a, stranger)
    yield Dealing(recorded, third)
    handshake = Handshake(b, a)
    yield handshake
    for protocol in FUZZED:
        yield Party2(protocol, recorded, b, a.fingerprint)
        yield Party1(protocol, recorded, a)
    yield Sockets(recorded, b, a, handshake.greeting)


def fuzz(cases: int, seed: int, tell: bool = True) -> list[Row]:
    """All targets; each closes before the next one begins."""
    warnings.filterwarnings("ignore", module="cryptography")  # the library's remarks on damaged certificates
    warnings.filterwarnings("ignore", message="Parsed a")
    rows = []
    with stage() as (sites, recorded):
        for target in targets(sites, recorded):
            try:
                rows.append(run(target, max(20, round(cases * target.share)), seed))
            finally:
                target.close()
            if tell:
                r = rows[-1]
                counts = f"{r.cases} cases, {r.seconds:.0f} s, slowest {1000 * r.slowest:.0f} ms, {r.grown_mb:+.1f} MB"
                print(f"{r.name}: {counts}", dict(r.outcomes.most_common(6)), *r.findings, sep="\n  ", flush=True)
    return rows


def table(rows: list[Row], seed: int) -> list[str]:
    total = sum(r.cases for r in rows)
    lines = [
        f"{total:,} cases, seed {seed}, {sum(len(r.findings) for r in rows)} findings (an exception that is not one of"
        f" the package's, an answer that was not counted, a case longer than {DEADLINE:g} s).",
        "", "| target | cases | outcomes | slowest case, ms | memory, MB | findings |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for r in rows:
        outcomes = ", ".join(f"{name} {count}" for name, count in r.outcomes.most_common(6))
        lines.append(
            f"| {r.name} | {r.cases:,} | {outcomes} | {1000 * r.slowest:.0f} | {r.grown_mb:+.1f} | {len(r.findings)} |"
        )
    return lines


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--cases", type=int, default=1_150_000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--write-docs", action="store_true")
    a = p.parse_args()
    where = surroundings()
    rows = fuzz(a.cases, a.seed)
    if a.write_docs:
        write_section("fuzz", "Hostile peers: `make fuzz`", where, table(rows, a.seed))
    if any(r.findings for r in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
