"""Sessions that were granted and not finished: what party 2 must know, across restarts, to let a peer go on.

A peer whose connection was lost opens a new session (new nonces, keys and masks) that names the first one. It goes on
under that one's permission and count only if it is the same peer with the same request to the same image. One small
file per unfinished session, made when it is granted and removed when it ends in order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PPIRLogic.errors import OutputError
from PPIRLogic.files import make_private_directory, read_bounded, write_private_file
from PPIRLogic.registration.request import Request

_MAX_BYTES = 64 * 1024


@dataclass(frozen=True)
class UnfinishedSessions:
    """The folder of these files."""

    folder: Path

    def begin(self, session: str, peer: str, image: str, request: Request) -> None:
        """Remember a granted session by its name (16 hex digits); OutputError if the disk refuses it."""
        try:
            make_private_directory(self.folder)
            write_private_file(self._file(session), _content(peer, image, request))
        except OSError as error:
            raise OutputError(
                f"The ledger folder could not be written ({error.strerror or error}); no session is opened that is not"
                " on record. Free some space or check the folder's permissions."
            ) from error

    def permits(self, session: str, peer: str, image: str, request: Request) -> bool:
        """Whether this session was granted to this peer for this request and image, and has not ended in order."""
        try:
            return read_bounded(self._file(session), _MAX_BYTES) == _content(peer, image, request)
        except (OSError, ValueError):
            return False

    def end(self, session: str) -> None:
        self._file(session).unlink(missing_ok=True)

    def _file(self, session: str) -> Path:
        return self.folder / f"{session}.json"


def _content(peer: str, image: str, request: Request) -> bytes:
    wanted: dict[str, Any] = {**request.to_dict(), "software": ""}
    return json.dumps({"peer": peer, "image_id": image, "request": wanted}, sort_keys=True).encode()
