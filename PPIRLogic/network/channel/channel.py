"""A connection to one peer as the program uses it: messages, signs of life and an orderly end."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from PPIRLogic.errors import PeerError, PPIRError, ProtocolError, VersionError
from PPIRLogic.network.channel.frames import FRAME_VERSION, MAX_PAYLOAD, FrameReader, Message, encode_head
from PPIRLogic.network.channel.timed_socket import TICK, ByteStream, ConnectionEnded, Wire
from PPIRLogic.network.channel.tls import Tls
from PPIRLogic.network.identity import clean_text

MAX_QUEUE = 8  # frames that wait to be received before the reader stops reading
CLOSING_KINDS = ("bye", "error")  # the last frame of a side

_HELLO, _ALIVE = "hello", "alive"
_GOODBYE = 1.0  # seconds for the last frame to go out and the other side to hang up


class Channel:
    """A connection to one peer. Made by `connect`, `Listener.accept` or `memory_pair`.

    Attributes: `peer_name` (as this site calls the peer), `peer_fingerprint`, `address` ('host:port' of the peer),
    `known_as` (the name under which a person of this site trusts it, or who vouches for it), `authority` (fingerprint
    of who vouches for it, '' for nobody), `claimed_name` (what the peer calls itself), `closing_message` (the peer's
    'bye' or 'error', once it has come in).

    A peer that neither sends a byte nor a sign of life for `dead_after` seconds is lost; so is one that takes
    nothing for that long while this side is sending. A receiver therefore must not leave more than 8 frames
    waiting for longer than that.
    """

    def __init__(
        self,
        link: ByteStream,
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
        self.claimed_name = self.authority = ""
        self.known_as = peer_name
        self.closing_message: Message | None = None
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
        return self.closing_message is not None or self._error is not None

    def accept_payloads(self, largest: int = MAX_PAYLOAD) -> None:
        """Take payloads of at most so many bytes, from the next frame on that begins to come in."""
        self._frames.max_payload = largest

    def still_trusted(self) -> bool:
        """Whether this site's trust store still accepts the peer; raises TrustError if the store is damaged."""
        return self._still_trusted is None or self._still_trusted()

    def check(self) -> None:
        """Do nothing while the peer is there; raise what ended the channel (mostly PeerError) otherwise."""
        if self._error is not None or self.closing_message is not None or self._closing:
            raise self._ending()

    def send(self, kind: str, data: dict[str, Any] | None = None, payload: Any = b"") -> None:
        """Send one message; `payload` is any contiguous buffer of at most 16 MiB and is not kept.

        Raises ProtocolError, before anything is sent, for a message beyond the limits; PeerError if the peer is
        gone or takes nothing for `dead_after` seconds, which also ends the channel.
        """
        if kind == _ALIVE:
            raise ProtocolError("messages of kind 'alive' belong to the channel itself")
        while not self._write_lock.acquire(timeout=TICK):
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
                self.check()
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
            if self.closing_message is None:
                self._say_goodbye(kind, data or {})
            self._join(self._reader, _GOODBYE + TICK)  # reads on until the other side hangs up, too
        self._end(self._ending())
        if not self._running:
            self._give_back()
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
        self.accept_payloads(0)
        message = self._frames.next()
        if message is None:
            raise ConnectionEnded("cut")
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

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Send a frame before the threads run, under the link's deadline. Errors: PeerError."""
        try:
            self._write_frame(kind, data, b"")
        except ConnectionEnded as ended:
            raise self._explain(ended) from None

    def hear(self, seconds: float) -> Message:
        """The next frame, before the threads run, within so many seconds. Errors: PeerError, ProtocolError."""
        self._link.deadline = time.monotonic() + seconds
        try:
            message = self._frames.next()
        except ConnectionEnded as ended:
            raise self._explain(ended) from None
        if message is None:
            raise PeerError(f"{self._who()} closed the connection without a word")
        return message

    def hand_over(self) -> Wire:
        """The wire below the encryption, of which there is no more: what goes over it now is between others.

        Before the threads run, and where neither side has sent anything that the other has not read. Who takes the
        wire closes it.
        """
        assert isinstance(self._link, Tls) and not self._running
        self._closing = True  # nothing more is said
        wire = self._link.wire
        wire.deadline, wire.on_close, self._on_end = None, self._on_end, None
        return wire

    def start(self) -> None:
        """Let the reader and the heartbeat run."""
        self._running, self._link.deadline = True, None
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
        except ConnectionEnded as ended:
            if not self._running:
                raise  # still in the greeting
            raise self._write_failed(ended) from None
        self._next_number += 1
        self._last_write = time.monotonic()

    def _write_failed(self, ended: ConnectionEnded) -> PPIRError:
        if ended.why == "reset":
            # The peer may have said why before it hung up; give the reader a moment to find that.
            with self._state:
                self._state.wait_for(lambda: self.interrupted, 1.0)
        self._end(self._explain(ended))
        return self._ending()

    def _say_goodbye(self, kind: str, data: dict[str, Any]) -> None:
        if not self._write_lock.acquire(timeout=_GOODBYE):
            return
        try:
            with contextlib.suppress(ConnectionEnded, PPIRError):
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
        except ConnectionEnded as ended:
            error = self._explain(ended)
        except PPIRError as broken:
            error = type(broken)(f"{self._who()}: {broken}")
        except Exception as bug:  # a thread must not die with a traceback and leave everybody waiting
            error = PPIRError(f"reading from {self._who()} failed inside this program ({type(bug).__name__})")
        self._end(error)
        self._give_back()

    def _give_back(self) -> None:
        # Nobody may be inside the socket when it is closed; stopping it has woken whoever is.
        if self._write_lock.acquire(timeout=2.0):
            self._link.close()
            self._write_lock.release()
        done, self._on_end = self._on_end, None
        if done is not None:
            done()

    def _take(self, message: Message) -> None:
        if message.kind == _ALIVE:
            if message.payload or message.data:
                raise ProtocolError("a sign of life carries content")
            return
        if self.closing_message is not None:
            raise ProtocolError("a frame came after the closing message")
        with self._state:
            if message.kind in CLOSING_KINDS:
                self.closing_message = message
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
                in_order = self.closing_message is not None or self._closing
                self._error = self._ending() if in_order else error
            self._state.notify_all()
        self._quit.set()
        self._link.stop()

    def _ending(self) -> PPIRError:
        """A fresh copy of what ended the channel, fit to be raised by several threads."""
        if self._error is not None:
            return type(self._error)(*self._error.args)
        if self.closing_message is not None:
            return PeerError(f"{self._who()} has ended the connection")
        return PeerError(f"this side has closed the connection to {self._who()}")

    def _explain(self, ended: ConnectionEnded) -> PPIRError:
        seconds = f"{self._dead_after:g} seconds"
        texts = {
            "late": "it did not answer in time; try again",
            "silent": f"nothing came for {seconds}, not even a sign of life; check the network and the program there",
            "stalled": f"it took nothing for {seconds}; check the network and the program there",
            "reset": f"the connection broke ({ended.detail}); look whether the program there still runs",
            "cut": "the connection broke off; look whether the program there still runs",
            "tls": f"the encrypted connection was damaged on the way ({ended.detail})",
        }
        return PeerError(f"{self._who()} was lost: {texts.get(ended.why, 'the connection was stopped')}")

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
        Channel(Wire(sock, dead_after), peer_name=peer, heartbeat=heartbeat, dead_after=dead_after)
        for sock, peer in zip(sockets, (name2, name1), strict=True)
    ]
    for channel in channels:
        channel.claimed_name = channel.peer_name
        channel.start()
    return channels[0], channels[1]
