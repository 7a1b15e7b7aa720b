"""Both sides of an encrypted protocol without a network or threads: an attack can step in between any two calls."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.network.channel import Message
from PPIRLogic.secure.fhe.bfv import floor_modulo_t
from PPIRLogic.secure.fhe.equality import PARTY_1, EqualityTest, context_of
from PPIRLogic.secure.fhe.evaluator import Accumulator, Evaluator
from PPIRLogic.secure.fhe.key_holder import open_answers
from PPIRLogic.secure.fhe.protocol import COPIES, FheFixed, FheProduct
from PPIRLogic.secure.layout import CHUNK, GROUP
from PPIRLogic.secure.product import Columns, LevelInfo, Link, OperandInfo, Term

Array = NDArray[Any]
SESSION = b"s" * 32


class _Wire:
    """One direction of a channel."""

    def __init__(self) -> None:
        self.sent: deque[Message] = deque()

    def send(self, kind: str, data: dict[str, Any] | None = None, payload: Any = b"") -> None:
        self.sent.append(Message(kind, data or {}, bytes(payload)))


class _Link:
    def __init__(self, out: _Wire, back: _Wire) -> None:
        self.channel, self.session, self.threads, self._back = out, SESSION, 1, back
        self.reply: Callable[[], None] = lambda: None  # what the other side does when this one waits

    def check(self) -> None: ...

    def receive(self, kind: str) -> Message:
        if not self._back.sent:
            self.reply()
        message = self._back.sent.popleft()
        assert message.kind == kind
        return message


class Parties:
    """An open level of `fhe` with one operand, 'J'."""

    def __init__(self, values: Columns, level: int = 0) -> None:
        self._there, self._here = _Wire(), _Wire()
        self._waits = _Link(self._here, self._there)
        self.one = FheProduct(cast(Link, _Link(self._there, self._here)))
        self.two = FheFixed(cast(Link, self._waits))
        self.values = values
        info = OperandInfo("J", int(np.abs(values).max()))
        self.level = LevelInfo(level, values.size, (info,), np.arange(-(-values.size // CHUNK)))

    def open_side(self) -> None:
        """Party 2 sends its protected operands; they stay in `sent` until party 1 takes them."""
        self.two.open_level(self.level, {"J": self.values}, b"1" * 32, b"2" * 32)

    @property
    def sent(self) -> list[Message]:
        return list(self._here.sent)

    def open(self) -> Parties:
        self.open_side()
        self.one.open_level(self.level, b"1" * 32)
        return self

    def totals(self, columns: Columns) -> NDArray[np.uint64]:
        """Party 1's sums in the transform domain, (columns, 3, primes, n)."""
        accumulator = Accumulator(len(columns), COPIES)
        for group, data in enumerate(self.one._operands["J"].data):
            block = np.zeros((len(columns), GROUP), np.int32)
            part = columns[:, group * GROUP : (group + 1) * GROUP]
            block[:, : part.shape[1]] = part
            for k in range(len(columns)):
                accumulator.add(block, [k], data, [k])
        return accumulator.total

    def request(self, columns: Columns) -> tuple[bytes, list[int], Array]:
        """What an honest party 1 sends, the pads R₁ it keeps, and the numbers r₂ that it can show."""
        return self.hidden(self.totals(columns))

    def hidden(self, totals: NDArray[np.uint64]) -> tuple[bytes, list[int], Array]:
        """The same for sums that are there already."""
        message, (first, second) = self.one._blind(totals, 1)
        return message, first, np.array([floor_modulo_t(pad) for pad in second], np.uint64)

    def seen(self, request: bytes, count: int) -> Array:
        """What party 2 opens of these bytes under each of its secrets, before any test: (count, 2)."""
        return open_answers(self.two._keys, request, count)[:, :, 0]

    def released(self, request: bytes, count: int, secret: Array) -> list[int]:
        """What party 2 answers to a party 1 that sends these bytes and then shows `secret`; or the error it raises."""
        self.one.link.channel.send("request", {}, request)
        self.two.receive({}, [Term(0, "J", "gradient")] * count)
        test = EqualityTest(PARTY_1, context_of(SESSION, self.level.index, hashlib.sha256(request).digest()), secret)

        def show() -> None:
            test.meet(self._here.sent.popleft().payload)
            self.one.link.channel.send("test", {}, test.share + test.tag())

        self._waits.reply = show
        self.two.answer()
        assert test.confirms(self._here.sent.popleft().payload)
        return [int(v) for v in np.frombuffer(self._here.sent.popleft().payload, "<u8")]

    def product(self, columns: Columns) -> list[int]:
        request, pads, secret = self.request(columns)
        return Evaluator.unblind(np.array(self.released(request, len(columns), secret), np.uint64), pads)
