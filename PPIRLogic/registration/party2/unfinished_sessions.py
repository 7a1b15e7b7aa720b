"""Sessions that were granted and not finished: what party 2 must know, across restarts, to let a peer go on.

A peer whose connection was lost opens a new session (new nonces, keys and masks) that names the first one. It goes on
under that one's grant and count only if it is the same peer with the same request to the same image, within a day. One
small file per unfinished session, made when it is granted and removed when it ends in order, or when it has expired: a
day after the first call, however often the peer has called again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.disclosure.chain_check import GRANTS
from PPIRLogic.errors import OutputError
from PPIRLogic.files import make_private_directory, read_bounded, write_private_file
from PPIRLogic.registration.request import LOST_ANSWERS, LevelGrant, Request

GRANT_SECONDS = 24 * 3600.0  # for which a grant holds
MAX_UNFINISHED_OF_PEER, MAX_UNFINISHED = 16, 128  # unfinished sessions, of one peer and in all; the oldest go first
ENDED = 2**31  # lost connections of a session that goes on no more
_MAX_BYTES = 64 * 1024


@dataclass(frozen=True)
class SessionGrant:
    """What a session may open, as it was granted, until a time (seconds since 1970).

    numbers: by shrink factor, the most, and what one lost answer may add. losses: connections that were lost so far.
    """

    numbers: Mapping[int, tuple[int, int]]
    until: float
    losses: int = 0

    def most(self, factor: int) -> int:
        """Numbers that may be opened at a level, over all connections of the session."""
        most, again = self.numbers.get(factor, (0, 0))
        return most + min(self.losses, LOST_ANSWERS) * again

    @property
    def expired(self) -> bool:
        return not 0 <= self.seconds_left <= GRANT_SECONDS  # a clock that was set back makes none longer

    @property
    def seconds_left(self) -> float:
        return self.until - time.time()


@dataclass(frozen=True)
class UnfinishedSessions:
    """The folder of these files. records: the site's chain, under which they are sealed; lost connections and ends are
    entered there, so that a file that is put back is found."""

    folder: Path
    records: Chain | None = None

    def begin(
        self, session: str, peer: str, image: str, request: Request, levels: Iterable[LevelGrant]
    ) -> SessionGrant:
        """Remember a granted session by its name (16 hex digits); OutputError if the disk refuses it."""
        numbers: dict[int, tuple[int, int]] = {}
        for g in levels:  # of which several may have one shrink factor: starts, search and check
            most, again = numbers.get(g.factor, (0, 0))
            numbers[g.factor] = most + g.most, max(again, g.again)
        grant = SessionGrant(numbers, time.time() + GRANT_SECONDS)
        self._put(session, peer, image, request, grant)
        return grant

    def go_on(self, session: str, peer: str, image: str, request: Request, grant: SessionGrant) -> SessionGrant:
        """Remember one more lost connection, before anything is answered for it."""
        more = replace(grant, losses=grant.losses + 1)
        self._put(session, peer, image, request, more)
        return more

    def _put(self, session: str, peer: str, image: str, request: Request, grant: SessionGrant) -> None:
        numbers = [[factor, *both] for factor, both in grant.numbers.items()]
        more = {"numbers": numbers, "until": grant.until, "losses": grant.losses}
        known = {**_content(peer, image, request), **more}
        try:
            make_private_directory(self.folder)
            self._make_room(session, peer)
            if self.records is not None:
                self.records.write_sealed(self._file(session), known)
            else:
                write_private_file(self._file(session), json.dumps(known, sort_keys=True).encode())
            if grant.losses:
                self._enter(session, grant.losses)
        except OSError as error:
            raise OutputError(
                f"The ledger folder could not be written ({error.strerror or error}); no session is opened that is not"
                " on record. Free some space or check the folder's permissions."
            ) from error

    def granted(self, session: str, peer: str, image: str, request: Request) -> SessionGrant | None:
        """The grant of this session, if this peer has it for this request and image and it has neither ended in order
        nor expired."""
        known = self._read(self._file(session))
        try:
            if self.records is not None and known["losses"] < self._losses(session):
                return None
            if {k: known[k] for k in ("peer", "image_id", "request")} != _content(peer, image, request):
                return None
            numbers = {int(factor): (int(most), int(again)) for factor, most, again in known["numbers"]}
            grant = SessionGrant(numbers, float(known["until"]), int(known["losses"]))
        except (KeyError, TypeError, ValueError):
            return None
        return None if grant.expired else grant

    def end(self, session: str) -> None:
        """Strike off a session that ended in order."""
        self._file(session).unlink(missing_ok=True)
        self._enter(session, ENDED)

    def _enter(self, session: str, losses: int) -> None:
        """After the file: a process that is killed between the two leaves nothing that looks as if it were put back."""
        if self.records is not None:
            record = {"time": time.time(), "session": session, "losses": losses}
            self.records.append(self.records.home / GRANTS, record)

    def _losses(self, session: str) -> int:
        """Lost connections of a session that are on record; ENDED if it ended."""
        assert self.records is not None
        rows = (row for _, row in self.records.read(self.records.home / GRANTS) if row.get("session") == session)
        return [0, *(int(row["losses"]) for row in rows)][-1]

    def tidy(self) -> None:
        """Strike off what has expired."""
        self._living()

    def _make_room(self, session: str, peer: str) -> None:
        """Strike off the oldest of a peer that leaves more unfinished than anybody needs, then of who leaves most."""
        of_peer = self._living(self._file(session))
        own = of_peer.setdefault(peer, [])
        while len(own) >= MAX_UNFINISHED_OF_PEER or sum(map(len, of_peer.values())) >= MAX_UNFINISHED:
            most = own if len(own) >= MAX_UNFINISHED_OF_PEER else max(of_peer.values(), key=len)
            oldest = min(most)
            most.remove(oldest)
            oldest[1].unlink(missing_ok=True)

    def _living(self, but: Path | None = None) -> dict[str, list[tuple[float, Path]]]:
        """By peer, the files of sessions that may still go on, and until when; the others are struck off."""
        of_peer: dict[str, list[tuple[float, Path]]] = {}
        for file in self.folder.glob("*.json"):
            known = self._read(file)
            until = known.get("until")
            if not isinstance(until, (int, float)) or SessionGrant({}, until).expired:
                file.unlink(missing_ok=True)
            elif file != but:
                of_peer.setdefault(str(known.get("peer", "")), []).append((until, file))
        return of_peer

    def _read(self, file: Path) -> dict[str, Any]:
        if self.records is not None:
            return self.records.read_sealed(file) or {}
        try:
            known = json.loads(read_bounded(file, _MAX_BYTES))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _file(self, session: str) -> Path:
        return self.folder / f"{session}.json"


def _content(peer: str, image: str, request: Request) -> dict[str, Any]:
    wanted: dict[str, Any] = {**request.to_dict(), "software": ""}
    return {"peer": peer, "image_id": image, "request": wanted}
