"""A port under siege: crowds, dribblers and garbage outside, and sessions inside that go on as if nothing were."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from system_support import (
    Phantom,
    Program,
    answer,
    call,
    grid,
    last_words,
    motion_of,
    owner,
    rows_of,
    save,
    shared,
    two_sites,
    wait_until,
)
from test_tls import Site as TlsSite
from test_tls import authority, reissue

from PPIRLogic.errors import PPIRError, TrustError
from PPIRLogic.local_processes import Site
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.request import Request

GEOMETRY = grid((64, 60, 24), (1.2, 1.2, 1.6), (0.0, 10.0, -30.0))
PHANTOM = Phantom.make(GEOMETRY)
MOVING = PHANTOM.on(GEOMETRY, motion_of("rigid", GEOMETRY))
RUN = Parameters(transform="rigid", loss="ssd", levels=(4, 2), threads=1, step_tolerance=1e-6, loss_tolerance=0.0)
CROWD = 1000


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, Site]:
    return two_sites(tmp_path_factory.mktemp("siege"))


@pytest.fixture
def served(sites: tuple[Site, Site], tmp_path: Path) -> Iterator[tuple[Program, str]]:
    fixed = save(PHANTOM.on(GEOMETRY), tmp_path / "fixed.mha")
    budget = ("--budget-percent", 1e6, "--budget-bits", 1e9, "--budget-image", 10**9, "--budget-session", 10**9)
    with Program(sites[1].home, "serve", fixed, "--listen", "127.0.0.1:0", "--threads", 1, *budget) as program:
        yield program, program.wait_for("listening")["address"]
        assert program.running and "Traceback" not in program.log.read_text()


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < CROWD + 200:
        pytest.skip(f"this machine allows {hard} open files to a process, {CROWD + 200} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, CROWD + 200), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect_plain(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def memory_mb(process: int) -> float:
    status = Path(f"/proc/{process}/statm")
    return int(status.read_text().split()[1]) * resource.getpagesize() / 1e6 if status.exists() else 0.0


class Run(threading.Thread):
    """A registration that goes on beside the siege; `began` once it has evaluated."""

    def __init__(self, address: str, home: Path) -> None:
        super().__init__(daemon=True)
        self.began, self.result, self._address, self._home = threading.Event(), None, address, home
        self.start()

    def run(self) -> None:
        def progress(step: Any) -> None:
            if step.stage == "evaluation":
                self.began.set()

        self.result = register(MOVING, self._address, home=self._home, parameters=RUN, progress=progress)

    def ends(self) -> list[list[float]]:
        self.join(120)
        assert self.result is not None and self.result.complete, self.result and self.result.error
        assert self.result.numbers == self.result.peer_numbers
        return [t for level in self.result.levels for t in level.transforms]


@pytest.mark.alone
def test_a_thousand_idle_connections(sites: tuple[Site, Site], served: tuple[Program, str], many_files: None) -> None:
    """They keep nobody out, disturb no session, and cost neither memory nor a log line each."""
    program, address = served
    undisturbed = Run(address, sites[0].home).ends()
    before = memory_mb(program.process.pid)
    run = Run(address, sites[0].home)
    assert run.began.wait(60)
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(connect_plain(address)) for _ in range(CROWD)]
        with call(sites[0], address) as channel:
            channel.send("info", {})
            answer(channel, "info")
        assert run.ends() == undisturbed
        assert len(crowd) == CROWD
        assert memory_mb(program.process.pid) - before < 60
    lines = [r for r in rows_of(sites[1].home / "audit.jsonl") if r["event"] == "refused connection"]
    assert 0 < len(lines) < 200
    assert all(
        r.keys() - {"chain", "mac"} == {"time", "event", "address", "reason"} and r["reason"].isprintable()
        for r in lines
    )


def test_dribblers_and_garbage(sites: tuple[Site, Site], served: tuple[Program, str]) -> None:
    """Greetings a byte at a time are hung up on after the handshake's deadline; a session beside them goes on."""
    _, address = served
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        dribblers = [stack.enter_context(connect_plain(address)) for _ in range(30)]
        began = time.monotonic()
        gone: dict[int, float] = {}

        def dribble() -> None:
            hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(400)
            for byte in hello:
                for i, sock in enumerate(dribblers):
                    try:
                        sock.sendall(bytes([byte]))
                    except OSError:
                        gone.setdefault(i, time.monotonic() - began)
                if stop.wait(0.3):
                    return

        thread = threading.Thread(target=dribble)
        thread.start()
        try:
            for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 5000, b"\x16\x03\x01\xff\xff" + b"x" * 70_000):
                with contextlib.suppress(OSError), connect_plain(address) as sock:
                    sock.sendall(noise)
                    while sock.recv(4096):
                        pass
            run = Run(address, sites[0].home)
            run.ends()
            assert wait_until(lambda: len(gone) == len(dribblers), 40), f"{len(gone)} hung up on"
        finally:
            stop.set()
            thread.join()


def test_an_authority_that_is_no_longer_trusted_during_a_session(tmp_path: Path) -> None:
    """A caller known only by its institution's certificate gets nothing more once the institution is removed."""
    a, b = TlsSite(tmp_path / "A", "A"), TlsSite(tmp_path / "B", "B")
    a.trusts(b)
    issuer = authority(tmp_path / "ca.pem")
    reissue(a, start=-1, end=30, issuer=issuer)
    b.trust.add_authority(tmp_path / "ca.pem", "Institution")
    with owner(Site(b.home, b.identity.fingerprint), shared(PHANTOM.on(GEOMETRY))) as one:
        request = Request("fixed", "fhe", "translation", "ssd", (4, 2))
        with call(Site(a.home, a.identity.fingerprint), one.address) as channel:
            channel.send("open", {**request.to_dict(), "nonce": bytes(32)})
            answer(channel, "opened")
            b.trust.remove_authority("Institution")
            channel.send("level", {"index": 0, "seed": bytes(32)})
            assert isinstance(last_words(channel), TrustError)
        assert wait_until(lambda: one.told("session ended"))
        assert "no longer trusts" in one.told("session ended")[-1]["reason"]
        with pytest.raises(PPIRError):
            call(Site(a.home, a.identity.fingerprint), one.address)
