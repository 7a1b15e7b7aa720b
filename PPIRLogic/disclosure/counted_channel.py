"""Party 2's channel as its protocol sees it: nothing leaves through it that was not counted.

A protocol gets this instead of the channel. Protected operands pass while a level opens, what an evaluation sends
masked on its way passes up to its size, an answer passes against the ledger's receipt for it, with as many numbers as
the receipt says, the few bytes of a check before it pass, and all else is stopped. So a protocol or a loss that does
not declare a number cannot open it: that is a bug, and it ends the session before the number is out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PPIRLogic.disclosure.ledger import Receipt
from PPIRLogic.network.channel import Channel

NUMBER_BYTES = 8


class UncountedError(RuntimeError):
    """A protocol tried to send what was not counted; a bug, so no PPIRError."""


class CountedChannel:
    """Everything of the channel but a free `send`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._operands = -1.0  # bytes of protected values that may still leave; negative: none
        self._room = -1  # bytes of answers that may still leave; negative: no answer at all
        self._tests = 0  # bytes that may leave to check a request before its answer; they open nothing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def send(self, kind: str, data: dict[str, Any] | None = None, payload: Any = b"") -> None:
        """UncountedError unless a level opens, or an answer was counted that has this much room."""
        size = memoryview(payload).nbytes
        if kind in ("key", "data") and size <= self._operands:
            self._operands -= size
        elif kind == "answer" and not data and size <= self._room:
            self._room -= size
        elif kind == "test" and not data and size <= self._tests:
            self._tests -= size
        else:
            raise UncountedError(f"A protocol tried to send a '{kind}' of {size} bytes that was not counted.")
        self._channel.send(kind, data, payload)

    @contextmanager
    def opening(self, most: float = math.inf) -> Iterator[None]:
        """Here protected values may leave, so many bytes: the operands of a level that opens, or masked sums."""
        self._operands = most
        try:
            yield
        finally:
            self._operands = -1.0

    @contextmanager
    def releasing(self, receipt: Receipt, each: int = NUMBER_BYTES, tests: int = 0) -> Iterator[None]:
        """Here the numbers of one receipt may leave, so many bytes for each, after `tests` bytes of a check."""
        self._room, self._tests = each * receipt.numbers, tests
        try:
            yield
        finally:
            self._room, self._tests = -1, 0
