"""A line between two sites that a test can cut, hold up, slow down or damage: plain TCP, below the encryption."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Any


class Proxy:
    """Listens at `address` and carries bytes to `target`. What the switches say holds from the next bytes on."""

    def __init__(self, target: str) -> None:
        host, port = target.split(":")
        self._target = (host, int(port))
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.held = threading.Event()  # nothing passes
        self.delay = 0.0  # seconds for every piece
        self.damage = 0  # so many pieces get a flipped bit
        self.room = -1  # bytes that still pass to the target before the line is cut; negative: any number
        self.open = True  # new connections are taken
        self.connections = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._stopped = False
        threading.Thread(target=self._listen, daemon=True).start()

    def cut(self) -> None:
        """Reset every connection, as a failing router does."""
        pairs, self._pairs = self._pairs, []
        for sock in (s for pair in pairs for s in pair):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def close(self) -> None:
        self._stopped = True
        self._server.close()
        self.held.clear()
        self.cut()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _listen(self) -> None:
        while not self._stopped:
            try:
                caller, _ = self._server.accept()
                if not self.open:
                    caller.close()
                    continue
                called = socket.create_connection(self._target, timeout=5)
            except OSError:
                with contextlib.suppress(OSError, UnboundLocalError):
                    caller.close()
                time.sleep(0.01)
                continue
            called.settimeout(None)
            self.connections += 1
            self._pairs.append((caller, called))
            for one, other, forth in ((caller, called, True), (called, caller, False)):
                threading.Thread(target=self._carry, args=(one, other, forth), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket, forth: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := one.recv(65536):
                while self.held.is_set() and not self._stopped:
                    time.sleep(0.01)
                if self.delay:
                    time.sleep(self.delay)
                if self.damage and len(piece) > 40:
                    self.damage -= 1
                    changed = bytearray(piece)
                    changed[len(piece) // 2] ^= 1
                    piece = bytes(changed)
                if forth and 0 <= self.room < len(piece):
                    other.sendall(piece[: self.room])
                    self.room = -1
                    self.cut()
                    return
                if forth and self.room >= 0:
                    self.room -= len(piece)
                other.sendall(piece)
        for sock in (one, other):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
