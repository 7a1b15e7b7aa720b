"""One connection between two sites: framed messages over TLS 1.3 in which both sides show a certificate.

Who is allowed in is decided by the trust store alone: a peer's certificate counts if its fingerprint is trusted
or an institution's trusted authority issued it, and if it is valid now. Host names prove nothing here and are
not checked. Nothing that arrives is ever executed or unpickled: a frame is a fixed prefix, a msgpack map of plain
values and a payload of raw bytes, each with a limit, and anything else ends the connection.

    prefix   '!4sBII': b'PPIR', frame version, header length, payload length (bytes)
    header   msgpack {'kind': str, 'seq': int, 'data': map}; seq counts the frames of one direction from 0
    payload  bytes

Threads of a channel: a reader, which alone closes the socket, and a heartbeat. Any thread may send; one at a
time does. The TLS engine works on memory buffers so that a blocked send never stops the reader.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Protocol

import msgpack
from cryptography import x509
from OpenSSL import SSL
from OpenSSL import crypto as openssl_crypto

from PPIRLogic.errors import (
    IdentityError,
    InputError,
    PeerError,
    PPIRError,
    ProtocolError,
    TrustError,
    VersionError,
)
from PPIRLogic.peer.identity import (
    Identity,
    clean_text,
    common_name,
    fingerprint_of_certificate,
    load_certificates,
    load_private_key,
    normalise_fingerprint,
)
from PPIRLogic.peer.trust import TrustStore

DEFAULT_PORT = 7443
FRAME_VERSION = 1
MAX_HEADER = 64 * 1024  # bytes
MAX_PAYLOAD = 16 * 1024 * 1024  # bytes
MAX_DEPTH = 16  # levels of maps and lists in a header
MAX_QUEUE = 8  # frames that wait to be received before the reader stops reading
FAREWELLS = ("bye", "error")  # the last frame of a side

_MAGIC = b"PPIR"
_PREFIX = struct.Struct("!4sBII")
_KIND = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
_HELLO, _ALIVE = "hello", "alive"
_TICK = 0.2  # seconds after which a waiting thread looks whether it should still wait
_GOODBYE = 1.0  # seconds for the last frame to go out and the other side to hang up
_READ_CHUNK = 256 * 1024
_WRITE_CHUNK = 1024 * 1024
_WRONG_TIME = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_RECORD = 16 * 1024  # plaintext bytes in a TLS record


@dataclass(frozen=True)
class Message:
    """A frame as the application sees it."""

    kind: str
    data: dict[str, Any] = field(default_factory=dict)
    payload: bytes | bytearray = b""


class _Gone(Exception):
    """The connection is over or out of time; `why` is one of the words in `_Wire`. Never leaves this module."""

    def __init__(self, why: str, detail: str = "") -> None:
        super().__init__(why, detail)
        self.why = why
        self.detail = detail


# ------------------------------------------------------------------------------------------------ addresses


def parse_address(text: str) -> tuple[str, int]:
    """Split 'host:7443', '[::1]:7443' or 'host' (port 7443) into host and port; InputError for anything else."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%a-z]+)\]|([^\s\[\]:/@]+))(?::([0-9]{1,5}))?", text.strip())
    if not match or int(match[3] or 0) > 65535:
        raise InputError(
            f"{clean_text(text)!r} is not an address: write host, host:port or [IPv6 address]:port, "
            f"with a port up to 65535 (default {DEFAULT_PORT})"
        )
    return match[1] or match[2], DEFAULT_PORT if match[3] is None else int(match[3])


def _spell_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# ------------------------------------------------------------------------------------------------ frames


def encode_head(kind: str, sequence: int, data: dict[str, Any], payload_length: int) -> bytes:
    """Prefix and header of a frame. Raises ProtocolError if it would break a limit that the peer enforces."""
    if not _KIND.fullmatch(kind):
        raise ProtocolError(f"{clean_text(kind)!r} is not a kind of message")
    header = msgpack.packb({"kind": kind, "seq": sequence, "data": data}, use_bin_type=True)
    if len(header) > MAX_HEADER or payload_length > MAX_PAYLOAD:
        raise ProtocolError(
            f"a message of kind {kind!r} is too large to send: header {len(header)} of at most {MAX_HEADER} bytes, "
            f"payload {payload_length} of at most {MAX_PAYLOAD} bytes"
        )
    return _PREFIX.pack(_MAGIC, FRAME_VERSION, len(header), payload_length) + header


def parse_prefix(prefix: bytes | bytearray, max_payload: int = MAX_PAYLOAD) -> tuple[int, int]:
    """Lengths of header and payload in bytes. Raises ProtocolError for anything but the start of a frame."""
    try:
        magic, version, header_length, payload_length = _PREFIX.unpack(prefix)
    except struct.error:
        raise ProtocolError("a frame is cut short") from None
    if magic != _MAGIC:
        raise ProtocolError("what arrived is not a frame of this protocol")
    if version != FRAME_VERSION:
        raise ProtocolError(f"a frame has version {version}, this program speaks {FRAME_VERSION}: update the older one")
    if not 0 < header_length <= MAX_HEADER:
        raise ProtocolError(f"a frame's header has {header_length} bytes instead of 1 to {MAX_HEADER}")
    if payload_length > max_payload:
        raise ProtocolError(f"a frame's payload has {payload_length} bytes instead of at most {max_payload}")
    return header_length, payload_length


def parse_header(header: bytes | bytearray, expected_sequence: int) -> tuple[str, dict[str, Any]]:
    """Kind and data of a frame. Raises ProtocolError unless the header is well-formed and next in sequence."""
    try:
        content = msgpack.unpackb(
            header,
            raw=False,
            strict_map_key=True,
            max_str_len=MAX_HEADER,
            max_bin_len=MAX_HEADER,
            max_array_len=MAX_HEADER,
            max_map_len=MAX_HEADER // 2,
            max_ext_len=0,
        )
    except (ValueError, TypeError, RecursionError, OverflowError, MemoryError, msgpack.UnpackException):
        raise ProtocolError("a frame's header cannot be decoded") from None
    if not isinstance(content, dict) or content.keys() != {"kind", "seq", "data"}:
        raise ProtocolError("a frame's header does not have exactly the fields kind, seq and data")
    kind, sequence, data = content["kind"], content["seq"], content["data"]
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise ProtocolError("a frame's kind is not a short word")
    if type(sequence) is not int or sequence != expected_sequence:
        raise ProtocolError(f"a frame is out of order: number {expected_sequence} was due (repeated, lost or moved)")
    if not isinstance(data, dict) or not _is_plain(data, MAX_DEPTH):
        raise ProtocolError("a frame's data is not a map of plain values")
    return kind, data


def _is_plain(value: Any, depth: int) -> bool:
    if depth < 0:
        return False
    if type(value) is dict:
        return all(type(key) is str and _is_plain(item, depth - 1) for key, item in value.items())
    if type(value) is list:
        return all(_is_plain(item, depth - 1) for item in value)
    # msgpack's extension types, which no frame may use, fail here.
    return value is None or type(value) in (bool, int, float, str, bytes)


class FrameReader:
    """Reads the frames of one direction from `read_into`, which fills part of a buffer or returns 0 at the end."""

    def __init__(self, read_into: Callable[[memoryview], int]) -> None:
        self._read_into = read_into
        self._expected = 0

    def next(self, max_payload: int = MAX_PAYLOAD) -> Message | None:
        """The next frame, or None if the other side ended between two frames.

        Raises ProtocolError for a malformed frame and PeerError for one that breaks off.
        """
        prefix = self._exactly(_PREFIX.size, may_end=True)
        if prefix is None:
            return None
        header_length, payload_length = parse_prefix(prefix, max_payload)
        kind, data = parse_header(self._exactly(header_length) or b"", self._expected)
        payload = self._exactly(payload_length) if payload_length else b""
        self._expected += 1
        return Message(kind, data, payload or b"")

    def _exactly(self, length: int, may_end: bool = False) -> bytearray | None:
        content = bytearray(length)
        view = memoryview(content)
        filled = 0
        while filled < length:
            count = self._read_into(view[filled:])
            if count == 0:
                if may_end and filled == 0:
                    return None
                raise PeerError("the connection broke off in the middle of a frame")
            filled += count
        return content


# ------------------------------------------------------------------------------------------------ the wire


class _Link(Protocol):
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


class _Wire:
    """A socket that counts its bytes and gives up.

    It raises _Gone: 'silent' (nothing came for `patience` seconds), 'stalled' (nothing could be sent for that
    long), 'late' (`deadline`, a time.monotonic(), has passed), 'reset', 'stopped' (by this side).
    """

    def __init__(self, sock: socket.socket, patience: float) -> None:
        self._sock = sock
        self.patience = patience
        self._stopped = False
        self.deadline: float | None = None
        self.sent = 0  # bytes
        self.received = 0  # bytes
        sock.settimeout(_TICK)
        with contextlib.suppress(OSError):  # the socket pair of the in-process twin has neither option
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read_into(self, view: memoryview) -> int:
        """Wait for bytes; returns how many came, 0 at the end of the connection."""
        count = self._patiently("silent", lambda: self._sock.recv_into(view))
        self.received += count
        return count

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
                waited += min(time.monotonic() - before, 2 * _TICK)
            except OSError as error:
                why = "stopped" if self._stopped else "reset"
                raise _Gone(why, error.strerror or type(error).__name__) from None

    def _check_time(self, complaint: str, waited: float) -> None:
        if self._stopped:
            raise _Gone("stopped")
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise _Gone("late")
        if waited >= self.patience:
            raise _Gone(complaint)

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


class _Tls:
    """TLS over a wire. Beyond the wire's words it raises _Gone with 'not-tls', 'tls' or 'cut' (no close_notify)."""

    def __init__(self, wire: _Wire, connection: SSL.Connection) -> None:
        self._wire = wire
        self._connection = connection
        self._lock = threading.Lock()  # the engine serves one thread at a time
        self._incoming = memoryview(bytearray(_READ_CHUNK))
        self._ended = False

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
                with contextlib.suppress(_Gone):
                    self._wire.write(*self._outgoing())  # the alert that tells the other side why
                raise _Gone("tls", _tls_reason(error)) from None
            else:
                self._wire.write(*self._outgoing())
                return

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
        with contextlib.suppress(_Gone):
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
                raise _Gone("tls", _tls_reason(error)) from None
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
            raise _Gone("cut")
        # A TLS record starts with its type (handshake or alert) and the major version 3.
        if first and (self._incoming[0] not in (0x16, 0x15) or (count > 1 and self._incoming[1] != 3)):
            raise _Gone("not-tls")
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
            raise _Gone("tls", _tls_reason(error)) from None
        return filled


def _tls_reason(error: SSL.Error) -> str:
    """The library's short reason, such as 'tlsv1 alert unknown ca'."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return clean_text(str(entries[-1][-1])) if entries else type(error).__name__


# ------------------------------------------------------------------------------------------------ who is there


class _Doorkeeper:
    """Decides during one handshake whether the other side's certificate is accepted, and remembers why not.

    The verification calls it once for every fault and once for every certificate, the peer's own one last.
    """

    def __init__(self, trust: TrustStore, expected_fingerprint: str | None, expected_name: str | None) -> None:
        self._trust = trust
        self._expected_fingerprint = normalise_fingerprint(expected_fingerprint) if expected_fingerprint else None
        self._expected_name = expected_name
        self._faults: list[int] = []
        self._anchor = ""  # fingerprint of the authority at the top of the chain
        self.accepted = False
        self.by_authority = False
        self.refusal = ""
        self.fingerprint = ""
        self.name = ""

    def judge(self, _connection: Any, certificate: Any, fault: int, depth: int, ok: int) -> bool:
        try:
            return self._weigh(certificate.to_cryptography(), fault, depth, bool(ok))
        except PPIRError as error:  # the trust store cannot be read: nobody is trusted
            return self._refuse(str(error))
        except Exception as error:  # a certificate that cannot be understood is not accepted, whatever is wrong
            return self._refuse(f"its certificate cannot be understood ({type(error).__name__})")

    def still_trusted(self) -> bool:
        """Whether the trust store would accept the same peer now."""
        if self._trust.is_trusted(self.fingerprint):
            return True
        return self.by_authority and self._authority_is_trusted()

    def _weigh(self, certificate: x509.Certificate, fault: int, depth: int, ok: bool) -> bool:
        if depth == 0 and (ok or fault in _WRONG_TIME) and not self._is_current(certificate):
            return False
        if not ok:
            # Not yet fatal: a trusted fingerprint needs no authority. _decide looks at the list.
            self._faults.append(fault)
        elif not self._anchor:  # the first certificate that is called without a fault is the top of the chain
            self._anchor = fingerprint_of_certificate(certificate)
        # Deciding at the fault itself, too, makes the library send the alert that fits the fault.
        return self._decide(certificate) if depth == 0 else True

    def _is_current(self, certificate: x509.Certificate) -> bool:
        now = datetime.now(timezone.utc)
        who = f"the certificate of {common_name(certificate)!r} ({fingerprint_of_certificate(certificate)})"
        if certificate.not_valid_after_utc <= now:
            return self._refuse(
                f"{who} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: that site has to run "
                "`ppir identity --renew`"
            )
        if certificate.not_valid_before_utc > now:
            return self._refuse(
                f"{who} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: check the clocks "
                "of both computers"
            )
        return True

    def _decide(self, certificate: x509.Certificate) -> bool:
        self.fingerprint = fingerprint_of_certificate(certificate)
        claimed = common_name(certificate)
        if self._expected_fingerprint not in (None, self.fingerprint):
            return self._refuse(
                f"it shows the fingerprint {self.fingerprint} instead of the expected {self._expected_fingerprint}: "
                "another computer answers there, or its key was replaced; ask the other site before you go on"
            )
        known_as = self._trust.name_of(self.fingerprint)
        if known_as is not None:
            self.name = known_as
        elif self._faults or not self._authority_is_trusted():
            return self._refuse(
                f"the fingerprint {self.fingerprint} (which calls itself {claimed!r}) is not trusted here: compare it "
                f"with the other site by telephone, and if it is the same run `ppir trust add {self.fingerprint}`"
            )
        elif self._expected_name is not None and not _has_name(certificate, self._expected_name):
            return self._refuse(f"its certificate is not for the expected name {self._expected_name!r}")
        else:
            self.name = claimed
            self.by_authority = True
        self.accepted = True
        return True

    def _authority_is_trusted(self) -> bool:
        return any(authority.fingerprint == self._anchor for authority in self._trust.authorities())

    def _refuse(self, reason: str) -> bool:
        self.refusal = self.refusal or reason
        self.accepted = False
        return False


def _has_name(certificate: x509.Certificate, name: str) -> bool:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return name.lower() in (dns.lower() for dns in names.get_values_for_type(x509.DNSName))


def _engine(identity: Identity, trust: TrustStore, doorkeeper: _Doorkeeper) -> SSL.Connection:
    """A TLS 1.3 engine on memory buffers that asks the doorkeeper about the other side's certificate.

    Everything is read afresh, so that a renewed certificate or a removed authority counts from the next connection.
    """
    certificates = load_certificates(identity.certificate_file)
    if certificates[0].not_valid_after_utc <= datetime.now(timezone.utc):
        raise IdentityError("this site's certificate has expired: run `ppir identity --renew`")
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    # Every connection proves itself anew: without cache and tickets there is nothing to resume from.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    try:
        context.use_certificate(certificates[0])
        for intermediate in certificates[1:]:
            context.add_extra_chain_cert(intermediate)
        context.use_privatekey(load_private_key(identity.key_file))
        context.check_privatekey()
    except SSL.Error:
        raise IdentityError(
            f"the key {identity.key_file} and the certificate beside it do not fit together: run "
            "`ppir identity --renew`"
        ) from None
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, doorkeeper.judge)
    context.set_verify_depth(4)
    store = context.get_cert_store()
    if store is None:
        raise IdentityError("the TLS library offers no certificate store: reinstall pyOpenSSL")
    # An institution may name a subordinate authority without naming the one above it.
    store.set_flags(openssl_crypto.X509StoreFlags.PARTIAL_CHAIN)
    for authority in trust.authorities():
        store.add_cert(openssl_crypto.X509.from_cryptography(authority.certificate))
    return SSL.Connection(context, None)


# ------------------------------------------------------------------------------------------------ the channel


class Channel:
    """A connection to one peer. Made by `connect`, `Listener.accept` or `memory_pair`.

    Attributes: `peer_name` (as this site calls the peer), `peer_fingerprint`, `address` ('host:port' of the peer),
    `claimed_name` (what the peer calls itself), `farewell` (the peer's 'bye' or 'error' as soon as it has come in).

    A peer that neither sends a byte nor a sign of life for `dead_after` seconds is lost; so is one that takes
    nothing for that long while this side is sending. A receiver therefore must not leave more than 8 frames
    waiting for longer than that.
    """

    def __init__(
        self,
        link: _Link,
        *,
        peer_name: str,
        peer_fingerprint: str = "",
        address: str = "",
        heartbeat: float = 1.0,
        dead_after: float = 10.0,
        still_trusted: Callable[[], bool] | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self.peer_name = peer_name
        self.peer_fingerprint = peer_fingerprint
        self.address = address
        self.claimed_name = ""
        self.farewell: Message | None = None
        self._link = link
        self._heartbeat = heartbeat
        self._dead_after = dead_after
        self._still_trusted = still_trusted
        self._on_end = on_end
        self._frames = FrameReader(link.read_into)
        self._running = False
        self._next_number = 0
        self._last_write = time.monotonic()
        self._write_lock = threading.Lock()
        self._state = threading.Condition()  # guards the four below
        self._queue: deque[Message] = deque()
        self._error: PPIRError | None = None
        self._closing = False  # this side has begun to close
        self._quit = threading.Event()  # no more heartbeats
        self._reader = threading.Thread(target=self._read_all, name="ppir-reader", daemon=True)
        self._beater = threading.Thread(target=self._beat, name="ppir-heartbeat", daemon=True)

    # ------------------------------------------------------------------ for applications

    @property
    def bytes_sent(self) -> int:
        """Bytes given to the TCP connection so far, with everything that TLS adds, handshake included."""
        return self._link.sent

    @property
    def bytes_received(self) -> int:
        """Bytes taken from the TCP connection so far, with everything that TLS adds, handshake included."""
        return self._link.received

    @property
    def interrupted(self) -> bool:
        """True once the peer said 'bye' or 'error' or the connection ended, even if earlier frames still wait."""
        return self.farewell is not None or self._error is not None

    def still_trusted(self) -> bool:
        """Whether this site's trust store still accepts the peer; raises TrustError if the store is damaged."""
        return self._still_trusted is None or self._still_trusted()

    def check(self) -> None:
        """Do nothing while the peer is there; raise what ended the channel (mostly PeerError) otherwise."""
        if self._error is not None or self.farewell is not None or self._closing:
            raise self._ending()

    def send(self, kind: str, data: dict[str, Any] | None = None, payload: Any = b"") -> None:
        """Send one message; `payload` is any contiguous buffer of at most 16 MiB and is not kept.

        Raises ProtocolError, before anything is sent, for a message beyond the limits; PeerError if the peer is
        gone or takes nothing for `dead_after` seconds, which also ends the channel.
        """
        if kind == _ALIVE:
            raise ProtocolError("messages of kind 'alive' belong to the channel itself")
        while not self._write_lock.acquire(timeout=_TICK):
            self.check()
        try:
            self.check()
            self._write_frame(kind, data or {}, payload)
        finally:
            self._write_lock.release()

    def receive(self, timeout: float) -> Message:
        """The next message, in the order in which they were sent; a 'bye' or 'error' is the last one.

        Raises PeerError if none comes within `timeout` seconds (the channel stays usable), or, after the last
        message, whatever ended the channel.
        """
        deadline = time.monotonic() + timeout
        with self._state:
            while not self._queue:
                if self._error is not None or self.farewell is not None or self._closing:
                    raise self._ending()
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise PeerError(
                        f"{self._who()} sent nothing for {timeout:g} seconds: look whether it is still working, or "
                        "allow more time"
                    )
                self._state.wait(remaining)
            message = self._queue.popleft()
            self._state.notify_all()  # the reader may be waiting for room
            return message

    def close(self, kind: str = "bye", data: dict[str, Any] | None = None) -> None:
        """Say `kind` as the last frame if that is possible within a second, and end the connection.

        Never raises for a peer that is gone. Messages not yet received are dropped. Calling it again is harmless.
        """
        with self._state:
            first, self._closing = not self._closing, True
            self._queue.clear()
            self._state.notify_all()
        self._quit.set()
        if first and self._error is None:
            self._link.deadline = time.monotonic() + _GOODBYE  # also ends a send that another thread is stuck in
            if self.farewell is None:
                self._say_goodbye(kind, data or {})
            self._join(self._reader, _GOODBYE + _TICK)  # reads on until the other side hangs up, too
        self._end(PeerError(f"this side has closed the connection to {self._who()}"))
        self._join(self._reader, 1.0)
        self._join(self._beater, 1.0)

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close("bye" if kind is None else "error")

    # ------------------------------------------------------------------ the first frames, before the threads run

    def greet(self, name: str, *, first: bool) -> None:
        """Exchange 'hello' under the link's deadline; `first` says whether this side speaks first."""
        if first:
            self._write_frame(_HELLO, {"frame": FRAME_VERSION, "name": name}, b"")
        message = self._frames.next(max_payload=0)
        if message is None:
            raise _Gone("cut")
        theirs, claimed = message.data.get("frame"), message.data.get("name")
        if message.kind != _HELLO or not isinstance(claimed, str):
            raise ProtocolError("the first frame is not a greeting")
        if theirs != FRAME_VERSION:
            raise VersionError(
                f"the other side speaks version {clean_text(str(theirs))} of the frames, this one {FRAME_VERSION}: "
                "install the same version of ppir on both"
            )
        if not first:
            self._write_frame(_HELLO, {"frame": FRAME_VERSION, "name": name}, b"")
        self.claimed_name = clean_text(claimed)
        self.peer_name = self.peer_name or self.claimed_name or "unnamed site"

    def start(self) -> None:
        """Let the reader and the heartbeat run."""
        self._running = True
        self._reader.start()
        self._beater.start()

    # ------------------------------------------------------------------ writing

    def _write_frame(self, kind: str, data: dict[str, Any], payload: Any) -> None:
        """Write one frame; the caller holds the write lock."""
        view = memoryview(payload)
        view = view.cast("B") if view.nbytes else memoryview(b"")
        head = encode_head(kind, self._next_number, data, len(view))
        try:
            self._link.write(memoryview(head), view)
        except _Gone as gone:
            if not self._running:
                raise  # still in the greeting
            raise self._write_failed(gone) from None
        self._next_number += 1
        self._last_write = time.monotonic()

    def _write_failed(self, gone: _Gone) -> PPIRError:
        if gone.why == "reset":
            # The peer may have said why before it hung up; give the reader a moment to find that.
            with self._state:
                self._state.wait_for(lambda: self.interrupted, 1.0)
        self._end(self._explain(gone))
        return self._ending()

    def _say_goodbye(self, kind: str, data: dict[str, Any]) -> None:
        if not self._write_lock.acquire(timeout=_GOODBYE):
            return
        try:
            with contextlib.suppress(_Gone, PPIRError):
                self._link.write(memoryview(encode_head(kind, self._next_number, data, 0)))
                self._next_number += 1
                self._link.finish()
        finally:
            self._write_lock.release()

    def _beat(self) -> None:
        """Send a sign of life whenever nothing else was sent for `heartbeat` seconds."""
        while not self._quit.wait(max(self._last_write + self._heartbeat - time.monotonic(), self._heartbeat / 4)):
            if time.monotonic() - self._last_write < self._heartbeat or not self._write_lock.acquire(blocking=False):
                continue  # something was just sent, or is being sent: sign of life enough
            try:
                if not self.interrupted and not self._closing:
                    self._write_frame(_ALIVE, {}, b"")
            except PPIRError:
                return  # the error is kept for those who use the channel
            finally:
                self._write_lock.release()

    # ------------------------------------------------------------------ reading

    def _read_all(self) -> None:
        error: PPIRError
        try:
            while (message := self._frames.next()) is not None:
                self._take(message)
            error = PeerError(f"{self._who()} closed the connection without a word")
        except _Gone as gone:
            error = self._explain(gone)
        except PPIRError as broken:
            error = type(broken)(f"{self._who()}: {broken}")
        except Exception as bug:  # a thread must not die with a traceback and leave everybody waiting
            error = PPIRError(f"reading from {self._who()} failed inside this program ({type(bug).__name__})")
        self._end(error)
        # Nobody may be inside the socket when it is closed; stopping it has woken whoever is.
        if self._write_lock.acquire(timeout=2.0):
            self._link.close()
            self._write_lock.release()
        if self._on_end is not None:
            self._on_end()

    def _take(self, message: Message) -> None:
        if message.kind == _ALIVE:
            if message.payload or message.data:
                raise ProtocolError("a sign of life carries content")
            return
        if self.farewell is not None:
            raise ProtocolError("a frame came after the farewell")
        with self._state:
            if message.kind in FAREWELLS:
                self.farewell = message
                self._quit.set()
                self._link.deadline = time.monotonic() + 2 * _GOODBYE  # the peer hangs up now; do not wait for ever
                self._state.notify_all()
            elif len(self._queue) >= MAX_QUEUE:
                self._state.wait_for(lambda: len(self._queue) < MAX_QUEUE or self._closing or self._error is not None)
            if not self._closing:
                self._queue.append(message)
                self._state.notify_all()

    # ------------------------------------------------------------------ the end

    def _end(self, error: PPIRError) -> None:
        """End the channel for everybody; the first reason is kept."""
        with self._state:
            if self._error is None:
                if self.farewell is not None:
                    error = PeerError(f"{self._who()} has ended the connection")
                elif self._closing:
                    error = PeerError(f"this side has closed the connection to {self._who()}")
                self._error = error
            self._state.notify_all()
        self._quit.set()
        self._link.stop()

    def _ending(self) -> PPIRError:
        """A fresh copy of what ended the channel, fit to be raised by several threads."""
        if self._error is not None:
            return type(self._error)(*self._error.args)
        if self.farewell is not None:
            return PeerError(f"{self._who()} has ended the connection")
        return PeerError(f"this side has closed the connection to {self._who()}")

    def _explain(self, gone: _Gone) -> PPIRError:
        seconds = f"{self._dead_after:g} seconds"
        texts = {
            "silent": f"nothing came for {seconds}, not even a sign of life; check the network and the program there",
            "stalled": f"it took nothing for {seconds}; check the network and the program there",
            "reset": f"the connection broke ({gone.detail}); look whether the program there still runs",
            "cut": "the connection broke off; look whether the program there still runs",
            "tls": f"the encrypted connection was damaged on the way ({gone.detail})",
        }
        return PeerError(f"{self._who()} was lost: {texts.get(gone.why, 'the connection was stopped')}")

    def _who(self) -> str:
        return f"{self.peer_name} ({self.address})" if self.address else self.peer_name

    @staticmethod
    def _join(thread: threading.Thread, seconds: float) -> None:
        if thread.is_alive() and thread is not threading.current_thread():
            thread.join(seconds)


def memory_pair(
    name1: str = "one", name2: str = "two", *, heartbeat: float = 1.0, dead_after: float = 10.0
) -> tuple[Channel, Channel]:
    """Two connected channels inside this process, without TLS and names only: what `name1` and what `name2` hold."""
    sockets = socket.socketpair()
    channels = [
        Channel(_Wire(sock, dead_after), peer_name=peer, heartbeat=heartbeat, dead_after=dead_after)
        for sock, peer in zip(sockets, (name2, name1), strict=True)
    ]
    for channel in channels:
        channel.claimed_name = channel.peer_name
        channel.start()
    return channels[0], channels[1]


# ------------------------------------------------------------------------------------------------ calling


def connect(
    address: str,
    identity: Identity,
    trust: TrustStore,
    *,
    timeout: float = 10.0,
    expected_fingerprint: str | None = None,
    expected_name: str | None = None,
    heartbeat: float = 1.0,
    dead_after: float = 10.0,
) -> Channel:
    """Connect to the site that listens at `address`, all within `timeout` seconds.

    With `expected_fingerprint` the server must show exactly that one (and be trusted, too); `expected_name` is
    compared with the names in a certificate that is trusted only through an authority.

    Raises InputError (address or fingerprint), PeerError (nobody there, no TLS, no answer), TrustError (either
    side does not trust the other), IdentityError (own certificate), ProtocolError or VersionError (no ppir).
    """
    host, port = parse_address(address)
    where = _spell_address(host, port)
    doorkeeper = _Doorkeeper(trust, expected_fingerprint, expected_name)
    engine = _engine(identity, trust, doorkeeper)
    engine.set_connect_state()
    deadline = time.monotonic() + timeout
    wire = _Wire(_dial(host, port, deadline, timeout), dead_after)
    wire.deadline = deadline
    link = _Tls(wire, engine)
    shaken = False
    try:
        link.handshake()
        shaken = True
        channel = _introduce(
            link, engine, doorkeeper, identity, where, server=False, heartbeat=heartbeat, dead_after=dead_after
        )
    except BaseException as error:
        link.abandon()
        link.close()
        if isinstance(error, _Gone):
            raise _explain_call(error, doorkeeper, identity, where, timeout, shaken) from None
        if isinstance(error, PPIRError):
            raise type(error)(f"{where}: {error}") from None
        raise
    return channel


def _introduce(
    link: _Tls,
    engine: SSL.Connection,
    doorkeeper: _Doorkeeper,
    identity: Identity,
    address: str,
    *,
    server: bool,
    heartbeat: float,
    dead_after: float,
    on_end: Callable[[], None] | None = None,
) -> Channel:
    """Turn a link whose handshake is done into a running channel. Raises _Gone or a PPIRError."""
    shown = engine.get_peer_certificate()
    # Belt and braces: the handshake cannot have succeeded without the doorkeeper's consent to this certificate.
    if shown is None or not doorkeeper.accepted:
        raise TrustError(doorkeeper.refusal or "no certificate was accepted")
    if fingerprint_of_certificate(shown.to_cryptography()) != doorkeeper.fingerprint:
        raise TrustError("the certificate changed during the handshake")
    channel = Channel(
        link,
        peer_name=doorkeeper.name,
        peer_fingerprint=doorkeeper.fingerprint,
        address=address,
        heartbeat=heartbeat,
        dead_after=dead_after,
        still_trusted=doorkeeper.still_trusted,
        on_end=on_end,
    )
    # The listener speaks first: in TLS 1.3 only this tells the caller that its own certificate was accepted.
    channel.greet(identity.name, first=server)
    link.deadline = None
    channel.start()
    return channel


def _dial(host: str, port: int, deadline: float, timeout: float) -> socket.socket:
    where = _spell_address(host, port)
    try:
        candidates = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise PeerError(f"the computer {host!r} is not known: check the spelling of {where} and the network") from None
    problem = ""
    for family, kind, protocol, _, target in candidates:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(remaining)
            sock.connect(target)
        except TimeoutError:
            sock.close()
            problem = f"does not answer within {timeout:g} seconds"
        except OSError as error:
            sock.close()
            refused = isinstance(error, ConnectionRefusedError)
            reason = "nothing listens on that port" if refused else error.strerror or "network error"
            problem = f"cannot be reached: {reason}"
        else:
            return sock
    raise PeerError(
        f"{where} {problem or f'does not answer within {timeout:g} seconds'}; is `ppir serve` running there, and does "
        f"a firewall allow TCP port {port}?"
    )


def _explain_call(
    gone: _Gone, doorkeeper: _Doorkeeper, identity: Identity, where: str, timeout: float, shaken: bool
) -> PPIRError:
    """What a failed call means to the person who made it."""
    read_out = (
        f"read your fingerprint {identity.fingerprint} to the people there, so that they can run "
        f"`ppir trust add {identity.fingerprint}`"
    )
    if doorkeeper.refusal:
        return TrustError(f"{where}: {doorkeeper.refusal}")
    if gone.why == "not-tls":
        return PeerError(f"{where} answers, but not with TLS: is that the port of `ppir serve`?")
    if gone.why == "late":
        return PeerError(
            f"{where} accepts the connection but does not answer within {timeout:g} seconds: is `ppir serve` running "
            "there, and is it busy?"
        )
    if gone.why == "tls":
        return _explain_alert(gone.detail, where, read_out)
    if shaken:
        return PeerError(
            f"{where} ended the connection before it greeted: perhaps it does not trust this site ({read_out}), or it "
            "was just stopped"
        )
    return PeerError(f"{where} hung up during the TLS handshake: it may be busy or being stopped; try again soon")


def _explain_alert(reason: str, where: str, read_out: str) -> PPIRError:
    if "alert" in reason and "expired" in reason:
        return TrustError(
            f"{where} takes this site's certificate for expired: compare the clocks, or run `ppir identity --renew`"
        )
    # 'internal error' is what the library sends when the doorkeeper refuses a chain in which it found no fault.
    if "alert" in reason and any(word in reason for word in ("certificate", "unknown ca", "denied", "internal error")):
        return TrustError(f"{where}: the peer does not trust this site: {read_out}")
    if "protocol" in reason or "version" in reason:
        return PeerError(f"{where} does not speak TLS 1.3 ({reason}): is that the port of `ppir serve`?")
    return PeerError(f"{where}: the TLS handshake failed ({reason}): is that the port of `ppir serve`?")


# ------------------------------------------------------------------------------------------------ listening


class Listener:
    """Waits for callers at an address and hands over those that are trusted.

    Handshakes run in threads of their own, at most `max_pending` at a time and each within `handshake_timeout`
    seconds; together with the open channels there are at most `max_connections`. Callers beyond either are hung
    up on and counted in `turned_away`. `on_refused(remote address, reason)` hears of everybody who did not get in;
    it is called from several threads.
    """

    def __init__(
        self,
        address: str,
        identity: Identity,
        trust: TrustStore,
        *,
        on_refused: Callable[[str, str], None] | None = None,
        max_pending: int = 16,
        max_connections: int = 64,
        handshake_timeout: float = 10.0,
        heartbeat: float = 1.0,
        dead_after: float = 10.0,
    ) -> None:
        self._identity = identity
        self._trust = trust
        self._on_refused = on_refused
        self._max_pending = max_pending
        self._max_connections = max_connections
        self._handshake_timeout = handshake_timeout
        self._heartbeat = heartbeat
        self._dead_after = dead_after
        self.turned_away = 0
        self._socket = _bind(*parse_address(address))
        host, port = self._socket.getsockname()[:2]
        self.port: int = port
        self.address = _spell_address(host, port)
        self._state = threading.Condition()  # guards everything below
        self._closed = False
        self._pending: dict[threading.Thread, _Wire] = {}
        self._open = 0  # sockets that are not closed yet, pending ones included
        self._ready: deque[Channel] = deque()
        self._thread = threading.Thread(target=self._listen, name="ppir-listener", daemon=True)
        self._thread.start()

    def accept(self, timeout: float) -> Channel | None:
        """The next caller that got in; None if there is none within `timeout` seconds or the listener is closed."""
        with self._state:
            self._state.wait_for(lambda: self._ready or self._closed, timeout)
            return self._ready.popleft() if self._ready and not self._closed else None

    def close(self) -> None:
        """Listen no longer and hang up on those who wait; channels already handed over stay open."""
        with self._state:
            self._closed = True
            self._state.notify_all()
            pending, waiting = dict(self._pending), list(self._ready)
            self._ready.clear()
        for wire in pending.values():
            wire.stop()
        for channel in waiting:
            channel.close()
        for thread in (self._thread, *pending):
            if thread is not threading.current_thread():
                thread.join(2.0)
        self._socket.close()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self) -> None:
        self._socket.settimeout(_TICK)
        while not self._closed:
            try:
                sock, remote = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:
                # Out of descriptors, or the caller is gone already: neither ends the service.
                time.sleep(_TICK)
                continue
            where = _spell_address(*remote[:2])
            wire = _Wire(sock, self._handshake_timeout)
            problem = self._admit(wire, where)
            if problem:
                wire.close()
                self.turned_away += 1
                self._report(where, problem)

    def _admit(self, wire: _Wire, where: str) -> str:
        """Start the handshake in a thread; returns why not, '' if it was started."""
        thread = threading.Thread(target=self._receive_caller, args=(wire, where), name="ppir-handshake", daemon=True)
        with self._state:
            if self._closed:
                return "this site is being stopped"
            if len(self._pending) >= self._max_pending:
                return f"{self._max_pending} callers are already in their handshakes"
            if self._open >= self._max_connections:
                return f"{self._max_connections} connections are already open"
            self._pending[thread] = wire
            self._open += 1
            thread.start()
        return ""

    def _receive_caller(self, wire: _Wire, where: str) -> None:
        channel, reason = None, ""
        try:
            channel, reason = self._shake_hands(wire, where)
        except Exception as bug:  # one caller must not be able to end the service
            reason = f"the handshake failed inside this program ({type(bug).__name__})"
        if channel is None:
            wire.close()
        with self._state:
            self._pending.pop(threading.current_thread(), None)
            if channel is None:
                self._open -= 1
            elif not self._closed:
                self._ready.append(channel)
                channel = None
            self._state.notify_all()
        if channel is not None:
            channel.close()  # the listener was closed meanwhile
        if reason:
            self._report(where, reason)

    def _shake_hands(self, wire: _Wire, where: str) -> tuple[Channel | None, str]:
        """A channel, or None and why not."""
        wire.deadline = time.monotonic() + self._handshake_timeout
        link: _Tls | None = None
        doorkeeper = _Doorkeeper(self._trust, None, None)
        try:
            engine = _engine(self._identity, self._trust, doorkeeper)
            engine.set_accept_state()
            link = _Tls(wire, engine)
            link.handshake()
            wire.patience = self._dead_after
            options = {"heartbeat": self._heartbeat, "dead_after": self._dead_after}
            channel = _introduce(
                link, engine, doorkeeper, self._identity, where, server=True, on_end=self._one_less, **options
            )
        except _Gone as gone:
            reason = _explain_caller(gone, doorkeeper, self._handshake_timeout)
        except PPIRError as error:
            reason = str(error)
        else:
            return channel, ""
        if link is not None:
            link.abandon()
        return None, reason

    def _one_less(self) -> None:
        with self._state:
            self._open -= 1

    def _report(self, where: str, reason: str) -> None:
        if self._on_refused is not None:
            with contextlib.suppress(Exception):  # a log that cannot be written must not end the service
                self._on_refused(where, reason)


def _explain_caller(gone: _Gone, doorkeeper: _Doorkeeper, timeout: float) -> str:
    """Why a caller did not get in, as one line for the listener's log."""
    if doorkeeper.refusal:
        return doorkeeper.refusal
    if gone.why == "late":
        return f"it did not finish the handshake within {timeout:g} seconds"
    if gone.why == "not-tls":
        return "it does not speak TLS"
    if gone.why == "tls":
        if "did not return a certificate" in gone.detail:
            return "it showed no certificate"
        if "protocol" in gone.detail or "version" in gone.detail:
            return f"it does not offer TLS 1.3 ({gone.detail})"
        if "alert" in gone.detail:
            return f"it ended the handshake, most likely because it does not trust this site ({gone.detail})"
        return f"the TLS handshake failed ({gone.detail})"
    if gone.why == "stopped":
        return "this site is being stopped"
    return "it hung up during the handshake"


def _bind(host: str, port: int) -> socket.socket:
    where = _spell_address(host, port)
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise InputError(f"cannot listen at {where}: {host!r} is not an address of this computer") from None
    sock = socket.socket(family, kind, protocol)
    try:
        if sys.platform == "win32":
            # There SO_REUSEADDR would let another program take over the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(target)
        sock.listen(64)
    except OSError as error:
        sock.close()
        raise InputError(
            f"cannot listen at {where}: {error.strerror or 'network error'}; is another `ppir serve` running there? "
            "Choose another port, or an address of this computer"
        ) from None
    return sock
