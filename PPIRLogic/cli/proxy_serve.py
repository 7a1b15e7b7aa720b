"""The work of `ppir proxy serve`."""

from __future__ import annotations

from PPIRLogic.cli.common import home_of, note_nobody_trusted, own_address, peer_fingerprint, service_cancel
from PPIRLogic.cli.output import Arguments, note, show_event
from PPIRLogic.errors import InputError


def run_serve(a: Arguments) -> None:
    from PPIRLogic.proxy.party2 import serve
    from PPIRLogic.proxy.rates import weights_note

    if a.max_sessions < 1:
        raise InputError("--max-sessions must be at least 1.")
    peers = tuple(peer_fingerprint(a, name) for name in a.allow)
    note_nobody_trusted(a)
    if a.model is None and (text := weights_note()):
        note(a, text)
    serve(
        a.model, own_address(a), peers=peers, home=home_of(a), max_sessions=a.max_sessions,
        on_event=lambda e: show_event(a, e), cancel=service_cancel(a),
    )  # fmt: skip
