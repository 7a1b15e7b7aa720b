"""What this site has sent to be segmented, in its ledger: every proxy, as the disclosure of a whole image.

One file of the site's chain of records, `ledger/proxy.jsonl`. A proxy that was sent twice to a peer is on record twice;
its bits count once.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.errors import OutputError

FILE = "ledger/proxy.jsonl"
SENT = "proxy sent"
BITS_OF_VOXEL = 8


class SentRecords:
    """The records of one home.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as home:
    ...     records = SentRecords(Path(home))
    ...     records.sent("PEER", "00" * 16, voxels=1000, strength=8.0, draw=0)
    ...     [(row["proxies"], row["bits"]) for row in records.rows()]
    [(1, 8000)]
    """

    def __init__(self, home: Path, chain: Chain | None = None) -> None:
        """chain: one that has the home's records open."""
        self._chain = chain if chain is not None else Chain(Path(home))
        self._path = self._chain.home / FILE

    def sent(self, peer: str, proxy: str, *, voxels: int, strength: float, draw: int) -> None:
        """Put on record, synced, that a peer gets a proxy (the first half of its SHA-256, hex) with so many voxels.

        OutputError: it cannot be; then nothing may be sent.
        """
        self._chain.append(
            self._path,
            {
                "time": round(time.time(), 3), "event": SENT, "peer": peer.replace("-", ""), "proxy": proxy,
                "disclosed": "whole image", "voxels": voxels, "bits": BITS_OF_VOXEL * voxels, "strength_mm": strength,
                "draw": draw,
            },
        )  # fmt: skip

    def all(self) -> list[dict[str, Any]]:
        """Every proxy on record, oldest first."""
        return [record for _, record in self._chain.read(self._path) if record.get("event") == SENT]

    def rows(self) -> list[dict[str, Any]]:
        """Per peer: how many different proxies it has, their bits, and how often one was sent.

        OutputError: a record that cannot be understood.
        """
        found: dict[str, dict[str, Any]] = {}
        seen: set[tuple[str, str]] = set()
        for record in self.all():
            try:
                peer, proxy, bits = str(record["peer"]), str(record["proxy"]), int(record["bits"])
            except (KeyError, TypeError, ValueError):
                raise OutputError(f"The record {self._path} holds a proxy that cannot be understood.") from None
            row = found.setdefault(peer, {"peer": peer, "proxies": 0, "bits": 0, "times": 0})
            row["times"] += 1
            if (peer, proxy) not in seen:
                seen.add((peer, proxy))
                row["proxies"] += 1
                row["bits"] += bits
        return list(found.values())
