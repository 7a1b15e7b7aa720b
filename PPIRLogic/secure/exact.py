"""Checks of the encrypted product: that columns stay within its exact range, and that its results are possible."""

from __future__ import annotations

from collections.abc import Sequence

from PPIRLogic.errors import ProtocolError
from PPIRLogic.secure.base import ColumnSource, LevelInfo, Term
from PPIRLogic.secure.bfv import check_range

IMPOSSIBLE = "The peer's answer is larger than any image could make it: it does not follow the protocol."


def check_exact(source: ColumnSource, terms: Sequence[Term], level: LevelInfo, pad_noise: float = 0.0) -> None:
    """FixedPointError if a sum of these terms could leave the range of fhe.

    clear makes the same check, so that it takes the same path; mpc has room for any sum (62 bits).
    """
    sums, norms = source.absolute_sums(), source.norms()
    largest = max(int(sums[t.column]) * level.bound(t.operand) for t in terms)
    columns = {t.column for t in terms}
    check_range(largest, max(float(norms[c]) for c in columns), max(int(sums[c]) for c in columns), pad_noise)


def check_possible(values: Sequence[int], source: ColumnSource, terms: Sequence[Term], level: LevelInfo) -> None:
    """ProtocolError if an opened sum is larger than any image could make it; values term by term.

    A peer that does not know the pads (because it read the products instead) can only guess its answer.
    """
    sums = source.absolute_sums()
    bounds = [int(sums[t.column]) * level.bound(t.operand) for t in terms for _ in range(t.outputs)]
    if any(abs(value) > bound for value, bound in zip(values, bounds, strict=True)):
        raise ProtocolError(IMPOSSIBLE)
