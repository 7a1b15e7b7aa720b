"""Both sides of an encrypted protocol without a network or threads: an attack can step in between any two calls."""

from __future__ import annotations

from collections import deque
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.network.channel import Message
from PPIRLogic.registration.protocols import PROTOCOLS
from PPIRLogic.secure.fhe.evaluator import Accumulator, Evaluator
from PPIRLogic.secure.fhe.protocol import FheFixed, FheProduct
from PPIRLogic.secure.layout import CHUNK, GROUP
from PPIRLogic.secure.product import Columns, LevelInfo, Link, OperandInfo, Term

Array = NDArray[Any]


class _Wire:
    """One direction of a channel."""

    def __init__(self) -> None:
        self.sent: deque[Message] = deque()

    def send(self, kind: str, data: dict[str, Any] | None = None, payload: Any = b"") -> None:
        self.sent.append(Message(kind, data or {}, bytes(payload)))


class _Link:
    def __init__(self, out: _Wire, back: _Wire) -> None:
        self.channel, self.session, self.threads, self._back = out, b"s" * 32, 1, back

    def check(self) -> None: ...

    def receive(self, kind: str) -> Message:
        message = self._back.sent.popleft()
        assert message.kind == kind
        return message


class Parties:
    """An open level of `fhe` or `fhe_verified` with one operand, 'J'."""

    def __init__(self, protocol: str, values: Columns, level: int = 0) -> None:
        there, here = _Wire(), _Wire()
        self.one = cast(FheProduct, PROTOCOLS[protocol].product(cast(Link, _Link(there, here))))
        self.two = cast(FheFixed, PROTOCOLS[protocol].fixed_side(cast(Link, _Link(here, there))))
        self.values = values
        info = OperandInfo("J", int(np.abs(values).max()))
        self.level = LevelInfo(level, values.size, (info,), np.arange(-(-values.size // CHUNK)))

    def open_side(self) -> None:
        """Party 2 sends its protected operands; they stay in `sent` until party 1 takes them."""
        self.two.open_level(self.level, {"J": self.values}, b"1" * 32, b"2" * 32)

    @property
    def sent(self) -> list[Message]:
        return list(cast(_Wire, self.two.link.channel).sent)

    def open(self) -> Parties:
        self.open_side()
        self.one.open_level(self.level, b"1" * 32)
        return self

    def totals(self, columns: Columns) -> NDArray[np.uint64]:
        """Party 1's sums in the transform domain, (columns, 2·copies, primes, n)."""
        accumulator = Accumulator(len(columns), self.one.copies)
        for group, data in enumerate(self.one._operands["J"].data):
            block = np.zeros((len(columns), GROUP), np.int32)
            part = columns[:, group * GROUP : (group + 1) * GROUP]
            block[:, : part.shape[1]] = part
            for k in range(len(columns)):
                accumulator.add(block, k, data, k)
        return accumulator.total

    def request(self, columns: Columns) -> tuple[bytes, list[int]]:
        """What an honest party 1 sends, and the pads it keeps."""
        return self.one._blind(self.totals(columns), 1)

    def opened(self, request: bytes, count: int) -> list[int]:
        """What party 2 would answer to these bytes, or the error it would raise."""
        missing, frame = request, len(request)
        while missing:  # in frames, as they travel
            self.one.link.channel.send("request", {}, missing[:frame])
            missing = missing[frame:]
        self.two.receive({}, [Term(0, "J", "gradient")] * count)
        return [int(v) for v in self.two._opened()]

    def product(self, columns: Columns) -> list[int]:
        request, pads = self.request(columns)
        return Evaluator.unblind(np.array(self.opened(request, len(columns)), np.uint64), pads)
