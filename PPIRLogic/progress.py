"""The cancel token and the progress events of a run, of any method."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from PPIRLogic.errors import Cancelled


class CancelToken:
    """Set `cancel()` from any thread: the run stops at the next block of work and both sides are told.

    >>> token = CancelToken()
    >>> token.check()  # raises once cancelled
    >>> token.cancel()
    >>> token.cancelled, token.wait(1.0)
    (True, True)
    >>> token.check()
    Traceback (most recent call last):
    PPIRLogic.errors.Cancelled: The run was cancelled.
    """

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the run to stop."""
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait up to so many seconds; True once cancelled."""
        return self._event.wait(seconds)

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise Cancelled once `cancel` was called."""
        if self._event.is_set():
            raise Cancelled("The run was cancelled.")


@dataclass(frozen=True)
class Progress:
    """What a progress callback gets.

    stage: connecting, waiting, opened, level, evaluation, reconnecting, note (in `detail`), finished. level: from 1 to
    levels; factor: its shrink factor. value: the loss, not a number before the first one. seconds, bytes on the wire
    and numbers opened, each since the run began.

    >>> def show(step: Progress) -> None:
    ...     if step.stage == "evaluation":
    ...         print(f"level {step.level}/{step.levels}  loss {step.value:.3f}  {step.numbers} numbers")
    >>> show(Progress("connecting"))
    >>> show(Progress("evaluation", level=1, levels=3, factor=4, evaluation=2, value=0.25, numbers=16))
    level 1/3  loss 0.250  16 numbers
    """

    stage: str  # connecting | waiting | opened | level | evaluation | reconnecting | note | finished
    level: int = 0
    levels: int = 0
    factor: int = 0
    evaluation: int = 0
    value: float = float("nan")
    seconds: float = 0.0
    bytes_sent: int = 0
    bytes_received: int = 0
    numbers: int = 0
    detail: str = ""
