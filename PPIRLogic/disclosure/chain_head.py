"""The head of a chain: how many records a home has, and which is the last. In two turns, so that one is always whole.

It is written in place before a record (which comes next) and after it (it is there), without a sync: after a power cut
it may lag behind the records, which then say themselves how far they go. It is never before them.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from pathlib import Path

from PPIRLogic.disclosure.chain_check import NOTHING
from PPIRLogic.errors import OutputError, RecordError
from PPIRLogic.files import write_private_file

WHAT_TO_DO = (
    "Put the whole folder of this site back from a backup; or, if you know what happened, run `ppir ledger --accept`,"
    " which is put on record."
)
_ROOM = 1024  # bytes of a turn


@dataclass(frozen=True)
class Head:
    """number, mac, file: the last record. next_file, next_mac: the one that is being written. adopted: what names the
    lines that were adopted, '' for none."""

    number: int = 0
    mac: str = NOTHING
    file: str = ""
    adopted: str = ""
    next_file: str = ""
    next_mac: str = ""
    turn: int = 0

    @property
    def last(self) -> tuple[int, str, str]:
        return self.number, self.mac, self.file


def read_head(path: Path, key: bytes) -> Head | None:
    """The newer one of the two that are whole; None if none is. RecordError if there is no head, or it is no file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordError(
            f"The head {path}, which says how far this site's records go, is missing or cannot be read"
            f" ({error.strerror}): it was removed, or the folder was put together from several times. {WHAT_TO_DO}"
        ) from None
    found = [head for at in (0, _ROOM) if (head := _parse(data[at : at + _ROOM], key)) is not None]
    return max(found, key=lambda head: head.turn, default=None)


def write_head(path: Path, key: bytes, head: Head) -> None:
    """Write the next turn, in place; OutputError if the disk refuses it."""
    try:
        with open(path, "r+b", buffering=0) as file:
            file.seek(head.turn % 2 * _ROOM)
            file.write(_turn(key, head))
    except OSError as error:
        raise OutputError(
            f"The head {path} could not be written ({error.strerror}); nothing is disclosed that is not on record."
        ) from None


def new_head(path: Path, key: bytes, head: Head) -> None:
    """Replace both turns in one step, synced."""
    write_private_file(path, _turn(key, head) * 2)


def _turn(key: bytes, head: Head) -> bytes:
    body = json.dumps(head.__dict__, separators=(",", ":"))
    return f"{body} {_code(key, body)}".ljust(_ROOM - 1).encode() + b"\n"


def _parse(data: bytes, key: bytes) -> Head | None:
    try:
        body, code = data.decode("ascii").split()
        return Head(**json.loads(body)) if hmac.compare_digest(code, _code(key, body)) else None
    except (ValueError, TypeError):
        return None


def _code(key: bytes, body: str) -> str:
    return hmac.digest(key, b"head\n" + body.encode(), "sha256")[:16].hex()
