"""An unprotected protocol of another package: what party 2 sends is shifted by 7, which protects nothing."""

from collections.abc import Mapping

import numpy as np

from PPIRLogic.secure.clear import ClearFixed, ClearProduct
from PPIRLogic.secure.product import Columns, LevelInfo
from PPIRLogic.secure.protocol import Protocol

SHIFT = 7


class ShiftedProduct(ClearProduct):
    name = "shifted"

    def open_level(self, level: LevelInfo, first: bytes) -> None:
        super().open_level(level, first)
        for values in self._operands.values():
            values -= SHIFT


class ShiftedFixed(ClearFixed):
    name = "shifted"

    def open_level(self, level: LevelInfo, operands: Mapping[str, Columns], first: bytes, second: bytes) -> None:
        moved = {name: np.minimum(v, level.bound(name) - SHIFT) + SHIFT for name, v in operands.items()}
        super().open_level(level, moved, first, second)


PROTOCOL = Protocol(
    "shifted", ShiftedProduct, ShiftedFixed, 64, counted=False, per_control_point=True,
    words="A protocol of another package was used that protects nothing.",
)  # fmt: skip
