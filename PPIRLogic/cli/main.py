"""The command `ppir`: from what was typed to the work of a command, and how errors are shown.

Nothing that is slow to load is loaded before the options are known to be right: the files of `parsers` say what can be
typed, and name the function that does the work.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from PPIRLogic.cli.output import Arguments, check_said, print_line, show_what_can_be_shown
from PPIRLogic.cli.parsers.site_file import with_file
from PPIRLogic.errors import Cancelled, InputError, PPIRError
from PPIRLogic.version import SOFTWARE

COMMANDS = {  # in the order of the help; in which file of `parsers` each is
    "identity": "site:add_identity",
    "trust": "site:add_trust",
    "serve": "serve:add_serve",
    "dealer": "serve:add_dealer",
    "relay": "relay:add_relay",
    "check": "check:add_check",
    "estimate": "estimate:add_estimate",
    "register": "register:add_register",
    "simulate": "register:add_simulate",
    "register-points": "points:add_register_points",
    "simulate-points": "points:add_simulate_points",
    "demo": "demo:add_demo",
    "ledger": "ledger:add_ledger",
    "primis": "primis:add_primis",
    "proxy": "proxy:add_proxy",
    "doctor": "doctor:add_doctor",
}


# ------------------------------------------------------------------------------------------- the parser


def build_parser(only: str = "") -> argparse.ArgumentParser:
    """The whole parser, or that of one command."""
    parser = argparse.ArgumentParser(
        prog="ppir",
        description="Privacy-preserving image registration: two sites align their images without showing them.",
        epilog="site B:  ppir serve fixed.nrrd --name atlas\nsite A:  ppir register moving.nrrd --peer B --output T.h5",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=SOFTWARE)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in [only] if only in COMMANDS else COMMANDS:
        file, _, add = COMMANDS[name].partition(":")
        getattr(importlib.import_module(f"PPIRLogic.cli.parsers.{file}"), add)(commands)
    return parser


def command_of(arguments: Sequence[str]) -> str:
    """The command that is called; empty where it is asked for help, or for nothing that there is."""
    return arguments[0] if arguments and arguments[0] in COMMANDS else ""


# ------------------------------------------------------------------------------------------ the commands


def no_core_files() -> None:
    """A crash must not put images and keys on disk. Windows and piped dumps: see Docs/how-to/run_as_a_service.md."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    except (ImportError, OSError, ValueError):
        pass


def main(arguments: Sequence[str] | None = None) -> None:
    """The whole command."""
    given = parse(arguments)
    run(given, work_of(given))


def parse(arguments: Sequence[str] | None = None) -> Arguments:
    """What was typed. SystemExit where something is wrong with it."""
    show_what_can_be_shown()
    given = sys.argv[1:] if arguments is None else arguments
    parser = build_parser(command_of(given))
    a = parser.parse_args(given)
    try:
        a = with_file(parser, given, a)
        a.check(a)
    except PPIRError as error:
        sys.exit(fail(a, error))
    return a


def work_of(a: Arguments) -> Callable[[Arguments], None]:
    """The function that does what was asked for, loaded with all that it needs."""
    file, _, name = a.run.partition(":")
    work: Callable[[Arguments], None] = getattr(importlib.import_module(f"PPIRLogic.cli.{file}"), name)
    return work


def run(a: Arguments, work: Callable[[Arguments], None]) -> None:
    """Exit codes: 0 done, 2 bad input or usage, 130 cancelled, else the error's own (errors.py)."""
    no_core_files()
    try:
        _check_folder()
        work(a)
        check_said()
    except PPIRError as error:
        sys.exit(fail(a, error))
    except KeyboardInterrupt:
        sys.exit(fail(a, Cancelled("Cancelled.")))
    except MemoryError:
        sys.exit(
            fail(a, InputError("There is not enough memory for this image. Use sampling, or a coarser finest level."))
        )
    except Exception as error:
        if os.environ.get("PPIR_DEBUG"):
            raise
        sys.exit(fail(a, _internal(error)))


def _check_folder() -> None:
    try:
        os.getcwd()
    except OSError:
        raise InputError("The current folder does not exist any more, or cannot be read. Change to another.") from None


def _internal(error: Exception) -> PPIRError:
    """A bug, said without a traceback and without the error's own text, which could quote data."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = f"{Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}" if frame is not None else "unknown"
    return PPIRError(
        f"Internal error ({type(error).__name__} at {where}). This is a bug in PPIRExtension; please report it with the"
        " command you ran. PPIR_DEBUG=1 shows the details on this machine."
    )


def fail(a: Arguments, error: PPIRError) -> int:
    """Show an error without a traceback; returns the exit code."""
    if a.json:
        print_line(json.dumps({"event": "error", "error": type(error).__name__, "text": str(error)}))
    else:
        print(f"ppir: {error}", file=sys.stderr, flush=True)
    return error.exit_code
