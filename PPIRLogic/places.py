"""Who may have a session at a time: so many at once, the others wait in the order in which they came."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from PPIRLogic.errors import BusyError

_TICK = 0.2  # seconds between looks at whether the one that waits is still there
_REMIND = 30.0  # seconds after which it is told again, so that it knows that somebody is there


class Places:
    """`sessions` places and `queue` places to wait for one. Thread-safe."""

    def __init__(self, sessions: int, queue: int) -> None:
        self._free, self._queue = sessions, queue
        self._waiting: deque[object] = deque()
        self._state = threading.Condition()

    def take(self, tell: Callable[[int], None], check: Callable[[], None], returns: bool = False) -> None:
        """Wait for a place. `tell` hears how many are before this one, now and again; `check` raises to give up.

        One that `returns`, whose session has begun already, waits before all others.

        Raises BusyError if as many as may are waiting already, and what `tell` and `check` raise.
        """
        ticket = object()
        with self._state:
            if self._free and not self._waiting:
                self._free -= 1
                return
            if len(self._waiting) >= self._queue and not returns:
                waiting = f", and {self._queue} wait already" if self._queue else ""
                raise BusyError(f"This peer serves as many sessions as it can{waiting}; try again when one has ended.")
            if returns:
                self._waiting.appendleft(ticket)
            else:
                self._waiting.append(ticket)
        try:
            self._wait(ticket, tell, check)
        except BaseException:
            with self._state:
                self._waiting.remove(ticket)
                self._state.notify_all()
            raise

    def _wait(self, ticket: object, tell: Callable[[int], None], check: Callable[[], None]) -> None:
        told, when = -1, 0.0
        while True:
            with self._state:
                before = self._waiting.index(ticket)
                if before == 0 and self._free:
                    self._free -= 1
                    self._waiting.popleft()
                    self._state.notify_all()
                    return
            check()
            if before != told or time.monotonic() - when > _REMIND:
                tell(before)
                told, when = before, time.monotonic()
            with self._state:
                self._state.wait(_TICK)

    def give_back(self) -> None:
        with self._state:
            self._free += 1
            self._state.notify_all()
