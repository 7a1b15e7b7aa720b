"""What can be typed after `ppir estimate`."""

from __future__ import annotations

from typing import Any

from PPIRLogic.cli.parsers.common import add_command, add_relay_options
from PPIRLogic.cli.parsers.run_options import add_run_options, check_values


def add_estimate(commands: Any) -> None:
    text = "How many numbers of a peer's image a registration would disclose to me at most. Discloses none itself."
    example = "ppir estimate hospital-b.example:7443 --transform affine --loss ncc --evaluations 40"
    p = add_command(commands, "estimate", "estimate:run_estimate", text, example, check_values)
    p.add_argument("peer", metavar="HOST:PORT", help="where the peer listens")
    p.add_argument("--image", default="", metavar="NAME", help="name of the fixed image, where the peer offers several")
    p.add_argument("--points", action="store_true", help="of a registration of points (ppir register-points)")
    add_relay_options(p)
    add_run_options(p)
