"""Tests of a peer's good faith that failed or did not end, on record: three, and a person decides.

Under `fhe` every answer is preceded by a test, which tells a side that deviates one bit of the other: whether its guess
was right. So none may be for free. A side puts a test on record before it does what depends on its secrets, and takes
it off when the test has passed. A test that failed, or was left because the line was cut, stays; after three nothing
runs with that peer until a person lifts them. Both sides keep such a record: per peer (its key's fingerprint) and not
per image, synced to disk, across restarts and renewed certificates.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PPIRLogic.disclosure.record_file import append_record, locked_file, read_records
from PPIRLogic.errors import OutputError, PolicyError, VerificationError
from PPIRLogic.files import make_private_directory, write_private_file

MAX_FAILURES = 3


class FailedChecks:
    """The tests of all peers of a site, read anew at each question: a lift acts at once."""

    def __init__(self, home: Path) -> None:
        self._path, self._tests = home / "ledger" / "failures.jsonl", home / "ledger" / "tests"

    @contextmanager
    def test(self, peer: str, session: str, wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """One test of a peer, on record while it lasts, and for good if it fails or is left by any other error.

        One at a time per peer, whatever the number of sessions and processes; `wait` is called while another one is
        under way. PolicyError if the peer is blocked, OutputError if the disk refuses the record.
        """
        own = hashlib.sha256(peer.encode()).hexdigest()[:32]
        self._make_folder()
        with locked_file(self._tests / f"{own}.lock", wait):
            self.check(peer)
            file = self._tests / f"{own}.{secrets.token_hex(8)}.json"
            content = {"time": time.time(), "peer": peer, "session": session}
            self._on_disk(lambda: write_private_file(file, json.dumps(content).encode()))
            try:
                yield
            except VerificationError:
                self.record(peer, session)
                file.unlink()
                raise
            file.unlink()

    def record(self, peer: str, session: str) -> None:
        """Put one failure on disk; OutputError if it cannot be."""
        append_record(self._path, {"time": time.time(), "peer": peer, "event": "failed", "session": session})

    def lift(self, peer: str) -> int:
        """A person forgives this peer's failed and unfinished tests; returns how many there were."""
        count = self.count(peer)
        if count:
            append_record(self._path, {"time": time.time(), "peer": peer, "event": "lifted"})
            for file in self._unfinished(peer):
                file.unlink(missing_ok=True)
        return count

    def count(self, peer: str) -> int:
        """Tests that failed or did not end since the last time a person lifted them; one under way counts, too."""
        count = 0
        for _, record in read_records(self._path):
            if record.get("peer") == peer:
                count = 0 if record.get("event") == "lifted" else count + 1
        return count + len(self._unfinished(peer))

    def check(self, peer: str) -> None:
        """PolicyError if this peer is blocked."""
        if self.count(peer) >= MAX_FAILURES:
            raise PolicyError(
                f"This site runs no more sessions with the peer {peer}: {MAX_FAILURES} tests of its evaluations failed,"
                " or were left when the line was cut, and each can tell it one bit. A person of this site can find out"
                f" why and then run `ppir trust lift {peer}`."
            )

    def _unfinished(self, peer: str) -> list[Path]:
        return list(self._tests.glob(f"{hashlib.sha256(peer.encode()).hexdigest()[:32]}.*.json"))

    def _make_folder(self) -> None:
        self._on_disk(lambda: make_private_directory(self._tests))

    @staticmethod
    def _on_disk(write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            raise OutputError(
                f"The ledger folder could not be written ({error.strerror or error}); no evaluation is tested that is"
                " not on record. Free some space or check the folder's permissions."
            ) from error
