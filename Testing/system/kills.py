"""`make faults`: party 1, party 2 and the dealer are killed (-9) at seeded moments, and all must hold after each.

Party 2 and the dealer are started again at once, at the same address and over the same ledger, and the run that was
under way must go on to the undisturbed run's result. A killed party 1 must leave whole files or none.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from record import surroundings, write_section
from system_support import Phantom, Program, account_numbers, motion_of, plain_grid, rows_of, save, session_files

from PPIRLogic.disclosure.failed_checks import FailedChecks
from PPIRLogic.local_processes import Site, make_sites

GEOMETRY = plain_grid(2)
PHANTOM = Phantom.make(GEOMETRY)
BUDGET = (
    "--budget-percent", 1e6, "--budget-bits", 1e9, "--budget-image", 10**9, "--budget-session", 10**9,
    "--budget-histograms", 10**6,
)  # fmt: skip
COMMON = ("--evaluations", 8, "--step-tolerance", 1e-6, "--loss-tolerance", 0, "--threads", 1)


@dataclass(frozen=True)
class Run:
    """What is run while somebody is killed."""

    name: str
    protocol: str
    options: tuple[object, ...] = ("--levels", "4,2,1")

    @property
    def victims(self) -> tuple[str, ...]:
        return VICTIMS if self.protocol == "mpc" else VICTIMS[:2]


MI = ("--loss", "mi", "--bins", 8, "--transform", "rigid", "--levels", "1")
RUNS = (
    Run("fhe, ncc", "fhe"),
    Run("fhe, mi", "fhe", MI),
    Run("mpc, ncc", "mpc"),
)
VICTIMS = ("party 1", "party 2", "dealer")
MAX_SECONDS = 200.0  # seconds for a run to end, whatever was killed
FILES = {"T.tfm", "W.nrrd", "R.json", "R.html"}


class Broken(AssertionError):
    """Something that must hold does not."""


@dataclass
class Stage:
    """Three sites, two of them with programs that are started again whenever they are killed."""

    folder: Path
    sites: dict[str, Site]
    what: Run
    programs: dict[str, Program] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    def start(self, who: str) -> None:
        listen = ("--listen", self.addresses.get(who, "127.0.0.1:0"))
        if who == "dealer":
            program = Program(self.sites["third"].home, "dealer", *listen)
        else:
            words = ("serve", self.folder / "fixed.mha", *listen, "--protocols", self.what.protocol, "--threads", 1)
            program = Program(self.sites["B"].home, *words, *BUDGET, *self._dealer())
        self.programs[who] = program
        self.addresses[who] = program.wait_for("listening")["address"]

    def _dealer(self) -> tuple[str, ...]:
        if "dealer" not in self.what.victims:
            return ()
        return ("--dealer", self.addresses["dealer"], "--dealer-fingerprint", self.sites["third"].fingerprint)

    def register(self, out: Path) -> Program:
        out.mkdir()
        words = ("register", self.folder / "moving.mha", "--peer", self.addresses["party 2"])
        words += ("--protocol", self.what.protocol, *self.what.options, *COMMON)
        files = ("--output", out / "T.tfm", "--warped", out / "W.nrrd", "--report", out / "R.json")
        return Program(self.sites["A"].home, *words, *files, *self._dealer())

    def kill(self, who: str) -> None:
        program = self.programs.pop(who)
        program.__exit__()
        self.start(who)

    def lift(self) -> None:
        """A person forgives the test that a kill left, at both sites: three of them would end the work."""
        one, two = self.sites["A"], self.sites["B"]
        for here, there in ((one, two), (two, one)):
            check(FailedChecks(here.home).lift(there.fingerprint) <= 1, "one kill left more than one test")

    def close(self) -> None:
        for program in self.programs.values():
            program.__exit__()


@contextlib.contextmanager
def stage(what: Run) -> Iterator[Stage]:
    folder = Path(tempfile.mkdtemp(prefix="ppir-kills-"))
    one = Stage(folder, make_sites(folder, ("A", "B", "third"), "third"), what)
    try:
        save(PHANTOM.on(GEOMETRY), folder / "fixed.mha")
        save(PHANTOM.on(GEOMETRY, motion_of("affine", GEOMETRY)), folder / "moving.mha")
        if "dealer" in what.victims:
            one.start("dealer")
        one.start("party 2")
        yield one
    finally:
        one.close()
        shutil.rmtree(folder, ignore_errors=True)


def path_of(out: Path) -> list[Any]:
    report = json.loads((out / "R.json").read_text())
    check(report["complete"], "a run that ended well says so")
    check(bool(report["counts_agree"]), f"the sides count {report['totals']['numbers']} and {report['peer_numbers']}")
    transform = {key: value for key, value in report["transform"].items() if key != "file"}
    return [transform, [level["values"] for level in report["levels"]]]


def check(holds: bool, text: str) -> None:
    if not holds:
        raise Broken(text)


def whole_or_absent(out: Path) -> None:
    """No temporary, torn or unreadable file; a warped image or report only beside its transform."""
    names = {p.name for p in out.iterdir() if not p.match(".*.part.*")}  # what was being written, hidden and unique
    check(names <= FILES, f"left behind: {sorted(names - FILES)}")
    if "T.tfm" in names:
        sitk.ReadTransform(str(out / "T.tfm"))
    if "W.nrrd" in names:
        sitk.ReadImage(str(out / "W.nrrd"))
    if "R.json" in names:
        json.loads((out / "R.json").read_text())


def ledgers_hold(sites: dict[str, Site]) -> None:
    """Every record is whole; party 2's account covers all that party 1 received and what its own ledgers say."""
    mine = _opened(session_files(sites["A"].home))
    theirs = _opened(session_files(sites["B"].home))
    for path in (sites["B"].home / "ledger").rglob("[!.]*.json*"):  # hidden ones go at a later start
        check(path.suffix in (".json", ".jsonl"), f"left behind: {path.name}")
    account = account_numbers(sites["B"].home)
    check(account >= mine, f"party 1 has {mine} numbers, {account} are on the account")
    check(account == theirs, f"the account has {account} numbers, the session ledgers {theirs}")
    requests = [r["request"] for f in (sites["B"].home / "ledger" / "accounts").glob("*.jsonl") for r in rows_of(f)]
    check(len(requests) == len(set(requests)), "a request is counted twice")


def _opened(files: list[Path]) -> int:
    return sum(r["numbers"] for f in files for r in rows_of(f)[1:] if r["kind"] != "geometry" and r["evaluation"] >= 0)


@dataclass
class Outcome:
    """One kill: at which point of the run, how the run ended, whether a hidden temporary file is left."""

    point: str
    ending: str
    left_over: bool = False


def point_of(run: Program) -> str:
    """How far party 1 says it is."""
    with contextlib.suppress(queue.Empty):
        while True:
            run.seen.append(run.events.get_nowait())
    stages = [str(e["stage"]) for e in run.seen if e.get("event") == "progress"]
    words = {"level": "a level opens", "evaluation": "evaluations", "finished": "after the session"}
    return words.get(stages[-1], "the session opens") if run.running else "after the end"


@dataclass(frozen=True)
class Calm:
    """An undisturbed run: how often it told its progress, and its seconds to the end of the session and in all."""

    steps: int
    session: float
    whole: float
    path: list[Any]

    def wait(self, run: Program, victim: str, draw: random.Random) -> None:
        """For a drawn step of another such run, and a moment more: by steps, for seconds are not the same twice.

        Party 1 goes on after the session, by itself: it writes its files.
        """
        last = victim == "party 1" and draw.random() < 1 - self.session / self.whole
        for _ in range(self.steps if last else draw.randint(1, self.steps - 1)):
            run.wait_for("progress")
        time.sleep(draw.uniform(0.0, self.whole - self.session if last else 2 * self.session / self.steps))


def calm_run(place: Stage) -> Calm:
    run = place.register(place.folder / "calm")
    run.wait_for("progress")
    began, steps = time.monotonic(), 1
    while run.wait_for("progress")["stage"] != "finished":
        steps += 1
    session = time.monotonic() - began
    check(run.ends(MAX_SECONDS) == 0, "the undisturbed run failed")
    return Calm(steps + 1, session, time.monotonic() - began, path_of(place.folder / "calm"))


def one_kill(place: Stage, victim: str, draw: random.Random, calm: Calm, out: Path) -> Outcome:
    """Kill at a moment of the run. Raises Broken."""
    run = place.register(out)
    try:
        calm.wait(run, victim, draw)
        point = point_of(run)
        if victim == "party 1":
            run.process.kill()
            run.process.wait()
            left = any(p.match(".*.part.*") for p in out.iterdir())
            outcome = Outcome(point, "ended before" if point == "after the end" else "killed, nothing torn", left)
        else:
            place.kill(victim)
            try:
                code = run.ends(MAX_SECONDS)
            except Exception as error:
                raise Broken(f"the run did not end: {type(error).__name__}") from None
            outcome = Outcome(point, ended(run, code, out, calm.path))
    finally:
        run.__exit__()
    whole_or_absent(out)
    return outcome


def ended(run: Program, code: int, out: Path, wanted: list[Any]) -> str:
    """What came of a run whose peer or dealer was killed; Broken if it should not have."""
    if code == 0:
        check(path_of(out) == wanted, "the result differs from the undisturbed run's")
        again = [e for e in run.seen if e.get("event") == "result"]
        return "resumed, same result" if again and again[0]["reconnections"] else "not noticed, same result"
    check(not list(out.iterdir()), f"exit code {code} after the run had begun: {run.seen[-2:]}")
    errors = [e for e in run.seen if e.get("event") == "error"]
    check(bool(errors) and bool(errors[-1]["error"]), f"exit code {code} without an error that says why")
    return f"clear error before the session ({errors[-1]['error']})"


def kill_often(kills: int, seed: int, runs: tuple[Run, ...] = RUNS, at_once: int = 1) -> list[dict[str, Any]]:
    """Seeded kills, shared out over runs and victims; one row for each pair. at_once: runs under way side by side."""
    pairs = [(run, victim) for run in runs for victim in run.victims]
    shares = {pair: kills // len(pairs) + (i < kills % len(pairs)) for i, pair in enumerate(pairs)}
    with ThreadPoolExecutor(at_once) as pool:
        found = pool.map(lambda run: kills_of(run, {v: shares[run, v] for v in run.victims}, seed), runs)
        return [row for rows in found for row in rows]


def kills_of(what: Run, shares: dict[str, int], seed: int) -> list[dict[str, Any]]:
    """All kills under one run, and one more run to see that all still works."""
    draw, rows = random.Random(f"{seed}/{what.name}"), []
    with stage(what) as place:
        calm = calm_run(place)
        for victim, count in shares.items():
            row: dict[str, Any] = {"run": what.name, "victim": victim, "kills": count, "broken": [], "outcomes": []}
            for number in range(count):
                out = place.folder / f"{victim.replace(' ', '')}-{number}"
                try:
                    row["outcomes"].append(one_kill(place, victim, draw, calm, out))
                    ledgers_hold(place.sites)
                    place.lift()
                except Broken as broken:
                    row["broken"].append(f"kill {number}: {broken}")
                shutil.rmtree(out, ignore_errors=True)
                told = row["outcomes"][-1] if row["outcomes"] else ""
                print(f"{what.name}: {victim} {number + 1}/{count}: {told}", *row["broken"][-1:], flush=True)
            rows.append(row)
        if place.register(place.folder / "last").ends(MAX_SECONDS) or path_of(place.folder / "last") != calm.path:
            rows[-1]["broken"].append("the next run does not work")
    return rows


def table(rows: list[dict[str, Any]], seed: int) -> list[str]:
    lines = [
        f"{sum(r['kills'] for r in rows)} kills (SIGKILL) of real processes, seed {seed}, each a moment after a drawn"
        " step of the run, from its first call to the end of the session, or of party 1's program; party 2 and the"
        " dealer are started again at once. 'Resumed' means to the undisturbed run's result, value by value, with the"
        " same count on both sides. 'Ledgers': after the kill every record is whole, party 2's account is the sum of"
        " its session ledgers and no less than what party 1 wrote down, and no request is counted twice. 'Left over':"
        " hidden temporary files of party 1; every other file is whole or absent. After the kills of a run the next"
        " run works.",
        "",
        "| run | killed | kills | at which point | how it ended | ledgers hold | left over | broken |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        done = r["outcomes"]
        points, endings = (
            ", ".join(f"{name} {count}" for name, count in Counter(words).most_common())
            for words in ([o.point for o in done], [o.ending for o in done])
        )
        holds = f"{r['kills'] - len(r['broken'])} of {r['kills']}"
        lines.append(
            f"| {r['run']} | {r['victim']} | {r['kills']} | {points} | {endings} | {holds} |"
            f" {sum(o.left_over for o in done)} | {'; '.join(r['broken']) or 'none'} |"
        )
    return lines


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--kills", type=int, default=200)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--write-docs", action="store_true")
    a = p.parse_args()
    where = surroundings()
    rows = kill_often(a.kills, a.seed, at_once=max(1, os.cpu_count() or 1))
    print(*table(rows, a.seed), sep="\n")
    if a.write_docs:
        write_section("faults", "Kills at any moment: `make faults`", where, table(rows, a.seed))
    if any(r["broken"] for r in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
