"""The command `ppir`: argument parsing, and how events and errors are shown. The work is done elsewhere."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from PPIRLogic.cli.common import Arguments, print_line, show_what_can_be_shown
from PPIRLogic.errors import Cancelled, InputError, PPIRError
from PPIRLogic.version import SOFTWARE

COMMANDS = {  # in the order of the help; the file of a command is loaded when it is needed
    "identity": "site:add_identity",
    "trust": "site:add_trust",
    "serve": "serve:add_serve",
    "dealer": "serve:add_dealer",
    "check": "register:add_check",
    "estimate": "estimate:add_estimate",
    "register": "register:add_register",
    "simulate": "register:add_simulate",
    "register-points": "points:add_register_points",
    "simulate-points": "points:add_simulate_points",
    "demo": "demo:add_demo",
    "ledger": "ledger:add_ledger",
    "primis": "primis:add_primis",
    "doctor": "doctor:add_doctor",
}
GROUPS = ("primis",)  # commands that are several

# ------------------------------------------------------------------------------------------- the parser


def build_parser(only: str = "", inner: str = "") -> argparse.ArgumentParser:
    """The whole parser, or that of one command (and of one command within it): the others cost time to load."""
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
        function = getattr(importlib.import_module(f"PPIRLogic.cli.{file}"), add)
        function(commands, inner) if name in GROUPS else function(commands)
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
    """The whole command: `parse`, then `run`."""
    run(parse(arguments))


def parse(arguments: Sequence[str] | None = None) -> Arguments:
    """What was typed, with the file of its command loaded."""
    show_what_can_be_shown()
    given = sys.argv[1:] if arguments is None else arguments
    return build_parser(command_of(given), "".join(given[1:2])).parse_args(given)


def run(a: Arguments) -> None:
    """Exit codes: 0 done, 2 bad input or usage, 130 cancelled, else the error's own (errors.py)."""
    no_core_files()
    try:
        _check_folder()
        a.run(a)
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
