"""Local cross-correlation of two private halves on additive shares modulo 2^64: one evaluation, on either side.

Party k holds x = Ī or J̄, root = 1/√E or 1/√F, unit = x·root and its slopes a, b = unit·a (`losses.cc`). A product of
two owners' values X·Y costs a masked opening of each; so does a share times an owner's value, and two shares, because
a share is its owner's own value. Masks are uniform, so what is opened tells nothing. The rounds, with the values that
each side sends, 8 bytes per voxel each:

    product   x                    Ī·J̄; the window sum D is local
    scale     root, root·D_k       v = D/√(EF), as (D₁/√E)·(1/√F) + (1/√E)·(D₂/√F), |v| < 2^60
    shift     v_k + r_k            ρ = v >> SHIFT, with r = r₁ + r₂ uniform: exact but for one unit in the last place
    square    ρ_k                  Σρ², one number: the value of the loss
    terms     unit                 ρ·î, ρ·ĵ, ρ²
    shorten   these three + r_k    the same, >> TERM_SHIFT, as in shift
    force     the last two, a, b   Σ_x B(x)·(ρ·ĵ·a − ρ²·b) for party 1's half, likewise for party 2's: projected on
                                   shares onto the control points; each is opened to its owner

Together 5 values per voxel and side, and 6 + 2·dim more with the forces. The shift: c = v + 2^62 + r is opened;
v + 2^62 lies below 2^63, so it wrapped round exactly if r's top bit is set and c's is not, and (c >> s) − (r >> s) plus
the wrap is v >> s or one more. No failure is merely improbable, as where each side shifts its own share.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from PPIRLogic.arrays import Ring
from PPIRLogic.errors import ProtocolError
from PPIRLogic.network.channel import MAX_PAYLOAD
from PPIRLogic.registration.control_points import ControlPointMap
from PPIRLogic.registration.losses.cross_correlation import IMAGE_BITS, ROOT_BITS, HalfColumns, window_sums
from PPIRLogic.registration.symmetric.one_time_masks import SHIFTS, box_of, first_share, numbers_of_round, wire_mask
from PPIRLogic.secure.product import Link

SLAB = MAX_PAYLOAD // 8  # numbers in one message
INVERSE_BITS = 13  # of 1/E, as published: D/EF is at most 20, so that 2^56 of it stay in the ring
_RATIO_BITS = 14  # of Ī/E
VOXEL_BITS = 2 * IMAGE_BITS + _RATIO_BITS  # of an opened difference
_OFFSET = 1 << 62


class CcShares:
    """One party (rank 0: party 1) at one evaluation. `similarity` first; then `forces`, or `published`."""

    def __init__(
        self, link: Link, rank: int, level: int, evaluation: int, control_points: ControlPointMap, own: HalfColumns
    ) -> None:
        self._link, self._rank, self._where, self._control_points, self._own = (
            link,
            rank,
            (level, evaluation),
            control_points,
            own,
        )
        self._box = box_of(control_points)
        self._count = int(np.prod(self._box))
        self._factors: dict[str, Ring] = {}  # party 1: its values; party 2: its masks. What the other's are times
        self._theirs: dict[str, Ring] = {}
        self._hash = hashlib.sha256()

    def digest(self) -> bytes:
        """Of everything that came from the other side."""
        return self._hash.digest()

    # ------------------------------------------------------------------------------------------ the rounds

    def similarity(self) -> Ring:
        """A share of Σρ², (1,), in units of 2^(-2·UNIT_BITS)."""
        own = self._own
        self._order("product")
        self._swap(x=own.image)
        self._product = window_sums((self._cross("x", "x") + self._correlation("product")).reshape(self._box)).ravel()
        self._order("scale")
        self._swap(root=own.root, scaled=own.root.ravel() * self._product)
        v = self._cross("scaled", "root") + self._cross("root", "scaled") + self._correlation("scale")
        self._order("shift")
        (self._rho,) = self._shifted("shift", v)
        self._order("square")
        self._swap(rho=self._rho)
        squares = self._rho * self._rho + 2 * self._cross("rho", "rho")
        return np.sum(squares, keepdims=True) + self._correlation("square")

    def forces(self) -> tuple[Ring, Ring]:
        """Shares of the coarse force on this side's half, and on the other's: (dim·kept,) each."""
        rho, rank = self._rho, self._rank
        self._order("terms")
        self._swap(unit=self._own.unit)
        shares = self._correlation("terms").reshape(3, -1)
        mine = rho * self._own.unit.ravel() + self._cross("unit", "rho") + shares[rank]  # ρ·î at party 1, ρ·ĵ at 2
        other = self._cross("rho", "unit") + shares[1 - rank]
        square = rho * rho + 2 * self._cross("rho", "rho") + shares[2]
        self._order("shorten")
        if rank == 0:
            mine, other, square = self._shifted("shorten", mine, other, square)
        else:
            other, mine, square = self._shifted("shorten", other, mine, square)
        self._order("force")
        slopes, products = self._own.slopes, self._own.products
        named = {f"{n}{k}": v for n, part in (("a", slopes), ("b", products)) for k, v in enumerate(part)}
        self._swap(term=mine, square=square, **named)
        here, there = [], []
        for k, (a, b) in enumerate(zip(slopes, products, strict=True)):
            local = other * a.ravel() - square * b.ravel()
            here.append(local + self._cross(f"a{k}", "term") - self._cross(f"b{k}", "square"))
            there.append(self._cross("term", f"a{k}") - self._cross("square", f"b{k}"))
        correlation = self._correlation("force").reshape(2, -1)
        return self._projected(here) + correlation[rank], self._projected(there) + correlation[1 - rank]

    def published(self) -> Ring:
        """Shares of the published openings, voxel by voxel: D/EF, J̄ − (D/E)Ī, Ī − (D/F)J̄, (3·voxels,).

        In units of 2^-(2·IMAGE_BITS + 2·INVERSE_BITS), and twice 2^-VOXEL_BITS.
        """
        x, rank = self._own.image.ravel(), self._rank
        inverse = self._own.root.ravel() ** 2 >> (2 * ROOT_BITS - INVERSE_BITS)
        z = (inverse * x) >> (IMAGE_BITS + INVERSE_BITS - _RATIO_BITS)
        self._order("published")
        self._swap(e=inverse, z=z, d=self._product, **{"scaled e": inverse * self._product})
        shares = self._correlation("published").reshape(3, -1)
        factor = self._cross("scaled e", "e") + self._cross("e", "scaled e") + shares[0]
        ratios = [self._cross("d", "z") + shares[1 + k] for k in range(2)]
        ratios[rank] = self._product * z + self._cross("z", "d") + shares[1 + rank]
        differences = [-r for r in ratios]
        differences[1 - rank] = differences[1 - rank] + (x << np.int64(VOXEL_BITS - IMAGE_BITS))
        return np.concatenate([factor, *differences])

    def _shifted(self, stage: str, *values: Ring) -> list[Ring]:
        """Shares of v >> bits of a round that shifts, or of one more; |v| < 2^62."""
        bits, names = SHIFTS[stage]
        offset, opened = _OFFSET if self._rank == 0 else 0, []
        for name, v in zip(names, values, strict=True):
            masked = v + wire_mask(self._link.dealer_key, name, *self._where, self._count) + offset
            opened.append((masked + self._exchange(name, masked)).view(np.uint64))
        c = np.concatenate(opened)
        high, top = self._correlation(stage).reshape(2, -1)
        wrapped = top * ((c >> np.uint64(63)) == 0)
        share = (wrapped << np.int64(64 - bits)) - high
        if self._rank == 0:
            share += (c >> np.uint64(bits)).view(np.int64) - (_OFFSET >> bits)
        return np.split(share, len(names))

    def _projected(self, values: list[Ring]) -> Ring:
        return np.concatenate([self._control_points.box_sums(v.reshape(self._box)) for v in values])

    # ------------------------------------------------------------------------------- masks, shares, messages

    def _cross(self, mine: str, theirs: str) -> Ring:
        """This side's share, but for the correlation, of its value `mine` times the other's `theirs`."""
        return self._factors[mine] * self._theirs[theirs]

    def _swap(self, **values: Ring) -> None:
        """Send these, masked; receive the other's of the same names."""
        for name, value in values.items():
            flat = value.reshape(-1)
            mask = wire_mask(self._link.dealer_key, name, *self._where, self._count)
            self._theirs[name] = self._exchange(name, flat - mask)
            self._factors[name] = flat if self._rank == 0 else mask

    def _exchange(self, name: str, values: Ring) -> Ring:
        """Both sides send and receive in turn, message by message, so that neither waits for the other to read."""
        out = np.empty(len(values), np.int64)
        for first in range(0, len(values), SLAB):
            self._link.check()
            part = np.ascontiguousarray(values[first : first + SLAB], "<i8")
            self._link.channel.send("data", {"name": name, "first": first}, part.data)
            message = self._link.receive("data")
            if message.data != {"name": name, "first": first} or len(message.payload) != part.nbytes:
                raise ProtocolError(f"A masked block that does not belong here: '{name}' from {first} was due.")
            self._hash.update(message.payload)
            out[first : first + SLAB] = np.frombuffer(message.payload, "<i8")
        return out

    def _order(self, stage: str) -> None:
        """Party 1 asks the dealer for a round's correlation; it computes while the masked values travel."""
        if self._rank:
            return
        level, evaluation = self._where
        order: dict[str, Any] = {"level": level, "evaluation": evaluation, "samples": self._count, "cc": stage}
        if stage == "force":
            order["knots"] = self._control_points.to_wire()
        self._link.order(order)

    def _correlation(self, stage: str) -> Ring:
        level, evaluation = self._where
        numbers = numbers_of_round(stage, self._count, self._control_points)
        if self._rank == 0:
            return first_share(self._link.dealer_key, stage, level, evaluation, numbers)
        out = np.empty(numbers, np.int64)
        for first in range(0, numbers, SLAB):
            part = out[first : first + SLAB]
            where = {"level": level, "evaluation": evaluation, "cc": stage, "first": first}
            part[:] = self._link.dealt(where, len(part))
        return out
