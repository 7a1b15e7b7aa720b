"""The commands of party 1: `ppir register`, and `ppir simulate` for one who holds both images."""

from __future__ import annotations

from dataclasses import replace

import numba  # noqa: F401 (loaded where it is first used: one that does not load is said before anything is sent)

from PPIRLogic.cli.common import Interruptible, home_of, note_image, peer_address
from PPIRLogic.cli.display import display_of, write_results
from PPIRLogic.cli.output import Arguments
from PPIRLogic.cli.run_options import check_outputs, check_warped, parameters_of, reconnect_of
from PPIRLogic.dicom.results import check_dicom
from PPIRLogic.images.reading import read_mask, read_volume
from PPIRLogic.network.identity import normalise_fingerprint
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.request import Peer
from PPIRLogic.registration.simulate import OPEN_BUDGET, simulate


def run_register(a: Arguments) -> None:
    check_outputs(a)
    moving = read_volume(a.moving, role="moving")
    check_warped(a.warped, moving)
    series = check_dicom(a.moving, moving, a.dicom) if a.dicom else None
    fixed = read_volume(a.show_fixed, role="fixed") if a.show_fixed else None
    mask = read_mask(a.mask, moving) if a.mask else None
    note_image(a, moving, mask, "moving")
    fingerprint = normalise_fingerprint(a.dealer_fingerprint) if a.dealer_fingerprint else ""
    peer = Peer(peer_address(a), a.image, a.dealer, fingerprint)
    reconnect = reconnect_of(a)
    parameters = parameters_of(a, False)
    with Interruptible(a) as run:
        with display_of(a) as display:
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
        write_results(a, result, moving, fixed, series)


def run_simulate(a: Arguments) -> None:
    check_outputs(a)
    parameters = parameters_of(a, a.fixed_mask_file is not None)
    fixed, moving = read_volume(a.fixed, role="fixed"), read_volume(a.moving, role="moving")
    check_warped(a.warped, moving)
    series = check_dicom(a.moving, moving, a.dicom) if a.dicom else None
    note_image(a, moving, read_mask(a.mask, moving) if a.mask else None, "moving")
    budget = replace(OPEN_BUDGET, percent_per_level=a.budget_percent, bits_percent_per_level=6 * a.budget_percent)
    with Interruptible(a) as run:
        with display_of(a) as display:
            result = simulate(
                a.fixed, moving, fixed_mask=a.fixed_mask_file, moving_mask=a.mask, parameters=parameters,
                budget=budget, progress=run.follow(display), cancel=run.token,
            )  # fmt: skip
        result.fixed_frame = fixed.frame  # whoever holds both images needs nobody's word
        write_results(a, result, moving, fixed, series)
