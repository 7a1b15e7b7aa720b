"""An owner who gives a mask keeps what lies outside it: no request gets a number that depends on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recording import Record
from system_support import (
    OPEN,
    Owner,
    Phantom,
    account_numbers,
    ball,
    call,
    grid,
    last_words,
    motion_of,
    owner,
    shared,
    two_sites,
)
from thief import WANTED, Thief, quantised, right

from PPIRLogic.errors import PolicyError
from PPIRLogic.images.volume import Volume
from PPIRLogic.local_processes import Site
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.party2.fixed_image import FixedImage
from PPIRLogic.registration.party2.policy import Policy
from PPIRLogic.registration.request import Request

GRID = grid((64, 64), (1.0, 1.0), (0.0, 0.0))
FIXED, INSIDE = Phantom.make(GRID).on(GRID), ball(GRID, 0.25)
USES = sorted(Policy().masks | {"disclosed"})
ASKED = {
    "ssd": WANTED,
    "ncc": replace(WANTED, loss="ncc", levels=(2,)),
    "lncc": replace(WANTED, loss="lncc", levels=(2,), radius_mm=3.0),
    "mi": replace(WANTED, loss="mi", transform="affine", levels=(1,)),
}


def outside(image: FixedImage, request: Request = WANTED) -> list[int]:
    level = image.levels(request, bytes(16))[0]
    return [int(v) for v in np.flatnonzero(~INSIDE.reshape(-1)[level.samples])[:36]]


def read_outside(site: Site, one: Owner, request: Request) -> tuple[int, int]:
    """Voxels outside the mask that a thief reads exactly, of how many; the face may be there."""
    plain = FixedImage("fixed", FIXED)
    wanted = outside(plain, request)
    with Thief(site, one.address, request) as thief:
        return right(thief.read(wanted), quantised(plain, replace(request, fixed_mask="none"))), len(wanted)


def test_what_lies_outside_the_mask_cannot_be_asked_for(tmp_path: Path, record: Record) -> None:
    one_site, two = two_sites(tmp_path)
    with owner(two, shared(FIXED, mask=INSIDE, budget=OPEN, masks=frozenset({"none"}))) as unprotected:
        read, asked = read_outside(one_site, unprotected, WANTED)
    assert read == asked == 36
    before = account_numbers(two.home)
    with owner(two, shared(FIXED, mask=INSIDE, budget=OPEN)) as ours:
        with pytest.raises(PolicyError, match="permitted: fill, private"):
            Thief(one_site, ours.address, WANTED)
        assert account_numbers(two.home) == before
        filled, _ = read_outside(one_site, ours, replace(WANTED, fixed_mask="fill"))
    assert filled == 0
    record(
        "voxels outside the owner's mask (party 1 asks for fixed_mask 'none', or 'fill')",
        f"{read} of {asked} read exactly",
        f"'none' is refused unless its owner names it; {filled} of {asked}",
    )


def test_a_use_that_is_none_is_refused_whatever_else_bears_its_name(tmp_path: Path) -> None:
    """The name of a loss of points is no use of a mask: served as 'fill', it would show which voxels are inside."""
    one_site, two = two_sites(tmp_path)
    asked = {name: {**WANTED.to_dict(), "fixed_mask": "private"} for name in ("fixed_mask", "transform", "protocol")}
    with owner(two, shared(FIXED, mask=INSIDE, budget=OPEN, masks=frozenset({"private"}))) as one:
        for name, request in asked.items():
            channel = call(one_site, one.address)
            channel.send("open", {**request, name: "points_2d", "nonce": bytes(32)})
            error = last_words(channel)
            channel.close()
            assert isinstance(error, PolicyError) and "'points_2d' is not permitted" in str(error), name
        assert one.told("session") == one.told("session failed") == []
    assert account_numbers(two.home) == 0


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("loss", ASKED)
def test_no_number_depends_on_what_lies_outside(use: str, loss: str) -> None:
    """Nor by way of smoothing: another face, the same operands. With 'none' they differ."""
    draw = np.random.default_rng(1)
    other = Volume(np.where(INSIDE, FIXED.array, draw.uniform(0, 9999, INSIDE.shape)).astype(np.float32), GRID, "x")

    def operands(volume: Volume, mode: str) -> dict[str, Any]:
        image, request = FixedImage("x", volume, INSIDE), replace(ASKED[loss], fixed_mask=mode)
        names = ("B",) if loss == "mi" else ("J",) if loss == "lncc" else ("J", "MJ", "MJ2")
        return image.operands(image.levels(request, bytes(16))[0], names, request)

    ours, theirs = operands(FIXED, use), operands(other, use)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    free, changed = operands(FIXED, "none"), operands(other, "none")
    assert not np.array_equal(*(v["B" if loss == "mi" else "J"] for v in (free, changed)))


def test_an_honest_run_asks_for_what_the_owner_permits(tmp_path: Path) -> None:
    one_site, two = two_sites(tmp_path)
    moving = Phantom.make(GRID).on(GRID, motion_of("translation", GRID))
    run = Parameters(transform="translation", loss="ssd", levels=(2,), evaluations=4, threads=1)
    for masks, asked in (({"fill", "private"}, "fill"), ({"none", "fill"}, "none")):
        with owner(two, shared(FIXED, mask=INSIDE, masks=frozenset(masks))) as one:
            assert register(moving, one.address, home=one_site.home, parameters=run).complete
            assert one.told("session")[-1]["fixed_mask"] == asked
