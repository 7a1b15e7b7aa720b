"""The cancel token and the progress events of a run, of any method."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from PPIRLogic.errors import Cancelled


class CancelToken:
    """Set `cancel()` from any thread: the run stops at the next block of work and both sides are told."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait up to so many seconds; True once cancelled."""
        return self._event.wait(seconds)

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        if self._event.is_set():
            raise Cancelled("The registration was cancelled.")


@dataclass(frozen=True)
class Progress:
    """What a progress callback gets. Times in seconds, bytes on the wire, numbers opened so far."""

    stage: str  # connecting | waiting | opened | level | evaluation | reconnecting | finished
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
