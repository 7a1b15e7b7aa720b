"""What the parties say to each other, as checked values.

Party 1 speaks first in every exchange. Kinds:

    info      → info                      what is offered to this peer
    open      → opened | error            one session: image, parameters; geometry, limits, nonce
    level     → level, (key), data…       the protected fixed operands of one level
    evaluate, request… → answer | error   one evaluation of the loss
    finish    → finished                  the ledger's totals of both sides
    bye, error                            the end, from either side, at any time

Every field that comes from the network is checked here for type and range before anything uses it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from PPIRLogic import errors
from PPIRLogic.errors import PPIRError, ProtocolError
from PPIRLogic.peer.channel import Channel, Message

PROTOCOL_VERSION = 2  # raised with every change of a message, so that builds that do not fit together say so
PARTY_1, PARTY_2, DEALER = "the site that registers (party 1)", "the site that serves (party 2)", "the dealer's site"
_ERRORS: dict[str, type[PPIRError]] = {
    cls.__name__: cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, PPIRError) and cls is not PPIRError
}
MAX_TEXT = 2000
_PATIENCE = 0.2  # seconds between looks at whether to go on waiting


def send_error(channel: Channel, error: PPIRError) -> None:
    """Tell the other side why this one stops; the text must carry no content."""
    channel.close("error", {"error": type(error).__name__, "text": str(error)[:MAX_TEXT]})


def error_from(message: Message) -> PPIRError:
    """The exception for an 'error' or 'bye' of the peer; its text is shown as plain, bounded text."""
    if message.kind == "bye":
        return errors.PeerError("The peer ended the session.")
    text = message.data.get("text")
    name = message.data.get("error")
    if not isinstance(text, str) or not isinstance(name, str):
        return ProtocolError("The peer reported an error in a form that is not part of the protocol.")
    clean = "".join(c if c.isprintable() else " " for c in text[:MAX_TEXT])
    return _ERRORS.get(name, errors.RefusedError)(clean)


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
                return channel.receive(0)  # what came before the farewell comes first; then the farewell itself
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

    def items(self, name: str, longest: int) -> list[Any]:
        value = list(self._get(name, (list, tuple)))
        if len(value) > longest:
            raise ProtocolError(f"Field '{name}' of '{self._where}' has {len(value)} items, more than {longest}.")
        return value

    def map(self, name: str) -> dict[str, Any]:
        return dict(self._get(name, dict))


def check_version(data: Mapping[str, Any], where: str, here: str, there: str) -> None:
    """VersionError, saying which of the two sites is to be updated, unless a message is of this build's version.

    The text is read at both sites, so it names them by what they do. The first builds said no version but in 'open'.
    """
    theirs = Fields(data, where).integer("version", 0, 2**31) if "version" in data else 1
    if theirs == PROTOCOL_VERSION:
        return
    older, newer = (there, here) if theirs < PROTOCOL_VERSION else (here, there)
    low, high = sorted((theirs, PROTOCOL_VERSION))
    raise errors.VersionError(
        f"The two sites run releases of PPIRExtension that do not fit together: {newer} speaks version {high} of the"
        f" protocol, {older} version {low}. Update PPIRExtension at {older}."
    )


@dataclass(frozen=True)
class Request:
    """What party 1 wants to run. The same on both sides, bound to the session."""

    image: str
    protocol: str
    transform: str
    loss: str
    levels: tuple[int, ...]  # shrink factors, coarse to fine
    sampling: str = "full"
    percent: float = 100.0
    disclose_sampling: bool = False
    fixed_mask: str = "none"  # none | fill | private | disclosed
    evaluations: int = 60  # most per level
    bins: int = 32  # of the joint histogram, under mi
    pool: int = 32_768  # most samples per level, under mi
    seed: int = 1  # of the public urs pools; reveals nothing
    version: int = PROTOCOL_VERSION
    dealer: str = ""  # fingerprint of the dealer, under mpc
    software: str = field(default="", compare=False)
    iterations: tuple[int, ...] = ()  # bspline, diffeo: most per level, one gradient opened for each
    grid_spacing: float = 0.0  # B-splines: mm between control points at the last level, twice that at each before
    stride: int = 0  # diffeo: voxels of a level between control points of the velocity
    radius_mm: float = 0.0  # lncc: of the window, times the shrink factor of a level
    bending: float = 0.0  # cc: weight of the bending energy of a step, mm², for both halves
    elastic_mm: float = 0.0  # cc: of the Gaussian over each half's velocity

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "levels": list(self.levels), "iterations": list(self.iterations)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Request:
        """At party 2, from the network; ProtocolError for anything malformed, VersionError for another version."""
        f = Fields(data, "open")
        f.integer("version", 0, 2**31)
        check_version(data, "open", PARTY_2, PARTY_1)
        levels = f.items("levels", 8)
        if not levels or any(not isinstance(v, int) or isinstance(v, bool) or not 1 <= v <= 64 for v in levels):
            raise ProtocolError("Field 'levels' of 'open' must hold one to eight shrink factors between 1 and 64.")
        return cls(
            image=f.text("image"),
            protocol=f.text("protocol", 16),
            transform=f.text("transform", 16),
            loss=f.text("loss", 16),
            levels=tuple(levels),
            sampling=f.text("sampling", 16),
            percent=f.number("percent", 1e-6, 100.0),
            disclose_sampling=f.flag("disclose_sampling"),
            fixed_mask=f.text("fixed_mask", 16),
            evaluations=f.integer("evaluations", 1, 10_000),
            bins=f.integer("bins", 1, 1024),
            pool=f.integer("pool", 1, 2**31),
            iterations=_counts(f),
            grid_spacing=f.number("grid_spacing", 0, 1e4),
            stride=f.integer("stride", 0, 4096),
            radius_mm=f.number("radius_mm", 0, 1e4),
            bending=f.number("bending", 0, 1e12),
            elastic_mm=f.number("elastic_mm", 0, 1e4),
            seed=f.integer("seed", 0, 2**62),
            dealer=f.text("dealer", 64),
            software=f.text("software", 64),
        )


def _counts(f: Fields) -> tuple[int, ...]:
    values = f.items("iterations", 8)
    if any(not isinstance(v, int) or isinstance(v, bool) or not 1 <= v <= 1000 for v in values):
        raise ProtocolError("Field 'iterations' of 'open' must hold counts from 1 to 1000.")
    return tuple(values)


@dataclass(frozen=True)
class LevelGrant:
    """What the owner of the fixed image permits at one level."""

    factor: int
    samples: int
    numbers_per_evaluation: int
    evaluations: int  # most that fit, at most what was asked
    numbers_left: int  # of this level's budget before the run
    numbers_per_gradient: int = 0  # opened apart from the value, where the optimiser takes a step from
    gradients: int = 0  # most that fit
    numbers_once: int = 0  # opened at the end of the level
    shown_per_gradient: int = 0  # what the owner of the fixed image learns of the other one from each

    @property
    def most(self) -> int:
        """Numbers this level may open in one session."""
        steps = self.gradients * self.numbers_per_gradient
        return self.evaluations * self.numbers_per_evaluation + steps + self.numbers_once

    @property
    def shown(self) -> int:
        """Numbers of the moving image that the owner of the fixed one may learn in one session."""
        return self.gradients * self.shown_per_gradient

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)

    @classmethod
    def from_dict(cls, data: Any) -> LevelGrant:
        if not isinstance(data, dict):
            raise ProtocolError("Field 'levels' of 'opened' must hold maps.")
        f = Fields(data, "opened")
        return cls(
            factor=f.integer("factor", 1, 64),
            samples=f.integer("samples", 1, 2**31),
            numbers_per_evaluation=f.integer("numbers_per_evaluation", 1, 10**9),
            evaluations=f.integer("evaluations", 0, 10_000),
            numbers_left=f.integer("numbers_left", 0, 2**62),
            numbers_per_gradient=f.integer("numbers_per_gradient", 0, 10**9),
            gradients=f.integer("gradients", 0, 10_000),
            numbers_once=f.integer("numbers_once", 0, 10**9),
            shown_per_gradient=f.integer("shown_per_gradient", 0, 10**9),
        )
