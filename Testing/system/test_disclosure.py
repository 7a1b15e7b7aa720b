"""Docs/results/disclosure.md is measured on what party 1 really gets: rows and sums of one and the same image."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from system_support import Phantom, motion_of, owner, plain_grid, shared, two_sites

from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.request import Peer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from Benchmarks.disclosure import View, tapped

GRID = plain_grid(2)
PHANTOM = Phantom.make(GRID)


def test_every_recorded_sum_is_that_of_its_row_and_the_fixed_image(tmp_path: Path) -> None:
    mine, theirs = two_sites(tmp_path)
    run = Parameters(
        transform="affine", loss="ssd", levels=(2,), protocol="fhe", evaluations=4, initial="centres", skip_check=True
    )
    views: dict[int, View] = {}
    fixed = shared(PHANTOM.on(GRID, name="fixed"))
    with owner(theirs, fixed) as there, tapped(views):
        register(
            PHANTOM.on(GRID, motion_of("affine", GRID), "moving"), Peer(there.address), home=mine.home, parameters=run
        )
    request = run.request("fixed", GRID, "", "")
    (level,) = fixed.image.levels(request, bytes(32))
    image = np.zeros(int(np.prod(level.geometry.array_shape)))
    image[level.samples] = fixed.image.operands(level, ("J",), request)["J"]
    assert len(views[2].rows) >= 7
    assert [float(row.astype(np.float64) @ image) for row in views[2].rows] == views[2].sums
