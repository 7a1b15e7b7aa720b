"""The commands `ppir register-points` and `ppir simulate-points`."""

from __future__ import annotations

import math
import os
from typing import Any

from PPIRLogic.cli.common import (
    Arguments,
    Interruptible,
    add_command,
    add_parent_options,
    file_path,
    home_of,
    note,
    say,
    warn_of_protocols,
    watch_parent,
)
from PPIRLogic.cli.display import RunDisplay
from PPIRLogic.cli.run_options import add_option, add_reconnect, check_outputs, reconnect_of
from PPIRLogic.network.identity import normalise_fingerprint
from PPIRLogic.registration.catalogue import wire_name
from PPIRLogic.registration.options import OPTIONS
from PPIRLogic.registration.points.fixed_points import TRANSFORMS
from PPIRLogic.registration.protocols import PROTOCOLS
from PPIRLogic.registration.request import Peer
from PPIRLogic.report.wording import human_bytes
from PPIRLogic.transforms import TRANSFORM_FILES, write_transform

_FILES = "Slicer's .mrk.json or .fcsv, a .csv table, or elastix's or a plain .txt list"


def add_register_points(commands: Any) -> None:
    text = "Align my points to corresponding points of a peer (party 1), matched by their order. Writes a transform."
    example = "ppir register-points moving.mrk.json --peer hospital-b.example --output T.h5 --report R.json"
    p = add_command(commands, "register-points", _run_register, text, example)
    p.add_argument("moving", type=file_path, help=f"my points: {_FILES}")
    p.add_argument("--peer", required=True, metavar="HOST:PORT", help="the site that serves the fixed points")
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
    p = add_command(commands, "simulate-points", _run_simulate, text, example)
    p.add_argument("--fixed", type=file_path, required=True, help=f"the other side's points: {_FILES}")
    p.add_argument("--moving", type=file_path, required=True, help="my points")
    p.add_argument("--budget-percent", type=float, default=1e6, help="party 2's budget (default: open)")
    _options(p)


def _options(p: Any) -> None:
    add_parent_options(p)
    p.add_argument("--transform", choices=TRANSFORMS, default="rigid", help="what may move between the points (rigid)")
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


def _run_register(a: Arguments) -> None:
    from PPIRLogic.points.files import read_points
    from PPIRLogic.registration.points.register import register_points

    check_outputs(a)
    moving = read_points(a.moving)
    fingerprint = normalise_fingerprint(a.dealer_fingerprint) if a.dealer_fingerprint else ""
    peer = Peer(a.peer, a.image, a.dealer, fingerprint)
    with Interruptible() as run, _display(a) as display:
        result = register_points(
            moving, peer, transform=a.transform, protocol=a.protocol, home=home_of(a), threads=a.threads,
            progress=run.follow(display), cancel=run.token, reconnect=reconnect_of(a),
        )  # fmt: skip
        _write(a, result)


def _run_simulate(a: Arguments) -> None:
    from PPIRLogic.disclosure.accounts import Budget
    from PPIRLogic.points.files import read_points
    from PPIRLogic.registration.simulate import OPEN_BUDGET, simulate_points

    check_outputs(a)
    fixed, moving = read_points(a.fixed, "fixed"), read_points(a.moving)
    if fixed.note:
        note(a, fixed.note)
    budget = Budget(
        a.budget_percent, 6 * a.budget_percent, OPEN_BUDGET.numbers_per_session, OPEN_BUDGET.numbers_per_image
    )
    with Interruptible() as run, _display(a) as display:
        result = simulate_points(
            fixed, moving, transform=a.transform, protocol=a.protocol, threads=a.threads, budget=budget,
            progress=run.follow(display), cancel=run.token,
        )  # fmt: skip
        _write(a, result)


def _display(a: Arguments) -> RunDisplay:
    OPTIONS["threads"].checked(a.threads)
    warn_of_protocols(a, [a.protocol])
    if a.with_parent:
        watch_parent(a.scratch)
    return RunDisplay(a.json)


def _write(a: Arguments, result: Any) -> None:
    from PPIRLogic.report.points import write_points_report

    write_transform(result.transform, a.output)
    if a.report is not None:
        write_points_report(result, a.report, str(a.output))
    for warning in result.warnings:
        note(a, warning)
    residual = None if math.isnan(result.fit.residual_mm) else result.fit.residual_mm
    left = "" if residual is None else f" {residual:.4g} mm remain (root mean square);"
    text = (
        f"done: {result.layout.count} points;{left}"
        f" {result.seconds:.1f} s, {human_bytes(result.bytes_sent)} sent, {human_bytes(result.bytes_received)}"
        f" received, {result.numbers} numbers of the fixed points disclosed\ntransform  {a.output}"
    )
    say(
        a, "result", text, complete=True, seconds=round(result.seconds, 3), bytes_sent=result.bytes_sent,
        bytes_received=result.bytes_received, numbers=result.numbers, residual_mm=residual,
        reflection=result.fit.reflection, warnings=result.warnings, transform=str(a.output),
        report=str(a.report) if a.report else None,
    )  # fmt: skip
