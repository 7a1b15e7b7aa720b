"""Two sites that only call out, the relay between them, and relays that do wrong."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from system_support import SOON, Phantom, Program, motion_of, plain_grid, save

from PPIRLogic.errors import PPIRError
from PPIRLogic.local_processes import Site, make_sites
from PPIRLogic.network.channel import Channel, Listener
from PPIRLogic.network.channel.handshake import introduce, make_engine
from PPIRLogic.network.channel.peer_certificate import CertificateCheck
from PPIRLogic.network.channel.timed_socket import ConnectionEnded, Wire
from PPIRLogic.network.channel.tls import Tls
from PPIRLogic.network.identity import Identity, load_or_create_identity
from PPIRLogic.network.names import RELAY
from PPIRLogic.network.relay import Relay, RelayLimits
from PPIRLogic.network.service import UnrecordedAudit
from PPIRLogic.network.trust import TrustStore


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def relayed_sites(folder: Path, *more: str) -> dict[str, Site]:
    """A registers, B serves, R is the relay that both trust as one; everybody else trusts as usual."""
    sites = make_sites(folder, ("A", "B", "R", *more))
    for name in set(sites) - {"R"}:
        TrustStore(sites[name].home).add(sites["R"].fingerprint, "R", RELAY)
    return sites


def pair_of_files(folder: Path) -> tuple[Path, Path]:
    geometry = plain_grid(2)
    phantom = Phantom.make(geometry)
    moving = phantom.on(geometry, motion_of("rigid", geometry))
    return save(phantom.on(geometry), folder / "fixed.nrrd"), save(moving, folder / "moving.nrrd")


@dataclass
class RelayHere:
    """A relay in this process; `events` are its audit."""

    relay: Relay
    events: list[dict[str, Any]]

    @property
    def address(self) -> str:
        return self.relay.listener.address

    def told(self, event: str) -> list[dict[str, Any]]:
        return [e for e in list(self.events) if e["event"] == event]


@contextlib.contextmanager
def relay_here(
    site: Site, limits: RelayLimits | None = None, kind: type[Relay] = Relay, **options: Any
) -> Iterator[RelayHere]:
    events: list[dict[str, Any]] = []
    identity, audit = load_or_create_identity(site.home), UnrecordedAudit(events.append)
    relay = kind("127.0.0.1:0", identity, TrustStore(site.home), audit, limits=limits, **options)
    thread = threading.Thread(target=relay.run, daemon=True)
    thread.start()
    try:
        yield RelayHere(relay, events)
    finally:
        relay.stop()
        thread.join(10)
        assert not thread.is_alive()


@contextlib.contextmanager
def waiting(site: Site, relay: str, **options: Any) -> Iterator[tuple[Listener, list[str]]]:
    """A listener of a site at the relay; what it heard of callers that did not get in, and of its line."""
    heard: list[str] = []
    identity = load_or_create_identity(site.home)
    options = {
        "on_refused": lambda where, reason: heard.append(f"{where}: {reason}"),
        "on_relay": heard.append,
    } | options
    with Listener(f"@{relay}", identity, TrustStore(site.home), **options) as listener:
        yield listener, heard


def serving(site: Site, fixed: Path, relay: str, *more: object, **options: Any) -> Program:
    """`ppir serve --relay`, which waits there."""
    words = ("serve", fixed, "--name", "atlas", "--protocols", "clear,fhe", "--budget-percent", "100", "--threads", "1")
    return Program(site.home, *words, "--relay", relay, *more, **options)


def listening_ports(process: int) -> list[int]:
    """TCP ports on which a process of this machine listens (Linux)."""
    assert sys.platform == "linux"
    own = set()
    for link in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):
            own.add(os.readlink(link))
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [int(r[1].rpartition(":")[2], 16) for r in rows if r[3] == "0A" and f"socket:[{r[9]}]" in own]


class Flipping(Relay):
    """A relay that changes one bit of what it passes on, in every line, after so many bytes of the caller."""

    after, flipped = 20_000, 0

    def _pass_on(self, meeting: Any, one: Wire, two: Wire) -> None:
        flip_at, seen = self.after, 0
        read = one.read_into

        def read_into(view: memoryview) -> int:
            nonlocal seen
            count = read(view)
            if seen <= flip_at < seen + count:
                view[flip_at - seen] ^= 1
                self.flipped += 1
            seen += count
            return count

        one.read_into = read_into  # type: ignore[method-assign]
        super()._pass_on(meeting, one, two)


class Pretending(Relay):
    """A relay that answers in the place of the site that is called. `heard`: what callers then said to it."""

    def __init__(self, address: str, identity: Identity, trust: TrustStore, *more: Any, **options: Any) -> None:
        self._as, self.heard = (identity, trust), bytearray()
        super().__init__(address, identity, trust, *more, **options)

    def _join(self, meeting: Any, room: Channel) -> None:
        identity, trust = self._as
        check = CertificateCheck(trust, None, None)
        engine = make_engine(identity, trust, check)
        engine.set_accept_state()
        meeting.caller.tell("joined", {})
        wire = meeting.caller.hand_over()
        wire.deadline = time.monotonic() + SOON
        link = Tls(wire, engine)
        with contextlib.suppress(PPIRError, ConnectionEnded):
            link.handshake()
            own = introduce(link, check, identity, "caller", server=True, heartbeat=1.0, dead_after=SOON)
            self.heard += own.receive(SOON).payload
            own.close()


class ConnectProxy:
    """An HTTP proxy that opens the ways it is asked for by CONNECT. `asked`: for which."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._server.accept()[0],), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += caller.recv(4096)
        where = request.split()[1].decode()
        self.asked.append(where)
        host, _, port = where.rpartition(":")
        called = socket.create_connection((host, int(port)))
        caller.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        threading.Thread(target=self._copy, args=(called, caller), daemon=True).start()
        self._copy(caller, called)

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> ConnectProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
