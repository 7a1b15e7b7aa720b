"""Where a search begins: several starts compared by the loss itself, the best of them let move, its end checked.

First the grids' own coordinates, their centres, the centres of brightness and its principal axes. Only where none of
the best leads to a sharp end, more are compared: shifts and turns around the best so far, then quarter and half turns.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from PPIRLogic.arrays import Array
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.registration.extra_levels import CHECKED
from PPIRLogic.registration.level_record import StartsRecord
from PPIRLogic.registration.party1.end_check import Sharpness, around, reach_mm, sharpness
from PPIRLogic.registration.party1.level_runs.values import Found, ValueRun, enough
from PPIRLogic.registration.party1.moments import Moments
from PPIRLogic.transforms import LinearTransform
from PPIRLogic.transforms.linear import rotation_of

_SAME = 0.07  # of the longest axis: a start nearer than this to one tried leads to the same end
_REVERSED = 0.2  # weight of a start where one image is the other's negative
_WIDER = 2.0  # times the reach of a check: shifts of the second round
_WIDER_TURN = 20.0  # degrees
_ALIKE = 0.97  # of the best end's information: which of two such ends is better, a coarse level does not tell


@dataclass(frozen=True)
class Start:
    """A transform to begin from, by name."""

    name: str
    transform: LinearTransform


@dataclass(frozen=True)
class _End:
    """Where a start led to."""

    name: str
    transform: LinearTransform
    found: Found
    sharp: Sharpness | None


class StartSearch:
    """A comparison of starts at an open level. `moments`: of the fixed and the moving image, where they are known."""

    def __init__(self, run: ValueRun, record: StartsRecord, moments: tuple[Moments, Moments] | None) -> None:
        self.run, self.record, self.moments = run, record, moments
        self._tried: list[LinearTransform] = []
        self._ends: list[_End] = []

    def best(self, first: Sequence[Start]) -> _End | None:
        """Where to go on from: the sharpest end, or the best start where none may move; None without any value."""
        ranked = self._ranked(first)
        if not ranked:
            return None
        if not self._let_move(ranked, self.run.tried[0]) and self._ends:
            self._look_further()
        self._turn_over()
        if not self._ends:
            start, found = ranked[0]
            self._ends.append(_End(start.name, start.transform, found, None))
        end = self._chosen()
        self.record.chosen, self.record.rival = end.name, self._rival_of(end)
        return end

    def _chosen(self) -> _End:
        """The best end; where none is sure, of those that are about as good the one that turns least.

        A head seen from above is nearly the same turned by 180 degrees, and few are scanned so.
        """
        best = max(self._ends, key=lambda e: (self._is_sure(e), e.found.info))
        if self._is_sure(best):
            return best
        alike = [e for e in self._ends if e.found.info >= _ALIKE * best.found.info]
        return max(alike, key=lambda e: float(np.trace(e.transform.matrix)))

    def _rival_of(self, chosen: _End) -> str:
        """The name of another end that fits about as well, where none is sure; '' without one."""
        if self._is_sure(chosen):
            return ""
        far = (e for e in self._ends if not self._same(e.transform, chosen.transform))
        alike = [e for e in far if e.found.info >= _ALIKE * chosen.found.info]
        return max(alike, key=lambda e: e.found.info).name if alike else ""

    def _turn_over(self) -> None:
        """Let the best end that may grow move turned by half as well: a slice of a head is nearly the same so."""
        if not self._ends:
            return
        end = max(self._ends, key=lambda e: (self._is_sure(e), e.found.info))
        t = end.transform
        if t.dimension == 2 and t.kind == "similarity":
            middle = self.run.session.geometry.centre() if self.moments is None else self.moments[0].mean
            (there,) = t.apply(middle[None])
            self._let_move(self._ranked([Start("half turn", turned_about(t, -t.matrix, middle, there))]), 1)

    def _look_further(self) -> None:
        """Around the best end so far, then turned by quarters and halves."""
        end = max(self._ends, key=lambda e: e.found.info)
        reach = _WIDER * reach_mm(self.run.session.geometry)
        nearby = [Start(f"near {end.name}", t) for t in around(end.transform, reach, _WIDER_TURN)]
        if end.transform.kind == "translation":
            self._let_move(self._ranked(nearby[: 2 * end.transform.dimension]), self.run.tried[1])
        elif not self._let_move(self._ranked(nearby), self.run.tried[1]) and self.moments is not None:
            self._let_move(self._ranked(quarter_turns(end.transform, *self.moments)), self.run.tried[2])

    def _ranked(self, starts: Sequence[Start]) -> list[tuple[Start, Found]]:
        """By what one image tells of the other there, best first; without those that hardly overlap."""
        found = []
        for start in starts:
            value = self.run.value(start.transform)
            self.record.values += value is not None
            if value is not None and enough(value):
                found.append((start, value))
                self.record.tried.append((start.name, value.info, None))
        return sorted(found, key=lambda v: -v[1].info * (_REVERSED if v[1].reversed else 1.0))

    def _let_move(self, ranked: Sequence[tuple[Start, Found]], most: int) -> bool:
        """Let the best of these move, until one comes to a sharp end: then True."""
        for start, value in ranked:
            if most == 0:
                return False
            if any(self._same(start.transform, other) for other in self._tried):
                continue
            self._tried.append(start.transform)
            most -= 1
            moved = self.run.descend(start.transform, self._moves())
            if moved is None:
                continue
            transform, found = moved
            self.record.tried.append((start.name, value.info, found.info))
            end = _End(start.name, transform, found, sharpness(self.run, transform, self.run.quick))
            self._ends.append(end)
            if self._is_sure(end):
                return True
        return False

    def _moves(self) -> int:
        """Values for a start that moves: so many that its end can still be looked around."""
        values = CHECKED[self.run.level.geometry.dimension]
        around_it = values // 2 + 1 if self.run.quick else values
        left = (self.run.room - around_it * self.run.each) // self.run.per_step
        return min(self.run.moves, left) if left > 0 else self.run.moves

    def _is_sure(self, end: _End) -> bool:
        return end.sharp is not None and end.sharp.sharp >= self.run.sure

    def _same(self, a: LinearTransform, b: LinearTransform) -> bool:
        """Whether two transforms differ by little on average."""
        grid = self.run.session.geometry
        points = np.vstack([grid.corners(), grid.centre()])
        gaps = np.linalg.norm(a.apply(points) - b.apply(points), axis=1)
        return float(gaps.mean()) < _SAME * max(grid.extent_mm())


def first_starts(kind: str, fixed: Geometry, moving: Geometry, moments: tuple[Moments, Moments] | None) -> list[Start]:
    """The grids' own coordinates, their centres, the centres of brightness and its principal axes."""
    still = LinearTransform.identity(kind, fixed.centre())
    centred = replace(still, translation=moving.centre() - fixed.centre())
    starts = [Start("identity", still), Start("centres", centred)]
    if moments is None:
        return starts
    a, b = moments
    starts.append(Start("centres of brightness", replace(still, translation=b.mean - a.mean)))
    if kind == "translation":
        return starts
    for signs in itertools.product((1.0, -1.0), repeat=fixed.dimension):
        turn = b.axes @ np.diag(signs) @ a.axes.T
        if np.linalg.det(turn) > 0:
            starts.append(Start("axes of brightness", turned_about(still, turn, a.mean, b.mean)))
    return starts


def turned_about(still: LinearTransform, turn: Array, fixed: Array, moving: Array) -> LinearTransform:
    """The rotation `turn` that puts a fixed point on a moving one."""
    shift = turn @ (still.centre - fixed) + moving - still.centre
    return replace(still, matrix=turn, translation=shift)


def quarter_turns(like: LinearTransform, fixed: Moments, moving: Moments) -> list[Start]:
    """Turned by 90, 180 and 270 degrees about each axis, one centre of brightness on the other."""
    still = LinearTransform.identity(like.kind, like.centre)
    axes = np.eye(3) if like.dimension == 3 else np.ones((1, 1))
    turns = [rotation_of(np.deg2rad(angle) * axis) for axis in axes for angle in (90.0, 180.0, 270.0)]
    return [Start("quarter turns", turned_about(still, turn, fixed.mean, moving.mean)) for turn in turns]
