"""Both sides of a symmetric registration with local cross-correlation. Both hold a half that moves (`half_image`).

Party 1 leads. It asks for one of three things, and says how far both sides move first:

    similarity   Σρ² at the new position             1 number to party 1
    force        the coarse force on each half        dim·kept numbers to each side, of its own half alone
    half field   party 2's velocity of this level     dim·control points numbers to party 1, once per level

Under mpc nothing else is opened (`shares`). clear: party 2 sends its part unprotected and party 1 computes.
published: in place of the force, three numbers per voxel to both sides, as in Taiello et al. 2024; to compare.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from PPIRLogic.arrays import Ring
from PPIRLogic.disclosure.counted_channel import CountedChannel
from PPIRLogic.errors import ProtocolError
from PPIRLogic.network.messages import Fields
from PPIRLogic.registration.control_points import ControlPointMap
from PPIRLogic.registration.losses.cross_correlation import (
    FORCE,
    IMAGE_BITS,
    ROOT_BITS,
    SIMILARITY,
    TERM_BITS,
    VOXELS,
    HalfColumns,
    correlation,
    forces,
)
from PPIRLogic.registration.symmetric.half_field import HalfField
from PPIRLogic.registration.symmetric.half_image import HalfImage
from PPIRLogic.registration.symmetric.shares import INVERSE_BITS, SLAB, VOXEL_BITS, CcShares
from PPIRLogic.secure.clear import PROTOCOL as CLEAR_PROTOCOL
from PPIRLogic.secure.mpc.protocol import WORDS
from PPIRLogic.secure.product import (
    Columns,
    ColumnSource,
    FixedSide,
    Give,
    LevelInfo,
    Link,
    PrivateProduct,
    Term,
    numbers_of,
)
from PPIRLogic.secure.protocol import Protocol

BITS = 64
LENGTHS = (0.0, 0.25, 0.5, 1.0)  # of a step


class Arithmetic(ABC):
    """One evaluation on one side."""

    @abstractmethod
    def similarity(self) -> Ring:
        """This side's part of Σρ², (1,)."""

    @abstractmethod
    def forces(self) -> tuple[Ring, Ring]:
        """Its parts of the coarse force on its own half and on the other's; each sum of two parts is the force."""

    @abstractmethod
    def digest(self) -> bytes:
        """Of what came from the other side."""


class ClearCc(Arithmetic):
    """The same whole numbers without protection: party 2 sends its columns, party 1 computes."""

    def __init__(
        self, link: Link, rank: int, level: int, evaluation: int, control_points: ControlPointMap, own: HalfColumns
    ) -> None:
        self._link, self._rank, self._control_points, self._own = link, rank, control_points, own

    def similarity(self) -> Ring:
        own = self._own
        names = ("image", "root", "unit", "slopes", "products")
        if self._rank:
            for name in names:
                send_numbers(self._link, "data", getattr(own, name))
            return np.zeros(1, np.int64)
        self._other = HalfColumns(*(receive_numbers(self._link, "data", getattr(own, n).shape) for n in names))
        self._rho = correlation(own, self._other)
        return np.array([np.sum(self._rho * self._rho)])

    def forces(self) -> tuple[Ring, Ring]:
        if self._rank:
            return (np.zeros(len(self._own.slopes) * self._control_points.count, np.int64),) * 2
        pairs = ((self._own, self._other), (self._other, self._own))
        here, there = (np.concatenate([self._control_points.box_sums(f) for f in forces(*p, self._rho)]) for p in pairs)
        return here, there

    def digest(self) -> bytes:
        return bytes(32)


Engine = Callable[[Link, int, int, int, ControlPointMap, HalfColumns], Any]


def send_numbers(link: Link, kind: str, values: Ring) -> None:
    flat = values.reshape(-1)
    for first in range(0, len(flat), SLAB):
        link.check()
        link.channel.send(kind, {}, np.ascontiguousarray(flat[first : first + SLAB], "<i8").data)


def receive_numbers(link: Link, kind: str, shape: tuple[int, ...]) -> Ring:
    out = np.empty(int(np.prod(shape)), np.int64)
    for first in range(0, len(out), SLAB):
        part = out[first : first + SLAB]
        payload = link.receive(kind).payload
        if len(payload) != part.nbytes:
            raise ProtocolError(f"Expected {len(part)} numbers from the peer, got {len(payload) / 8:g}.")
        part[:] = np.frombuffer(payload, "<i8")
    return out.reshape(shape)


class CcProduct(PrivateProduct):
    """Party 1. `evaluate` takes its half for a source."""

    bits_per_number = BITS
    engine: Engine = CcShares
    records_what_it_reveals = True

    def __init__(self, link: Link) -> None:
        self._counted_channel = CountedChannel(link.channel)
        super().__init__(link.through(self._counted_channel))
        self._used: set[tuple[int, int]] = set()
        self._arithmetic: Any = None

    def reveal_through(self, give: Give) -> None:
        self.give = give

    def open_level(self, level: LevelInfo, first: bytes) -> None:
        self._level, self._arithmetic = level, None

    def evaluate(
        self, source: HalfImage | ColumnSource, terms: Sequence[Term], evaluation: int, announce: Callable[[], None]
    ) -> list[int]:
        assert isinstance(source, HalfImage)
        level, kind = self._level, terms[0].kind
        if (level.index, evaluation) in self._used:
            raise ProtocolError("The masks of this evaluation were used already; they are never used twice.")
        self._used.add((level.index, evaluation))
        announce()
        share, theirs = np.zeros(numbers_of(terms), np.int64), np.empty(0, np.int64)
        with self._counted_channel.opening():
            if kind == SIMILARITY:
                self._arithmetic = type(self).engine(
                    self.link, 0, level.index, evaluation, source.control_points, source.columns()
                )
                share = self._arithmetic.similarity()
            elif kind in (FORCE, VOXELS):
                arithmetic, self._arithmetic = self._arithmetic, None  # its masks are used up
                share, theirs = arithmetic.forces() if kind == FORCE else (arithmetic.published(),) * 2
        opened = share + receive_numbers(self.link, "answer", share.shape)
        if len(theirs):
            with self._counted_channel.releasing(self.give(terms)):
                send_numbers(self.link, "answer", theirs)
        return [int(v) for v in opened]


class CcFixed(FixedSide):
    """Party 2: `move_image` gives it the half of a level, `field` is its half after the levels that are over."""

    bits_per_number = BITS
    engine: Engine = CcShares

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self.field: HalfField | None = None
        self._half: HalfImage | None = None
        self._used: set[tuple[int, int]] = set()
        self._arithmetic: Any = None
        self._share = self._force = np.empty(0, np.int64)

    def open_level(self, level: LevelInfo, operands: Mapping[str, Columns], first: bytes, second: bytes) -> None:
        self._level, self._half, self._arithmetic = level, None, None

    def move_image(self, half_of: Callable[[HalfField | None], HalfImage]) -> None:
        self._half = half_of(self.field)

    def receive(self, header: Mapping[str, Any], terms: Sequence[Term]) -> bytes:
        half, f, kind = self._half, Fields(header, "evaluate"), terms[0].kind
        evaluation = f.integer("evaluation", 0, 10**6)
        if half is None or (self._level.index, evaluation) in self._used:
            raise ProtocolError("An evaluation of a half that is closed, or of masks that were used already.")
        self._used.add((self._level.index, evaluation))
        self._kind = kind
        if kind == SIMILARITY:
            return self._similarity(half, f.number("length", 0, 1), evaluation)
        if kind in (FORCE, VOXELS):
            if self._arithmetic is None:
                raise ProtocolError("A force is asked for where no similarity was found before.")
            half.keep()
            if kind == FORCE:
                self._force, self._share = self._arithmetic.forces()  # of its own half, and of party 1's
            else:
                self._force = self._share = self._arithmetic.published()
            digest = bytes(self._arithmetic.digest())
            self._arithmetic = None
            return digest
        if f.flag("keep"):
            half.keep()
        self.field, self._half = half.finished(), None
        self._share = half.velocity.reshape(-1)
        return bytes(32)

    def _similarity(self, half: HalfImage, length: float, evaluation: int) -> bytes:
        if length not in LENGTHS:
            raise ProtocolError(f"A step of length {length:g} does not exist.")
        half.try_step(length)
        self._arithmetic = type(self).engine(
            self.link, 1, self._level.index, evaluation, half.control_points, half.columns()
        )
        self._share = self._arithmetic.similarity()
        return bytes(self._arithmetic.digest())

    def answer(self) -> None:
        """This side's share to party 1; of a force, then party 1's share of this half's, and the next step."""
        send_numbers(self.link, "answer", self._share)
        if self._kind in (FORCE, VOXELS):
            assert self._half is not None
            self._step_from(self._half, self._force + receive_numbers(self.link, "answer", self._force.shape))

    def _step_from(self, half: HalfImage, opened: Ring) -> None:
        half.step_from(opened.reshape(-1, half.control_points.count))


def coarse_of_published(opened: Ring, rank: int, own: HalfColumns, control_points: ControlPointMap) -> Ring:
    """What each side makes of the published openings: the coarse force on its own half, as `forces`, (dim·kept,)."""
    factor, *differences = opened.reshape(3, -1)
    box = own.image.shape
    mine = (factor * 2.0 ** -(2 * IMAGE_BITS + 2 * INVERSE_BITS)) * (differences[rank] * 2.0**-VOXEL_BITS)
    force = np.rint(mine.reshape(box) / own.root * 2.0 ** (ROOT_BITS + TERM_BITS)).astype(np.int64)
    return np.concatenate([control_points.box_sums(force * a) for a in own.slopes])


class PublishedProduct(CcProduct):
    """Party 1 as in Taiello et al. 2024: both sides learn three numbers per voxel, and with them both images."""

    def evaluate(
        self, source: HalfImage | ColumnSource, terms: Sequence[Term], evaluation: int, announce: Callable[[], None]
    ) -> list[int]:
        opened = super().evaluate(source, terms, evaluation, announce)
        if terms[0].kind != VOXELS:
            return opened
        assert isinstance(source, HalfImage)
        voxels = np.array(opened, np.int64)
        return [int(v) for v in coarse_of_published(voxels, 0, source.last_columns, source.control_points)]


class PublishedFixed(CcFixed):
    """Party 2 of the same."""

    def _step_from(self, half: HalfImage, opened: Ring) -> None:
        force = coarse_of_published(opened, 1, half.last_columns, half.control_points)
        half.step_from(force.reshape(-1, half.control_points.count))


class ClearCcProduct(CcProduct):
    engine: Engine = ClearCc


class ClearCcFixed(CcFixed):
    engine: Engine = ClearCc


CLEAR = replace(
    CLEAR_PROTOCOL, product=ClearCcProduct, fixed_side=ClearCcFixed, bits=BITS, two_sided=True, per_control_point=False
)
MPC = Protocol("mpc", CcProduct, CcFixed, BITS, WORDS, dealer=True, party2_learns=FORCE, two_sided=True)
PUBLISHED = Protocol(
    "published", PublishedProduct, PublishedFixed, BITS, dealer=True, party2_learns=VOXELS,
    two_sided=True, opens_voxels=True, affine_protocol="mpc",
    words="The published protocol of local cross-correlation was used, for comparison: three numbers per voxel were"
    " opened to both sides in every step, from which each can compute the other's image.",
    warning="the protocol published_cc opens three numbers per voxel to both sides in every step. Both images can be"
    " computed from them (Docs/privacy). It is there to compare; use mpc.",
)  # fmt: skip
