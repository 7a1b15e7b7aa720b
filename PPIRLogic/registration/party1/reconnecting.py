"""A session that outlives its connection: party 1 calls again and goes on where it was.

Party 1 holds all that the optimiser knows. When the connection to party 2 or to the dealer is lost, it opens a new
session that names the first one, opens the current level again and repeats the exchange that was lost. Nonces, keys
and masks are new; samples, quantised columns and sums are the same, so the path is the undisturbed run's, bit for
bit. Party 2 counts what it answers again, under the first session's limits. What it counted and could not deliver is
entered in party 1's ledger when the two meet again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.disclosure.ledger import Entry, SessionLedger
from PPIRLogic.errors import BusyError, DealerError, PeerError, PPIRError, ProtocolError
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.messages import error_from
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.registration.levels import Level
from PPIRLogic.registration.losses import Loss
from PPIRLogic.registration.party1.session import ClientSession, Source
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.session import entries_for_party2, entries_of
from PPIRLogic.secure.prg import new_key
from PPIRLogic.secure.product import Term

Result = TypeVar("Result")
MAX_REPEATS = 5  # losses in one and the same exchange: then it is not the network
FIRST_PAUSE, MAX_PAUSE = 0.1, 3.0  # seconds between two calls
CALL_TIMEOUT = 5.0  # seconds for one call; a cancel waits for it


Kind = TypeVar("Kind", bound="ReconnectingSession")


def call_peer(
    kind: type[Kind], home_folder: Path, address: str, check: Callable[[], None], threads: int,
    tell: Callable[[str, str], None], patience: float,
) -> Kind:  # fmt: skip
    """A session of this kind with a peer, as this site (`home_folder`: its home), with a ledger file of its own."""
    identity, trust = load_or_create_identity(home_folder), TrustStore(home_folder)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = home_folder / "ledger" / "sessions" / f"{stamp}_party1_{new_key().hex()[:8]}.jsonl"
    records = Chain(home_folder)
    ledger = SessionLedger(path, {"peer": address}, files=records)
    ledger.begin()
    tell("connecting", address)
    return kind(address, identity, trust, check, threads, ledger, tell, records, patience=patience)


class ReconnectingSession(ClientSession):
    """A ClientSession that reconnects for up to `patience` seconds after a loss; 0: a loss ends it.

    `tell` hears of a loss and of waiting, in words. `reconnections` counts.
    """

    def __init__(self, *arguments: Any, patience: float, **options: Any) -> None:
        self._patience, self.reconnections = patience, 0
        self._exchanging = False
        self._before = [0, 0, 0, 0]  # bytes of former connections: peer and dealer, sent and received
        self._level: tuple[Level, Loss, NDArray[Any] | None] | None = None
        self._asked: list[Entry] = []  # the evaluation that is under way
        super().__init__(*arguments, **options)

    # ------------------------------------------------------------------------------------------ what is asked

    def open(self, request: Request, dealer: str = "", resumes: bytes = b"") -> None:
        self._dealer_address = dealer
        self._exchanging = True
        try:
            super().open(request, dealer, resumes)
        finally:
            self._exchanging = False

    def open_level(self, level: Level, loss: Loss, blocks: NDArray[Any] | None) -> Any:
        self._level = None
        out = self._repeated_until_done(lambda: super(ReconnectingSession, self).open_level(level, loss, blocks), level)
        self._level = (level, loss, blocks)
        return out

    def evaluate(
        self, level: Level, source: Source, stage: str, terms: Sequence[Term], details: Mapping[str, Any] | None = None
    ) -> list[int]:
        protocol = self.protocol
        if protocol.counted:
            self._asked = [
                *entries_of(terms, protocol.bits_of(terms), level.factor, self._evaluation),
                *entries_for_party2(terms, protocol, level.factor),
            ]
        values = self._repeated_until_done(
            lambda: super(ReconnectingSession, self).evaluate(level, source, stage, terms, details), level
        )
        self._asked = []
        return values

    def finish(self) -> dict[str, Any]:
        return self._repeated_until_done(super().finish, None)

    def traffic(self) -> tuple[int, int, int, int]:
        now = super().traffic()
        return (*(a + b for a, b in zip(self._before, now, strict=True)),)  # type: ignore[return-value]

    def _check(self) -> None:
        """Outside of an exchange the state of the connection is of no interest: the next exchange finds out."""
        self._user_check()
        if self._exchanging:
            self.link.check_channel()

    # --------------------------------------------------------------------------------------------- after a loss

    def _repeated_until_done(self, exchange: Callable[[], Result], level: Level | None) -> Result:
        """The exchange's result, repeated after every loss that can be mended."""
        for repeat in range(MAX_REPEATS + 1):
            try:
                self._exchanging = True
                return exchange()
            except PPIRError as problem:
                if repeat == MAX_REPEATS or not self._is_loss(problem):
                    raise
                self._exchanging = False
                self._return(self.explain(problem), level)
            finally:
                self._exchanging = False
        raise AssertionError("not reached")

    def _is_loss(self, problem: PPIRError) -> bool:
        """A broken connection to the peer or the dealer; not a refusal, a deliberate end or a silent program.

        Where both images move, party 2's half of the level is lost with its session: such a run ends.
        """
        if not self._patience or self.protocol.two_sided or not isinstance(problem, PeerError):
            return False
        said = self.channel.closing_message
        if said is not None:
            return isinstance(error_from(said), DealerError)
        return self.channel.interrupted or isinstance(problem, DealerError)

    def _return(self, problem: PPIRError, level: Level | None) -> None:
        """Reconnect until it works, the patience ends or somebody says no; raises the first problem if it ends."""
        began, pause = time.monotonic(), FIRST_PAUSE
        self._tell("reconnecting", str(problem))
        while True:
            try:
                self._user_check()
                self._begin_anew(level)
                self.reconnections += 1
                return
            except (PeerError, BusyError) as again:
                said = self.channel.closing_message
                refused = said is not None and not isinstance(error_from(said), (DealerError, BusyError))
                if refused or time.monotonic() - began > self._patience:
                    raise (self.explain(again) if refused else problem) from None
            self._rest(pause)
            pause = min(2 * pause, MAX_PAUSE)

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._user_check()
            time.sleep(min(0.1, left))

    def _begin_anew(self, level: Level | None) -> None:
        """A new connection and a new session that goes on for the first one, with its current level open."""
        self._before = list(self.traffic())
        self.close()
        geometry, levels, grants, number = self.geometry, self.levels, self.grants, self._evaluation
        self._connect(CALL_TIMEOUT)
        self.open(self.request, self._dealer_address, self.first_name)
        same = all(np.array_equal(a.samples, b.samples) for a, b in zip(levels, self.levels, strict=True))
        if self.geometry != geometry or not same:
            raise ProtocolError("The peer changed its image or its samples while the connection was lost.")
        self.grants = grants
        self._settle(level)
        if self._level is not None:
            self._exchanging = True
            try:
                super().open_level(*self._level)
            finally:
                self._exchanging = False
            self._evaluation = number

    def _settle(self, level: Level | None) -> None:
        """Enter what party 2 counted and could not deliver: it may have left, and both sides must say the same."""
        missing = self.counted_there - self.ledger.numbers
        if missing <= 0:
            return
        if missing == sum(e.numbers for e in self._asked):
            lost = self._asked
        else:
            bits, factor = self.protocol.bits, level.factor if level else 0
            lost = [Entry("lost", "party 1", missing, bits, factor)]
        for entry in lost:
            self.ledger.record(entry)
