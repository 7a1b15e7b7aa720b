"""What can be typed after `ppir check`."""

from __future__ import annotations

from typing import Any

from PPIRLogic.cli.parsers.common import add_command, add_parent_options, add_relay_options


def add_check(commands: Any) -> None:
    text = "Call a peer: is it there, does it trust us, which images does it offer, on what terms?"
    p = add_command(commands, "check", "check:run_check", text, "ppir check hospital-b.example:7443")
    p.add_argument("peer", metavar="HOST:PORT", help="where the peer listens")
    add_relay_options(p)
    add_parent_options(p)
