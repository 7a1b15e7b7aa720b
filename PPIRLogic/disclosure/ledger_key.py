"""The keys of a site's records: one recognises images, the other authenticates the records.

They lie in `ledger/key`. The first never changes: under another one no image would be recognised, and every budget
would begin anew. The second can be replaced (`ppir ledger --rotate-key`). The file of a former release holds the first
alone, 32 bytes; the second then follows from it.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from pathlib import Path

from PPIRLogic.errors import RecordError
from PPIRLogic.files import read_bounded, write_private_file

KEY_BYTES = 32
_FIRST_LINE = "PPIR ledger key 2"
_MAX_BYTES = 1024


@dataclass(frozen=True)
class LedgerKey:
    """images: recognises images. chain: authenticates records. former: the latter, while it is being replaced."""

    images: bytes
    chain: bytes
    former: bytes = b""

    @staticmethod
    def new() -> LedgerKey:
        return LedgerKey(secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES))

    @staticmethod
    def of_former_release(images: bytes) -> LedgerKey:
        return LedgerKey(images, hmac.digest(images, b"PPIR chain of records", "sha256"))

    def write(self, path: Path) -> None:
        """Replace the file in one step."""
        write_private_file(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        parts = {"images": self.images, "chain": self.chain, "former": self.former}
        lines = [_FIRST_LINE, *(f"{name} {key.hex()}" for name, key in parts.items() if key)]
        return ("\n".join(lines) + "\n").encode()


def read_key(path: Path) -> tuple[LedgerKey, bool] | None:
    """The keys, and whether a former release wrote them; None if there is no file. RecordError if it is damaged."""
    try:
        data = read_bounded(path, _MAX_BYTES)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        data = b""
    if len(data) == KEY_BYTES:
        return LedgerKey.of_former_release(data), True
    try:
        lines = data.decode("ascii").splitlines()[1:]
        parts = {name: bytes.fromhex(key) for name, key in (line.split(" ") for line in lines)}
        key = LedgerKey(**parts)
        if key.to_bytes() != data or {len(k) for k in parts.values()} != {KEY_BYTES}:
            raise ValueError
    except (ValueError, TypeError):
        raise RecordError(
            f"The key {path}, by which budgets recognise images and records are authenticated, is damaged or cannot be"
            " read: put it back from a backup."
        ) from None
    return key, False
