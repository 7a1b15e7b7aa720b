"""What party 1 asks for, and what a peer offers and grants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from PPIRLogic.arguments import check_kinds
from PPIRLogic.disclosure.accounts import UNLIMITED, Budget, DisclosureRecord
from PPIRLogic.errors import InputError, ProtocolError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.network.messages import PARTY_1, PARTY_2, PROTOCOL_VERSION, Fields, check_version
from PPIRLogic.registration.options import OPTIONS, Option


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
    starts: int = 0  # values of the loss at most where starts are compared; 0: they are not
    skip_check: bool = True  # do not compare the end with transforms around it

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
            levels=tuple(levels),
            iterations=_counts(f),
            dealer=f.text("dealer", 64),
            software=f.text("software", 64),
            **{option.wire: _read(f, option) for option in OPTIONS.values() if option.wire},
        )


def _read(f: Fields, option: Option) -> Any:
    """One option of a request, within its range."""
    low, high = option.wire_range
    if option.kind == "yes":
        return f.flag(option.wire)
    if option.kind == "choice":
        return f.text(option.wire, 16)
    if option.kind == "whole":
        return f.integer(option.wire, int(low), int(high))
    return f.number(option.wire, low, high)


def _counts(f: Fields) -> tuple[int, ...]:
    values, (low, high) = f.items("iterations", 8), OPTIONS["iterations"].wire_range
    if any(not isinstance(v, int) or isinstance(v, bool) or not low <= v <= high for v in values):
        raise ProtocolError(f"Field 'iterations' of 'open' must hold counts from {low:g} to {high:g}.")
    return tuple(values)


LOST_ANSWERS = 5  # that a session may ask for again at a level, one for each lost connection


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
    numbers_once: int = 0  # opened once
    shown_per_gradient: int = 0  # what the owner of the fixed image learns of the other one from each
    purpose: str = ""  # of an extra level

    @property
    def most(self) -> int:
        """Numbers this level may open in one session."""
        steps = self.gradients * self.numbers_per_gradient
        return self.evaluations * self.numbers_per_evaluation + steps + self.numbers_once

    @property
    def again(self) -> int:
        """Numbers that may be opened once more after a lost connection, for the answer that may be lost with it."""
        each = max(self.numbers_per_evaluation, self.numbers_per_gradient, self.numbers_once)
        return each if self.evaluations else 0

    @property
    def party2_learns(self) -> int:
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
            purpose=f.text("purpose", 16),
        )


@dataclass(frozen=True)
class Peer:
    """Where the fixed image is: address 'host:port', the image's name there ('' if it offers one), the dealer.

    dealer: address of the dealer, for mpc. dealer_fingerprint: which one ('': the only
    one that is trusted as a dealer). Nothing is looked at before a run, which raises InputError for an address that is
    none and PeerError for one where nobody answers.

    >>> Peer("hospital-b.example:7443", image="atlas").image
    'atlas'
    """

    address: str
    image: str = ""
    dealer: str = ""
    dealer_fingerprint: str = ""

    def __post_init__(self) -> None:
        """InputError: what is no text."""
        check_kinds("Peer", self.__dict__, dict.fromkeys(self.__dict__, (str,)))


@dataclass(frozen=True)
class Offer:
    """One image (or point set) a peer offers to this site, and on what terms (from 'info')."""

    name: str
    geometry: Any  # Geometry, or PointLayout
    has_mask: bool
    protocols: tuple[str, ...]
    losses: tuple[str, ...]
    transforms: tuple[str, ...]
    masks: tuple[str, ...]
    budget: dict[str, float]
    numbers_opened: int
    what: str = "image"
    opened: tuple[dict[str, int], ...] = ()  # by level; empty also if the peer does not say

    def record(self) -> DisclosureRecord:
        """What this site has learned of the image so far, as the peer tells it, and the peer's budget."""
        limits = {"bits_percent_per_level": float(UNLIMITED), "histograms_per_level": UNLIMITED, **self.budget}
        limits = {k: v if k.endswith("percent_per_level") else int(v) for k, v in limits.items()}
        return DisclosureRecord(Budget(**limits), self.opened)  # type: ignore[arg-type]

    @property
    def usual_mask(self) -> str:
        """The use of its mask that asks least of its owner and of a run."""
        return "fill" if self.has_mask and "none" not in self.masks else "none"

    @classmethod
    def from_dict(cls, data: Any, read_geometry: Callable[[dict[str, Any]], Any], what: str = "image") -> Offer:
        if not isinstance(data, dict):
            raise ProtocolError("The peer's list of images is malformed.")
        f = Fields(data, "info")

        def names(field: str) -> tuple[str, ...]:
            return tuple(Fields({"name": v}, field).text("name", 32) for v in f.items(field, 32))

        budget = Fields(f.map("budget"), "budget")
        limits = ("percent_per_level", "numbers_per_session", "numbers_per_image")
        more = [k for k in ("bits_percent_per_level", "histograms_per_level") if k in f.map("budget")]
        opened = f.items("opened", 64) if "opened" in data else []
        return cls(
            f.text("name"), read_geometry(f.map("geometry")), f.flag("has_mask"), names("protocols"), names("losses"),
            names("transforms"), names("masks"), {k: budget.number(k, 0, 2**62) for k in (*limits, *more)},
            f.integer("numbers_opened", 0, 2**62), what, tuple(_opened(row) for row in opened),
        )  # fmt: skip


def _opened(row: Any) -> dict[str, int]:
    if not isinstance(row, dict):
        raise ProtocolError("Field 'opened' of 'info' must hold maps.")
    return {k: Fields(row, "opened").integer(k, 0, 2**62) for k in ("level", "numbers", "bits", "histograms")}


def offered_geometry(data: dict[str, Any]) -> Geometry:
    try:
        return Geometry.from_dict(data)
    except InputError as error:
        raise ProtocolError(f"The peer's image geometry is not usable: {error}") from error
