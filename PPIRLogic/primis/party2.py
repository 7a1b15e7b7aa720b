"""Party 2 of sharing: keeps sealed images for peers, and gives grants under their owner's rules.

What a sealed file holds is for anybody to keep; what counts is who gets a grant. Each is given by the rules of its
image or by a person, to the very site that asks, and is in this home's ledger before it leaves. No log has content.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PPIRLogic.errors import (
    BusyError,
    InputError,
    OutputError,
    PolicyError,
    ProtocolError,
    RefusedError,
)
from PPIRLogic.network.channel import Channel, Message, Quotas
from PPIRLogic.network.identity import Identity, default_home, load_or_create_identity
from PPIRLogic.network.quota import Quota, RateLimit, in_seconds
from PPIRLogic.network.served import ServedSession, SiteMethod
from PPIRLogic.network.service import Event, Service, run_until
from PPIRLogic.primis import messages as m
from PPIRLogic.primis.cards import MAX_CARD, read_card
from PPIRLogic.primis.shared_files import ALWAYS, Kept, SharedFile, SharingSite
from PPIRLogic.progress import CancelToken

IDLE = 60.0  # seconds between two messages of a session
PAGES, PAGE_SECONDS = 200, 0.5  # of a peer at once, and then one every so many seconds
CHUNKS, CHUNK_SECONDS = 1024, 0.02  # beyond these a fetch is slowed, not refused
QUESTIONS, QUESTION_SECONDS = 10, 30.0


class SealedImages(SiteMethod):
    """Sealed images as one method of a service."""

    opens = m.OPENS
    stopped = "The owner stopped sharing."
    max_payload = MAX_CARD
    patience = IDLE

    def __init__(self, site: SharingSite) -> None:
        super().__init__(site)
        self.site = site
        self.pages, self.chunks = RateLimit(PAGES, PAGE_SECONDS), RateLimit(CHUNKS, CHUNK_SECONDS)
        self.questions, self.persons = RateLimit(QUESTIONS, QUESTION_SECONDS), Quota(1)

    def offers(self, peer: str) -> dict[str, Any]:
        return {"sealed": m.opening(len(self.site.seen_by(peer)))}

    def open_session(self, channel: Channel, message: Message) -> SharingSession:
        m.check_opening(message.data, m.SHARES, m.ASKS)
        return SharingSession(self, channel)


class SharingSession(ServedSession):
    """One connection of a peer that looks, fetches and asks."""

    def __init__(self, method: SealedImages, channel: Channel) -> None:
        super().__init__(channel, m.OPENS, method.stopping, method.stopped)
        self._method, self._site = method, method.site
        self._begun: set[str] = set()  # names of the files that were fetched from

    def begin(self) -> None:
        self.channel.send(m.OPENS, m.opening(len(self._site.seen_by(self.peer))))

    def run(self) -> None:
        answers: dict[str, Callable[[Message], None]] = {
            "catalogue": self._catalogue, "fetch": self._fetch, "ask": self._ask,
        }  # fmt: skip
        while True:
            message = self.channel.receive(IDLE)
            if message.kind == "bye":
                return
            if message.kind not in answers:
                raise ProtocolError(f"'{message.kind}' is no question about sealed images: {', '.join(answers)}.")
            if message.payload and message.kind != "ask":
                raise ProtocolError(f"A '{message.kind}' carries {len(message.payload)} bytes that mean nothing.")
            self.check()
            answers[message.kind](message)

    def _catalogue(self, message: Message) -> None:
        page = m.Page.from_dict(message.data)
        if wait := self._method.pages.take(self.peer):
            raise BusyError(f"This site has asked for the catalogue too often; ask again {in_seconds(wait)}.")
        names, given = self._site.seen_by(self.peer), self._site.all_given(self.peer)
        rows = []
        for name in names[page.first : page.first + m.PAGE]:
            try:
                rows.append(self._site.offer(name, self.peer, given).to_dict())
            except RefusedError:  # a file that is gone hides no other
                continue
        self._site.log("catalogue", peer=self.peer, peer_name=self.channel.known_as)
        self.channel.send("catalogue", {"total": len(names), "images": rows})

    def _same(self, name: str, digest: bytes) -> Kept:
        """The file of this name; RefusedError if it is not the one that the peer means any more."""
        one = self._site.find(name, self.peer)
        if digest != one.digest:
            raise RefusedError(f"'{name}' was sealed again since: look at the catalogue again, and begin anew.")
        return one

    def _fetch(self, message: Message) -> None:
        part = m.Fetch.from_dict(message.data)
        one = self._same(part.name, part.digest)
        if part.offset >= one.size:
            raise ProtocolError(f"Field 'offset' of 'fetch' is {part.offset}; the file has {one.size} bytes.")
        while wait := self._method.chunks.take(self.peer):
            time.sleep(min(wait, 0.2))
            self.check()
        if part.name not in self._begun:
            self._begun.add(part.name)
            self._site.log(
                "sealed file fetched", peer=self.peer, peer_name=self.channel.known_as, image=part.name,
                start=part.offset,
            )  # fmt: skip
        try:
            data = one.read(part.offset, m.CHUNK)
        except InputError as error:
            raise self._site.kept_back(one, error) from None
        self.channel.send("chunk", {"offset": part.offset, "size": one.size}, data)

    def _ask(self, message: Message) -> None:
        question, card = m.Ask.from_dict(message.data), bytes(message.payload)
        if wait := self._method.questions.take(self.peer):
            raise BusyError(f"This site has asked for too many grants; ask again {in_seconds(wait)}.")
        one = self._same(question.name, question.digest)
        self._check_card(card)
        made = self._site.lately(question, card, self.peer)
        if made is None:
            made = self._decide(one, question, card)
        self.channel.send("grant", {"level": question.level, "days": one.shared.policy.days}, made)

    def _check_card(self, card: bytes) -> None:
        """PolicyError: a card that another site signed. Whoever can open what it asks for is who asks."""
        try:
            signer = read_card(card).fingerprint
        except InputError as error:
            raise ProtocolError(f"The card that came with 'ask' cannot be used: {error}") from None
        if signer != self.peer:
            raise PolicyError("The card is another site's. A grant is given to the site that asks for it alone.")

    def _decide(self, one: Kept, question: m.Ask, card: bytes) -> bytes:
        """A grant, by the rules and, where there is one, by the person who is asked."""
        details = {
            "peer": self.peer, "peer_name": self.channel.known_as, "image": question.name, "level": question.level,
        }  # fmt: skip
        policy = one.shared.policy
        try:
            policy.check(question, self.peer, self._site.given(one, self.peer))
            if policy.ask is not None and not self._person(policy.ask, question):
                raise RefusedError(f"The owner of '{question.name}' declined.")
            self.check()  # nothing is given to one that left meanwhile
            made = self._site.give(one, question, card, self.peer)
        except (RefusedError, OutputError) as error:
            self._site.log("grant refused", **details, reason=str(error))
            raise
        self._site.log(ALWAYS, **details, purpose=question.purpose)
        return made

    def _person(self, ask: Callable[[str, m.Ask], bool], question: m.Ask) -> bool:
        """One question of a peer at a time is put to a person."""
        if not self._method.persons.take(self.peer):
            raise BusyError("Another question of this site waits for an answer of the owner; ask when that has come.")
        try:
            self.channel.send("waiting", {"before": 0})
            # by this site's own name for it: what a peer calls itself says nothing of who it is
            return ask(f"{self.channel.known_as} (fingerprint {self.peer})", question)
        finally:
            self._method.persons.give_back(self.peer)


class SharingService(Service):
    """A service of sealed images. Listens until `stop`.

    `on_event` gets one map per thing that happens, without any content. Errors: those of `SharingSite`, and PeerError
    (port in use).
    """

    def __init__(
        self,
        address: str,
        identity: Identity,
        home: Path,
        shared: Sequence[SharedFile],
        *,
        max_sessions: int = 8,
        queue: int = 16,
        on_event: Event = lambda event: None,
        quotas: Quotas | None = None,
    ) -> None:
        self.site = SharingSite(identity, home, shared, on_event)
        super().__init__(
            address, identity, self.site.trust, [SealedImages(self.site)], self.site, max_sessions=max_sessions,
            queue=queue, details={"images": sorted(self.site.kept)}, quotas=quotas,
        )  # fmt: skip


def share(
    files: Sequence[SharedFile],
    address: str = "0.0.0.0:7443",
    *,
    home: Path | None = None,
    max_sessions: int = 8,
    queue: int = 16,
    on_event: Event = lambda event: None,
    cancel: CancelToken | None = None,
) -> None:
    """Share sealed images with trusted peers until `cancel` is set; blocks.

    files: each with its owner's rules. address: 'host:port' to listen on (port 0: any free one; the first event,
    'listening', has it). home: identity, trust, keys, ledger and audit log (default: the user's). Errors: as of
    `SharingService`, and InputError, IdentityError, TrustError.

    >>> share([SharedFile("x-ray", Path("x-ray.ppis"))], "0.0.0.0:7443", on_event=print)  # doctest: +SKIP
    """
    if not files or not all(isinstance(one, SharedFile) for one in files):
        raise InputError("share needs one or more of SharedFile(name, path, policy), in a list.")
    if len({one.name for one in files}) < len(files):
        raise InputError("Two sealed images have the same name; give each its own.")
    place = default_home() if home is None else home
    service = SharingService(
        address, load_or_create_identity(place), place, files, max_sessions=max_sessions, queue=queue, on_event=on_event
    )
    run_until(service, cancel or CancelToken())
