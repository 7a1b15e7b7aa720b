"""Whatever is killed, stopped or taken away: both sides end soon, in words, and what was found so far is kept."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
from system_support import (
    ENDLESS,
    SOON,
    Phantom,
    Program,
    account_numbers,
    answer,
    call,
    distance,
    environment,
    grid,
    last_words,
    motion_of,
    owner,
    rows_of,
    save,
    session_files,
    shared,
    two_sites,
    wait_until,
)

from PPIRLogic.errors import BusyError, DealerError, PeerError, RefusedError
from PPIRLogic.local_processes import Site, make_sites
from PPIRLogic.network.messages import PROTOCOL_VERSION
from PPIRLogic.network.names import DEALER
from PPIRLogic.progress import CancelToken
from PPIRLogic.registration.dealer.dealer import MAX_SESSIONS
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.request import Peer, Request

VERSION = {"version": PROTOCOL_VERSION}
GEOMETRY = grid((64, 60, 48), (1.2, 1.2, 1.6), (0.0, 10.0, -30.0))
PHANTOM = Phantom.make(GEOMETRY)
TRUTH = motion_of("affine", GEOMETRY)
OPEN_BUDGET = ("--budget-percent", 1e6, "--budget-bits", 1e9, "--budget-image", 10**9, "--budget-session", 10**9)
QUICK = ("--transform", "translation", "--loss", "ssd", "--levels", "4")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    save(PHANTOM.on(GEOMETRY), folder / "fixed.mha")
    save(PHANTOM.on(GEOMETRY, TRUTH), folder / "moving.mha")
    return folder


@dataclass
class Scene:
    """Two sites (and a dealer) as processes, and the folder of party 1's results."""

    sites: dict[str, Site]
    images: Path
    out: Path
    programs: list[Program] = field(default_factory=list)
    dealer: str = ""

    def start(self, site: str, *arguments: object, **options: Any) -> Program:
        self.programs.append(Program(self.sites[site].home, *arguments, **options))
        return self.programs[-1]

    def serve(self, *options: object, **more: Any) -> tuple[Program, str]:
        if self.dealer:
            options += ("--dealer", self.dealer, "--dealer-fingerprint", self.sites["third"].fingerprint)
        words = (
            "serve",
            self.images / "fixed.mha",
            "--name",
            "fixed",
            "--listen",
            "127.0.0.1:0",
            *OPEN_BUDGET,
            *options,
        )
        program = self.start("B", *words, **more)
        return program, program.wait_for("listening")["address"]

    def deal(self) -> Program:
        program = self.start("third", "dealer", "--listen", "127.0.0.1:0")
        self.dealer = program.wait_for("listening")["address"]
        return program

    def register(self, address: str, *options: object, report: bool = False, **more: Any) -> Program:
        """A run that goes on and on, and ends with its connection."""
        options = ("--reconnect", 0, *options)
        if report:
            options += ("--warped", self.out / "W.nrrd", "--report", self.out / "R.json")
        if self.dealer:
            options += ("--dealer", self.dealer, "--dealer-fingerprint", self.sites["third"].fingerprint)
        return self.start(
            "A", "register", self.images / "moving.mha", "--peer", address, "--output", self.out / "T.h5",
            *ENDLESS, *options, **more,
        )  # fmt: skip

    def next_session_works(self, address: str) -> None:
        p = Parameters(transform="translation", loss="ssd", levels=(4,))
        moving = PHANTOM.on(GEOMETRY, TRUTH)
        assert register(moving, Peer(address), home=self.sites["A"].home, parameters=p).complete

    def nothing_is_written(self) -> None:
        assert list(self.out.iterdir()) == []

    def the_best_is_written(self, run: Program, stop_reason: str) -> None:
        """The transform is there, and the run says that it ended early and why."""
        assert run.event("result")["complete"] is False
        assert run.event("error")["error"] == stop_reason
        found = sitk.ReadTransform(str(self.out / "T.h5"))
        assert distance(found, TRUTH, GEOMETRY) < 60.0, "a transform, not noise"

    def the_report_says(self, stop_reason: str) -> dict[str, Any]:
        """The warped image and the report are there as well, and the report is honest about how the run ended."""
        assert {p.name for p in self.out.iterdir()} == {"T.h5", "W.nrrd", "R.json", "R.html"}
        report = dict(json.loads((self.out / "R.json").read_text()))
        assert report["complete"] is False and report["stop_reason"] == stop_reason and report["error"]
        first = report["levels"][0]["values"]
        assert first and first == sorted(first, reverse=True)
        assert sitk.ReadImage(str(self.out / "W.nrrd")).GetSize() == GEOMETRY.size
        return report


@pytest.fixture
def scene(tmp_path: Path, images: Path) -> Iterator[Scene]:
    out = tmp_path / "out"
    out.mkdir()
    one = Scene(make_sites(tmp_path, ("A", "B", "third"), "third"), images, out)
    yield one
    for program in one.programs:
        program.__exit__()
        assert "Traceback" not in program.log.read_text(), program.log.read_text()
        assert "nternal error" not in program.log.read_text() + str(program.seen)


def evaluation(program: Program, count: int = 2) -> dict[str, Any]:
    """Wait until the run has accepted its first step (or another of its evaluations)."""
    return program.wait_for("progress", lambda e: e["stage"] == "evaluation" and e["evaluation"] >= count)


@contextlib.contextmanager
def frozen(program: Program) -> Iterator[None]:
    """A program that does nothing meanwhile, nor a moment after: the other one is not done before it is interrupted."""
    program.process.send_signal(signal.SIGSTOP)
    try:
        yield
        time.sleep(0.5)
    finally:
        program.process.send_signal(signal.SIGCONT)


# ------------------------------------------------------------------------------------------------------ Ctrl-C


def test_an_interrupt_before_there_is_a_connection(scene: Scene) -> None:
    """Somebody accepts the connection and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        run = scene.register(f"127.0.0.1:{silent.getsockname()[1]}")
        run.wait_for("progress", lambda e: e["stage"] == "connecting")
        time.sleep(0.3)
        run.process.send_signal(signal.SIGINT)
        assert run.ends() == 130
    assert "ancelled" in run.event("error")["text"]
    scene.nothing_is_written()


def test_an_interrupt_while_a_level_is_opened(scene: Scene) -> None:
    server, address = scene.serve()
    run = scene.register(address, "--levels", "1")
    run.wait_for("progress", lambda e: e["stage"] == "level")
    run.process.send_signal(signal.SIGINT)
    assert run.ends() == 130
    assert run.event("error")["error"] == "Cancelled"
    scene.nothing_is_written()
    assert server.wait_for("session ended", seconds=SOON)
    scene.next_session_works(address)


@pytest.mark.parametrize("protocol", ["fhe", pytest.param("mpc", marks=pytest.mark.long)])
def test_an_interrupt_during_evaluations_keeps_the_best_so_far(scene: Scene, protocol: str) -> None:
    if protocol == "mpc":
        pytest.importorskip("torch")
        scene.deal()
    server, address = scene.serve()
    run = scene.register(address, "--protocol", protocol, "--levels", "4,2,1", report=True)
    evaluation(run)
    with frozen(server):
        run.process.send_signal(signal.SIGINT)
    assert run.ends() == 130
    scene.the_best_is_written(run, "Cancelled")
    report = scene.the_report_says("Cancelled")
    assert report["totals"]["numbers"] == run.event("result")["numbers"]
    assert "ended the session" in server.wait_for("session ended", seconds=SOON)["reason"]
    assert account_numbers(scene.sites["B"].home) >= report["totals"]["numbers"] > 0
    scene.next_session_works(address)


def test_two_interrupts_are_one(scene: Scene) -> None:
    """An impatient person presses twice; what was found is written all the same, and nobody says it was not."""
    server, address = scene.serve()
    run = scene.register(address, "--levels", "4,1", report=True)
    evaluation(run)
    with frozen(server):
        run.process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        run.process.send_signal(signal.SIGINT)
    assert run.ends() == 130
    assert "nothing was written" not in run.event("error")["text"]
    scene.the_best_is_written(run, "Cancelled")
    scene.the_report_says("Cancelled")


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.long)])
def test_a_signal_when_the_result_is_there_loses_nothing(scene: Scene, number: signal.Signals) -> None:
    _, address = scene.serve()
    run = scene.register(address, "--levels", 4, "--evaluations", 2, "--accept-doubtful", report=True)
    run.wait_for("progress", lambda e: e["stage"] == "finished")
    run.process.send_signal(number)
    assert run.ends() == 0 and run.event("result")["complete"]
    assert {p.name for p in scene.out.iterdir()} == {"T.h5", "W.nrrd", "R.json", "R.html"}


def test_a_terminated_run_keeps_the_best_so_far(scene: Scene) -> None:
    """What a scheduler or a shutdown sends is a cancel, too."""
    server, address = scene.serve()
    run = scene.register(address, "--levels", "4,1")
    evaluation(run)
    with frozen(server):
        run.process.send_signal(signal.SIGTERM)
    assert run.ends() != 0
    scene.the_best_is_written(run, "Cancelled")
    assert server.wait_for("session ended", seconds=SOON)


def test_a_run_ends_with_its_parent(scene: Scene) -> None:
    server, address = scene.serve()
    run = scene.register(address, "--levels", "4,1", with_parent=True)
    evaluation(run)
    assert run.process.stdin is not None
    with frozen(server):
        run.process.stdin.close()
    assert run.ends() == 130
    scene.the_best_is_written(run, "Cancelled")
    assert server.running


def test_the_token_cancels_from_another_thread(tmp_path: Path) -> None:
    a, b = two_sites(tmp_path)
    token = CancelToken()

    def progress(step: Any) -> None:
        if step.stage == "evaluation" and step.evaluation > 1:
            threading.Thread(target=token.cancel).start()

    p = Parameters(levels=(4, 1), step_tolerance=1e-9, loss_tolerance=0.0)
    with owner(b, shared(PHANTOM.on(GEOMETRY))) as one:
        moving = PHANTOM.on(GEOMETRY, TRUTH)
        result = register(moving, one.address, home=a.home, parameters=p, progress=progress, cancel=token)
        assert not result.complete and result.stop_reason == "Cancelled"
        assert wait_until(lambda: one.told("session ended"))


# ----------------------------------------------------------------------------------------------- killed, stopped


def test_party_2_is_killed(scene: Scene) -> None:
    server, address = scene.serve()
    run = scene.register(address, "--levels", "4,1", report=True)
    evaluation(run)
    server.process.kill()
    assert run.ends() == 8
    error = run.event("error")
    assert error["error"] == "PeerError" and any(w in error["text"] for w in ("lost", "gone", "connection"))
    scene.the_best_is_written(run, "PeerError")
    scene.the_report_says("PeerError")


def test_party_2_is_killed_before_the_first_evaluation(scene: Scene) -> None:
    server, address = scene.serve()
    run = scene.register(address, "--levels", "1")
    run.wait_for("progress", lambda e: e["stage"] == "level")
    server.process.kill()
    assert run.ends() == 8
    scene.nothing_is_written()


def test_party_1_is_killed(scene: Scene) -> None:
    server, address = scene.serve()
    run = scene.register(address, "--levels", "4,1")
    evaluation(run)
    run.process.kill()
    run.process.wait()
    ended = server.wait_for("session ended", seconds=SOON)
    assert ended["peer"] == scene.sites["A"].fingerprint and ended["reason"]
    scene.nothing_is_written()
    scene.next_session_works(address)
    audit = [r["event"] for r in rows_of(scene.sites["B"].home / "audit.jsonl")]
    assert audit[-2:] == ["session", "session finished"] and "session ended" in audit
    assert account_numbers(scene.sites["B"].home) > 0, "what the killed party learned stays on record"


def test_the_owner_stops_sharing(scene: Scene) -> None:
    server, address = scene.serve()
    run = scene.register(address, "--levels", "4,1")
    evaluation(run)
    server.process.send_signal(signal.SIGTERM)
    assert server.ends() == 0
    assert run.ends() == 8
    # the closing message has one second; on a machine that is too busy for it, the loss itself is the message
    assert re.search("stopped sharing|was lost", run.event("error")["text"])
    scene.the_best_is_written(run, "PeerError")
    assert rows_of(scene.sites["B"].home / "audit.jsonl")[-1]["event"] in ("stopped", "session ended")


def test_trust_withdrawn_during_a_run(scene: Scene) -> None:
    from PPIRLogic.network.trust import TrustStore

    server, address = scene.serve()
    run = scene.register(address, "--levels", "4,1")
    evaluation(run)
    TrustStore(scene.sites["B"].home).remove("A")
    assert run.ends(30.0) != 0
    assert "no longer trusts" in run.event("error")["text"]
    assert "no longer trusts" in server.wait_for("session ended", seconds=SOON)["reason"]


# ------------------------------------------------------------------------------------------------------- dealer


@pytest.mark.long
def test_the_dealer_is_killed_and_comes_back(scene: Scene) -> None:
    pytest.importorskip("torch")
    dealer = scene.deal()
    server, address = scene.serve()
    run = scene.register(address, "--protocol", "mpc", "--levels", "4,1")
    evaluation(run)
    dealer.process.kill()
    assert run.ends() == 8
    assert "dealer" in run.event("error")["text"]
    scene.the_best_is_written(run, "DealerError")
    assert "dealer" in server.wait_for("session ended", seconds=SOON)["reason"]
    scene.start("third", "dealer", "--listen", scene.dealer).wait_for("listening")
    p = Parameters(transform="translation", loss="ssd", levels=(4,), protocol="mpc")
    peer = Peer(address, "", scene.dealer, scene.sites["third"].fingerprint)
    assert register(PHANTOM.on(GEOMETRY, TRUTH), peer, home=scene.sites["A"].home, parameters=p).complete
    assert server.running


def test_an_unknown_caller_at_the_dealer_disturbs_nobody(tmp_path: Path) -> None:
    """A trusted site that says the wrong things to the dealer is told so, and the dealer goes on."""
    sites = make_sites(tmp_path, ("A", "dealer"))
    with Program(sites["dealer"].home, "dealer", "--listen", "127.0.0.1:0") as dealer:
        address = dealer.wait_for("listening")["address"]
        for kind, data in (
            ("order", {}),
            ("join", {**VERSION, "session": b"short", "role": 1, "other": "x"}),
            ("join", {**VERSION, "session": bytes(32), "role": 3, "other": "x"}),
            ("join", VERSION),
        ):
            with call(sites["A"], address, DEALER) as channel:
                channel.send(kind, data)
                said = str(last_words(channel))
                assert "Field" in said or "came before a session was opened" in said
        with call(sites["A"], address, DEALER) as one, call(sites["A"], address, DEALER) as two:
            for channel in (one, two):
                channel.send("join", {**VERSION, "session": bytes(32), "role": 1, "other": sites["A"].fingerprint})
            assert wait_until(lambda: one.closing_message or two.closing_message)
            refused = one if one.closing_message else two
            assert "joined the session already" in str(last_words(refused))
        assert dealer.running


def test_parties_that_left_do_not_hold_places_at_the_dealer(tmp_path: Path) -> None:
    """Eight sessions whose first party came and went: the ninth is served all the same."""
    sites = make_sites(tmp_path, ("A", "B", "dealer"))
    with Program(sites["dealer"].home, "dealer", "--listen", "127.0.0.1:0") as dealer:
        address = dealer.wait_for("listening")["address"]

        def came_and_went(i: int) -> bool:
            """A peer may have half of the places; those that it left are free a moment later."""
            with call(sites["A"], address, DEALER) as channel, contextlib.suppress(AssertionError):
                there = sites["B"].fingerprint
                channel.send("join", {**VERSION, "session": bytes([i] * 32), "role": 1, "other": there})
                return bool(dealer.wait_for("joined", seconds=2.0))
            return False

        for i in range(MAX_SESSIONS):
            assert any(came_and_went(i) for _ in range(10))

        def joins(session: int) -> bool:
            time.sleep(0.2)
            with call(sites["A"], address, DEALER) as one, call(sites["B"], address, DEALER) as two:
                for role, channel, other in ((1, one, "B"), (2, two, "A")):
                    name = {
                        **VERSION,
                        "session": bytes([session] * 32),
                        "role": role,
                        "other": sites[other].fingerprint,
                    }
                    channel.send("join", name)
                return one.receive(SOON).kind == "joined" == two.receive(SOON).kind

        assert any(joins(session) for session in range(100, 150)), "places of those who left are taken"


# --------------------------------------------------------------------------------------------------- no orphans

PARENT = """
import sys, time
from pathlib import Path
from PPIRLogic.registration.simulate import peers
with peers(Path(sys.argv[1]), protocol=sys.argv[2]) as world:
    print(*[c.process.pid for c in world.children], flush=True)
    time.sleep(600)
"""


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended but that nobody waited for does not."""
    with contextlib.suppress(FileNotFoundError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    if Path("/proc/self").exists():
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.parametrize("protocol", ["fhe", "mpc"])
def test_children_end_with_a_killed_parent(protocol: str, images: Path, tmp_path: Path) -> None:
    if protocol == "mpc":
        pytest.importorskip("torch")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(images / "fixed.mha"), protocol], stdout=subprocess.PIPE, text=True,
        env=environment(tmp_path),
    )  # fmt: skip
    try:
        assert parent.stdout is not None
        children = [int(v) for v in parent.stdout.readline().split()]
        assert len(children) == (2 if protocol == "mpc" else 1)
        assert all(alive(pid) for pid in children)
    finally:
        parent.kill()
        parent.wait()
    assert wait_until(lambda: not any(alive(pid) for pid in children)), "orphans are left"


# ------------------------------------------------------------------------------------------- many, and a person


def open_session(site: Site, address: str) -> Any:
    channel = call(site, address)
    channel.send("open", {**Request("fixed", "fhe", "rigid", "ncc", (4,)).to_dict(), "nonce": bytes(32)})
    return channel


def test_two_sessions_at_once_and_no_third(tmp_path: Path) -> None:
    a, b = two_sites(tmp_path)
    with owner(b, shared(PHANTOM.on(GEOMETRY)), max_sessions=2, sessions_of_peer=2, queue=0) as one:
        first, second, third = (open_session(a, one.address) for _ in range(3))
        held = [c for c in (first, second, third) if c.receive(SOON).kind == "opened"]
        (left_out,) = [c for c in (first, second, third) if c not in held]
        error = last_words(left_out)
        assert isinstance(error, BusyError) and "as many sessions as it can" in str(error)
        assert "try again" in str(error)
        with call(a, one.address) as other:
            other.send("info", {})
            answer(other, "info")  # who only asks is answered all the same
        held[0].close()
        assert wait_until(lambda: one.told("session ended"))

        def opens() -> bool:
            with open_session(a, one.address) as channel:
                return bool(channel.receive(SOON).kind == "opened")

        assert wait_until(opens), "the place of the session that ended is free"
        held[1].close()


def test_two_runs_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    sites = make_sites(tmp_path, ("A", "B", "C"))
    p = Parameters(transform="rigid", loss="ssd", levels=(4, 2))
    moving = PHANTOM.on(GEOMETRY, motion_of("rigid", GEOMETRY))
    results: dict[str, Any] = {}

    def go(name: str) -> None:
        results[name] = register(moving, address, home=sites[name].home, parameters=p)

    with owner(sites["B"], shared(PHANTOM.on(GEOMETRY))) as one:
        address = one.address
        threads = [threading.Thread(target=go, args=(n,)) for n in ("A", "C")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert results["A"].levels[-1].transforms == results["C"].levels[-1].transforms
        assert all(r.numbers == r.peer_numbers for r in results.values())
        assert account_numbers(one.home) == sum(r.numbers for r in results.values())
    assert len(session_files(sites["B"].home)) == 2


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    pty = pytest.importorskip("pty")  # not on Windows
    ends = pty.openpty()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def test_the_owner_answers_on_the_terminal(scene: Scene, terminal: tuple[int, int]) -> None:
    master, slave = terminal
    words = [sys.executable, "-u", "-m", "PPIRLogic", "serve", str(scene.images / "fixed.mha")]
    words += ["--name", "fixed", "--listen", "127.0.0.1:0", "--ask", *map(str, OPEN_BUDGET)]
    process = subprocess.Popen(
        words, stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment(scene.sites["B"].home),
    )  # fmt: skip
    lines: list[str] = []
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split("address=")[1].split()[0]

        def read() -> None:
            assert process.stdout is not None
            while text := process.stdout.read(1):
                lines.append(text)

        threading.Thread(target=read, daemon=True).start()
        p = Parameters(transform="translation", loss="ssd", levels=(4,))
        moving, home = PHANTOM.on(GEOMETRY, TRUTH), scene.sites["A"].home
        outcomes: list[Any] = []

        def go() -> None:
            try:
                outcomes.append(register(moving, address, home=home, parameters=p).complete)
            except Exception as error:
                outcomes.append(error)

        for count, typed in enumerate((b"n\n", b"y\n"), 1):
            caller = threading.Thread(target=go)
            caller.start()
            assert wait_until(lambda: "".join(lines).count("[y/N]") == count), "".join(lines)  # noqa: B023
            os.write(master, typed)
            caller.join(60)
        shown = "".join(lines)
        assert isinstance(outcomes[0], RefusedError) and "declined" in str(outcomes[0])
        assert outcomes[1] is True
        for words in ("'A' (fingerprint ", "asks to register", "translation", "ssd", "numbers"):
            assert words in shown
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in "".join(lines)


def test_nobody_is_there_to_be_asked(scene: Scene) -> None:
    """--ask without a terminal: the answer is no, in words, and the server goes on."""
    server, address = scene.serve("--ask")
    assert server.process.stdin is not None
    server.process.stdin.close()
    run = scene.register(address, *QUICK)
    assert run.ends() == 10
    assert "declined" in run.event("error")["text"]
    assert server.running
    assert account_numbers(scene.sites["B"].home) == 0


def test_the_caller_gives_up_while_the_owner_thinks(tmp_path: Path) -> None:
    a, b = two_sites(tmp_path)
    thinking, decided = threading.Event(), threading.Event()

    def ask(*_: Any) -> bool:
        thinking.set()
        return decided.wait(SOON)

    token = CancelToken()
    problems: list[Any] = []

    def go(address: str) -> None:
        try:
            register(PHANTOM.on(GEOMETRY), address, home=a.home, cancel=token)
        except Exception as error:
            problems.append(error)

    with owner(b, shared(PHANTOM.on(GEOMETRY), ask=ask)) as one:
        caller = threading.Thread(target=go, args=(one.address,))
        caller.start()
        assert thinking.wait(SOON)
        token.cancel()
        caller.join(SOON)
        assert not caller.is_alive() and "cancelled" in str(problems[0])
        decided.set()
        assert wait_until(lambda: one.told("session ended"))
        assert account_numbers(b.home) == 0


def test_errors_know_their_kind() -> None:
    """The exit codes that the tests above rely on."""
    assert (DealerError.exit_code, PeerError.exit_code, RefusedError.exit_code) == (8, 8, 10)
