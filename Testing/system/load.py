"""`make load`: one `ppir serve` under 2 running and 8 waiting sessions for a long time; memory, order and results."""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from record import surroundings, write_section
from system_support import Phantom, Program, account_numbers, motion_of, plain_grid, save

from PPIRLogic.local_processes import make_sites
from PPIRLogic.progress import Progress
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register

GEOMETRY = plain_grid(2)
PHANTOM = Phantom.make(GEOMETRY)
MOVING = PHANTOM.on(GEOMETRY, motion_of("affine", GEOMETRY))
RUN = Parameters(
    levels=(4, 2, 1), evaluations=8, step_tolerance=1e-6, loss_tolerance=0.0, threads=1, initial="identity",
    skip_check=True,
)  # fmt: skip
BUDGET = ("--budget-percent", 1e9, "--budget-bits", 1e12, "--budget-image", 10**12, "--budget-session", 10**12)
SESSIONS, QUEUE = 2, 8
SAMPLE = 2.0  # seconds between looks at the memory
SAME_TIME = 1.0  # seconds
MOST_GROWTH = 40.0  # MB from the first quarter of the time to the last one


@dataclass
class Load:
    """What callers and the one who looks at the memory write down."""

    right: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    most_waiting: int = 0
    numbers: int = 0
    memory: list[float] = field(default_factory=list)
    overtaken: int = 0
    served: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Caller(threading.Thread):
    """One site that registers again and again until time is up."""

    def __init__(self, address: str, home: Path, wanted: Any, load: Load, end: float) -> None:
        super().__init__(daemon=True)
        self._address, self._home, self._wanted, self._load, self._end = address, home, wanted, load, end
        self.start()

    def run(self) -> None:
        while time.monotonic() < self._end:
            began, before = time.monotonic(), [0]

            def progress(step: Progress, before: list[int] = before) -> None:
                if step.stage == "waiting":
                    before[0] = max(before[0], 1 + int(step.detail.split("waiting, ")[1].split()[0]))

            try:
                result = register(MOVING, self._address, home=self._home, parameters=RUN, progress=progress)
                problem = "" if _path(result) == self._wanted else "another result"
                problem = problem or ("" if result.numbers == result.peer_numbers else "other counts")
                numbers = result.numbers
            except Exception as error:
                problem, numbers = f"{type(error).__name__}: {error}", 0
            with self._load.lock:
                self._load.seconds.append(time.monotonic() - began)
                self._load.most_waiting = max(self._load.most_waiting, before[0])
                self._load.numbers += numbers
                if problem:
                    self._load.wrong.append(problem)
                else:
                    self._load.right += 1


def _path(result: Any) -> Any:
    return (result.complete, [(r.values, r.transforms) for r in result.levels])


def _memory_mb(process: int) -> float:
    import resource

    status = Path(f"/proc/{process}/statm")
    return int(status.read_text().split()[1]) * resource.getpagesize() / 1e6 if status.exists() else 0.0


def _order(events: list[dict[str, Any]]) -> tuple[int, int]:
    """Sessions that were opened from the queue, and those of them that overtook one that had waited for longer.

    Waiting and opening are told a moment after they happen, by several threads: less than `SAME_TIME` is no order.
    """
    began: dict[str, float] = {}
    waits = []
    for event in events:
        if event["event"] == "waiting":
            began[event["peer"]] = event["time"]
        elif event["event"] == "session" and event["peer"] in began:
            waits.append((began.pop(event["peer"]), event["time"]))
    overtaking = [
        (since, opened)
        for since, opened in waits
        if any(a + SAME_TIME < since and b > opened + SAME_TIME for a, b in waits)
    ]
    return len(waits), len(overtaking)


def press(minutes: float, folder: Path, callers: int = SESSIONS + QUEUE) -> Load:
    """So many sites at one server until time is up, each with one session at a time."""
    names = ("owner", *(f"site {i}" for i in range(callers)))
    sites = make_sites(folder, names)
    fixed = save(PHANTOM.on(GEOMETRY), folder / "fixed.mha")
    load = Load()
    words = ("serve", fixed, "--listen", "127.0.0.1:0", "--threads", 1, "--max-sessions", SESSIONS, "--queue", QUEUE)
    with Program(sites["owner"].home, *words, *BUDGET) as server:
        address = server.wait_for("listening")["address"]
        # the first run also brings what is compiled and cached into the server's memory
        first = register(MOVING, address, home=sites["site 0"].home, parameters=replace(RUN))
        load.numbers += first.numbers
        end = time.monotonic() + 60 * minutes
        threads = [Caller(address, sites[n].home, _path(first), load, end) for n in names[1:]]
        while any(t.is_alive() for t in threads):
            load.memory.append(_memory_mb(server.process.pid))
            time.sleep(min(SAMPLE, 60 * minutes / 20))
        server.process.terminate()
        server.ends(60)
        load.served, load.overtaken = _order(server.seen)
        if account_numbers(sites["owner"].home) != load.numbers:
            load.wrong.append(f"{load.numbers} numbers received, {account_numbers(sites['owner'].home)} on the account")
        if any(e["event"] == "session failed" for e in server.seen):
            load.wrong.append("a session failed inside the server")
    return load


def quarters(memory: list[float]) -> tuple[float, float, float]:
    """Medians of the first and of the last quarter, and the most, in MB."""
    part = max(1, len(memory) // 4)
    return statistics.median(memory[:part]), statistics.median(memory[-part:]), max(memory)


def problems(load: Load) -> list[str]:
    early, late, _ = quarters(load.memory)
    out = list(load.wrong)
    if load.overtaken:
        out.append(f"{load.overtaken} sessions were overtaken in the queue")
    if late - early > MOST_GROWTH:
        out.append(f"the server's memory grew by {late - early:.0f} MB")
    return out


def table(load: Load, minutes: float) -> list[str]:
    early, late, most = quarters(load.memory)
    tenths = [load.memory[i * (len(load.memory) - 1) // 10] for i in range(11)]
    return [
        f"One `ppir serve` with {SESSIONS} sessions at once and {QUEUE} places in the queue, {SESSIONS + QUEUE} sites"
        f" that register again and again (2D affine, NCC, fhe) for {minutes:g} minutes.",
        "",
        "| what | found |",
        "|---|---|",
        f"| sessions with the right result and equal counts on both sides | {load.right} |",
        f"| other outcomes | {'; '.join(load.wrong) or 'none'} |",
        f"| most that waited at once | {load.most_waiting} |",
        f"| served from the queue, of these overtaken | {load.served}, {load.overtaken} |",
        f"| seconds from the call to the result: median, longest | {statistics.median(load.seconds):.1f},"
        f" {max(load.seconds):.1f} |",
        f"| the server's memory, MB: first quarter, last quarter, most | {early:.0f}, {late:.0f}, {most:.0f} |",
        f"| the same at every tenth of the time | {', '.join(f'{m:.0f}' for m in tenths)} |",
    ]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--minutes", type=float, default=30.0)
    p.add_argument("--write-docs", action="store_true")
    a = p.parse_args()
    where = surroundings()
    folder = Path(tempfile.mkdtemp(prefix="ppir-load-"))
    try:
        load = press(a.minutes, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    lines = table(load, a.minutes)
    print(*lines, sep="\n")
    if a.write_docs:
        write_section("load", "Load: `make load`", where, lines)
    if found := problems(load):
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
