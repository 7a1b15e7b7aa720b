"""Failed verifications, on record: a peer with three of them is served no more until a person lifts it.

A failed check of `fhe_verified` tells a party 1 that deviates one bit (whether its guess was right), so failures must
not be for free. They are written and synced before the peer hears of them, per peer and not per image, and survive
restarts and renewed certificates (a peer is its key's fingerprint).
"""

from __future__ import annotations

import time
from pathlib import Path

from PPIRLogic.disclosure.record_file import append_record, read_records
from PPIRLogic.errors import PolicyError

MAX_FAILURES = 3


class FailedChecks:
    """The failures of all peers of a site, in one append-only file, read anew at each question: a lift acts at once."""

    def __init__(self, home: Path) -> None:
        self._path = home / "ledger" / "failures.jsonl"

    def record(self, peer: str, session: str) -> None:
        """Put one failure on disk; OutputError if it cannot be."""
        append_record(self._path, {"time": time.time(), "peer": peer, "event": "failed", "session": session})

    def lift(self, peer: str) -> int:
        """A person forgives this peer's failures; returns how many there were."""
        count = self.count(peer)
        if count:
            append_record(self._path, {"time": time.time(), "peer": peer, "event": "lifted"})
        return count

    def count(self, peer: str) -> int:
        """Failures since the last time a person lifted them."""
        count = 0
        for _, record in read_records(self._path):
            if record.get("peer") == peer:
                count = 0 if record.get("event") == "lifted" else count + 1
        return count

    def check(self, peer: str) -> None:
        """PolicyError if this peer is blocked."""
        if self.count(peer) >= MAX_FAILURES:
            raise PolicyError(
                f"This site serves no more sessions to the peer {peer}: {MAX_FAILURES} of its evaluations failed"
                " their check. The owner of the fixed image can find out why and then run `ppir trust lift`."
            )
