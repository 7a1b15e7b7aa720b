"""`make faults`: party 1, party 2 and the dealer are killed (-9) at seeded moments, and all must hold after each.

Party 2 and the dealer are started again at once, at the same address and over the same ledger, and the run that was
under way must go on to the undisturbed run's result. A killed party 1 must leave whole files or none.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from record import surroundings, write_section
from system_support import Phantom, Program, account_numbers, motion_of, plain_grid, rows_of, save, session_files

from PPIRLogic.simulate import Site, make_sites

GEOMETRY = plain_grid(2)
PHANTOM = Phantom.make(GEOMETRY)
BUDGET = ("--budget-percent", 1e6, "--budget-bits", 1e9, "--budget-image", 10**9, "--budget-session", 10**9)
RUN = ("--levels", "4,2,1", "--evaluations", 8, "--step-tolerance", 1e-6, "--loss-tolerance", 0, "--threads", 1)
VICTIMS = ("party 1", "party 2", "dealer")
LONGEST = 200.0  # seconds for a run to end, whatever was killed
FILES = {"T.tfm", "W.nrrd", "R.json", "R.html"}


class Broken(AssertionError):
    """Something that must hold does not."""


@dataclass
class Stage:
    """Three sites, two of them with programs that are started again whenever they are killed."""

    folder: Path
    sites: dict[str, Site]
    protocol: str
    programs: dict[str, Program] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    def start(self, who: str) -> None:
        listen = ("--listen", self.addresses.get(who, "127.0.0.1:0"))
        if who == "dealer":
            program = Program(self.sites["third"].home, "dealer", *listen)
        else:
            words = ("serve", self.folder / "fixed.mha", *listen, "--protocols", self.protocol, "--threads", 1)
            program = Program(self.sites["B"].home, *words, *BUDGET, *self._dealer())
        self.programs[who] = program
        self.addresses[who] = program.wait_for("listening")["address"]

    def _dealer(self) -> tuple[str, ...]:
        if self.protocol != "mpc":
            return ()
        return ("--dealer", self.addresses["dealer"], "--dealer-fingerprint", self.sites["third"].fingerprint)

    def register(self, out: Path) -> Program:
        out.mkdir()
        words = (
            "register",
            self.folder / "moving.mha",
            "--peer",
            self.addresses["party 2"],
            "--protocol",
            self.protocol,
        )
        files = ("--output", out / "T.tfm", "--warped", out / "W.nrrd", "--report", out / "R.json")
        return Program(self.sites["A"].home, *words, *files, *RUN, *self._dealer())

    def kill(self, who: str) -> None:
        program = self.programs.pop(who)
        program.__exit__()
        self.start(who)

    def close(self) -> None:
        for program in self.programs.values():
            program.__exit__()


@contextlib.contextmanager
def stage(protocol: str) -> Iterator[Stage]:
    folder = Path(tempfile.mkdtemp(prefix="ppir-kills-"))
    one = Stage(folder, make_sites(folder, ("A", "B", "third")), protocol)
    try:
        save(PHANTOM.on(GEOMETRY), folder / "fixed.mha")
        save(PHANTOM.on(GEOMETRY, motion_of("affine", GEOMETRY)), folder / "moving.mha")
        if protocol == "mpc":
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


def ledgers_hold(sites: dict[str, Site], counted: bool) -> None:
    """Every record is whole; party 2's account covers all that party 1 received and what its own ledgers say."""
    mine = _opened(session_files(sites["A"].home))
    theirs = _opened(session_files(sites["B"].home))
    for path in (sites["B"].home / "ledger").rglob("*.json*"):
        check(path.suffix in (".json", ".jsonl"), f"left behind: {path.name}")
    if not counted:
        return
    account = account_numbers(sites["B"].home)
    check(account >= mine, f"party 1 has {mine} numbers, {account} are on the account")
    check(account == theirs, f"the account has {account} numbers, the session ledgers {theirs}")
    requests = [r["request"] for f in (sites["B"].home / "ledger" / "accounts").glob("*.jsonl") for r in rows_of(f)]
    check(len(requests) == len(set(requests)), "a request is counted twice")


def _opened(files: list[Path]) -> int:
    return sum(r["numbers"] for f in files for r in rows_of(f)[1:] if r["kind"] != "geometry" and r["evaluation"] >= 0)


def one_kill(place: Stage, victim: str, draw: random.Random, duration: float, wanted: list[Any], out: Path) -> str:
    """Kill at a moment of the run; returns how it ended. Raises Broken."""
    run = place.register(out)
    try:
        run.wait_for("progress")
        time.sleep(draw.uniform(0.0, 1.05 * duration))
        done = not run.running
        if victim == "party 1":
            run.process.kill()
            run.process.wait()
            left = any(p.match(".*.part.*") for p in out.iterdir())
            outcome = "killed after its end" if done else "killed; nothing torn"
            outcome = "killed while writing; a hidden temporary file is left" if left else outcome
        else:
            place.kill(victim)
            try:
                code = run.ends(LONGEST)
            except Exception as error:
                raise Broken(f"the run did not end: {type(error).__name__}") from None
            again = [e for e in run.seen if e.get("event") == "result"]
            outcome = "killed after its end" if done else "gone on with" if again and again[0]["reconnections"] else ""
            if code == 0:
                check(path_of(out) == wanted, "the result differs from the undisturbed run's")
                outcome = outcome or "not noticed"
            else:
                check(not list(out.iterdir()), f"exit code {code} after the run had begun: {run.seen[-2:]}")
                outcome = "refused before the session was open"
    finally:
        run.__exit__()
    whole_or_absent(out)
    return outcome


def kill_often(kills: int, seed: int, protocols: tuple[str, ...] = ("fhe", "mpc", "clear")) -> list[dict[str, Any]]:
    """Seeded kills, shared out over protocols and victims; one row for each pair."""
    pairs = [(p, v) for p in protocols for v in VICTIMS if v != "dealer" or p == "mpc"]
    draw, rows = random.Random(seed), []
    for protocol in protocols:
        victims = [v for p, v in pairs if p == protocol]
        share = [kills // len(pairs) + (pairs.index((protocol, v)) < kills % len(pairs)) for v in victims]
        with stage(protocol) as place:
            calm = place.register(place.folder / "calm")
            calm.wait_for("progress")
            began = time.monotonic()
            calm.wait_for("progress", lambda e: e["stage"] == "finished")
            session = time.monotonic() - began  # what comes after is party 1's alone: pictures and files
            check(calm.ends(LONGEST) == 0, "the undisturbed run failed")
            whole, wanted = time.monotonic() - began, path_of(place.folder / "calm")
            for victim, count in zip(victims, share, strict=True):
                row: dict[str, Any] = {"protocol": protocol, "victim": victim, "kills": count, "broken": []}
                outcomes: Counter[str] = Counter()
                for number in range(count):
                    out = place.folder / f"{victim.replace(' ', '')}-{number}"
                    duration = whole if victim == "party 1" else session
                    try:
                        outcomes[one_kill(place, victim, draw, duration, wanted, out)] += 1
                        ledgers_hold(place.sites, protocol != "clear")
                    except Broken as broken:
                        row["broken"].append(f"kill {number}: {broken}")
                    shutil.rmtree(out, ignore_errors=True)
                rows.append(row | {"outcomes": outcomes})
                print(protocol, victim, dict(outcomes), *row["broken"], sep="\n  ", flush=True)
            if place.register(place.folder / "last").ends(LONGEST) or path_of(place.folder / "last") != wanted:
                rows[-1]["broken"].append("the next run does not work")
    return rows


def table(rows: list[dict[str, Any]], seed: int) -> list[str]:
    lines = [
        f"{sum(r['kills'] for r in rows)} kills (SIGKILL) of real processes, seed {seed}, at uniformly drawn moments"
        " from a run's first call to just after the end of party 1's program, or of the session; party 2 and the dealer"
        " are started again at once. After each: every file whole or absent, every ledger record whole, party 2's"
        " account = its session ledgers and no less than party 1's, no request counted twice; after all of a protocol"
        " the next run works. 'Gone on with' means to the undisturbed run's result, value by value.",
        "",
        "| protocol | killed | kills | how it ended | broken |",
        "|---|---|---|---|---|",
    ]
    for r in rows:
        outcomes = ", ".join(f"{name} {count}" for name, count in r["outcomes"].most_common())
        lines.append(
            f"| {r['protocol']} | {r['victim']} | {r['kills']} | {outcomes} | {'; '.join(r['broken']) or 'none'} |"
        )
    return lines


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--kills", type=int, default=200)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--write-docs", action="store_true")
    a = p.parse_args()
    where = surroundings()
    rows = kill_often(a.kills, a.seed)
    if a.write_docs:
        write_section("faults", "Kills at any moment: `make faults`", where, table(rows, a.seed))
    if any(r["broken"] for r in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
