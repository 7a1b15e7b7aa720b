"""Tests of a peer's good faith that failed or did not end, on record: three, and a person decides.

Under `fhe` every answer is preceded by a test, which tells a side that deviates one bit of the other: whether its guess
was right. So none may be for free. A side puts a test on record before it does what depends on its secrets, and takes
it off when the test has passed. A test that failed, or was left because the line was cut, stays; after three nothing
runs with that peer until a person lifts them. Both sides keep such a record per peer (its key's fingerprint), and the
owner of an image per subject (what is shared: peers that work together have three guesses at it, not three each). It is
synced to disk, across restarts and renewed certificates.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.disclosure.record_file import RecordFiles, locked_file, on_disk
from PPIRLogic.errors import OutputError, PolicyError, VerificationError
from PPIRLogic.files import make_private_directory, write_private_file

MAX_FAILURES = 3
_KEPT_BACK = "no evaluation is tested"
LEFT = "left"  # the event of a test that did not end
_LOOK = 0.05  # seconds between looks at the record while others are being tested


class FailedChecks:
    """The tests of all peers of a site, read anew at each question: a lift acts at once."""

    def __init__(self, home: Path, files: RecordFiles | None = None) -> None:
        """files: the site's chain of records, if it is open already."""
        self._files = files or Chain(home)
        self._path, self._tests = home / "ledger" / "failures.jsonl", home / "ledger" / "tests"
        self._begins = threading.Lock()  # guards the one below
        self._under_way: dict[Path, str] = {}  # tests of this process, and what each is about

    @contextmanager
    def test(
        self, peer: str, session: str, wait: Callable[[], None] = lambda: None, subject: str = ""
    ) -> Iterator[None]:
        """One test of a peer, on record while it lasts, and for good if it fails or is left by any other error.

        One at a time per peer, whatever the number of sessions and processes, and as many at once about a subject as
        may still fail; `wait` is called while others are under way. So three failures are three, however many sessions
        were open before the first. PolicyError if the peer or the subject is blocked, OutputError if the disk refuses
        the record.
        """
        own = _name(peer)
        self._make_folder()
        with locked_file(self._tests / f"{own}.lock", wait):
            self._settle(peer)
            self.check(peer, subject)
            file = self._tests / f"{own}.{secrets.token_hex(8)}.json"
            while not self._begin(file, peer, session, subject):
                wait()
                time.sleep(_LOOK)
            try:
                yield
            except VerificationError:
                self.record(peer, session, subject)
                file.unlink()
                raise
            except BaseException:
                with contextlib.suppress(OutputError):  # then the file stays, and says the same
                    self._leave(peer, session, file)
                raise
            else:
                file.unlink()
            finally:
                with self._begins:
                    self._under_way.pop(file, None)

    def _begin(self, file: Path, peer: str, session: str, subject: str) -> bool:
        """Put a test on record; False where others about the subject are under way that might all fail."""
        with self._begins:
            self.check(peer, subject)
            may_fail = self.count_of_subject(subject) + list(self._under_way.values()).count(subject)
            if subject and may_fail >= MAX_FAILURES:
                return False
            content = {"time": time.time(), "peer": peer, "session": session}
            on_disk(lambda: write_private_file(file, json.dumps(content).encode()), _KEPT_BACK)
            self._under_way[file] = subject
            return True

    def record(self, peer: str, session: str, subject: str = "") -> None:
        """Put one failure on disk; OutputError if it cannot be."""
        event = {"time": time.time(), "peer": peer, "event": "failed", "session": session}
        self._files.append(self._path, {**event, "subject": subject} if subject else event)

    def _leave(self, peer: str, session: str, file: Path) -> None:
        """Put on record that a test did not end; its own file is needed no more."""
        self._files.append(self._path, {"time": time.time(), "peer": peer, "event": LEFT, "session": session})
        file.unlink(missing_ok=True)

    def _settle(self, peer: str) -> None:
        """Tests whose process was killed: none of this peer is under way now."""
        for file in self._unfinished(peer):
            self._leave(peer, "", file)

    def lift(self, peer: str) -> int:
        """A person forgives this peer's failed and unfinished tests; returns how many there were."""
        count = self.count(peer)
        if count:
            self._files.append(self._path, {"time": time.time(), "peer": peer, "event": "lifted"})
            for file in self._unfinished(peer):
                file.unlink(missing_ok=True)
        return count

    def count(self, peer: str) -> int:
        """Tests that failed or did not end since the last time a person lifted them; one under way counts, too."""
        return len(self._failed().get(peer, ())) + len(self._unfinished(peer))

    def count_of_subject(self, subject: str) -> int:
        """Tests about this subject, of all peers, that failed and that no person has lifted. One that was left does not
        count: lines break, and a year of honest peers would close the image."""
        return sum(subjects.count(subject) for subjects in self._failed().values()) if subject else 0

    def _failed(self) -> dict[str, list[str]]:
        """By peer, the subjects of its failures that no person has lifted."""
        failed: dict[str, list[str]] = {}
        for _, record in self._files.read(self._path):
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
                f"This site runs no more sessions with the peer {peer}: {MAX_FAILURES} tests of its evaluations failed,"
                " or were left when the line was cut, and each can tell it one bit. A person of this site can find out"
                f" why and then run `ppir trust lift {peer}`."
            )
        if self.count_of_subject(subject) >= MAX_FAILURES:
            raise PolicyError(
                f"This site serves this image to nobody for now: {MAX_FAILURES} tests of evaluations of it failed,"
                " of one peer or of several. Its owner can find out why (`ppir trust`) and then run `ppir trust lift`"
                " for those peers."
            )

    def _unfinished(self, peer: str) -> list[Path]:
        return list(self._tests.glob(f"{_name(peer)}.*.json"))

    def _make_folder(self) -> None:
        on_disk(lambda: make_private_directory(self._tests), _KEPT_BACK)


def _name(peer: str) -> str:
    return hashlib.sha256(peer.encode()).hexdigest()[:32]
