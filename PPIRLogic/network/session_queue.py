"""Who may have a session at a time: so many at once, the others wait in the order in which they came.

One peer may have a quarter of the places to wait, and all sessions but one (one at least of both), so that it cannot
keep the others out. One that has all of its sessions is passed over while it waits.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile

from PPIRLogic.errors import BusyError
from PPIRLogic.network.quota import Quota

_TICK = 0.2  # seconds between looks at whether the one that waits is still there
_REMIND = 30.0  # seconds after which it is told again, so that it knows that somebody is there


@dataclass(eq=False)
class _Ticket:
    peer: str
    returns: bool


class SessionQueue:
    """`sessions` places, `of_peer` of them at most for one peer (0: all but one), and `queue` places to wait for one,
    `each` of these at most for one peer. Thread-safe.
    """

    def __init__(self, sessions: int, queue: int, of_peer: int = 0) -> None:
        self._sessions = self._free = sessions
        self._running = Quota(of_peer or max(1, sessions - 1))
        self._queue, self.each = queue, max(1, queue // 4)
        self._waiting: deque[_Ticket] = deque()
        self._state = threading.Condition()

    def take(self, peer: str, tell: Callable[[int], None], check: Callable[[], None], returns: bool = False) -> None:
        """Wait for a place. `tell` hears how many are before this one, now and again; `check` raises to give up.

        peer: its fingerprint. One that `returns`, whose session has begun already, waits before all others; as many
        of a peer as there are sessions at once.

        Raises BusyError if as many as may are waiting already, and what `tell` and `check` raise.
        """
        ticket = _Ticket(peer, returns)
        with self._state:
            if self._is_next(ticket):
                return
            self._check_room(ticket)
            at = sum(t.returns for t in self._waiting) if returns else len(self._waiting)
            self._waiting.insert(at, ticket)
        try:
            self._wait(ticket, tell, check)
        except BaseException:
            with self._state:
                self._waiting.remove(ticket)
                self._state.notify_all()
            raise

    def _is_next(self, ticket: _Ticket) -> bool:
        """Whether there is a place for this one, which is taken then: all before it have as many as they may."""
        before = [t.peer for t in takewhile(lambda other: other is not ticket, self._waiting)]
        if not self._free or any(self._running.taken(peer) < self._running.each for peer in before):
            return False
        if not self._running.take(ticket.peer):
            return False
        self._free -= 1
        return True

    def _check_room(self, ticket: _Ticket) -> None:
        busy = "This peer serves as many sessions as it can"
        if self._free and self._running.taken(ticket.peer) >= self._running.each:
            busy = f"This peer serves {self._running.each} of your sessions, the most that one site may have there"
        own = sum(t.peer == ticket.peer and t.returns == ticket.returns for t in self._waiting)
        most = self._sessions if ticket.returns else self.each
        if len(self._waiting) >= self._queue and not ticket.returns:
            waiting = f", and {self._queue} wait already" if self._queue else ""
            raise BusyError(f"{busy}{waiting}; try again when one has ended.")
        if own >= most:
            raise BusyError(
                f"{busy}, and {own} of your own wait already, the most that one site may have waiting there; try again"
                " when one has ended."
            )

    def _wait(self, ticket: _Ticket, tell: Callable[[int], None], check: Callable[[], None]) -> None:
        reported, when = -1, 0.0
        while True:
            with self._state:
                before = self._waiting.index(ticket)
                if self._is_next(ticket):
                    self._waiting.remove(ticket)
                    self._state.notify_all()
                    return
            check()
            if before != reported or time.monotonic() - when > _REMIND:
                tell(before)
                reported, when = before, time.monotonic()
            with self._state:
                self._state.wait(_TICK)

    def give_back(self, peer: str) -> None:
        with self._state:
            self._running.give_back(peer)
            self._free += 1
            self._state.notify_all()
