"""What party 1 orders of the dealer, and the correlation that answers it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import ProtocolError
from PPIRLogic.network.channel import MAX_PAYLOAD
from PPIRLogic.network.messages import Fields
from PPIRLogic.registration.control_points import ControlPointMap
from PPIRLogic.registration.losses.cross_correlation import FORCE_BITS, SUM_BITS
from PPIRLogic.registration.symmetric.one_time_masks import MAX_SAMPLES, ROUNDS, correlation
from PPIRLogic.registration.symmetric.shares import SLAB
from PPIRLogic.secure.integer_sums import products
from PPIRLogic.secure.layout import CHUNK, GROUP, group_size
from PPIRLogic.secure.mpc.one_time_masks import mask_of_columns, mask_of_operand, share_of_product
from PPIRLogic.secure.mpc.triple_products import Factored
from PPIRLogic.secure.product import Term, numbers_of

PART = MAX_PAYLOAD // 8  # numbers in one message
MAX_COLUMNS = 256
MAX_OUTPUTS = 64


@dataclass(frozen=True)
class Order:
    """One evaluation's shape: all the dealer is told."""

    level: int
    evaluation: int
    samples: int
    columns: int
    terms: tuple[tuple[int, str], ...]
    outputs: int = 1
    control_points: ControlPointMap | None = None
    round: ClassVar[str] = ""

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Order:
        f = Fields(data, "order")
        columns = f.integer("columns", 1, MAX_COLUMNS)
        terms = []
        for item in f.items("terms", 4 * MAX_COLUMNS):
            if not (isinstance(item, (list, tuple)) and len(item) == 2):
                raise ProtocolError("Field 'terms' of 'order' must hold pairs.")
            pair = Fields({"column": item[0], "operand": item[1]}, "order")
            terms.append((pair.integer("column", 0, columns - 1), pair.text("operand", 16)))
        if not terms:
            raise ProtocolError("Field 'terms' of 'order' is empty.")
        where = f.integer("level", 0, 64), f.integer("evaluation", 0, 10**6)
        samples = f.integer("samples", 1, 2**31)
        if rows := data.get("knots"):
            control_points = _control_point_map(rows, samples)
            if len(terms) > len(control_points.axes):
                raise ProtocolError("An order per control point has one term per axis at most.")
            return cls(*where, samples, columns, tuple(terms), control_points=control_points)
        outputs = f.integer("outputs", 1, MAX_OUTPUTS)
        if outputs & (outputs - 1) or (outputs > 1 and samples % CHUNK):
            raise ProtocolError("Field 'outputs' of 'order' must be a power of two, over whole chunks.")
        return cls(*where, samples, columns, tuple(terms), outputs)

    def correlation(
        self, first_key: bytes, second_key: bytes, check: Callable[[], None] = lambda: None
    ) -> NDArray[np.int64]:
        """c2 = a·b − c1 for every number, (numbers,) int64 modulo 2^64. `check` may raise between blocks."""
        if self.control_points is not None:
            return self._per_control_point(self.control_points, first_key, second_key, check)
        terms = [Term(column, operand, "", self.outputs) for column, operand in self.terms]
        total = -share_of_product(first_key, self.level, self.evaluation, numbers_of(terms))
        for group in range(-(-self.samples // GROUP)):
            check()
            count = group_size(self.samples, group)
            a = mask_of_columns(first_key, self.level, self.evaluation, group, self.columns, count // self.outputs)
            b = {o: mask_of_operand(second_key, self.level, o, group, count) for o in {t[1] for t in self.terms}}
            total += products(a, b, terms)
        return total

    def _per_control_point(
        self, control_points: ControlPointMap, first_key: bytes, second_key: bytes, check: Callable[[], None]
    ) -> NDArray[np.int64]:
        """The same where a and b meet voxel by voxel, and a public map makes the numbers."""
        values = np.zeros((len(self.terms), self.samples), np.int64)  # the system gives room as it is filled
        for group in range(-(-self.samples // GROUP)):
            check()
            count = group_size(self.samples, group)
            a = mask_of_columns(first_key, self.level, self.evaluation, group, self.columns, count)
            for i, (column, operand) in enumerate(self.terms):
                b = mask_of_operand(second_key, self.level, operand, group, count)
                np.multiply(a[column], b, out=values[i, group * GROUP : group * GROUP + count])
        total = np.concatenate([control_points.sums(v) for v in values])
        return total - share_of_product(first_key, self.level, self.evaluation, len(total))


@dataclass(frozen=True)
class CcOrder:
    """One round of an evaluation of a symmetric registration (`symmetric.shares`): its size is all that is told."""

    level: int
    evaluation: int
    samples: int
    round: str
    control_points: ControlPointMap | None = None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CcOrder:
        f = Fields(data, "order")
        stage = f.text("cc", 16)
        if stage not in ROUNDS:
            raise ProtocolError(f"Field 'cc' of 'order' must be one of {', '.join(ROUNDS)}.")
        where = f.integer("level", 0, 64), f.integer("evaluation", 0, 10**6)
        samples = f.integer("samples", 1, MAX_SAMPLES)
        if stage != "force":
            return cls(*where, samples, stage)
        control_points = _control_point_map(data.get("knots"), samples)
        return cls(*where, samples, stage, replace(control_points, room=SUM_BITS - FORCE_BITS))

    def correlation(
        self, first_key: bytes, second_key: bytes, check: Callable[[], None] = lambda: None
    ) -> NDArray[np.int64]:
        """For party 2, modulo 2^64. `check` may raise between masks."""
        keys = first_key, second_key
        return correlation(self.round, keys, self.level, self.evaluation, self.samples, self.control_points, check)


def read_order(data: dict[str, Any]) -> Order | Factored | CcOrder:
    """From the network; ProtocolError unless every field is in range."""
    if "cc" in data:
        return CcOrder.from_dict(data)
    return Factored.from_dict(data) if "vectors" in data else Order.from_dict(data)


def parts_of(
    order: Order | Factored | CcOrder, numbers: NDArray[np.int64]
) -> Iterator[tuple[dict[str, Any], NDArray[np.int64]]]:
    """The messages that carry a correlation."""
    where: dict[str, Any] = {"level": order.level, "evaluation": order.evaluation}
    if isinstance(order, CcOrder):
        for first in range(0, len(numbers), SLAB):
            yield {**where, "cc": order.round, "first": first}, numbers[first : first + SLAB]
        return
    for first in range(0, len(numbers), PART):
        yield where, numbers[first : first + PART]


def _control_point_map(rows: Any, samples: int) -> ControlPointMap:
    control_points = ControlPointMap.from_wire(rows)
    if control_points.inside != samples:
        raise ProtocolError("The grid of a B-spline does not fit the samples of an order.")
    return control_points
