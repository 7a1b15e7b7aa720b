"""What the parties say to each other, as checked values.

Party 1 speaks first in every exchange. Kinds:

    info      → info                      what is offered to this peer
    open      → opened | error            one session: image, parameters; geometry, limits, nonce
    level     → level, (key), data…       the protected fixed operands of one level
    evaluate, request… → answer | error   one evaluation of the loss; under fhe, test → test → test before the answer
    finish    → finished                  the ledger's totals of both sides
    bye, error                            the end, from either side, at any time

Every field that comes from the network is checked here for type and range before anything uses it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import PPIRLogic.errors as errors
from PPIRLogic.errors import PPIRError, ProtocolError
from PPIRLogic.network.channel import Channel, Message

PROTOCOL_VERSION = 3  # raised with every change of a message, so that builds that do not fit together say so
PARTY_1, PARTY_2, DEALER = "the site that registers (party 1)", "the site that serves (party 2)", "the dealer's site"
_FROM_A_PEER: dict[str, type[PPIRError]] = {
    cls.__name__: cls
    for cls in (
        errors.TrustError, errors.PeerError, errors.DealerError, errors.ProtocolError, errors.VerificationError,
        errors.RefusedError, errors.BusyError, errors.PolicyError, errors.BudgetError, errors.VersionError,
    )
}  # fmt: skip
"""What a peer may raise here. It cannot speak of this site's files, input or identity, nor cancel a run."""
THE_PEER_SAYS = "The peer says: "
MAX_TEXT = 2000
_PATIENCE = 0.2  # seconds between looks at whether to go on waiting


def send_error(channel: Channel, error: PPIRError) -> None:
    """Tell the other side why this one stops; the text must carry no content, nor what this site has of others."""
    text = error.FOR_PEERS if isinstance(error, errors.OutputError) else str(error)
    channel.close("error", {"error": type(error).__name__, "text": text[:MAX_TEXT]})


def error_from(message: Message) -> PPIRError:
    """The exception for an 'error' or 'bye' of the peer; its text is marked as the peer's, plain and bounded.

    Of another kind than those a peer may raise, it is a RefusedError.
    """
    if message.kind == "bye":
        return errors.PeerError("The peer ended the session.")
    text = message.data.get("text")
    name = message.data.get("error")
    if not isinstance(text, str) or not isinstance(name, str):
        return ProtocolError("The peer reported an error in a form that is not part of the protocol.")
    clean = "".join(c if c.isprintable() else " " for c in text.removeprefix(THE_PEER_SAYS))
    return _FROM_A_PEER.get(name, errors.RefusedError)((THE_PEER_SAYS + clean)[:MAX_TEXT])


def wait_for_message(channel: Channel, timeout: float, check: Callable[[], None]) -> Message:
    """The next message of a channel; `check` runs while it waits, and raises to end the wait (a cancel, a loss)."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return channel.receive(min(_PATIENCE, timeout))
        except errors.PeerError:
            try:
                if not channel.interrupted:
                    check()
            except PPIRError:
                if not channel.interrupted:
                    raise
            if channel.interrupted:
                return channel.receive(0)  # what came before the closing message comes first
            if time.monotonic() > deadline:
                raise


class Fields:
    """Typed, bounded access to a message's map. Every getter raises ProtocolError naming the field."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self._data, self._where = data, where

    def _get(self, name: str, kind: type | tuple[type, ...]) -> Any:
        value = self._data.get(name)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ProtocolError(f"Field '{name}' of '{self._where}' is missing or has the wrong type.")
        return value

    def __contains__(self, name: str) -> bool:
        return name in self._data

    def integer(self, name: str, low: int, high: int) -> int:
        value = int(self._get(name, int))
        if not low <= value <= high:
            raise ProtocolError(f"Field '{name}' of '{self._where}' is {value}, outside {low} to {high}.")
        return value

    def number(self, name: str, low: float, high: float) -> float:
        value = float(self._get(name, (int, float)))
        if not low <= value <= high:  # also refuses NaN
            raise ProtocolError(f"Field '{name}' of '{self._where}' is outside {low:g} to {high:g}.")
        return value

    def text(self, name: str, longest: int = 128) -> str:
        value = str(self._get(name, str))
        if len(value) > longest or not value.isprintable():
            raise ProtocolError(f"Field '{name}' of '{self._where}' is too long or not plain text.")
        return value

    def flag(self, name: str) -> bool:
        return bool(self._get(name, bool))

    def raw(self, name: str, length: int) -> bytes:
        value = bytes(self._get(name, bytes))
        if len(value) != length:
            raise ProtocolError(f"Field '{name}' of '{self._where}' has {len(value)} bytes, not {length}.")
        return value

    def some_bytes(self, name: str, longest: int) -> bytes:
        value = bytes(self._get(name, bytes))
        if len(value) > longest:
            raise ProtocolError(f"Field '{name}' of '{self._where}' has {len(value)} bytes, more than {longest}.")
        return value

    def items(self, name: str, longest: int) -> list[Any]:
        value = list(self._get(name, (list, tuple)))
        if len(value) > longest:
            raise ProtocolError(f"Field '{name}' of '{self._where}' has {len(value)} items, more than {longest}.")
        return value

    def map(self, name: str) -> dict[str, Any]:
        return dict(self._get(name, dict))


def check_version(
    data: Mapping[str, Any], where: str, here: str, there: str, own: int = PROTOCOL_VERSION, of: str = "the protocol"
) -> None:
    """VersionError, saying which of the two sites is to be updated, unless a message is of this build's version.

    own, of: the version here, and of what: a method has messages of its own. The text is read at both sites, so it
    names them by what they do. The first builds said no version but in 'open'.
    """
    theirs = Fields(data, where).integer("version", 0, 2**31) if "version" in data else 1
    if theirs == own:
        return
    older, newer = (there, here) if theirs < own else (here, there)
    low, high = sorted((theirs, own))
    raise errors.VersionError(
        f"The two sites run releases of PPIRExtension that do not fit together: {newer} speaks version {high} of"
        f" {of}, {older} version {low}. Update PPIRExtension at {older}."
    )
