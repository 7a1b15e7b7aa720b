"""The commands `ppir register-points` and `ppir simulate-points`."""

from __future__ import annotations

import math
from typing import Any

from PPIRLogic.cli.common import Interruptible, home_of, peer_address, warn_of_protocols
from PPIRLogic.cli.display import Display, display_of
from PPIRLogic.cli.output import Arguments, note, say
from PPIRLogic.cli.run_options import check_outputs, reconnect_of
from PPIRLogic.disclosure.accounts import Budget
from PPIRLogic.network.identity import normalise_fingerprint
from PPIRLogic.points.files import read_points
from PPIRLogic.registration.options import OPTIONS
from PPIRLogic.registration.points.register import register_points
from PPIRLogic.registration.request import Peer
from PPIRLogic.registration.simulate import OPEN_BUDGET, simulate_points
from PPIRLogic.report.points import write_points_report
from PPIRLogic.report.wording import human_bytes
from PPIRLogic.transforms import write_transform


def run_register(a: Arguments) -> None:
    check_outputs(a)
    moving = read_points(a.moving)
    fingerprint = normalise_fingerprint(a.dealer_fingerprint) if a.dealer_fingerprint else ""
    peer = Peer(peer_address(a), a.image, a.dealer, fingerprint)
    with Interruptible(a) as run, _display(a) as display:
        result = register_points(
            moving, peer, transform=a.transform, protocol=a.protocol, home=home_of(a), threads=a.threads,
            progress=run.follow(display), cancel=run.token, reconnect=reconnect_of(a),
        )  # fmt: skip
        _write(a, result)


def run_simulate(a: Arguments) -> None:
    check_outputs(a)
    fixed, moving = read_points(a.fixed, "fixed"), read_points(a.moving)
    if fixed.note:
        note(a, fixed.note)
    budget = Budget(
        a.budget_percent, 6 * a.budget_percent, OPEN_BUDGET.numbers_per_session, OPEN_BUDGET.numbers_per_image
    )
    with Interruptible(a) as run, _display(a) as display:
        result = simulate_points(
            fixed, moving, transform=a.transform, protocol=a.protocol, threads=a.threads, budget=budget,
            progress=run.follow(display), cancel=run.token,
        )  # fmt: skip
        _write(a, result)


def _display(a: Arguments) -> Display:
    OPTIONS["threads"].checked(a.threads)
    warn_of_protocols(a, [a.protocol])
    return display_of(a)


def _write(a: Arguments, result: Any) -> None:
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
