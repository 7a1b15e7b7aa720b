"""What can be typed after `ppir ledger`."""

from __future__ import annotations

from typing import Any

from PPIRLogic.cli.parsers.common import add_command, file_path


def add_ledger(commands: Any) -> None:
    text = "What peers have learned of the images shared here: numbers and bits per peer, image and level."
    text += " With an option: whether what is on record is whole, and what its owner may do with it."
    p = add_command(commands, "ledger", "ledger:run_ledger", text, "ppir ledger --verify")
    what = p.add_mutually_exclusive_group()
    what.add_argument(
        "--verify", action="store_true", help="name the first record that was changed, cut or rolled back"
    )
    what.add_argument("--heads", action="store_true", help="print this site's signed head, and those it holds of peers")
    what.add_argument("--rotate-key", action="store_true", help="authenticate all records under a new key")
    what.add_argument(
        "--reset", metavar="PEER/IMAGE", help="begin a peer's budget for an image anew (names, or as shown)"
    )
    what.add_argument("--accept", action="store_true", help="take the records as they are, whatever --verify found")
    p.add_argument(
        "--against", type=file_path, metavar="FILE", help="verify, and compare with heads that a syslog or a peer holds"
    )
    p.add_argument("--yes", action="store_true", help="for --reset and --accept: yes, although it cannot be taken back")
