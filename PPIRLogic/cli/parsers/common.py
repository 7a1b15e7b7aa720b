"""What the parsers share: kinds of values, and the options that every command has."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PPIRLogic.cli.output import Arguments
from PPIRLogic.network.names import DEFAULT_PORT


def file_path(text: str) -> Path:
    """A path that was typed. An empty one, such as of a variable that is not set, would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty")
    return Path(text)


class HelpFormat(argparse.RawDescriptionHelpFormatter):
    """Help that says of every value what it is: a file, a count, a number."""

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        known: dict[Any, str] = {file_path: "FILE", int: "N", float: "X"}
        return known.get(action.type, super()._get_default_metavar_for_optional(action))


def nothing_to_check(a: Arguments) -> None:
    """The parser has checked everything that can be checked before the work begins."""


def add_command(
    commands: Any,
    name: str,
    run: str,
    text: str,
    example: str,
    check: Callable[[Arguments], None] = nothing_to_check,
) -> Any:
    """The parser of one command. run: 'file:function' below PPIRLogic/cli, which does the work and is loaded for it
    alone. check: of what was typed, before that is loaded; raises InputError."""
    parser = commands.add_parser(
        name, help=text, description=textwrap.fill(text, 100), epilog=f"example:\n  {example}",
        formatter_class=HelpFormat, allow_abbrev=False,
    )  # fmt: skip
    parser.set_defaults(run=run, check=check)
    parser.add_argument(
        "--home", type=file_path, metavar="FOLDER", help="where this site's identity, trust and ledger lie (PPIR_HOME)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    return parser


def add_service_options(p: Any) -> None:
    add_listen(p)
    add_relay_options(p, "wait at this relay to be called, and listen nowhere: no inbound port")
    add_parent_options(p)


def add_listen(p: Any) -> None:
    p.add_argument(
        "--listen",
        default=f"0.0.0.0:{DEFAULT_PORT}",
        metavar="HOST:PORT",
        help=f"where to listen (every address of this machine, port {DEFAULT_PORT})",
    )


def add_relay_options(
    p: Any, what: str = "the relay at which the peer waits; --peer is then its name or fingerprint"
) -> None:
    """For a command that calls another site."""
    p.add_argument("--relay", default="", metavar="HOST:PORT", help=what)
    p.add_argument("--proxy", default="", metavar="HOST:PORT", help="call out through this HTTP proxy (HTTPS_PROXY)")


def add_parent_options(p: Any) -> None:
    """For a process that starts `ppir` and must leave nothing behind, however it ends itself."""
    p.add_argument("--with-parent", action="store_true", help="for programs: end when standard input is closed")
    p.add_argument("--scratch", action="append", default=[], type=file_path, help=argparse.SUPPRESS)
