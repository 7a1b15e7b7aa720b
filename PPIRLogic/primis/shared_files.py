"""What a site shares: sealed files under neutral names with their owner's rules, and what is on record of them."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PPIRLogic.disclosure.audit_log import AuditLog
from PPIRLogic.disclosure.record_file import FolderLock
from PPIRLogic.errors import InputError, PolicyError, RefusedError, TrustError
from PPIRLogic.files import shown_path
from PPIRLogic.network.identity import Identity
from PPIRLogic.network.service import Event
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.primis import messages as m
from PPIRLogic.primis.grant_records import GrantRecords
from PPIRLogic.primis.levels import LEVELS, NOBODY
from PPIRLogic.primis.policy import SharingPolicy
from PPIRLogic.primis.sealed_file import read_header
from PPIRLogic.primis.sealing import grant, has_key

ALWAYS = "grant given"  # is on record each time
SAME = 600.0  # seconds for which a grant whose line was lost is given again, uncounted
REMEMBERED = 256  # such grants


@dataclass(frozen=True)
class SharedFile:
    """A sealed file that a site shares, under a neutral name, and its owner's rules.

    Errors: InputError (an odd name).

    >>> SharedFile("x-ray", Path("x-ray.ppis")).policy.level
    'overview'
    """

    name: str
    path: Path
    policy: SharingPolicy = field(default_factory=SharingPolicy)

    def __post_init__(self) -> None:
        if not (self.name.isprintable() and 0 < len(self.name.strip()) == len(self.name) <= m.MAX_NAME):
            raise InputError(
                f"A sealed image needs a name of 1 to {m.MAX_NAME} printable characters, without blanks around it, not"
                f" {self.name!r:.60}. Give it with --name."
            )


class Kept:
    """A sealed file on disk and what is public of it; read anew when the file changes."""

    def __init__(self, shared: SharedFile) -> None:
        """InputError: the file cannot be read, or is no sealed image."""
        self.shared = shared
        self._lock = threading.Lock()
        self._stamp: tuple[int, ...] = ()
        self.look()

    def look(self) -> None:
        """Take note of a file that was sealed again. InputError: it cannot be read, or is no sealed image."""
        with self._lock:
            try:
                found = self.shared.path.stat()
                stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
                if stamp == self._stamp:
                    return
                header = read_header(self.shared.path)
                with open(self.shared.path, "rb") as file:
                    self.digest = hashlib.file_digest(file, "sha256").digest()
            except OSError as error:
                raise self._unreadable(error) from None
            self.header, self.size, self._stamp = header, stamp[1], stamp

    def read(self, offset: int, length: int) -> bytes:
        """A part of the file. InputError: it cannot be read any more."""
        try:
            with open(self.shared.path, "rb") as file:
                file.seek(offset)
                return file.read(length)
        except OSError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: OSError) -> InputError:
        return InputError(f"The sealed file '{shown_path(self.shared.path)}' cannot be read: {error.strerror}.")


class SharingSite(AuditLog):
    """What all sessions of a site that shares have in common: its files, its records, what it gave lately.

    Holds the home's sharing for itself until `close`. Errors: InputError (a file that cannot be read, is no sealed
    image, or whose key is not in this home), OutputError (another process shares from this home, or the records cannot
    be written), RecordError (what is on record was changed).
    """

    def __init__(
        self, identity: Identity, home: Path, shared: Sequence[SharedFile], on_event: Event = lambda event: None
    ) -> None:
        self.identity, self.home, self.trust = identity, home, TrustStore(home)
        self._lock = FolderLock(home / "primis" / "sharing", "ppir primis serve")
        try:
            self.kept = {one.name: Kept(one) for one in shared}
            for one in shared:
                if not has_key(one.path, home):
                    raise InputError(
                        f"'{shown_path(one.path)}' was not sealed by this site, so it can give no grant of it. Share it"
                        " where it was sealed, or restore the escrow file (ppir primis escrow --restore)."
                    )
            super().__init__(home, on_event, frozenset((ALWAYS,)))
            self._grants = GrantRecords(home, self.records)
        except BaseException:
            self._lock.release()
            raise
        self._granting = threading.Lock()
        self._lately: OrderedDict[tuple[str, bytes, str, str, bytes], tuple[float, bytes]] = OrderedDict()

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._lock.release()

    def seen_by(self, peer: str) -> list[str]:
        """Names of what this peer sees."""
        return [name for name, one in self.kept.items() if one.shared.policy.shows_to(peer)]

    def find(self, name: str, peer: str) -> Kept:
        """What is shared under a name; PolicyError, the same for what there is not and what this peer does not see."""
        one = self.kept.get(name)
        if one is None or not one.shared.policy.shows_to(peer):
            raise PolicyError(f"No sealed image '{name}' is offered to this site; see the catalogue.")
        self.look(one)
        return one

    def look(self, one: Kept) -> None:
        """RefusedError, with the reason in the owner's log alone, where the file cannot be read any more."""
        try:
            one.look()
        except InputError as error:
            raise self.kept_back(one, error) from None

    def kept_back(self, one: Kept, error: Exception) -> RefusedError:
        """What a peer hears of a fault of this site, which speaks of its files."""
        self.tell("fault", image=one.shared.name, reason=str(error))
        return RefusedError(f"'{one.shared.name}' cannot be had at present; its owner's log has the reason.")

    def offer(self, name: str, peer: str, given: Counter[str]) -> m.SealedOffer:
        """What a peer is told of an image. given: as of `all_given`."""
        one = self.find(name, peer)
        policy, header = one.shared.policy, one.header
        left, level = max(0, policy.grants - given[header.image_id.hex()]), policy.level_for(peer)
        if level != NOBODY:
            level = min(level, header.levels[-1], key=LEVELS.index) if left else NOBODY
        codes = tuple(code.length for code in header.codes)
        asks = policy.ask is not None
        return m.SealedOffer(name, one.size, one.digest, header.shape, header.dtype, codes, level, asks, left)

    def all_given(self, peer: str) -> Counter[str]:
        """Grants on record for a peer, by image (hex)."""
        return Counter(str(record["image"]) for record in self._grants.all(peer=peer))

    def given(self, one: Kept, peer: str) -> int:
        """Grants of an image on record for a peer."""
        return self.all_given(peer)[one.header.image_id.hex()]

    def give(self, one: Kept, question: m.Ask, card: bytes, peer: str) -> bytes:
        """A grant, on record before it is returned. PolicyError: what the rules do not permit, now that it is made.

        The same question from a site whose line was lost gets the same grant: it learns nothing more.
        """
        with self._granting:
            if (same := self.lately(question, card, peer)) is not None:
                return same
            one.shared.policy.check(question, peer, self.given(one, peer))
            policy = one.shared.policy
            try:
                made = grant(
                    one.shared.path, card, question.level, home=self.home, purpose=question.purpose, days=policy.days,
                    chain=self.records,
                )  # fmt: skip
            except (InputError, TrustError) as error:
                raise self.kept_back(one, error) from None
            self._lately[self._key(question, card, peer)] = (time.monotonic(), made)
            if len(self._lately) > REMEMBERED:
                self._lately.popitem(last=False)
        return made

    def lately(self, question: m.Ask, card: bytes, peer: str) -> bytes | None:
        """The grant that was given to this very question a few minutes ago, if one was."""
        when, made = self._lately.get(self._key(question, card, peer), (0.0, b""))
        return made if made and time.monotonic() - when < SAME else None

    @staticmethod
    def _key(question: m.Ask, card: bytes, peer: str) -> tuple[str, bytes, str, str, bytes]:
        return peer, question.digest, question.level, question.purpose, card
