"""`ppir register` as a process against running peers: its wall time, its results, its peak memory."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from PPIRLogic.errors import PeerError
from PPIRLogic.local_processes import start
from PPIRLogic.registration.simulate import RunningPeers, peers
from PPIRLogic.transforms import read_transform

THREADS = "2"
RUN_TIMEOUT = 1800.0


@dataclass(frozen=True)
class Run:
    """One finished command. wall: from its start to its exit, s. peak: party 1's, bytes. result: its last event."""

    wall: float
    transform: sitk.Transform
    result: dict[str, Any]
    peak: int | None


def register(world: RunningPeers, moving: Path, protocol: str, output: Path, *options: str) -> Run:
    """Run the command against the peers of `world`; `output` is the transform file."""
    arguments = ["--peer", world.peer.address, "--protocol", protocol, "--threads", THREADS, "--output", str(output)]
    if world.peer.dealer:
        arguments += ["--dealer", world.peer.dealer, "--dealer-fingerprint", world.peer.dealer_fingerprint]
    began = time.perf_counter()
    party_1 = start("party 1", world.home, "register", str(moving), *arguments, *options)
    with peak_of(party_1.process.pid) as memory:
        try:
            result = _wait(party_1, began)
            party_1.process.wait(60)
            wall = time.perf_counter() - began
        finally:
            party_1.stop()
    if not result["complete"]:
        raise PeerError("The run ended early.")
    return Run(wall, read_transform(output), result, memory.peak)


def _wait(party_1: Any, began: float) -> dict[str, Any]:
    while time.perf_counter() - began < RUN_TIMEOUT:
        event = party_1.next(RUN_TIMEOUT)  # a step of a B-spline on a large volume takes minutes on a busy machine
        if event["event"] == "result":
            return dict(event)
        if event["event"] in ("error", "ended"):
            raise PeerError(f"Party 1 ended: {event.get('text', 'without a word')}")
    raise PeerError(f"The run took longer than {RUN_TIMEOUT:g} s.")


def register_once(
    fixed: Path, moving: Path, protocol: str, output: Path, *options: str, mask: Path | None = None
) -> Run:
    """Start the peers, run the command once, stop them."""
    with peers(fixed, mask=mask, protocol=protocol) as world:
        return register(world, moving, protocol, output, *options)


# ------------------------------------------------------------------------------------------------- memory


class Memory:
    peak: int | None = None


@contextlib.contextmanager
def peak_of(pid: int) -> Iterator[Memory]:
    """Look at a process's peak memory until the context ends; it may end sooner."""
    memory, over = Memory(), threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            now = peak_memory(pid)
            memory.peak = max(now or 0, memory.peak or 0) or None

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        over.set()
        thread.join()


def peak_memory(pid: int) -> int | None:
    """The system's own record of a process's peak resident memory (Linux), else its present one, in bytes."""
    status = Path(f"/proc/{pid}/status")
    if status.parent.parent.joinpath("self").exists():
        with contextlib.suppress(OSError):
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return None
    try:
        import psutil
    except ImportError:
        return None
    with contextlib.suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return None


@contextlib.contextmanager
def watched_peers(fixed: Path, protocol: str) -> Iterator[tuple[RunningPeers, Memory]]:
    """Running peers and the peak memory of party 2."""
    with peers(fixed, protocol=protocol) as world, peak_of(world.children[-1].process.pid) as memory:
        yield world, memory


def loopback_bytes() -> int | None:
    """Bytes the system has received on its loopback interface so far; None where it does not say."""
    path = Path("/proc/net/dev")
    if not (os.name == "posix" and path.is_file()):
        return None
    for line in path.read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[0])
    return None
