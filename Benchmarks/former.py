"""What the guarantee costs: fhe as it is, beside fhe and fhe_verified as they were at commit 31cda4e, in one run.

Each is a whole registration by `ppir` processes of its own sources, over a wire on loopback that counts bytes and
turns. A run of few and one of many evaluations are compared: their difference is the price of an evaluation, the rest
that of the start (keys, the encrypted level, imports, compiled code that is loaded).

    python -m Benchmarks.former [--write-docs]      make bench-former
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from Benchmarks import pairs
from Benchmarks.rows import ROOT, surroundings
from Benchmarks.sections import RESULTS, begun, write_section

FORMER = "31cda4e"  # the last commit with both former protocols
FEW, MANY = 3, 23  # evaluations
NUMBERS = 14  # of an evaluation
REPEATS = 3
OPTIONS = (
    "--transform", "affine", "--loss", "ncc", "--levels", "2", "--initial", "identity", "--threads", "1",
    "--step-tolerance", "1e-9", "--loss-tolerance", "1e-15",
)  # fmt: skip
SOON = 300.0  # seconds


@dataclass(frozen=True)
class Price:
    """Of one run: processor seconds, bytes each way, and how often the direction on the wire turned and turned back."""

    evaluations: int
    cpu_1: float
    cpu_2: float
    sent: int
    received: int
    round_trips: float


class Wire:
    """Forwards one connection; counts the bytes of each way and the turns of direction."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._last = ""
        self.bytes = {"sent": 0, "received": 0}
        self.turns = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                here, _ = self._listener.accept()
                there = socket.create_connection(self._target)
                for way, source, sink in (("sent", here, there), ("received", there, here)):
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=self._carry, args=(way, source, sink), daemon=True).start()
                continue
            return

    def _carry(self, way: str, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(1 << 18):
                with self._lock:
                    self.bytes[way] += len(block)
                    self.turns += way != self._last
                    self._last = way
                sink.sendall(block)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listener.close()


class Site:
    """One site, run by the sources in a folder."""

    def __init__(self, sources: Path, home: Path) -> None:
        self.sources, self.home = sources, home
        self.fingerprint = self.run("identity")["fingerprint"]

    def run(self, *arguments: str) -> dict[str, Any]:
        """The last event of a command that ends by itself."""
        done = subprocess.run(self._command(*arguments), env=self._environment(), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"ppir {arguments[0]} ended with {done.returncode}: {done.stderr or done.stdout}")
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = self._command(*arguments, "--with-parent")
        return subprocess.Popen(command, env=self._environment(), text=True, **pipes)  # type: ignore[call-overload,no-any-return]

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "PPIRLogic", *arguments, "--json"]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PPIR_HOME": str(self.home), "PYTHONPATH": str(self.sources)}


def events(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def ended(process: subprocess.Popen[str]) -> float:
    """End a process; its processor seconds, with those of the children it waited for."""
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.write("end\n")
        process.stdin.close()
    process.stdout.read()
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0
    return used.ru_utime + used.ru_stime


def one_run(sources: Path, protocol: str, evaluations: int, folder: Path, more: tuple[str, ...]) -> Price:
    """One registration of the lung pair with two new sites."""
    one, two = Site(sources, folder / "A"), Site(sources, folder / "B")
    one.run("trust", "add", two.fingerprint, "--name", "B")
    two.run("trust", "add", one.fingerprint, "--name", "A")
    fixed, moving = pairs.LUNG
    names = ("--protocols", protocol, "--threads", "1")
    server = two.start("serve", str(fixed), "--name", "fixed", "--listen", "127.0.0.1:0", *names)
    address = next(e["address"] for e in events(server) if e["event"] == "listening")
    host, _, port = address.rpartition(":")
    wire = Wire((host, int(port)))
    arguments = ("--peer", wire.address, "--protocol", protocol, "--evaluations", str(evaluations), *OPTIONS, *more)
    client = one.start("register", str(moving), "--output", str(folder / "T.h5"), *arguments)
    result = next((e for e in events(client) if e["event"] in ("result", "error")), {"event": "error", "text": ""})
    if result["event"] == "error":
        raise RuntimeError(f"ppir register: {result['text']}")
    cpu_1 = ended(client)
    cpu_2 = ended(server)
    wire.close()
    return Price(
        int(result["numbers"]) // NUMBERS, cpu_1, cpu_2, wire.bytes["sent"], wire.bytes["received"], wire.turns / 2
    )


def prices(sources: Path, protocol: str, more: tuple[str, ...], repeats: int) -> dict[str, float]:
    """Medians: of the start, and per evaluation."""
    found: dict[str, list[float]] = {}
    for _ in range(repeats):
        runs = []
        for count in (FEW, MANY):
            with tempfile.TemporaryDirectory(prefix="ppir-former-") as folder:
                runs.append(one_run(sources, protocol, count, Path(folder), more))
        few, many = runs
        steps = many.evaluations - few.evaluations
        for name in ("cpu_1", "cpu_2", "sent", "received", "round_trips"):
            each = (getattr(many, name) - getattr(few, name)) / steps
            found.setdefault(f"{name} each", []).append(each)
            found.setdefault(f"{name} start", []).append(getattr(few, name) - each * few.evaluations)
    return {name: statistics.median(values) for name, values in found.items()}


def former_sources(folder: Path) -> Path:
    """The package as it was, from the history of this repository."""
    command = ["git", "-C", str(ROOT), "archive", FORMER, "PPIRLogic"]
    packed = subprocess.run(command, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def table(repeats: int) -> Iterator[str]:
    yield (
        "| protocol | start: MB received | CPU s of party 1 | of party 2 | an evaluation: MB sent | kB received |"
        " round trips | CPU s of party 1 | of party 2 |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory(prefix="ppir-former-") as folder:
        old = former_sources(Path(folder))
        for sources in (old, ROOT):
            prices(sources, "fhe", (), 1)  # compiles
        for name, sources, protocol, more in (
            ("fhe, former", old, "fhe", ()),
            ("fhe_verified, former", old, "fhe_verified", ()),
            ("fhe", ROOT, "fhe", ("--skip-check",)),
        ):
            p = prices(sources, protocol, more, repeats)
            print(name, {k: round(v, 3) for k, v in p.items()}, flush=True)
            yield (
                f"| {name} | {p['received start'] / 1e6:.1f} | {p['cpu_1 start']:.2f} | {p['cpu_2 start']:.2f} |"
                f" {p['sent each'] / 1e6:.2f} | {p['received each'] / 1e3:.2f} | {p['round_trips each']:.1f} |"
                f" {p['cpu_1 each']:.3f} | {p['cpu_2 each']:.3f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m Benchmarks.former", description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--write-docs", action="store_true", help="also the section of Docs/results/benchmarks.md")
    a = parser.parse_args()
    where, began = surroundings(False), time.perf_counter()
    lines = list(table(a.repeats))
    print("\n".join(lines))
    if a.write_docs:
        title = "What the checks of fhe cost"
        head = (
            f"`make bench-former`; {begun(where)}; {time.perf_counter() - began:.0f} s. Lung pair, affine ncc, one"
            f" level of half resolution, 14 numbers per evaluation, one thread each, median of {a.repeats}; the former"
            f" forms run from the sources of commit {FORMER}. The start holds imports, keys and the encrypted level."
        )
        write_section(RESULTS / "benchmarks.md", "former", title, head, lines)


if __name__ == "__main__":
    main()
