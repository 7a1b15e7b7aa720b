"""What this site has granted, in its ledger: every code whose key left, with its bits, before it leaves.

One file of the site's chain of records, `ledger/primis.jsonl`. A grant that was given twice is on record twice; the
bits of a code count once for a peer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.errors import OutputError
from PPIRLogic.primis.keys import GRANTS_ON_RECORD
from PPIRLogic.primis.levels import LEVELS

GRANTED, RESEALED, ESCROWED, TAKEN = "primis grant", "primis re-sealed", "primis escrow", "primis key"


class GrantRecords:
    """The records of one home.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as home:
    ...     records = GrantRecords(Path(home))
    ...     records.granted("00" * 16, "PEER", [800, 4000], purpose="a study", expires=2_000_000_000)
    ...     [(row["level"], row["bits"]) for row in records.rows()]
    [('segmentation', 4800)]
    """

    def __init__(self, home: Path, chain: Chain | None = None) -> None:
        """chain: that of a service which has the home's records open."""
        self._chain = chain if chain is not None else Chain(Path(home))
        self._path = self._chain.home / GRANTS_ON_RECORD

    def granted(self, image: str, peer: str, bits: Sequence[int], *, purpose: str, expires: int) -> None:
        """Put on record, synced, that a peer gets the keys of the first len(bits) codes. OutputError: it cannot be."""
        self._add(
            GRANTED, image=image, peer=peer.replace("-", ""), level=LEVELS[len(bits) - 1], bits=list(bits),
            purpose=purpose, expires=expires,
        )  # fmt: skip

    def resealed(self, image: str, former: str) -> None:
        """That an image was sealed anew, under another id."""
        self._add(RESEALED, image=image, former=former)

    def escrowed(self, recipient: str) -> None:
        """That all keys of this site were written for an escrow: to a peer, or under a passphrase ('')."""
        self._add(ESCROWED, peer=recipient.replace("-", ""))

    def taken(self, image: str, bits: Sequence[int]) -> None:
        """That the compact key of the first len(bits) codes was taken out, for whoever has it. OutputError as above."""
        self._add(TAKEN, image=image, level=LEVELS[len(bits) - 1], bits=list(bits))

    def _add(self, event: str, **details: Any) -> None:
        self._chain.append(self._path, {"time": round(time.time(), 3), "event": event, **details})

    def all(self, image: str = "", peer: str = "") -> list[dict[str, Any]]:
        """Every grant on record, oldest first; of one image (hex) or one peer (fingerprint) only."""
        peer = peer.replace("-", "")
        found = (record for _, record in self._chain.read(self._path) if record.get("event") == GRANTED)
        return [r for r in found if image in ("", r["image"]) and peer in ("", r["peer"])]

    def rows(self) -> list[dict[str, Any]]:
        """Per peer and image: the highest level granted, its bits with those before it, the number of grants, and each
        of them (`given`: when, level, purpose and end; seconds since 1970).

        OutputError: a record that cannot be understood.
        """
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for record in self.all():
            try:
                bits = [int(b) for b in record["bits"]]
                key, new = (str(record["peer"]), str(record["image"])), (len(bits), sum(bits))
                one = {"time": float(record["time"]), "level": str(record["level"])}
                one |= {"purpose": str(record["purpose"]), "expires": int(record["expires"])}
            except (KeyError, TypeError, ValueError):
                raise OutputError(f"The record {self._path} holds a grant that cannot be understood.") from None
            empty = {"peer": key[0], "image": key[1], "level": "", "bits": 0, "grants": 0, "given": [], "_n": 0}
            row = rows.setdefault(key, empty)
            row["grants"] += 1
            row["given"].append(one)
            if new[0] > row["_n"]:
                row |= {"level": LEVELS[new[0] - 1], "bits": new[1], "_n": new[0]}
        return [{k: v for k, v in row.items() if k != "_n"} for row in rows.values()]
