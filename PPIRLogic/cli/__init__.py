"""The command `ppir`, one file for each group of commands."""

import signal
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """The command. A Ctrl-C while it is loaded ends it at once, without a word."""
    patient = signal.getsignal(signal.SIGINT)
    if patient is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from PPIRLogic.cli.main import parse, run

    given = parse(arguments)
    if patient is signal.default_int_handler:
        signal.signal(signal.SIGINT, patient)
    run(given)
