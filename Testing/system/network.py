"""`make network`: 3D affine over lines with delay, limited rate and loss; into Docs/results/robustness.md."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from netlab import BUFFER, Line, network, problem
from record import surroundings, write_section
from system_support import Phantom, Program, grid, motion_of, owner, save, shared

from PPIRLogic.local_processes import Site, make_sites
from PPIRLogic.network.channel import Channel
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.registration.dealer.dealer import Dealer
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.request import Peer

GEOMETRY = grid((40, 36, 32), (1.5, 1.5, 2.0), (3.0, -8.0, 20.0))
PHANTOM = Phantom.make(GEOMETRY)
FIXED, MOVING = PHANTOM.on(GEOMETRY), PHANTOM.on(GEOMETRY, motion_of("affine", GEOMETRY))
LEVELS, EVALUATIONS = (2, 1), 5
OPEN = ("--budget-percent", 1e6, "--budget-bits", 1e9, "--budget-image", 10**9, "--budget-session", 10**9)
LINES = tuple(Line(rtt, rate, loss) for loss in (0, 1) for rtt in (20, 50, 150) for rate in (100, 20))
ENDS = {"step_tolerance": 1e-9, "loss_tolerance": 0.0}


@dataclass(frozen=True)
class Outcome:
    """One run: seconds and bytes as party 1 reports them, and its path, for comparison."""

    seconds: float
    sent: int
    received: int
    evaluations: int
    kind: str
    path: list[Any]


def run(protocol: str, line: Line, folder: Path, patience: float = 1800.0) -> Outcome:
    """A registration by real processes, each party (and the dealer) in a namespace of its own."""
    folder.mkdir(exist_ok=True)
    sites = make_sites(folder, ("A", "B", "third"), "third")
    fixed, moving = save(FIXED, folder / "fixed.mha"), save(MOVING, folder / "moving.mha")
    with contextlib.ExitStack() as stack:
        net = stack.enter_context(network(line))

        def start(name: str, place: int, *words: object) -> Program:
            return stack.enter_context(Program(sites[name].home, *words, within=net.within(place)))

        dealer: tuple[object, ...] = ()
        if protocol == "mpc":
            start("third", 2, "dealer", "--listen", f"{net.address(2)}:7444").wait_for("listening")
            dealer = ("--dealer", f"{net.address(2)}:7444", "--dealer-fingerprint", sites["third"].fingerprint)
        start("B", 1, "serve", fixed, "--listen", f"{net.address(1)}:7443", "--threads", 1, *OPEN, *dealer).wait_for(
            "listening"
        )
        one = start(
            "A", 0, "register", moving, "--peer", f"{net.address(1)}:7443", "--output", folder / "T.tfm",
            "--report", folder / "R.json", "--transform", "affine", "--levels", ",".join(map(str, LEVELS)),
            "--evaluations", EVALUATIONS, "--step-tolerance", 1e-9, "--loss-tolerance", 0, "--protocol", protocol,
            "--threads", 1, *dealer,
        )  # fmt: skip
        code = one.ends(patience)
        assert code == 0, one.seen[-3:]
    report = json.loads((folder / "R.json").read_text())
    with contextlib.suppress(OSError):
        (folder / "R.html").unlink()
    result = one.event("result")
    return Outcome(
        result["seconds"], result["bytes_sent"], result["bytes_received"],
        sum(v["evaluations"] for v in report["levels"]), net.kind, [v["values"] for v in report["levels"]],
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ round trips


@contextlib.contextmanager
def turns_of(peer: str) -> Iterator[list[str]]:
    """What this process sends to and receives from the peer of this name, in order: '>kind' and '<kind'."""
    turns: list[str] = []
    send, receive = Channel.send, Channel.receive

    def sent(self: Channel, kind: str, *rest: Any) -> None:
        send(self, kind, *rest)
        if self.peer_name == peer:
            turns.append(f">{kind}")

    def received(self: Channel, timeout: float) -> Any:
        message = receive(self, timeout)
        if self.peer_name == peer:
            turns.append(f"<{message.kind}")
        return message

    with mock.patch.object(Channel, "send", sent), mock.patch.object(Channel, "receive", received):
        yield turns


def round_trips(protocol: str, sites: dict[str, Site]) -> tuple[int, int, int]:
    """Times that party 1 waits for party 2 after it has sent something: in all, evaluations, and those for them.

    Counted from the messages of a run in this process; the numbers do not depend on the line.
    """
    import threading

    home = sites["third"].home
    third = Dealer("127.0.0.1:0", load_or_create_identity(home), home)
    threading.Thread(target=third.run, daemon=True).start()
    image = shared(FIXED, protocols=frozenset({protocol}))
    image = type(image)(image.image, image.policy, third.listener.address, sites["third"].fingerprint)
    dealer = (third.listener.address, sites["third"].fingerprint) if protocol == "mpc" else ("", "")
    p = Parameters(
        levels=LEVELS, evaluations=EVALUATIONS, protocol=protocol, initial="identity", skip_check=True, **ENDS
    )  # type: ignore[arg-type]
    try:
        with owner(sites["B"], image, threads=1) as one, turns_of("B") as turns:
            result = register(MOVING, Peer(one.address, "", *dealer), home=sites["A"].home, parameters=p)
    finally:
        third.stop()
    waits = [i for i in range(1, len(turns)) if turns[i][0] == "<" and turns[i - 1][0] == ">"]
    evaluations = sum(level.evaluations for level in result.levels)
    return len(waits), evaluations, sum(turns[i] in ("<answer", "<test") for i in waits)


# ------------------------------------------------------------------------------------------------- the table


def measure(lines: tuple[Line, ...], protocols: tuple[str, ...]) -> list[str]:
    voxels = GEOMETRY.size[0] * GEOMETRY.size[1] * GEOMETRY.size[2]
    rows, kinds = [], set()
    trips: dict[str, tuple[int, int, int]] = {}
    for protocol in protocols:
        with tempfile.TemporaryDirectory() as folder:
            trips[protocol] = round_trips(protocol, make_sites(Path(folder), ("A", "B", "third"), "third"))
        straight: Outcome | None = None
        for line in (Line(), *lines):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    found = run(protocol, line, Path(folder))
                except AssertionError as error:
                    rows.append(f"| {protocol} | {line} | not finished: {str(error)[:200]} | | | | |")
                    print(rows[-1], flush=True)
                    continue
            straight = straight or found
            kinds.add(found.kind)
            waited = found.seconds - straight.seconds
            same = "yes" if found.path == straight.path else "NO"
            rows.append(
                f"| {protocol} | {line} | {found.seconds:.1f} | {waited:.1f} | {found.sent / 1e6:.1f} |"
                f" {found.received / 1e6:.1f} | {same} |"
            )
            print(rows[-1], flush=True)
    counts = [
        f"{p}: {t[0]} round trips between the parties, {t[2]} of them for {t[1]} evaluations" for p, t in trips.items()
    ]
    means = "a process that carries packets of 1500 bytes" if "TUN devices" in kinds else "the kernel"
    return [
        f"3D affine, NCC, {'×'.join(map(str, GEOMETRY.size))} = {voxels:,} voxels, levels {LEVELS}, {EVALUATIONS}"
        f" evaluations each, real processes in network namespaces of their own, TCP with cubic, joined by"
        f" {' and '.join(sorted(kinds))} (delay halved each way, rate and loss of each way, queue of"
        f" {1000 * BUFFER:g} ms; by {means})."
        " 'Waited' is beyond the run over the same namespaces without delay, limit or loss. 'Same' compares every value"
        " of the loss with that run's.",
        "", "Counted from the messages: " + "; ".join(counts) + ".",
        "", "| protocol | line | seconds | waited | MB sent | MB received | same path |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]  # fmt: skip


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--protocols", default="fhe,mpc")
    p.add_argument("--quick", action="store_true", help="one line instead of all")
    p.add_argument("--write-docs", action="store_true")
    a = p.parse_args()
    if why := problem():
        sys.exit(f"Not run: {why}.")
    where = surroundings()
    lines = measure(LINES[2:3] if a.quick else LINES, tuple(a.protocols.split(",")))
    if a.write_docs:
        write_section("network", "A real network: `make network`", where, lines)


if __name__ == "__main__":
    main()
