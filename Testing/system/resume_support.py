"""What the tests of resumed runs share: three sites with programs that can be started again, and a line to cut."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from proxy import Proxy
from system_support import (
    OPEN,
    Program,
    account_numbers,
    ledger_rows,
    opened_numbers,
    owner,
    save,
    session_files,
    shared,
    wait_until,
)

from PPIRLogic.files import make_private_directory, write_private_file
from PPIRLogic.images.reading import read_volume
from PPIRLogic.images.volume import Volume
from PPIRLogic.local_processes import Site, make_sites
from PPIRLogic.progress import Progress
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.request import Peer
from PPIRLogic.registration.result import RegistrationResult

BUDGET = ("--budget-percent", 1e6, "--budget-bits", 1e9, "--budget-image", 10**9, "--budget-session", 10**9)
PROTOCOLS = ("clear", "fhe", "mpc")
Event = Callable[[Progress], None]


@dataclass
class Place:
    """Three sites with their programs, and a line to party 2 that can be cut."""

    sites: dict[str, Site]
    fixed: Path
    moving: Volume
    stack: contextlib.ExitStack
    dealer: str = ""
    address: str = ""
    second: Program | None = None
    third: Program | None = None

    def deal(self) -> None:
        listen = self.dealer or "127.0.0.1:0"
        self.third = self.stack.enter_context(Program(self.sites["third"].home, "dealer", "--listen", listen))
        self.dealer = self.third.wait_for("listening")["address"]

    def serve(self, *options: object, fixed: Path | None = None, within: Sequence[str] = ()) -> None:
        """Start party 2, again at the same address; `within`: as `Program` has it."""
        dealer = ("--dealer", self.dealer, "--dealer-fingerprint", self.sites["third"].fingerprint)
        words = ("serve", fixed or self.fixed, "--name", "fixed", "--listen", self.address or "127.0.0.1:0")
        words += ("--protocols", ",".join(PROTOCOLS), "--threads", 1, *BUDGET, *(dealer if self.dealer else ()))
        self.second = self.stack.enter_context(Program(self.sites["B"].home, *words, *options, within=within))
        self.address = self.second.wait_for("listening")["address"]

    def share(self, histograms: int | None = None) -> None:
        """Party 2 in this process, for what is not about the end of its program."""
        budget = OPEN if histograms is None else replace(OPEN, histograms_per_level=histograms)
        image = shared(read_volume(self.fixed), budget=budget, protocols=frozenset(PROTOCOLS))
        if self.dealer:
            image = replace(image, dealer=self.dealer, dealer_fingerprint=self.sites["third"].fingerprint)
        self.address = self.stack.enter_context(owner(self.sites["B"], image, threads=1)).address

    def kill(self) -> None:
        """Kill party 2 (-9)."""
        assert self.second is not None
        self.second.process.kill()
        self.second.process.wait()

    def serve_again(self) -> None:
        """Kill party 2 and start it over the same ledger."""
        self.kill()
        self.serve()

    def line(self) -> Proxy:
        return self.stack.enter_context(Proxy(self.address))

    def run(self, address: str = "", *, parameters: Parameters, **options: Any) -> RegistrationResult:
        dealer = (self.dealer, self.sites["third"].fingerprint) if parameters.protocol == "mpc" else ("", "")
        peer = Peer(address or self.address, "fixed", *dealer)
        return register(self.moving, peer, home=self.sites["A"].home, parameters=parameters, **options)

    def both_sides_agree(self, result: RegistrationResult) -> None:
        """Nothing is missing, nothing counted twice: both ledgers and the account say the same."""
        assert result.numbers == result.peer_numbers
        files = session_files(self.sites["B"].home)
        assert sum(map(opened_numbers, files)) == result.numbers
        if result.request.protocol != "clear":
            assert account_numbers(self.sites["B"].home) == result.numbers
        mine = ledger_rows(session_files(self.sites["A"].home)[-1])
        assert mine == sorted(row for f in files for row in ledger_rows(f))
        unfinished = self.sites["B"].home / "ledger" / "unfinished"
        assert wait_until(lambda: not any(unfinished.iterdir()))  # party 2 may still read the goodbye


@contextlib.contextmanager
def a_place(folder: Path, fixed: Volume, moving: Volume) -> Iterator[Place]:
    """Every place has the same key for images, so that the random pools of mutual information are the same ones."""
    with contextlib.ExitStack() as stack:
        one = Place(make_sites(folder, ("A", "B", "third"), "third"), save(fixed, folder / "fixed.mha"), moving, stack)
        make_private_directory(one.sites["B"].home / "ledger")
        write_private_file(one.sites["B"].home / "ledger" / "key", bytes(range(32)))
        yield one
        for program in (one.second, one.third):
            assert program is None or "Traceback" not in program.log.read_text()


def path_of(result: RegistrationResult) -> list[Any]:
    """All that the optimiser did, bit for bit."""
    assert result.complete, result.error
    return [
        *((r.kind, r.values, r.transforms, r.steps_mm, r.evaluations, r.reason) for r in result.levels),
        result.linear.matrix.tolist(),
        result.linear.translation.tolist(),
        result.spline and result.spline.coefficients.tolist(),
    ]


def undisturbed_path(place: Place, parameters: Parameters) -> list[Any]:
    """The path of a run that nothing happens to, under clear: every exact protocol takes it."""
    place.serve()
    path = path_of(place.run(parameters=replace(parameters, protocol="clear")))
    assert place.second is not None
    place.second.__exit__()
    return path


def at(*moments: tuple[str, int, Callable[[], Any]]) -> Event:
    """A progress callback: the action of (stage, level and evaluation as 10·level + evaluation), once each."""
    left = list(moments)

    def progress(step: Progress) -> None:
        for moment in left:
            if step.stage == moment[0] and 10 * step.level + step.evaluation == moment[1]:
                left.remove(moment)
                moment[2]()
                return

    return progress
