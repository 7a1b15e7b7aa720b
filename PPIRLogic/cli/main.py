"""The command `ppir`: argument parsing, and how events and errors are shown. The work is done elsewhere."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PPIRLogic.cli.common import Arguments, print_line, show_what_can_be_shown
from PPIRLogic.cli.demo import add_demo
from PPIRLogic.cli.register import add_check, add_register, add_simulate
from PPIRLogic.cli.serve import add_dealer, add_serve
from PPIRLogic.cli.site import add_identity, add_ledger, add_trust
from PPIRLogic.errors import Cancelled, InputError, PPIRError
from PPIRLogic.version import SOFTWARE

if TYPE_CHECKING:
    pass


# ------------------------------------------------------------------------------------------- the parser


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ppir",
        description="Privacy-preserving image registration: two sites align their images without showing them.",
        epilog="site B:  ppir serve fixed.nrrd --name atlas\nsite A:  ppir register moving.nrrd --peer B --output T.h5",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=SOFTWARE)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    from PPIRLogic.cli.estimate import add_estimate
    from PPIRLogic.cli.points import add_register_points, add_simulate_points

    points = (add_register_points, add_simulate_points)
    for add in (
        add_identity, add_trust, add_serve, add_dealer, add_check, add_estimate, add_register, add_simulate,
        *points, add_demo, add_ledger,
    ):  # fmt: skip
        add(commands)
    return parser


# ------------------------------------------------------------------------------------------ the commands


def no_core_files() -> None:
    """A crash must not put images and keys on disk. Windows and piped dumps: see Docs/how-to/run_as_a_service.md."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    except (ImportError, OSError, ValueError):
        pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. Exit codes: 0 done, 2 bad input or usage, 130 cancelled, else the error's own (errors.py)."""
    show_what_can_be_shown()
    a = build_parser().parse_args(arguments)
    no_core_files()
    try:
        _check_folder()
        a.run(a)
    except PPIRError as error:
        sys.exit(fail(a, error))
    except KeyboardInterrupt:
        sys.exit(fail(a, Cancelled("Cancelled; nothing was written.")))
    except BrokenPipeError:
        sys.exit(141)
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
