"""Party 1 of sharing: looks at what a peer has sealed, fetches a file, asks for a grant.

Nothing that a peer sends is used before it was checked: a file counts once its SHA-256 is that of the catalogue and it
reads as a sealed image, a grant once it is one for this site and this file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PPIRLogic.errors import InputError, OutputError, PPIRError, ProtocolError
from PPIRLogic.files import name_problem, write_private_file
from PPIRLogic.network.caller import Caller, Tell
from PPIRLogic.network.messages import Fields
from PPIRLogic.primis import cards, grants, sealed_file
from PPIRLogic.primis import messages as m
from PPIRLogic.primis.keys import level_number

DECISION = 900.0  # seconds for one that a person may have to make


@dataclass(frozen=True)
class Fetched:
    """What came of a question: the sealed file, the grant for it, and up to which level that opens it."""

    file: Path
    grant: Path
    level: str


class SharingClient(Caller):
    """A connection to a site that shares sealed images: a `Caller` that also tells of 'fetching' and 'asking'."""

    service = "ppir primis serve"

    def __init__(
        self,
        address: str,
        *,
        home: Path,
        check: Callable[[], None] = lambda: None,
        tell: Tell = lambda stage, done, total: None,
    ) -> None:
        self._card = b""  # the same over a lost line, so that the same question is known as such
        super().__init__(address, home=home, opens=m.OPENS, opening=m.opening(), check=check, tell=tell)

    def opened(self, data: Mapping[str, Any]) -> None:
        m.check_opening(data, m.ASKS, m.SHARES)

    # ------------------------------------------------------------------------------------------- questions

    def catalogue(self) -> list[m.SealedOffer]:
        """All sealed images that the peer shows to this site."""
        return list(self._pages())

    def _pages(self) -> Iterator[m.SealedOffer]:
        first, total = 0, 1
        while first < total:
            answer = self.question("catalogue", "catalogue", {"first": first})
            f = Fields(answer.data, "catalogue")
            total = f.integer("total", 0, m.MAX_IMAGES)
            yield from map(m.SealedOffer.from_dict, f.items("images", m.PAGE))
            first += m.PAGE

    def find(self, name: str) -> m.SealedOffer:
        """The image of this name; InputError, with what there is, if the peer shows none."""
        offers = self.catalogue()
        for offer in offers:
            if offer.name == name:
                return offer
        shown = ", ".join(repr(o.name) for o in offers[:20]) or "none"
        raise InputError(f"The peer shows no sealed image {name!r} to this site; there are: {shown}.")

    def fetch(self, offer: m.SealedOffer, folder: Path) -> Path:
        """Fetch a sealed file into a folder, going on where an earlier try ended; returns where it lies.

        Errors: those of a question, OutputError, ProtocolError (it is not what the catalogue says, and was removed).
        """
        target = folder / f"{file_stem(offer.name)}{sealed_file.SUFFIX}"
        if target.exists() and not _is_there(target, offer.digest):  # another's, or an older one: it stays
            target = target.with_stem(f"{target.stem}-{offer.digest.hex()[:8]}")
        part = folder / f".{offer.digest.hex()[:32]}.part"
        if _is_there(target, offer.digest):
            return target
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with open(part, "ab", opener=_private) as file:
                self._fill(file, offer)
            if not _is_there(part, offer.digest):
                raise ProtocolError(
                    f"The file '{offer.name}' that came is not the one of the peer's catalogue (its SHA-256 differs)."
                )
            try:
                sealed_file.read_file(part)
            except InputError as error:
                raise ProtocolError(f"What came as '{offer.name}' is no sealed image: {error}") from None
            os.replace(part, target)
        except ProtocolError:
            part.unlink(missing_ok=True)
            raise
        except OSError as error:
            raise OutputError(
                f"The sealed file cannot be written to {folder}: {error.strerror or error}. Free some space, or give"
                " another folder."
            ) from None
        return target

    def _fill(self, file: Any, offer: m.SealedOffer) -> None:
        while (done := file.tell()) < offer.size:
            self._tell("fetching", done, offer.size)
            wanted = m.Fetch(offer.name, offer.digest, done).to_dict()
            chunk = self.question("fetch", "chunk", wanted)
            f, due = Fields(chunk.data, "chunk"), min(m.CHUNK, offer.size - done)
            f.integer("offset", done, done)
            f.integer("size", offer.size, offer.size)
            if len(chunk.payload) != due:
                raise ProtocolError(f"The peer sent {len(chunk.payload)} bytes of '{offer.name}' where {due} were due.")
            file.write(chunk.payload)
            file.flush()
        self._tell("fetching", offer.size, offer.size)

    def ask(self, offer: m.SealedOffer, level: str, purpose: str) -> bytes:
        """Ask for a grant up to a level; waits while a person decides. It is checked to be one for this site.

        Errors: PolicyError (the owner's rules do not permit it), RefusedError (declined), BusyError, ProtocolError.
        """
        self._tell("asking", 0, 0)
        question = m.Ask(offer.name, offer.digest, level, purpose)
        m.Ask.from_dict(question.to_dict())  # what the peer would refuse is refused here
        self._card = self._card or cards.own_card(self.home)
        answer = self.question("ask", "grant", question.to_dict(), self._card, patience=DECISION)
        m.level_field(Fields(answer.data, "grant"), "level")
        made = bytes(answer.payload)
        if not 0 < len(made) <= grants.MAX_GRANT:
            raise ProtocolError(f"The peer sent a grant of {len(made)} bytes; one has 1 to {grants.MAX_GRANT}.")
        return made


def ask(
    name: str,
    peer: str,
    level: str,
    purpose: str,
    folder: Path,
    *,
    home: Path,
    check: Callable[[], None] = lambda: None,
    tell: Tell = lambda stage, done, total: None,
) -> Fetched:
    """Fetch a sealed image of a peer and a grant that opens it up to a level; both are written to a folder.

    Nothing is asked before the file is here, and nothing that lies there is replaced: where a former grant has its
    name, the new one gets eight digits more. Errors: as of `SharingClient`, `SharingClient.fetch` and
    `SharingClient.ask`; OutputError.

    >>> got = ask("x-ray", "hospital-b.example:7443", "overview", "teaching", Path("in"), home=home)  # doctest: +SKIP
    """
    if problem := name_problem(folder):
        raise InputError(f"The folder '{folder}' cannot be used: {problem}")
    with SharingClient(peer, home=home, check=check, tell=tell) as client:
        offer = client.find(name)
        file = client.fetch(offer, folder)
        made = client.ask(offer, level, purpose)
    _check(made, level, file, name, home)
    target = file.with_name(f"{file.stem}.{level}{grants.SUFFIX}")
    if target.exists() and not _is_there(target, hashlib.sha256(made).digest()):  # a former grant: it stays
        target = target.with_stem(f"{target.stem}-{hashlib.sha256(made).hexdigest()[:8]}")
    try:
        write_private_file(target, made)
    except OSError as error:
        raise OutputError(f"The grant cannot be written to {folder}: {error.strerror or error}.") from None
    return Fetched(file, target, level)


def _check(made: bytes, level: str, file: Path, name: str, home: Path) -> None:
    """ProtocolError unless this is a grant up to this level, of this file, for this site."""
    try:
        header = sealed_file.read_header(file)
        key = grants.open_grant(made, header.image_id, home)
        fits = key.level == level_number(level) and sealed_file.key_fits(header, key)
    except PPIRError as error:
        raise ProtocolError(f"The grant that came does not open '{name}' here: {error}") from None
    if not fits:
        raise ProtocolError(f"The grant that came does not open '{name}' up to the level '{level}'.")


def file_stem(name: str) -> str:
    """A name of the peer's as one for a file: letters, digits, dashes, dots within.

    >>> file_stem("../x ray/7"), file_stem("..."), file_stem("thorax-7")
    ('x_ray_7', 'image', 'thorax-7')
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:60] or "image"


def _is_there(path: Path, digest: bytes) -> bool:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest() == digest
    return False


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
