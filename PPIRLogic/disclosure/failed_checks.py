"""Failed verifications, on record: after three of them a peer is served no more until a person lifts it.

A failed check of a verified protocol tells a party 1 that deviates one bit (whether its guess was right), so failures
must not be for free. They are written and synced before the peer hears of them, per peer and per subject (what is
shared: peers that work together have three guesses at it, not three each), and survive restarts and renewed
certificates (a peer is its key's fingerprint).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PPIRLogic.disclosure.record_file import append_record, read_records
from PPIRLogic.errors import PolicyError, VerificationError

MAX_FAILURES = 3
_LOOK = 1.0  # seconds between looks at the record while others are being checked


class FailedChecks:
    """The failures of all peers of a site, in one append-only file, read anew at each question: a lift acts at once."""

    def __init__(self, home: Path) -> None:
        self._path = home / "ledger" / "failures.jsonl"
        self._state = threading.Condition()  # guards the one below
        self._under_way: Counter[str] = Counter()  # checks that have begun, by peer and by subject

    @contextmanager
    def attempt(self, peer: str, subject: str, session: str) -> Iterator[None]:
        """Around every answer of every session. PolicyError if the peer or the subject is blocked.

        As many checks are under way at once as may still fail; the others wait. So three failures are three, however
        many sessions were opened before the first. A VerificationError inside is on record before it is raised.
        """
        self._begin(peer, subject)
        try:
            yield
        except VerificationError:
            self.record(peer, session, subject)
            raise
        finally:
            with self._state:
                self._under_way.subtract(_names(peer, subject))
                self._state.notify_all()

    def _begin(self, peer: str, subject: str) -> None:
        names = _names(peer, subject)
        with self._state:
            while True:
                self.check(peer, subject)
                counts = self.count(peer), self.count_of_subject(subject)
                if all(n + self._under_way[name] < MAX_FAILURES for n, name in zip(counts, names, strict=True)):
                    self._under_way.update(names)
                    return
                self._state.wait(_LOOK)

    def record(self, peer: str, session: str, subject: str = "") -> None:
        """Put one failure on disk; OutputError if it cannot be."""
        event = {"time": time.time(), "peer": peer, "event": "failed", "session": session}
        append_record(self._path, {**event, "subject": subject} if subject else event)

    def lift(self, peer: str) -> int:
        """A person forgives this peer's failures, of whatever subject; returns how many there were."""
        count = self.count(peer)
        if count:
            append_record(self._path, {"time": time.time(), "peer": peer, "event": "lifted"})
        return count

    def count(self, peer: str) -> int:
        """Failures of this peer since the last time a person lifted them."""
        return len(self._failed().get(peer, ()))

    def count_of_subject(self, subject: str) -> int:
        """Failures about this subject, of all peers, that no person has lifted."""
        return sum(subjects.count(subject) for subjects in self._failed().values()) if subject else 0

    def _failed(self) -> dict[str, list[str]]:
        """By peer, the subjects of its failures that no person has lifted."""
        failed: dict[str, list[str]] = {}
        for _, record in read_records(self._path):
            peer = str(record.get("peer"))
            if record.get("event") == "lifted":
                failed.pop(peer, None)
            else:
                failed.setdefault(peer, []).append(str(record.get("subject", "")))
        return failed

    def check(self, peer: str, subject: str = "") -> None:
        """PolicyError if this peer, or this subject for everybody, is blocked."""
        if self.count(peer) >= MAX_FAILURES:
            raise PolicyError(
                f"This site serves no more sessions to the peer {peer}: {MAX_FAILURES} of its evaluations failed"
                " their check. The owner of the fixed image can find out why and then run `ppir trust lift`."
            )
        if self.count_of_subject(subject) >= MAX_FAILURES:
            raise PolicyError(
                f"This site serves this image to nobody for now: {MAX_FAILURES} evaluations of it failed their check,"
                " of one peer or of several. Its owner can find out why (`ppir trust`) and then run `ppir trust lift`"
                " for those peers."
            )


def _names(peer: str, subject: str) -> tuple[str, str]:
    return f"peer {peer}", f"subject {subject}"
