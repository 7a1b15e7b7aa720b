"""What all sessions of a serving site share: its images, its policies, and what is on record of every peer."""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PPIRLogic.arguments import check_kinds
from PPIRLogic.disclosure.accounts import Accounts, ImageAccount
from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.disclosure.failed_checks import FailedChecks
from PPIRLogic.disclosure.heads import Heads, SyslogHeads
from PPIRLogic.disclosure.record_file import FolderLock
from PPIRLogic.disclosure.subjects import Subjects
from PPIRLogic.errors import InputError
from PPIRLogic.files import remove_left_over
from PPIRLogic.network.identity import Identity
from PPIRLogic.network.quota import Repeats
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.registration.party2.fixed_image import FixedImage
from PPIRLogic.registration.party2.policy import Policy
from PPIRLogic.registration.party2.unfinished_sessions import UnfinishedSessions
from PPIRLogic.registration.points.fixed_points import FixedPoints
from PPIRLogic.registration.session import POOL_SEED_BYTES

MAX_NAME = 64  # characters of what an image is offered as
ENTRIES, ENTRY_SECONDS = 30, 60.0  # of one kind and peer in the audit log at once, and then one every so many seconds
HEAD_AFTER = ("listening", "session finished", "session ended", "session failed", "stopped")  # is sent to a syslog
Event = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Shared:
    """What a site serves: an image or a point set, its owner's policy, and the dealer for mpc.

    dealer: its address, 'host:port' ('' for none). dealer_fingerprint: which one, if several are trusted as dealers.
    subject: whose image it is (patient or series): all images of one subject share a budget. '' for what a DICOM file
    says; copies of an image are recognised in any case. Errors: InputError (something else, an odd name).

    >>> from PPIRLogic import FixedPoints, PointSet, Policy
    >>> Shared(FixedPoints("landmarks", PointSet([[0, 0], [10, 0], [0, 10]])), Policy(), subject="patient 7").image.name
    'landmarks'
    """

    image: FixedImage | FixedPoints
    policy: Policy
    dealer: str = ""
    dealer_fingerprint: str = ""
    subject: str = ""

    def __post_init__(self) -> None:
        """InputError: an image or a policy that is something else."""
        if not isinstance(self.image, (FixedImage, FixedPoints)) or not isinstance(self.policy, Policy):
            raise InputError(
                "What is shared is a FixedImage or FixedPoints with a Policy, not a"
                f" {type(self.image).__name__} with a {type(self.policy).__name__}."
            )
        texts = {"dealer": self.dealer, "dealer_fingerprint": self.dealer_fingerprint, "subject": self.subject}
        check_kinds("Shared", texts, dict.fromkeys(texts, (str,)))
        name = self.image.name
        if not (isinstance(name, str) and name.isprintable() and 0 < len(name.strip()) == len(name) <= MAX_NAME):
            raise InputError(
                f"What is shared needs a name of 1 to {MAX_NAME} printable characters, without blanks around it, not"
                f" {name!r:.60}. Give it with --name."
            )


class ServingSite:
    """Holds the ledger's folder for itself until `close`. `on_event` gets one map per thing that happens.

    Errors: OutputError (another process uses the ledger, or it cannot be written), RecordError (what is on record was
    changed, cut or rolled back, or its key is lost).
    """

    def __init__(
        self,
        identity: Identity,
        home: Path,
        shared: Sequence[Shared],
        threads: int,
        on_event: Event,
        fixed_pools: int | None,
        syslog: str = "",
    ) -> None:
        """syslog: where heads of the records are sent, 'host:port' or the path of a socket ('': nowhere)."""
        self.identity, self.trust, self.home, self.threads = identity, TrustStore(home), home, threads
        self.shared = {s.image.name: s for s in shared}
        self._on_event, self._fixed_pools = on_event, fixed_pools
        self._syslog = SyslogHeads(syslog) if syslog else None
        self._lock = FolderLock(home / "ledger")
        try:
            self._open_records()
        except BaseException:
            self._lock.release()
            raise

    def _open_records(self) -> None:
        """Check what is on record and look at what is shared."""
        ledger = self.home / "ledger"
        remove_left_over(ledger)
        self.records = records = Chain(self.home)
        records.open(sessions=True)
        self._key = records.image_key
        self.heads = Heads(records, self.identity)
        for record in records.news:
            self._on_event(record)
        self.accounts = Accounts(ledger / "accounts", records)
        self.failures = FailedChecks(self.home, records)
        self.unfinished = UnfinishedSessions(ledger / "unfinished", records)
        self.unfinished.tidy()
        self._repeats = Repeats(ENTRIES, ENTRY_SECONDS)
        self._ids: dict[str, str] = {}  # what identifies an image takes a pass over it
        self._identifying = threading.Lock()
        self._subjects = Subjects(ledger / "subjects.jsonl", self._key, records)
        for name, one in self.shared.items():
            self._declare(name, one)

    def close(self) -> None:
        try:
            self._log_repeats(everything=True)
        finally:
            self._lock.release()
            if self._syslog is not None:
                self._syslog.close()

    def tidy(self) -> None:
        """Strike off what has expired, and put on record how often peers did what was left out."""
        self.unfinished.tidy()
        self._log_repeats()

    def log(self, event: str, **details: Any) -> None:
        """Append to the audit log, then tell the owner: what was told is on record.

        What a peer does again and again is told, and counted in a later entry (`repeated`), so that it cannot fill the
        disk. A session that disclosed `new` numbers is always on record, and does not count.
        """
        peer, repeated = details.get("peer", ""), {}
        if peer and not details.get("new"):
            passes = self._repeats.passes(f"{event}\n{peer}")
            if passes is None:
                self.tell(event, **details)
                return
            repeated = {"repeated": passes} if passes else {}
        elif peer:
            for counted in ("info", "session", "session resumed", "session ended"):
                self._repeats.give_back(f"{counted}\n{peer}")
        self._on_event(self.records.log(event, **details, **repeated))
        if self._syslog is not None and event in HEAD_AFTER and (problem := self._syslog.send(self.heads.own())):
            self.tell("syslog failed", reason=problem)

    def _log_repeats(self, everything: bool = False) -> None:
        for key, count in self._repeats.due(everything):
            event, _, peer = key.partition("\n")
            self.records.log(event, peer=peer, repeated=count)

    def tell(self, event: str, **details: Any) -> None:
        """Tell the owner only: single evaluations are in the ledger already."""
        self._on_event({"time": round(time.time(), 3), "event": event, **details})

    def _declare(self, name: str, shared: Shared) -> None:
        """Whose image it is; the owner hears of a copy of what was shared before, whose account goes on."""
        marks = shared.image.sketch(self._key)
        copies = self._subjects.declare(self.image_id(name), marks, shared.subject or shared.image.subject)
        if copies:
            known = [self.accounts.name_of(copy) or copy for copy in copies]
            self.log("image recognised", image=name, copy_of=known)

    def subject(self, name: str) -> tuple[str, ...]:
        """The digests of all images of this one's subject, first the one that was shared first."""
        return self._subjects.images_of(self.image_id(name))

    def account(self, peer: str, name: str, authority: str | None = None) -> ImageAccount:
        """A peer's account with an image, bounded with all that is on record of its subject."""
        budget = self.shared[name].policy.budget
        return self.accounts.account(peer, self.image_id(name), budget, name, self.subject(name), authority)

    def image_id(self, name: str) -> str:
        with self._identifying:
            if name not in self._ids:
                self._ids[name] = self.shared[name].image.identifier(self._key)
            return self._ids[name]

    def pool_seed(self, name: str) -> bytes:
        """The seed of an image's random pools, the same in every session: from this site's secret and the image."""
        if self._fixed_pools is not None:
            return self._fixed_pools.to_bytes(POOL_SEED_BYTES, "big")
        return hmac.digest(self._key, b"pool" + self.image_id(name).encode(), "sha256")[:POOL_SEED_BYTES]
