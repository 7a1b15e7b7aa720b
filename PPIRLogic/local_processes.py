"""Parties as `ppir` processes on this machine, each with a home folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PPIRLogic.errors import PeerError
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.names import DEALER, PEER
from PPIRLogic.network.trust import TrustStore

START_TIMEOUT = 60.0
# without -P (new in 3.11) a module of the current folder, such as random.py, would be run instead of Python's own
ISOLATED = ("-P",) if sys.version_info >= (3, 11) else ()
_LAST_WORDS = 2000  # characters


@dataclass
class Child:
    """A `ppir` process that prints one JSON object per line and ends when its standard input does."""

    process: subprocess.Popen[str]
    events: queue.Queue[dict[str, Any]]
    name: str

    def next(self, timeout: float = START_TIMEOUT) -> dict[str, Any]:
        """The next event; PeerError if the child stays silent too long."""
        try:
            return self.events.get(timeout=timeout)
        except queue.Empty:
            raise PeerError(f"The process '{self.name}' said nothing for {timeout:g} s.") from None

    def wait_for(self, event: str) -> dict[str, Any]:
        """The next event of this name; PeerError with the child's own words if it ends before."""
        while True:
            found = self.next()
            if found.get("event") == event:
                return found
            if found.get("event") in ("error", "ended"):
                raise PeerError(f"The process '{self.name}' ended: {found.get('text', 'without a word')}")

    def stop(self) -> None:
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.write("end\n")  # without a word the child takes its parent for killed
                self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def child_path() -> str:
    """PYTHONPATH of a child: where this package lies, then what was there; never the current folder."""
    given = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and Path(p).is_absolute()]
    return os.pathsep.join([str(Path(__file__).resolve().parents[1]), *given])


def start(name: str, home: Path, *arguments: str, python: str = sys.executable) -> Child:
    """Start `ppir ARGUMENTS --json --with-parent` with its own home folder."""
    command = [python, "-u", *ISOLATED, "-m", "PPIRLogic", *arguments, "--json", "--with-parent"]
    environment = {**os.environ, "PPIR_HOME": str(home), "PYTHONPATH": child_path()}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
    )
    events: queue.Queue[dict[str, Any]] = queue.Queue()
    last: deque[str] = deque(maxlen=20)  # of what it says on standard error

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with contextlib.suppress(ValueError):
                events.put(json.loads(line))
        hearing.join(5)
        said = "".join(last).strip().splitlines()
        events.put({"event": "ended", "text": _last_words(said[-1] if said else "", process.wait())})

    def hear() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            last.append(line[-_LAST_WORDS:])

    hearing = threading.Thread(target=hear, daemon=True)
    hearing.start()
    threading.Thread(target=read, daemon=True).start()
    return Child(process, events, name)


def _last_words(said: str, code: int) -> str:
    """How a child ended: in its own words, and by what signal."""
    if code >= 0:
        return said or "without a word"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    text = f"it was ended by {name}"
    if name == "SIGKILL":
        text += ", as the system does when memory runs out: use sampling, or a coarser finest level"
    return f"{text}. {said}" if said else text


@dataclass(frozen=True)
class Site:
    """One party's place: its folder and fingerprint."""

    home: Path
    fingerprint: str


def make_sites(folder: Path, names: tuple[str, ...], dealer: str = "dealer") -> dict[str, Site]:
    """Identities of their own for all sites, each trusting the others by fingerprint; the one of this name deals."""
    sites = {n: Site(folder / n, load_or_create_identity(folder / n, n).fingerprint) for n in names}
    for site in sites.values():
        for other, known in sites.items():
            if known is not site:
                TrustStore(site.home).add(known.fingerprint, other, DEALER if other == dealer else PEER)
    return sites
