"""Calling a service of another site: open, ask, wait, and call again where the line was lost. For any method."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from PPIRLogic.errors import BusyError, PeerError, ProtocolError
from PPIRLogic.network.channel import Channel, Message, connect
from PPIRLogic.network.identity import Identity, load_or_create_identity
from PPIRLogic.network.messages import Fields, error_from, wait_for_message
from PPIRLogic.network.trust import TrustStore

ANSWER = 60.0  # seconds for an answer
AGAIN = (1.0, 2.0, 4.0, 8.0)  # seconds before each new call of a peer whose line was lost
Tell = Callable[[str, int, int], None]
_T = TypeVar("_T")


class Caller:
    """A connection to a service of one method. Close it in any case (context manager).

    opens: the kind of the message that opens a session, and of its answer; opening: its fields. check: called while it
    waits; raises to end the wait. tell: hears of what goes on: a stage ('waiting', 'reconnecting', and those of the
    method), how much of how much. Errors: those of a call (InputError, PeerError, TrustError, IdentityError),
    BusyError, VersionError.
    """

    service = "ppir serve"  # what runs at the other site, for messages

    def __init__(
        self,
        address: str,
        *,
        home: Path,
        opens: str,
        opening: Mapping[str, Any],
        check: Callable[[], None] = lambda: None,
        tell: Tell = lambda stage, done, total: None,
    ) -> None:
        self.home, self._address, self._check, self._tell = home, address, check, tell
        self._opens, self._opening = opens, dict(opening)
        self._identity: Identity = load_or_create_identity(home)
        self._channel: Channel | None = None
        self._open()

    def opened(self, data: Mapping[str, Any]) -> None:
        """The service's own fields of the answer that opened the session; raises if the two do not fit together."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Say goodbye."""
        if self._channel is not None:
            self._channel.close()

    @property
    def connected(self) -> Channel:
        """The channel in use."""
        assert self._channel is not None
        return self._channel

    def _open(self) -> None:
        self.close()
        self._channel = connect(self._address, self._identity, TrustStore(self.home), service=self.service)
        try:
            self._channel.send(self._opens, self._opening)
            self.opened(self.receive(self._opens, ANSWER).data)
        except BaseException:
            self._channel.close()
            raise

    def receive(self, kind: str, patience: float) -> Message:
        """The answer, of this kind; that it waits is told. What the peer said last explains more than a lost line."""
        channel, until = self.connected, time.monotonic() + patience
        while True:
            try:
                message = wait_for_message(channel, max(0.1, until - time.monotonic()), self._check)
            except PeerError:
                if channel.closing_message is not None:
                    raise error_from(channel.closing_message) from None
                raise
            if message.kind == kind:
                return message
            if message.kind in ("bye", "error"):
                raise error_from(message)
            if message.kind != "waiting":
                raise ProtocolError(f"Expected '{kind}' from the peer, got '{message.kind}'.")
            self._tell("waiting", Fields(message.data, "waiting").integer("before", 0, 10_000), 0)

    def question(
        self, kind: str, answer: str, data: dict[str, Any], payload: bytes = b"", *, patience: float = ANSWER
    ) -> Message:
        """Ask, and again over a new line where the old one was lost. What the peer refuses is not asked again."""

        def once() -> Message:
            self.connected.send(kind, data, payload)
            return self.receive(answer, patience)

        return self.retried(once)

    def retried(self, work: Callable[[], _T]) -> _T:
        """What `work` returns, begun anew over a new line where the old one was lost."""
        for pause in (*AGAIN, None):
            try:
                return work()
            except PeerError as error:
                said = self.connected.closing_message
                if said is not None and said.kind == "error":
                    raise error_from(said) from None
                if pause is None:
                    raise
                self._call_again(pause, error)
        raise AssertionError("the last try returns or raises")

    def _call_again(self, pause: float, lost: PeerError) -> None:
        self._tell("reconnecting", 0, 0)
        until = time.monotonic() + pause
        while time.monotonic() < until:
            self._check()
            time.sleep(0.1)
        try:
            self._open()
        except (PeerError, BusyError):
            raise lost from None
