"""`make fuzz`: seeded cases for every handler of a message, counted and timed: Docs/results/robustness.md."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import faulthandler
import gc
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from fuzz_proxies import Proxying, ProxyWords, Segmenting, record_proxies
from fuzz_sealed import Asker, SealedContents, SealedFiles, SealedWords, Sharer, record_sealed
from fuzz_subjects import SUBJECTS, Conversations, record
from fuzz_targets import Certificates, Dealing, Frames, Handshake, Maps, Offers, Party1, Party2, Sockets, Target
from record import memory_mb, surroundings, write_section

from PPIRLogic.errors import PPIRError
from PPIRLogic.local_processes import Site, make_sites
from PPIRLogic.network.channel.timed_socket import ConnectionEnded

DEADLINE = 20.0  # seconds for one case: beyond any wait that a handler may have
WARM = 200  # cases before memory is measured for the first time
FEWEST = 20  # cases of a target
SINGLE = 15  # targets that are not a party under a subject
ROUNDS = 8  # every target has its turn so often: where time ends the run, all have had their share


@dataclass
class Row:
    """What a target's cases came to. `findings`: seed of the case and what went wrong."""

    name: str
    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0  # of processor time
    slowest: float = 0.0
    grown_mb: float = 0.0
    findings: list[str] = field(default_factory=list)

    def add(self, other: Row) -> None:
        """The cases that another process ran of the same target."""
        self.cases += other.cases
        self.outcomes += other.outcomes
        self.seconds += other.seconds
        self.slowest = max(self.slowest, other.slowest)
        self.grown_mb += other.grown_mb
        self.findings += other.findings

    def __str__(self) -> str:
        each = 1000 * self.seconds / max(1, self.cases)
        return (
            f"{self.name}: {self.cases} cases, {each:.1f} ms of processor time each, slowest"
            f" {1000 * self.slowest:.0f} ms, {self.grown_mb:+.1f} MB, {len(self.findings)} findings"
        )


def run(target: Target, cases: int, seed: int, first: int = 0, until: float = float("inf")) -> Row:
    """Run a target's cases from `first` on, each with a seed of its own, so that a finding can be repeated alone.

    until: time.monotonic() at which it stops short.
    """
    row, began, at_first = Row(target.name), time.process_time(), 0.0
    for number in range(first, first + cases):
        name = f"{seed}/{target.name}/{number}"
        if number % 100 == 0:
            faulthandler.dump_traceback_later(100 * DEADLINE, exit=True)  # a hang inside native code
        before = time.monotonic()
        if before > until:
            break
        try:
            row.outcomes[target.case(random.Random(name))] += 1
        except (PPIRError, ConnectionEnded) as error:
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
        if row.cases == min(WARM, cases // 2) + 1:
            at_first = memory_mb()
    faulthandler.cancel_dump_traceback_later()
    row.seconds = time.process_time() - began
    row.grown_mb = memory_mb() - at_first if at_first else 0.0
    return row


@contextlib.contextmanager
def stage(repeats: int = 2) -> Iterator[tuple[dict[str, Site], Conversations]]:
    """Sites in memory where there is such a folder (every count is synced), and so many valid sessions of each."""
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="ppir-fuzz-", dir=shm if shm.is_dir() else None))
    warnings.filterwarnings("ignore", module="cryptography")  # the library's remarks on damaged certificates
    warnings.filterwarnings("ignore", message="Parsed a")
    warnings.filterwarnings("error", category=RuntimeWarning)  # arithmetic on what was not checked
    try:
        sites = make_sites(folder, ("A", "B", "third"), "third")
        sites |= {"stranger": make_sites(folder, ("stranger",))["stranger"]}
        recorded = record(sites, repeats)
        record_sealed(sites, recorded)
        record_proxies(sites, recorded)
        gc.collect()
        gc.freeze()  # a server collects after every session: it need not look at the libraries each time
        yield sites, recorded
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def makers(sites: dict[str, Site], recorded: Conversations) -> list[Callable[[], Target]]:
    """Every target, not made yet: each closes before the next one begins."""
    a, b, third, stranger = (sites[n] for n in ("A", "B", "third", "stranger"))
    out: list[Callable[[], Target]] = [
        lambda: Frames(recorded),
        lambda: Maps(recorded),
        lambda: Certificates(b, a, stranger),
        lambda: Dealing(recorded, third),
        lambda: Offers(recorded, a),
        lambda: Handshake(b, a),
        lambda: SealedWords(recorded),
        lambda: SealedFiles(a, b),
        SealedContents,
        lambda: Sharer(recorded, b, a.fingerprint),
        lambda: Asker(recorded, a, b.fingerprint),
        lambda: ProxyWords(recorded),
        lambda: Segmenting(recorded, b, a.fingerprint),
        lambda: Proxying(recorded, a, b.fingerprint),
    ]
    for subject in SUBJECTS:
        out.append(lambda s=subject: Party2(s, recorded, b, a.fingerprint))  # type: ignore[misc]
        out.append(lambda s=subject: Party1(s, recorded, a))  # type: ignore[misc]
    return [*out, lambda: Sockets(recorded, b, a, Handshake(b, a).greeting)]


def fuzz(cases: int, seed: int, only: str = "") -> list[Row]:
    """All targets (whose name holds `only`) in this process."""
    rows = []
    with stage(repeats=1) as (sites, recorded):
        for make in makers(sites, recorded):
            target = make()
            try:
                if only in target.name:
                    rows.append(run(target, max(FEWEST, round(cases * target.share)), seed))
                    print(rows[-1], dict(rows[-1].outcomes.most_common(6)), *rows[-1].findings, sep="\n  ", flush=True)
            finally:
                target.close()
    return rows


# ------------------------------------------------------------------------------------------ over all the cores

_makers: list[Callable[[], Target]] = []  # of a worker process


def _prepare() -> None:
    """A worker's own sites and recordings, until it ends."""
    stack = contextlib.ExitStack()
    _makers.extend(makers(*stack.enter_context(stage())))
    atexit.register(stack.close)


def _part(index: int, part: int, parts: int, cases: int, sessions: float, seed: int, only: str, until: float) -> Row:
    """One worker's share of a target's cases."""
    target = _makers[index]()
    try:
        if only not in target.name:
            return Row("")
        share = target.share * (sessions if isinstance(target, (Party1, Party2)) else 1.0)
        whole = max(FEWEST, round(cases * share))
        first, end = (whole * k // parts for k in (part, part + 1))
        return run(target, end - first, seed, first, until)
    finally:
        target.close()


def fuzz_over_cores(
    cases: int, seed: int, minutes: float, workers: int, only: str = "", sessions: float = 1.0
) -> list[Row]:
    """All targets, each shared out over the worker processes, and all of them ended after so many minutes."""
    rows: dict[int, Row] = {}
    until, count = time.monotonic() + 60 * minutes, SINGLE + 2 * len(SUBJECTS)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _prepare) as pool:
        parts = ROUNDS * workers
        jobs = {
            pool.submit(_part, i, part, parts, cases, sessions, seed, only, until): i
            for part in range(parts)
            for i in range(count)
        }
        for done, job in enumerate(as_completed(jobs), 1):
            part = job.result()
            if part.name:
                rows.setdefault(jobs[job], Row(part.name)).add(part)
                if done % count == 0 or part.findings:
                    left = max(0.0, until - time.monotonic()) / 60
                    total = sum(row.cases for row in rows.values())
                    print(f"part {done} of {len(jobs)}, {total:,} cases, {left:.0f} minutes left at most", flush=True)
                    print(*part.findings, sep="\n", end="\n" * bool(part.findings), flush=True)
    print(*(rows[i] for i in sorted(rows)), sep="\n", flush=True)
    return [rows[i] for i in sorted(rows)]


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
    p.add_argument("--cases", type=int, default=1_050_000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--minutes", type=float, default=20.0, help="stop after so long, whatever is left")
    p.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    p.add_argument(
        "--sessions", type=float, default=1.0, help="so many times the cases of whole sessions: the slow ones"
    )
    p.add_argument("--only", default="", help="targets whose name holds this")
    p.add_argument("--write-docs", action="store_true")
    a = p.parse_args()
    where = surroundings()
    rows = fuzz_over_cores(a.cases, a.seed, a.minutes, a.workers, a.only, a.sessions)
    print(*table(rows, a.seed), sep="\n")
    if a.write_docs:
        write_section("fuzz", "Hostile peers: `make fuzz`", where, table(rows, a.seed))
    if any(r.findings for r in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
