"""Both sites' ends of a relay: calling a site that waits there, and waiting there to be called.

A site shows the relay its certificate as it does to any other, over TLS. Once the relay has joined two lines, the
encryption with the relay is over: what goes over the same wires from then on is the two sites' own TLS.

    caller                 relay                     the site that waits
                                      ←  open           over its control line, which stays
                                      →  opened
    call {site}      →                →  caller {token, caller}
                                      ←  take {token}   over a new line
                                      →  joined
                                      ←  ready
    joined           ←
    TLS of the two sites, which the relay passes on

Nobody sends to a line before the other end has read the last message of the relay, so none is taken for the sites'.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable

from PPIRLogic.errors import BusyError, PeerError, PPIRError, ProtocolError, RefusedError, TrustError, VersionError
from PPIRLogic.network.channel.addresses import parse_address, spell_address
from PPIRLogic.network.channel.calling import Call
from PPIRLogic.network.channel.channel import Channel
from PPIRLogic.network.channel.dialling import dial
from PPIRLogic.network.channel.frames import Message
from PPIRLogic.network.channel.timed_socket import TICK, Wire
from PPIRLogic.network.identity import Identity, clean_text, normalise_fingerprint
from PPIRLogic.network.names import RELAY
from PPIRLogic.network.trust import TrustStore

RELAY_VERSION = 1  # of the messages with a relay
TOKEN_BYTES = 16
TAKE_SECONDS = 8.0  # for the site that waits, to come for a caller
MAX_TAKING = 32  # callers that a site comes for at the same time
_CALL_SECONDS = 10.0  # for a call of the relay
_AGAIN, _AGAIN_MOST = 0.5, 30.0  # seconds before the control line is dialled again, and at most


def call_through_relay(site: str, relay: str, identity: Identity, trust: TrustStore, timeout: float) -> Wire:
    """A wire to the site of this fingerprint, which waits at the relay 'host:port'. It shows nothing of that site yet.

    Errors: those of a call; BusyError (no line left), PeerError (the site does not wait there, or does not come).
    """
    channel = _line_to(relay, identity, trust, timeout)
    try:
        channel.tell("call", {"version": RELAY_VERSION, "site": site})
        expect("joined", channel.hear(TAKE_SECONDS + timeout), relay, identity, site)
        return channel.hand_over()
    except BaseException:
        channel.close()
        raise


class RelayRoom:
    """The place at a relay in which this site waits to be called: where a listener's callers come from.

    The control line is dialled again by itself when it was lost. `tell` hears of that, in words. `address`: what other
    sites call. Errors: those of a call, at the start only.
    """

    def __init__(self, relay: str, identity: Identity, trust: TrustStore, tell: Callable[[str], None]) -> None:
        self._relay = spell_address(*parse_address(relay))
        self.address = f"{identity.fingerprint}@{self._relay}"
        self._identity, self._trust, self._tell = identity, trust, tell
        self._closed = threading.Event()
        self._state = threading.Condition()  # guards the two below
        self._arrived: deque[tuple[Wire, str, str]] = deque()
        self._taking: set[threading.Thread] = set()
        self._control = self._open()
        self._thread = threading.Thread(target=self._wait, name="ppir-relay-room", daemon=True)
        self._thread.start()

    def accept(self) -> tuple[Wire, str, str] | None:
        """The next caller's wire, what it is called in a log, and by what it counts; None if none comes in a tick."""
        with self._state:
            self._state.wait_for(lambda: self._arrived or self._closed.is_set(), TICK)
            return self._arrived.popleft() if self._arrived and not self._closed.is_set() else None

    def close(self) -> None:
        """Leave the relay and hang up on those who were not accepted yet."""
        self._closed.set()
        self._control.close()
        with self._state:
            waiting = list(self._arrived)
            self._arrived.clear()
            self._state.notify_all()
            threads = [self._thread, *self._taking]
        for wire, _, _ in waiting:
            wire.close()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(2.0)

    # ------------------------------------------------------------------ the control line

    def _open(self) -> Channel:
        channel = _line_to(self._relay, self._identity, self._trust, _CALL_SECONDS)
        try:
            channel.tell("open", {"version": RELAY_VERSION})
            expect("opened", channel.hear(_CALL_SECONDS), self._relay, self._identity, self._identity.fingerprint)
            channel.start()
            return channel
        except BaseException:
            channel.close()
            raise

    def _wait(self) -> None:
        while not self._closed.is_set():
            try:
                message = self._control.receive(1.0)
            except PPIRError:
                if self._control.interrupted:
                    self._open_again()
                continue
            if message.kind == "caller":
                self._come_for(message)

    def _open_again(self) -> None:
        """Until there is a control line again, or this site stops."""
        self._control.close()
        if self._closed.is_set():
            return
        self._tell(f"the line to the relay {self._relay} was lost; it is dialled again")
        pause, said = _AGAIN, ""
        while not self._closed.wait(
            pause * secrets.SystemRandom().uniform(0.75, 1.25)
        ):  # so that a crowd does not come at once
            try:
                self._control = self._open()
            except PPIRError as error:
                if str(error) != said:
                    said = str(error)
                    self._tell(f"the relay cannot be used yet: {said}")
                pause = min(2 * pause, _AGAIN_MOST)
            else:
                self._tell(f"waiting at the relay {self._relay} again")
                if self._closed.is_set():
                    self._control.close()
                return

    # ------------------------------------------------------------------ callers

    def _come_for(self, message: Message) -> None:
        token, caller = message.data.get("token"), message.data.get("caller")
        if not isinstance(token, bytes) or len(token) != TOKEN_BYTES or not isinstance(caller, str):
            self._tell(f"the relay {self._relay} spoke of a caller in a form that is not part of the protocol")
            return
        with contextlib.suppress(PPIRError):
            caller = normalise_fingerprint(caller[:64])
        thread = threading.Thread(target=self._take, args=(token, clean_text(caller)), name="ppir-take", daemon=True)
        with self._state:
            if self._closed.is_set() or len(self._taking) >= MAX_TAKING:
                return
            self._taking.add(thread)
            thread.start()

    def _take(self, token: bytes, caller: str) -> None:
        """Dial a new line for this caller, and hand it over once it is joined with the caller's."""
        try:
            wire = self._taken(token)
            with self._state:
                if not self._closed.is_set():
                    self._arrived.append((wire, f"{caller} through the relay {self._relay}", f"{self._relay} {caller}"))
                    self._state.notify_all()
                    return
            wire.close()
        except PPIRError as error:
            if not self._closed.is_set():
                self._tell(f"a caller, {caller}, could not be met at the relay: {error}")
        finally:
            with self._state:
                self._taking.discard(threading.current_thread())

    def _taken(self, token: bytes) -> Wire:
        channel = _line_to(self._relay, self._identity, self._trust, TAKE_SECONDS)
        try:
            channel.tell("take", {"version": RELAY_VERSION, "token": token})
            expect("joined", channel.hear(TAKE_SECONDS), self._relay, self._identity, "the caller")
            channel.tell("ready", {})
            return channel.hand_over()
        except BaseException:
            channel.close()
            raise


def _line_to(relay: str, identity: Identity, trust: TrustStore, timeout: float) -> Channel:
    """A channel to the relay that does not run yet."""
    host, port = parse_address(relay)

    def reach() -> Wire:
        deadline = time.monotonic() + timeout
        wire = Wire(dial(host, port, deadline, timeout, "ppir relay"), timeout)
        wire.deadline = deadline
        return wire

    call = Call(identity, trust, timeout, role=RELAY, service="ppir relay", start=False)
    return call.over(reach, spell_address(host, port))


def expect(kind: str, message: Message, relay: str, identity: Identity, site: str) -> None:
    """Raise what a person should read unless the relay says that. Of its refusals only a known word counts."""
    if message.kind == kind:
        return
    if message.kind != "error":
        raise ProtocolError(f"The relay {relay} said '{clean_text(message.kind)}' where '{kind}' was due.")
    why = "busy" if message.data.get("error") == BusyError.__name__ else message.data.get("why")
    if why == "not here":
        raise PeerError(
            f"{site} does not wait at the relay {relay}: is `ppir serve --relay {relay}` running there, and is that its"
            " fingerprint?"
        )
    if why == "no answer":
        raise PeerError(
            f"{site} waits at the relay {relay} but did not come to the call within {TAKE_SECONDS:g} seconds: it may be"
            " busy or its line slow; try again"
        )
    if why == "not allowed":
        raise TrustError(
            f"The relay {relay} is not for this site: read your fingerprint {identity.fingerprint} to its operator, who"
            " starts it with --allow and that fingerprint, or trusts it."
        )
    if why == "busy":
        raise BusyError(f"The relay {relay} has no line left for this site or for {site} now; try again soon.")
    if why == "open already":
        raise RefusedError(
            f"This site waits at the relay {relay} already, in another process: a fingerprint has one room there. Stop"
            " that process, or serve everything in one."
        )
    if why == "version":
        raise VersionError(
            f"The relay {relay} and this site run releases of PPIRExtension that do not fit together: update the older."
        )
    raise RefusedError(f"The relay {relay} refused, for a reason that this release does not know.")
