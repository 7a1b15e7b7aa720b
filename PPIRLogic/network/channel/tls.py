"""Encryption over a wire: the TLS engine on memory buffers."""

from __future__ import annotations

import contextlib
import threading
import time

from cryptography import x509
from OpenSSL import SSL

from PPIRLogic.network.channel.timed_socket import ConnectionEnded, Wire
from PPIRLogic.network.identity import clean_text

_READ_CHUNK = 256 * 1024
_WRITE_CHUNK = 1024 * 1024
_RECORD = 16 * 1024  # plaintext bytes in a TLS record


class Tls:
    """TLS over a wire. Beyond the wire's words ConnectionEnded says 'not-tls', 'tls' or 'cut' (no close_notify)."""

    def __init__(self, wire: Wire, connection: SSL.Connection) -> None:
        self._wire = wire
        self._connection = connection
        self._lock = threading.Lock()  # the engine serves one thread at a time
        self._incoming = memoryview(bytearray(_READ_CHUNK))
        self._ended = False

    @property
    def wire(self) -> Wire:
        """The wire without the encryption, for bytes that are not for the other end of it."""
        return self._wire

    @property
    def sent(self) -> int:
        return self._wire.sent

    @property
    def received(self) -> int:
        return self._wire.received

    @property
    def deadline(self) -> float | None:
        return self._wire.deadline

    @deadline.setter
    def deadline(self, value: float | None) -> None:
        self._wire.deadline = value

    def handshake(self) -> None:
        """Agree on keys; single-threaded, before anything else."""
        while True:
            try:
                self._connection.do_handshake()
            except SSL.WantReadError:
                self._wire.write(*self._outgoing())
                self._feed()
            except SSL.Error as error:
                with contextlib.suppress(ConnectionEnded):
                    self._wire.write(*self._outgoing())  # the alert that tells the other side why
                raise ConnectionEnded("tls", _tls_reason(error)) from None
            else:
                self._wire.write(*self._outgoing())
                return

    def peer_certificate(self) -> x509.Certificate | None:
        """What the other side showed; None before the handshake."""
        shown = self._connection.get_peer_certificate()
        return None if shown is None else shown.to_cryptography()

    def read_into(self, view: memoryview) -> int:
        """Wait for plaintext; returns how many bytes came, 0 if the other side said that it is done."""
        while True:
            with self._lock:
                count = self._decrypt(view)
            if count or self._ended:
                return count
            self._feed()

    def write(self, *parts: memoryview) -> None:
        """Encrypt and send everything, a bounded piece at a time."""
        pending: list[memoryview] = []
        size = 0
        for part in parts:
            for start in range(0, len(part), _WRITE_CHUNK):
                piece = part[start : start + _WRITE_CHUNK]
                pending.append(piece)
                size += len(piece)
                if size >= _WRITE_CHUNK:
                    self._write_pieces(pending)
                    pending, size = [], 0
        if pending:
            self._write_pieces(pending)

    def finish(self) -> None:
        """Tell the other side, under encryption, that nothing more will be sent."""
        with self._lock:
            with contextlib.suppress(SSL.Error):
                self._connection.shutdown()
            outgoing = self._outgoing()
        self._wire.write(*outgoing)
        self._wire.finish()

    def abandon(self) -> None:
        """End a failed handshake so that the other side can still read the alert: hang up, then drain briefly."""
        # Closing with unread bytes would reset the connection and take the alert with it.
        self._wire.finish()
        self._wire.deadline = time.monotonic() + 0.5
        with contextlib.suppress(ConnectionEnded):
            while self._wire.received < _WRITE_CHUNK and self._wire.read_into(self._incoming):
                pass

    def stop(self) -> None:
        self._wire.stop()

    def close(self) -> None:
        self._wire.close()

    def _write_pieces(self, pieces: list[memoryview]) -> None:
        with self._lock:
            try:
                for piece in pieces:
                    done = 0
                    while done < len(piece):
                        done += self._connection.send(piece[done:])  # one record at a time
            except SSL.Error as error:
                raise ConnectionEnded("tls", _tls_reason(error)) from None
            # Taken before the lock is released: records leave in the order in which they were made.
            outgoing = self._outgoing()
        self._wire.write(*outgoing)

    def _outgoing(self) -> list[memoryview]:
        """What the engine has to send, including answers that it made while reading."""
        pieces = []
        with contextlib.suppress(SSL.WantReadError):
            while True:
                pieces.append(memoryview(self._connection.bio_read(_WRITE_CHUNK + _WRITE_CHUNK // 64)))
        return pieces

    def _feed(self) -> None:
        first = self._wire.received == 0
        count = self._wire.read_into(self._incoming)
        if count == 0:
            raise ConnectionEnded("cut")
        # A TLS record starts with its type (handshake or alert) and the major version 3.
        if first and (self._incoming[0] not in (0x16, 0x15) or (count > 1 and self._incoming[1] != 3)):
            raise ConnectionEnded("not-tls")
        with self._lock:
            self._connection.bio_write(self._incoming[:count])

    def _decrypt(self, view: memoryview) -> int:
        filled = 0
        try:
            while filled < len(view):
                filled += self._connection.recv_into(view[filled : filled + _RECORD])
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self._ended = True
        except SSL.Error as error:
            raise ConnectionEnded("tls", _tls_reason(error)) from None
        return filled


def _tls_reason(error: SSL.Error) -> str:
    """The library's short reason, such as 'tlsv1 alert unknown ca'."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return clean_text(str(entries[-1][-1])) if entries else type(error).__name__
