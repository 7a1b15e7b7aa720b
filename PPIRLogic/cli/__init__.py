"""The command `ppir`, one file for each group of commands."""

import signal
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """The command. A Ctrl-C while it is loaded ends it at once, without a word."""
    patient = signal.getsignal(signal.SIGINT)
    if patient is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from PPIRLogic.cli.main import parse, run, work_of

        given = parse(arguments)
        work = work_of(given)
    except Exception as error:  # a package that does not load, such as numba with a setting it does not know
        sys.exit(_not_loaded(error))
    if patient is signal.default_int_handler:
        signal.signal(signal.SIGINT, patient)
    run(given, work)


def _not_loaded(error: Exception) -> int:
    """Say why the program could not begin; the exit code of a package that is missing."""
    reason = str(error).strip().splitlines() or [""]
    print(
        f"ppir: The program cannot be loaded ({type(error).__name__}: {reason[0][:200]}). Check the environment"
        " (variables such as NUMBA_NUM_THREADS, a limit on memory, the current folder), or install it again.",
        file=sys.stderr,
    )
    return 4
