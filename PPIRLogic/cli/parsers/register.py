"""What can be typed after `ppir register` and `ppir simulate`."""

from __future__ import annotations

import argparse
from typing import Any

from PPIRLogic.cli.parsers.common import add_command, add_relay_options, file_path
from PPIRLogic.cli.parsers.run_options import add_reconnect, add_registration_options, check_values


def add_register(commands: Any) -> None:
    text = "Align my moving image to the fixed image of a peer (party 1). Writes a transform from fixed to moving."
    example = "ppir register moving.nrrd --peer hospital-b.example --output T.h5 --warped W.nrrd --report R.json"
    p = add_command(commands, "register", "register:run_register", text, example, check_values)
    p.add_argument("moving", type=file_path, help="image file or folder of one DICOM series")
    p.add_argument("--peer", required=True, metavar="HOST:PORT", help="the site that serves the fixed image")
    add_relay_options(p)
    p.add_argument("--image", default="", metavar="NAME", help="name of the fixed image, where the peer offers several")
    p.add_argument("--mask", type=file_path, help="mask of the moving image")
    p.add_argument("--dealer", default="", metavar="HOST:PORT", help="the dealer, for mpc")
    p.add_argument(
        "--dealer-fingerprint", default="", metavar="FINGERPRINT", help="which dealer, if several are trusted"
    )
    add_reconnect(p)
    p.add_argument("--show-fixed", type=file_path, help=argparse.SUPPRESS)  # in the demonstration's pictures
    add_registration_options(p)


def add_simulate(commands: Any) -> None:
    text = "Both parties (and the dealer) as real processes on this machine, for one who holds both images."
    example = "ppir simulate --fixed F.nrrd --moving M.nrrd --loss ncc --protocol fhe --output T.h5 --report R.json"
    p = add_command(commands, "simulate", "register:run_simulate", text, example, check_values)
    p.add_argument("--fixed", type=file_path, required=True, help="image file or folder of one DICOM series")
    p.add_argument("--moving", type=file_path, required=True, help="the image that is aligned to it")
    p.add_argument("--fixed-mask-file", type=file_path, help="mask of the fixed image")
    p.add_argument("--mask", type=file_path, help="mask of the moving image")
    p.add_argument("--budget-percent", type=float, default=1e6, help="party 2's budget per level (default: open)")
    add_registration_options(p)
