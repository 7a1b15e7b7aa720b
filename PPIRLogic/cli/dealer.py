"""The command `ppir dealer`."""

from __future__ import annotations

from PPIRLogic.cli.common import home_of, own_address, service_cancel
from PPIRLogic.cli.output import Arguments, show_event
from PPIRLogic.serving import deal


def run_dealer(a: Arguments) -> None:
    deal(own_address(a), home=home_of(a), on_event=lambda e: show_event(a, e), cancel=service_cancel(a))
