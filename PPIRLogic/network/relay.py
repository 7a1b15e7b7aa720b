"""The relay: a third place that both sites call, and that passes on the bytes of one to the other.

It knows its users by their certificates. What two sites say to each other is encrypted between the two of them: the
relay has no key of it and no role in it, holds 64 KiB of each direction at most, and keeps nothing. It learns who calls
whom, when, and how many bytes. The messages are in `channel.relayed`.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from PPIRLogic.errors import InputError, PPIRError, ProtocolError
from PPIRLogic.network.channel import CLOSING_KINDS, Channel, Listener, Message, Quotas
from PPIRLogic.network.channel.relayed import RELAY_VERSION, TAKE_SECONDS, TOKEN_BYTES
from PPIRLogic.network.channel.timed_socket import ConnectionEnded, Wire
from PPIRLogic.network.identity import Identity, normalise_fingerprint
from PPIRLogic.network.messages import Fields
from PPIRLogic.network.quota import Quota, RateLimit
from PPIRLogic.network.service import Audit, Refusals
from PPIRLogic.network.trust import TrustStore

BUFFER = 64 * 1024  # bytes of one direction that are held
SILENCE = 60.0  # seconds without a byte, after which a line ends; sites that live send one each second
FIRST_WORD = 10.0  # seconds for what a caller wants
LOOK_SECONDS = 1.0  # between looks at whether everybody may still be here
CALLS, CALL_SECONDS = 60, 1.0  # calls of a caller at once, and then one every so many seconds
WAITING = 8  # callers that one room may have waiting for it


@dataclass(frozen=True)
class RelayLimits:
    """lines: joined or waiting to be, in all. of_caller: of these of one that calls; of_room: of one that is called.

    hours: the longest that a line lasts. A line that ends is called anew, and its session goes on.
    """

    lines: int = 64
    of_caller: int = 8
    of_room: int = 16
    hours: float = 24.0

    def __post_init__(self) -> None:
        if min(self.lines, self.of_caller, self.of_room) < 1 or not 0 < self.hours <= 24 * 365:
            raise InputError("A relay's limits: at least one line of each kind, and hours over 0 and up to 8760.")


@dataclass(eq=False)
class MeetingOfTwo:
    """A caller and the site that it asks for. `taker`: the line of the latter, once it has come and is ready."""

    caller: Channel
    site: str
    taker: Channel | None = None
    came: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)


class Relay:
    """Listens until `stop`. A fault ends its line only.

    allowed: fingerprints that may use it; empty: whomever the trust store trusts as a peer. Errors: InputError (the
    address), and what the audit raises.
    """

    def __init__(
        self,
        address: str,
        identity: Identity,
        trust: TrustStore,
        audit: Audit,
        *,
        allowed: Collection[str] = (),
        limits: RelayLimits | None = None,
    ) -> None:
        if address.strip().startswith("@"):
            raise InputError("A relay cannot wait at another relay: give it an address of this computer.")
        self.limits = limits or RelayLimits()
        self._audit, self._allowed = audit, frozenset(allowed)
        self._refusals = Refusals(audit)
        self._lock = threading.Lock()  # guards the three below
        self._rooms: dict[str, Channel] = {}  # control lines, by fingerprint
        self._called: dict[bytes, MeetingOfTwo] = {}  # by token, until the site has come
        self._joined: dict[MeetingOfTwo, tuple[Wire, Wire]] = {}
        self._all, self._of_caller, self._of_room = (
            Quota(n) for n in (self.limits.lines, self.limits.of_caller, self.limits.of_room)
        )
        self._waiting, self._calls = Quota(WAITING), RateLimit(CALLS, CALL_SECONDS)
        self._stopping = threading.Event()
        each = 2 * (self.limits.of_caller + self.limits.of_room) + 1
        self.listener = Listener(
            address, identity, trust, on_refused=self._refusals.log, max_payload=0, start=False,
            max_connections=4 * self.limits.lines + 128, quotas=Quotas(connections=each),
        )  # fmt: skip
        try:
            audit.log("listening", address=self.listener.address, fingerprint=identity.fingerprint)
        except BaseException:
            self.listener.close()
            raise

    def run(self) -> None:
        looked = time.monotonic()
        while not self._stopping.is_set():
            channel = self.listener.accept(0.5)
            if channel is not None:
                threading.Thread(target=self._serve_line, args=(channel,), name="ppir-line", daemon=True).start()
            if time.monotonic() - looked > LOOK_SECONDS:
                looked = time.monotonic()
                self._look()

    def stop(self) -> None:
        """Listen no longer and end every line."""
        self._stopping.set()
        self.listener.close()
        with self._lock:
            rooms, wires = list(self._rooms.values()), list(self._joined.values())
        for channel in rooms:
            channel.close()
        for pair in wires:
            for wire in pair:
                wire.stop()
        self._audit.log("stopped")

    def _look(self) -> None:
        """End the lines of those who may be here no more."""
        with self._lock:
            rooms, joined = dict(self._rooms), dict(self._joined)
        for channel in rooms.values():
            if not self._may_be_here(channel):
                channel.close()
        for meeting, wires in joined.items():
            if not (self._may_be_here(meeting.caller) and meeting.taker and self._may_be_here(meeting.taker)):
                for wire in wires:
                    wire.stop()
        with contextlib.suppress(PPIRError):
            self._refusals.tidy()

    def _may_be_here(self, channel: Channel) -> bool:
        try:
            return self._is_allowed(channel.peer_fingerprint) and channel.still_trusted()
        except PPIRError:  # a trust store that cannot be read trusts nobody
            return False

    def _is_allowed(self, fingerprint: str) -> bool:
        return not self._allowed or fingerprint in self._allowed

    # ------------------------------------------------------------------ one line

    def _serve_line(self, channel: Channel) -> None:
        """From its first message to its end."""
        try:
            message = channel.hear(FIRST_WORD)
            work = {"open": self._keep_room, "call": self._meet, "take": self._take}.get(message.kind)
            if work is None:
                raise ProtocolError(f"'{message.kind}' is nothing that a relay does.")
            if not self._is_allowed(channel.peer_fingerprint):
                self._refuse(channel, "not allowed")
            elif Fields(message.data, message.kind).integer("version", 0, 2**31) != RELAY_VERSION:
                self._refuse(channel, "version")
            else:
                work(channel, message)
        except PPIRError as error:
            self._tell("line ended", channel, reason=f"{type(error).__name__}: {error}")
        except Exception as error:  # a bug must not take other lines down
            self._tell("line failed", channel, reason=type(error).__name__)
            if not isinstance(error, (MemoryError, OSError)):
                raise
        finally:
            channel.close()

    def _refuse(self, channel: Channel, why: str, **details: Any) -> None:
        self._refusals.log(channel.address, f"{channel.peer_name} ({channel.peer_fingerprint}): {why}")
        channel.close("error", {"why": why, **details})

    def _tell(self, event: str, channel: Channel, **details: Any) -> None:
        """A full disk ends no line."""
        with contextlib.suppress(PPIRError):
            self._audit.log(event, site=channel.peer_fingerprint, site_name=channel.peer_name, **details)

    # ------------------------------------------------------------------ rooms

    def _keep_room(self, channel: Channel, message: Message) -> None:
        site = channel.peer_fingerprint
        with self._lock:
            if free := site not in self._rooms:
                self._rooms[site] = channel
        if not free:
            self._refuse(channel, "open already")
            return
        try:
            channel.tell("opened", {"version": RELAY_VERSION})
            channel.start()
            self._tell("room opened", channel)
            while not (self._stopping.is_set() or channel.interrupted):
                with contextlib.suppress(PPIRError):
                    said = channel.receive(1.0).kind
                    if said not in CLOSING_KINDS:
                        self._tell("line ended", channel, reason=f"it said '{said}' on its control line")
                    break
        finally:
            with self._lock:
                self._rooms.pop(site, None)
            self._tell("room closed", channel)

    def _take(self, channel: Channel, message: Message) -> None:
        token = Fields(message.data, "take").raw("token", TOKEN_BYTES)
        with self._lock:
            meeting = self._called.get(token)
            if meeting is None or meeting.site != channel.peer_fingerprint:
                meeting = None
            else:
                self._called.pop(token)
        if meeting is None:
            self._refuse(channel, "no answer")
            return
        try:
            channel.tell("joined", {})
            if channel.hear(FIRST_WORD).kind != "ready":
                raise ProtocolError("A site that came for a caller was not ready.")
            meeting.taker = channel
        finally:
            meeting.came.set()
        meeting.over.wait()

    # ------------------------------------------------------------------ callers

    def _meet(self, channel: Channel, message: Message) -> None:
        caller = channel.peer_fingerprint
        try:
            site = normalise_fingerprint(Fields(message.data, "call").text("site", 64))
        except InputError:
            raise ProtocolError("A caller named no fingerprint.") from None
        with self._lock:
            room = self._rooms.get(site)
        if self._calls.take(caller):
            self._refuse(channel, "busy")
        elif room is None or site == caller:
            self._refuse(channel, "not here")
        else:
            with contextlib.ExitStack() as undo:
                places = (self._all, ""), (self._of_caller, caller), (self._of_room, site)
                for quota, key in places:
                    if not quota.take(key):
                        self._refuse(channel, "busy")
                        return
                    undo.callback(quota.give_back, key)
                self._join(MeetingOfTwo(channel, site), room)

    def _join(self, meeting: MeetingOfTwo, room: Channel) -> None:
        try:
            why = self._call(meeting, room)
            if why:
                self._refuse(meeting.caller, why)
                return
            assert meeting.taker is not None
            meeting.caller.tell("joined", {})
            self._pass_on(meeting, meeting.caller.hand_over(), meeting.taker.hand_over())
        finally:
            meeting.over.set()

    def _call(self, meeting: MeetingOfTwo, room: Channel) -> str:
        """Tell the site of its caller and wait until it has come; returns why it did not, '' if it did."""
        if not self._waiting.take(meeting.site):
            return "busy"
        token = secrets.token_bytes(TOKEN_BYTES)
        with self._lock:
            self._called[token] = meeting
        try:
            room.send("caller", {"token": token, "caller": meeting.caller.peer_fingerprint})
            meeting.came.wait(TAKE_SECONDS)
            return "" if meeting.taker is not None else "no answer"
        except PPIRError:
            return "not here"
        finally:
            self._waiting.give_back(meeting.site)
            with self._lock:
                self._called.pop(token, None)

    def _pass_on(self, meeting: MeetingOfTwo, one: Wire, two: Wire) -> None:
        """Bytes of each to the other, until both have ended."""
        began, before = time.monotonic(), (one.received, two.received)
        for wire in (one, two):
            wire.patience, wire.deadline = SILENCE, began + 3600 * self.limits.hours
        self._tell("joined", meeting.caller, other=meeting.site)
        with self._lock:
            self._joined[meeting] = one, two
        if self._stopping.is_set():
            one.stop()
        back = threading.Thread(target=_pump, args=(two, one), name="ppir-line-back", daemon=True)
        try:
            back.start()
            _pump(one, two)
            back.join()
        finally:
            with self._lock:
                self._joined.pop(meeting, None)
            one.close()
            two.close()
            self._tell(
                "line ended", meeting.caller, other=meeting.site, seconds=round(time.monotonic() - began, 1),
                bytes_of_caller=one.received - before[0], bytes_of_other=two.received - before[1],
            )  # fmt: skip


def _pump(source: Wire, sink: Wire) -> None:
    """Pass on what comes, as fast as the other end takes it."""
    buffer = memoryview(bytearray(BUFFER))
    try:
        while count := source.read_into(buffer):
            sink.write(buffer[:count])
        sink.finish()
    except ConnectionEnded:
        source.stop()
        sink.stop()
