"""The command `ppir relay`."""

from __future__ import annotations

from PPIRLogic.cli.common import home_of, note_nobody_trusted, peer_fingerprint, service_cancel
from PPIRLogic.cli.output import Arguments, show_event
from PPIRLogic.network.relay import RelayLimits
from PPIRLogic.serving import relay


def run_relay(a: Arguments) -> None:
    limits = RelayLimits(a.lines, a.lines_of_caller, a.lines_of_room, a.hours)
    allowed = frozenset(peer_fingerprint(a, peer) for peer in a.allow)
    note_nobody_trusted(a)
    relay(
        a.listen, allowed=allowed, limits=limits, home=home_of(a), on_event=lambda e: show_event(a, e),
        cancel=service_cancel(a),
    )  # fmt: skip
