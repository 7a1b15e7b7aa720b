"""The check that a finished set of columns stays within the exact range of the encrypted product."""

from __future__ import annotations

from collections.abc import Sequence

from PPIRLogic.secure.base import ColumnSource, LevelInfo, Term
from PPIRLogic.secure.bfv import check_range


def check_exact(source: ColumnSource, terms: Sequence[Term], level: LevelInfo, pad_noise: float = 0.0) -> None:
    """FixedPointError if a sum of these terms could leave the range of fhe.

    clear makes the same check, so that it takes the same path; mpc has room for any sum (62 bits).
    """
    sums, norms = source.absolute_sums(), source.norms()
    largest = max(int(sums[t.column]) * level.bound(t.operand) for t in terms)
    columns = {t.column for t in terms}
    check_range(largest, max(float(norms[c]) for c in columns), max(int(sums[c]) for c in columns), pad_noise)
