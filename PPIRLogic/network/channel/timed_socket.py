"""A socket that counts its bytes and gives up, and what a channel needs of it."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from typing import Protocol

TICK = 0.2  # seconds after which a waiting thread looks whether it should still wait


class ConnectionEnded(Exception):
    """The connection is over or out of time; `why` is a word of `Wire` or `Tls`. Never leaves this package."""

    def __init__(self, why: str, detail: str = "") -> None:
        super().__init__(why, detail)
        self.why = why
        self.detail = detail


class ByteStream(Protocol):
    """What a channel needs of a connection. One thread reads, one at a time writes, any may stop it."""

    deadline: float | None

    @property
    def sent(self) -> int: ...
    @property
    def received(self) -> int: ...
    def read_into(self, view: memoryview) -> int: ...
    def write(self, *parts: memoryview) -> None: ...
    def finish(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


class Wire:
    """A socket that counts its bytes and gives up.

    It raises ConnectionEnded: 'silent' (nothing came for `patience` seconds), 'stalled' (nothing could be sent for that
    long), 'late' (`deadline`, a time.monotonic(), has passed), 'reset', 'stopped' (by this side).
    """

    def __init__(self, sock: socket.socket, patience: float) -> None:
        self._sock = sock
        self.patience = patience
        self._stopped = False
        self.deadline: float | None = None
        self.caller = ""  # by what a listener's quotas count it
        self.on_close: Callable[[], None] | None = None
        self.sent = 0  # bytes
        self.received = 0  # bytes
        sock.settimeout(TICK)
        with contextlib.suppress(OSError):  # the socket pair of the in-process twin has neither option
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read_into(self, view: memoryview) -> int:
        """Wait for bytes; returns how many came, 0 at the end of the connection."""
        count = self._patiently("silent", lambda: self._sock.recv_into(view))
        self.received += count
        return count

    def wait_for_bytes(self) -> None:
        """Wait until something has come, and leave it there. ConnectionEnded: 'cut', if the other side ended."""
        if not self._patiently("silent", lambda: len(self._sock.recv(1, socket.MSG_PEEK))):
            raise ConnectionEnded("cut")

    def write(self, *parts: memoryview) -> None:
        """Send everything."""
        for part in parts:
            done = 0
            while done < len(part):
                rest = part[done:]
                count = self._patiently("stalled", lambda rest=rest: self._sock.send(rest))  # type: ignore[misc]
                self.sent += count
                done += count

    def _patiently(self, complaint: str, operation: Callable[[], int]) -> int:
        waited = 0.0
        while True:
            self._check_time(complaint, waited)
            before = time.monotonic()
            try:
                return operation()
            except TimeoutError:
                # At most two ticks count, so that a computer that was asleep does not give up on waking.
                waited += min(time.monotonic() - before, 2 * TICK)
            except OSError as error:
                why = "stopped" if self._stopped else "reset"
                raise ConnectionEnded(why, error.strerror or type(error).__name__) from None

    def _check_time(self, complaint: str, waited: float) -> None:
        if self._stopped:
            raise ConnectionEnded("stopped")
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise ConnectionEnded("late")
        if waited >= self.patience:
            raise ConnectionEnded(complaint)

    def finish(self) -> None:
        """Tell the other side that nothing more will be sent."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def stop(self) -> None:
        """Make every thread that waits on the socket return soon."""
        self._stopped = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back; no other thread may be using it."""
        self._sock.close()
        done, self.on_close = self.on_close, None
        if done is not None:
            done()
