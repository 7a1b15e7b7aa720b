"""Parties in network namespaces of their own, joined by a line with a stated delay, rate and loss.

Where the kernel has it, the line is veth pairs over a router namespace with `tc netem`. Elsewhere it is made of TUN
devices joined by a process that delays, queues and loses whole IP packets, so that the kernels' own TCP meets them
as it would outside. Needs Linux, root, and permission to make namespaces; `problem` says what is missing.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

MTU = 1500  # bytes
CONGESTION = ("congctl", "cubic")  # what most computers use, whatever this one is set to
BUFFER = 0.2  # seconds of traffic that wait before the line, then packets are dropped, as a router does


@dataclass(frozen=True)
class Line:
    """`rtt` in ms, `rate` in Mbit/s each way (0: no limit), `loss` in per cent of the packets each way."""

    rtt: float = 0.0
    rate: float = 0.0
    loss: float = 0.0

    def __str__(self) -> str:
        rate = f"{self.rate:g} Mbit/s" if self.rate else "no limit"
        return f"{self.rtt:g} ms, {rate}" + (f", {self.loss:g} % loss" if self.loss else "")


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


@lru_cache(maxsize=1)
def problem() -> str:
    """Why no such network can be made here; empty if it can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    name = f"ppir-{os.getpid()}-probe"
    try:
        _ip("netns", "add", name)
    except OSError as error:
        return f"this machine does not allow network namespaces ({error})"
    try:
        return "" if _netem(name) or os.access("/dev/net/tun", os.W_OK) else "neither tc netem nor TUN devices here"
    finally:
        _ip("netns", "delete", name)


def _netem(namespace: str) -> bool:
    words = ["ip", "netns", "exec", namespace, "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@dataclass(frozen=True)
class Network:
    """`within(i)`: words that run a command at site i; `address(i)`: its IP address. `kind`: netem or TUN."""

    name: str
    kind: str

    def within(self, site: int) -> list[str]:
        return ["ip", "netns", "exec", f"{self.name}-{site}"]

    @staticmethod
    def address(site: int) -> str:
        return f"10.77.{site}.1"


@contextlib.contextmanager
def network(line: Line, sites: int = 3, closed: tuple[int, ...] = ()) -> Iterator[Network]:
    """So many sites, each with the line's delay, rate and loss to every other one, for as long as the context lasts.

    closed: sites behind a firewall that drops whatever would open a TCP connection to them. Their line is made of TUN
    devices everywhere.
    """
    name = f"ppir-{os.getpid()}"
    with contextlib.ExitStack() as undo:
        for site in range(sites):
            space = f"{name}-{site}"
            _ip("netns", "add", space)
            undo.callback(_ip, "netns", "delete", space)
            _ip("-n", space, "link", "set", "lo", "up")
        kind = "tc netem" if not closed and _netem(f"{name}-0") else "TUN devices"
        if kind == "tc netem":
            _join_by_netem(name, line, sites, undo)
        else:
            _join_by_tun(name, line, sites, closed, undo)
        yield Network(name, kind)


def _join_by_netem(name: str, line: Line, sites: int, undo: contextlib.ExitStack) -> None:
    router = f"{name}-router"
    _ip("netns", "add", router)
    undo.callback(_ip, "netns", "delete", router)
    _ip("netns", "exec", router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    for site in range(sites):
        space, here, there = f"{name}-{site}", "line", f"to{site}"
        _ip("link", "add", here, "netns", space, "type", "veth", "peer", "name", there, "netns", router)
        for where, device, address in ((space, here, f"10.77.{site}.1/24"), (router, there, f"10.77.{site}.2/24")):
            _ip("-n", where, "addr", "add", address, "dev", device)
            _ip("-n", where, "link", "set", device, "up")
        _ip("-n", space, "route", "add", "default", "via", f"10.77.{site}.2", *CONGESTION)
        packets = max(10, int(line.rate * 1e6 / 8 / MTU * (BUFFER + line.rtt / 1000))) if line.rate else 10_000
        words = ["delay", f"{line.rtt / 2}ms", "limit", str(packets)]
        words += ["rate", f"{line.rate}mbit"] if line.rate else []
        words += ["loss", f"{line.loss}%"] if line.loss else []
        _ip("netns", "exec", router, "tc", "qdisc", "add", "dev", there, "root", "netem", *words)


def _join_by_tun(name: str, line: Line, sites: int, closed: tuple[int, ...], undo: contextlib.ExitStack) -> None:
    words = [sys.executable, __file__, name, str(sites), str(line.rtt), str(line.rate), str(line.loss)]
    words += map(str, closed)
    hub = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def stop() -> None:
        assert hub.stdin is not None and hub.stdout is not None
        hub.stdin.close()
        hub.wait()
        hub.stdout.close()

    undo.callback(stop)
    assert hub.stdout is not None
    if hub.stdout.readline().strip() != "ready":
        raise OSError("the line between the namespaces could not be made")


# ------------------------------------------------------------------------------------- the line as a process


def _tun(space: str, device: str, site: int) -> int:
    import fcntl

    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH", device.encode(), 0x0001 | 0x1000))  # TUNSETIFF: TUN, no header
    _ip("link", "set", device, "netns", space)
    _ip("-n", space, "addr", "add", f"10.77.{site}.1/16", "dev", device)
    _ip("-n", space, "link", "set", device, "mtu", str(MTU), "up")
    _ip("-n", space, "route", "replace", "10.77.0.0/16", "dev", device, "scope", "link", *CONGESTION)
    return fd


class _Direction:
    """Towards one site: packets wait for the line to be free, travel, and arrive in order."""

    def __init__(self, fd: int, line: Line, seed: int) -> None:
        self.fd, self._line, self._draw = fd, line, random.Random(seed)
        self._free = 0.0  # when the line has sent what it has
        self.waiting: deque[tuple[float, bytes]] = deque()

    def send(self, packet: bytes, now: float) -> None:
        start = max(now, self._free)
        if self._draw.random() * 100 < self._line.loss or start - now > BUFFER:
            return
        self._free = start + (len(packet) * 8 / (self._line.rate * 1e6) if self._line.rate else 0.0)
        self.waiting.append((self._free + self._line.rtt / 2000, packet))

    def deliver(self, now: float) -> None:
        while self.waiting and self.waiting[0][0] <= now:
            with contextlib.suppress(OSError):  # the device's own queue is full: lost
                os.write(self.fd, self.waiting.popleft()[1])


def _opens(packet: bytes) -> bool:
    """Whether an IPv4 packet would open a TCP connection: SYN without ACK."""
    at = 4 * (packet[0] & 15) + 13  # of TCP's flags
    return packet[9] == 6 and len(packet) > at and packet[at] & 0x12 == 0x02


def _hub(name: str, sites: int, line: Line, closed: tuple[int, ...]) -> None:
    """Carry packets between the sites' devices until standard input ends."""
    devices = [_tun(f"{name}-{site}", f"p{os.getpid()}-{site}", site) for site in range(sites)]
    ways = [_Direction(fd, line, seed) for seed, fd in enumerate(devices)]
    print("ready", flush=True)
    while True:
        due = min((way.waiting[0][0] for way in ways if way.waiting), default=time.monotonic() + 1.0)
        readable, _, _ = select.select([0, *devices], [], [], max(0.0, due - time.monotonic()))
        if 0 in readable:
            return
        now = time.monotonic()
        for fd in readable:
            with contextlib.suppress(BlockingIOError):
                for _ in range(64):
                    packet = os.read(fd, 65536)
                    if packet[0] >> 4 != 4 or packet[18] >= sites:  # IPv4, to 10.77.SITE.1
                        continue
                    if packet[18] not in closed or not _opens(packet):
                        ways[packet[18]].send(packet, now)
        for way in ways:
            way.deliver(time.monotonic())


if __name__ == "__main__":
    _hub(sys.argv[1], int(sys.argv[2]), Line(*map(float, sys.argv[3:6])), tuple(map(int, sys.argv[6:])))
