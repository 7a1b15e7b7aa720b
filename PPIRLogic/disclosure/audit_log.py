"""The audit log of a service: what happens goes on record, without content, and is told to its owner."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.network.quota import Repeats

ENTRIES, ENTRY_SECONDS = 30, 60.0  # of one kind and peer in the log at once, and then one every so many seconds


class AuditLog:
    """The `Audit` of a service whose sessions stand alone. Opens the records of a home.

    always: events that are on record each time; others that a peer repeats are counted in a later entry.
    Errors: OutputError (the records cannot be written), RecordError (what is on record was changed).
    """

    def __init__(
        self, home: Path, on_event: Callable[[dict[str, Any]], None], always: frozenset[str] = frozenset()
    ) -> None:
        self._on_event, self._always = on_event, always
        self._repeats = Repeats(ENTRIES, ENTRY_SECONDS)
        self.records = Chain(home)
        self.records.open()
        for record in self.records.news:
            on_event(record)

    def close(self) -> None:
        """What was left out is counted now."""
        self._log_repeats(everything=True)

    def tidy(self) -> None:
        """Called once a minute."""
        self._log_repeats()

    def log(self, event: str, **details: Any) -> None:
        """Append to the audit log, then tell the owner. What a peer repeats is counted in a later entry."""
        counted = "peer" in details and event not in self._always
        passes = self._repeats.passes(f"{event}\n{details['peer']}") if counted else 0
        if passes is None:
            self.tell(event, **details)
            return
        self._on_event(self.records.log(event, **details, **({"repeated": passes} if passes else {})))

    def tell(self, event: str, **details: Any) -> None:
        """Tell the owner only."""
        self._on_event({"time": round(time.time(), 3), "event": event, **details})

    def _log_repeats(self, everything: bool = False) -> None:
        for key, count in self._repeats.due(everything):
            event, _, peer = key.partition("\n")
            self.records.log(event, peer=peer, repeated=count)
