"""The masks of mpc, drawn from the parties' keys: every address (level, evaluation, group) is used once."""

from __future__ import annotations

from PPIRLogic.arrays import Ring
from PPIRLogic.secure.prg import Stream


def mask_of_columns(key: bytes, level: int, evaluation: int, group: int, columns: int, count: int) -> Ring:
    """a: (columns, count), used for one evaluation of one level."""
    return Stream(key, "a", level, evaluation, group).int64(columns * count).reshape(columns, count)


def mask_of_operand(key: bytes, level: int, operand: str, group: int, count: int) -> Ring:
    """b: (count,), used for one operand of one level."""
    return Stream(key, "b", level, operand, group).int64(count)


def share_of_product(key: bytes, level: int, evaluation: int, numbers: int) -> Ring:
    """c1: (numbers,), used for one evaluation."""
    return Stream(key, "c", level, evaluation).int64(numbers)
