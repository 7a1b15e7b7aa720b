"""What can be typed after `ppir register-points` and `ppir simulate-points`."""

from __future__ import annotations

import os
from typing import Any

from PPIRLogic.cli.parsers.common import add_command, add_parent_options, add_relay_options, file_path
from PPIRLogic.cli.parsers.run_options import add_option, add_reconnect
from PPIRLogic.files import TRANSFORM_FILES
from PPIRLogic.registration.catalogue import PROTOCOLS, wire_name
from PPIRLogic.registration.names import POINT_TRANSFORMS
from PPIRLogic.registration.options import OPTIONS

_FILES = "Slicer's .mrk.json or .fcsv, a .csv table, or elastix's or a plain .txt list"


def add_register_points(commands: Any) -> None:
    text = "Align my points to corresponding points of a peer (party 1), matched by their order. Writes a transform."
    example = "ppir register-points moving.mrk.json --peer hospital-b.example --output T.h5 --report R.json"
    p = add_command(commands, "register-points", "points:run_register", text, example)
    p.add_argument("moving", type=file_path, help=f"my points: {_FILES}")
    p.add_argument("--peer", required=True, metavar="HOST:PORT", help="the site that serves the fixed points")
    add_relay_options(p)
    p.add_argument("--image", default="", metavar="NAME", help="name of the fixed set, where the peer offers several")
    p.add_argument("--dealer", default="", metavar="HOST:PORT", help="the dealer, for mpc")
    p.add_argument(
        "--dealer-fingerprint", default="", metavar="FINGERPRINT", help="which dealer, if several are trusted"
    )
    add_reconnect(p)
    _options(p)


def add_simulate_points(commands: Any) -> None:
    text = "Both parties of a registration of points as real processes here, for one who holds both sets."
    example = "ppir simulate-points --fixed F.fcsv --moving M.fcsv --transform rigid --output T.h5 --report R.json"
    p = add_command(commands, "simulate-points", "points:run_simulate", text, example)
    p.add_argument("--fixed", type=file_path, required=True, help=f"the other side's points: {_FILES}")
    p.add_argument("--moving", type=file_path, required=True, help="my points")
    p.add_argument("--budget-percent", type=float, default=1e6, help="party 2's budget (default: open)")
    _options(p)


def _options(p: Any) -> None:
    add_parent_options(p)
    p.add_argument(
        "--transform", choices=POINT_TRANSFORMS, default="rigid", help="what may move between the points (rigid)"
    )
    p.add_argument(
        "--protocol",
        type=wire_name,
        choices=PROTOCOLS.builtin,
        default="fhe",
        help="how the points are protected (fhe); clear protects nothing",
    )
    add_option(p, OPTIONS["threads"], os.cpu_count() or 1)
    p.add_argument("--output", type=file_path, required=True, help=f"transform file ({', '.join(TRANSFORM_FILES)})")
    p.add_argument("--report", type=file_path, help="report as JSON")
    p.set_defaults(warped=None, inverse=None, pictures=None)
