"""The commands of party 1: `ppir check`, `ppir register`, and `ppir simulate` for one who holds both images."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from PPIRLogic.cli.common import (
    Arguments,
    Interruptible,
    add_command,
    add_parent_options,
    called,
    file_path,
    home_of,
    note_image,
    say,
    watch_parent,
)
from PPIRLogic.cli.run_options import (
    add_reconnect,
    add_registration_options,
    check_outputs,
    check_warped,
    parameters_of,
    reconnect_of,
)
from PPIRLogic.network.identity import normalise_fingerprint
from PPIRLogic.registration.catalogue import shown_name
from PPIRLogic.registration.party1.session import ClientSession
from PPIRLogic.registration.request import Peer


def add_check(commands: Any) -> None:
    text = "Call a peer: is it there, does it trust us, which images does it offer, on what terms?"
    p = add_command(commands, "check", _run_check, text, "ppir check hospital-b.example:7443")
    p.add_argument("peer", metavar="HOST:PORT", help="where the peer listens")
    add_parent_options(p)


def add_register(commands: Any) -> None:
    text = "Align my moving image to the fixed image of a peer (party 1). Writes a transform from fixed to moving."
    example = "ppir register moving.nrrd --peer hospital-b.example --output T.h5 --warped W.nrrd --report R.json"
    p = add_command(commands, "register", _run_register, text, example)
    p.add_argument("moving", type=file_path, help="image file or folder of one DICOM series")
    p.add_argument("--peer", required=True, metavar="HOST:PORT", help="the site that serves the fixed image")
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
    p = add_command(commands, "simulate", _run_simulate, text, example)
    p.add_argument("--fixed", type=file_path, required=True, help="image file or folder of one DICOM series")
    p.add_argument("--moving", type=file_path, required=True, help="the image that is aligned to it")
    p.add_argument("--fixed-mask-file", type=file_path, help="mask of the fixed image")
    p.add_argument("--mask", type=file_path, help="mask of the moving image")
    p.add_argument("--budget-percent", type=float, default=1e6, help="party 2's budget per level (default: open)")
    add_registration_options(p)


def _run_check(a: Arguments) -> None:
    if a.with_parent:
        watch_parent(a.scratch)
    with called(home_of(a), a.peer) as session:
        say_offers(a, session)


def say_offers(a: Arguments, session: ClientSession) -> None:
    """Who answers, and what it offers on what terms."""
    channel = session.channel
    name = channel.known_as if channel.authority else channel.peer_name
    say(a, "peer", f"{name} at {channel.address}, fingerprint {channel.peer_fingerprint}: trusted",
        name=name, fingerprint=channel.peer_fingerprint)  # fmt: skip
    for offer in [*session.offers(), *session.points()]:
        left = offer.budget["numbers_per_image"] - offer.numbers_opened
        text = (
            f"  {offer.what} '{offer.name}': {offer.geometry.describe()}"
            f"{', with a mask' if offer.has_mask else ''}\n"
            f"    protocols {', '.join(map(shown_name, offer.protocols))}; losses {', '.join(offer.losses)}; transforms"
            f" {', '.join(offer.transforms)}; mask use {', '.join(offer.masks)}\n"
            f"    budget {offer.budget['percent_per_level']:g} % of each level,"
            f" {offer.budget['numbers_per_session']:,.0f} numbers per session, {left:,.0f} left in all"
        )
        details = {k: v for k, v in offer.__dict__.items() if k != "geometry"}
        say(a, offer.what, text, geometry=offer.geometry.to_dict(), **details)


def _run_register(a: Arguments) -> None:
    from PPIRLogic.cli.display import RunDisplay, write_results
    from PPIRLogic.images.reading import read_mask, read_volume
    from PPIRLogic.registration.party1.register import register

    check_outputs(a)
    moving = read_volume(a.moving, role="moving")
    check_warped(a.warped, moving)
    fixed = read_volume(a.show_fixed, role="fixed") if a.show_fixed else None
    mask = read_mask(a.mask, moving) if a.mask else None
    note_image(a, moving, mask, "moving")
    fingerprint = normalise_fingerprint(a.dealer_fingerprint) if a.dealer_fingerprint else ""
    peer = Peer(a.peer, a.image, a.dealer, fingerprint)
    reconnect = reconnect_of(a)
    parameters = parameters_of(a, False)
    with Interruptible() as run:
        if a.with_parent:
            watch_parent(a.scratch)
        with RunDisplay(a.json) as display:
            result = register(
                moving,
                peer,
                mask=mask,
                parameters=parameters,
                home=home_of(a),
                progress=run.follow(display),
                cancel=run.token,
                reconnect=reconnect,
            )
        write_results(a, result, moving, fixed)


def _run_simulate(a: Arguments) -> None:
    from PPIRLogic.cli.display import RunDisplay, write_results
    from PPIRLogic.images.reading import read_mask, read_volume
    from PPIRLogic.registration.simulate import OPEN_BUDGET, simulate

    check_outputs(a)
    parameters = parameters_of(a, a.fixed_mask_file is not None)
    fixed, moving = read_volume(a.fixed, role="fixed"), read_volume(a.moving, role="moving")
    check_warped(a.warped, moving)
    note_image(a, moving, read_mask(a.mask, moving) if a.mask else None, "moving")
    budget = replace(OPEN_BUDGET, percent_per_level=a.budget_percent, bits_percent_per_level=6 * a.budget_percent)
    with Interruptible() as run:
        if a.with_parent:
            watch_parent(a.scratch)
        with RunDisplay(a.json) as display:
            result = simulate(
                a.fixed, moving, fixed_mask=a.fixed_mask_file, moving_mask=a.mask, parameters=parameters,
                budget=budget, progress=run.follow(display), cancel=run.token,
            )  # fmt: skip
        write_results(a, result, moving, fixed)
