"""Three protocols through real processes: the same path, the right answer, and every number counted on both sides."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from system_support import (
    Phantom,
    Program,
    account_numbers,
    ball,
    distance,
    ledger_rows,
    motion_of,
    opened_numbers,
    plain_grid,
    save,
    save_mask,
    session_files,
)

from PPIRLogic.disclosure.ledger import SessionLedger
from PPIRLogic.images.volume import Volume
from PPIRLogic.local_processes import Site, make_sites
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.registration.disclosure_estimate import most_numbers
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.party1.session import ClientSession
from PPIRLogic.registration.request import Peer
from PPIRLogic.registration.result import RegistrationResult
from PPIRLogic.registration.simulate import peers, simulate

PHANTOMS = {d: Phantom.make(plain_grid(d)) for d in (2, 3)}


@dataclass(frozen=True)
class Place:
    """One party 2 (and dealer) for all runs of this file, offering a masked image in 2D and in 3D."""

    sites: dict[str, Site]
    address: str
    dealer: str
    clear: dict[str, RegistrationResult] = field(default_factory=dict)

    def peer(self, dimension: int, protocol: str) -> Peer:
        if protocol != "mpc":
            return Peer(self.address, f"image{dimension}")
        return Peer(self.address, f"image{dimension}", self.dealer, self.sites["dealer"].fingerprint)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The place; with a dealer where torch is there to run mpc."""
    folder = tmp_path_factory.mktemp("place")
    sites = make_sites(folder, ("party-1", "party-2", "dealer"))
    options: list[object] = ["--protocols", "clear,fhe,mpc", "--masks", "none,fill,private,disclosed"]
    options += ["--budget-percent", 1e6, "--budget-bits", 1e9, "--budget-image", 10**9, "--budget-session", 10**9]
    options += ["--budget-histograms", 10**9]
    options += ["--allow-disclosed-sampling", "--listen", "127.0.0.1:0", "--threads", 2]
    with contextlib.ExitStack() as stack:
        programs, dealer = [], ""
        if find_spec("torch") is not None:
            programs.append(stack.enter_context(Program(sites["dealer"].home, "dealer", "--listen", "127.0.0.1:0")))
            dealer = programs[0].wait_for("listening")["address"]
            options += ["--dealer", dealer, "--dealer-fingerprint", sites["dealer"].fingerprint]
        files = []
        for d, phantom in PHANTOMS.items():
            geometry = plain_grid(d)
            files.append(save(phantom.on(geometry), folder / f"image{d}.mha"))
            options += ["--name", f"image{d}"]
            options += ["--mask", save_mask(ball(geometry), geometry, folder / f"mask{d}.mha")]
        programs.append(stack.enter_context(Program(sites["party-2"].home, "serve", *files, *options)))
        yield Place(sites, programs[-1].wait_for("listening")["address"], dealer)
        for program in programs:
            assert program.running, program.log.read_text()
            assert "Traceback" not in program.log.read_text()


PLAIN: dict[str, Any] = {"initial": "identity", "skip_check": True}  # three cases compare starts and check ends
CASES = {
    "translation ssd 2D": (2, Parameters(transform="translation", loss="ssd")),
    "rigid ncc 2D urs": (2, Parameters(**PLAIN, transform="rigid", loss="ncc", sampling="urs", percent=60)),
    "similarity ncc 2D gms, own mask by rows": (
        2,
        Parameters(
            **PLAIN, transform="similarity", loss="ncc", sampling="gms", percent=50, disclose_sampling=True, mask="rows"
        ),
    ),
    "affine ssd 2D private mask, own mask by rows": (  # ssd compares values: both sides must scale by the same region
        2,
        Parameters(**PLAIN, transform="affine", loss="ssd", fixed_mask="private", mask="rows"),
    ),
    "affine ncc 2D disclosed mask": (2, Parameters(**PLAIN, transform="affine", loss="ncc", fixed_mask="disclosed")),
    "rigid ncc 3D gms": (
        3,
        Parameters(**PLAIN, transform="rigid", loss="ncc", sampling="gms", percent=40, disclose_sampling=True),
    ),
    "similarity ssd 3D fill mask, own mask filled": (
        3,
        Parameters(**PLAIN, transform="similarity", loss="ssd", fixed_mask="fill", mask="fill"),
    ),
    "affine ncc 3D": (3, Parameters(transform="affine", loss="ncc")),
    "translation ncc 3D urs private mask": (
        3,
        Parameters(**PLAIN, transform="translation", loss="ncc", sampling="urs", percent=50, fixed_mask="private"),
    ),
    "rigid mi 2D": (2, Parameters(transform="rigid", loss="mi", bins=16, levels=(1,))),
    "affine mi 3D private mask": (
        3,
        Parameters(**PLAIN, transform="affine", loss="mi", fixed_mask="private", levels=(2, 1)),
    ),
}


def moving_of(dimension: int, transform: str) -> Volume:
    geometry = plain_grid(dimension)
    return PHANTOMS[dimension].on(geometry, motion_of(transform, geometry), "moving")


def run(
    place: Place, dimension: int, p: Parameters, protocol: str, with_own_mask: bool = False
) -> tuple[RegistrationResult, list[tuple[Any, ...]]]:
    """One run, and its ledger, which must be the same on both sides."""
    geometry = plain_grid(dimension)
    mask = ball(geometry, motion=motion_of(p.transform, geometry)) if with_own_mask else None
    result = register(
        moving_of(dimension, p.transform), place.peer(dimension, protocol), mask=mask,
        parameters=replace(p, protocol=protocol), home=place.sites["party-1"].home,
    )  # fmt: skip
    assert result.complete and result.stop_reason == "finished" and result.error is None
    mine, theirs = (session_files(place.sites[s].home)[-1] for s in ("party-1", "party-2"))
    assert ledger_rows(mine) == ledger_rows(theirs)
    assert opened_numbers(mine) == result.numbers == result.peer_numbers
    return result, ledger_rows(mine)


def clear_run(place: Place, name: str) -> RegistrationResult:
    """The unprotected run of a case, once for all protocols that are compared with it."""
    if name not in place.clear:
        dimension, p = CASES[name]
        place.clear[name], _ = run(place, dimension, p, "clear", "own mask" in name)
    return place.clear[name]


def estimate(place: Place, dimension: int, result: RegistrationResult) -> list[tuple[int, int]]:
    """Numbers per value and per gradient, by level, that party 2 grants for the same request, before it opens any."""
    home = place.sites["party-1"].home
    peer = place.peer(dimension, result.request.protocol)
    ledger = SessionLedger(None, {})
    with ClientSession(
        peer.address, load_or_create_identity(home), TrustStore(home), lambda: None, 1, ledger
    ) as session:
        session.open(result.request, peer.dealer)
        assert session.ledger.numbers == 0
        search = [g for g in session.grants if not g.purpose]
        asked = [g for g in most_numbers(result.request, result.fixed_geometry) if not g.purpose]
        assert [g.evaluations for g in search] == [g.evaluations for g in asked]
        return [(g.numbers_per_evaluation, g.numbers_per_gradient) for g in search]


def path_of(result: RegistrationResult) -> list[Any]:
    return [(v.factor, v.evaluations, v.reason, v.values, v.transforms) for v in result.levels]


def check_count(place: Place, dimension: int, result: RegistrationResult, rows: list[tuple[Any, ...]]) -> None:
    """What the estimate promised per value and per gradient is what the ledger holds after it."""
    each = estimate(place, dimension, result)
    apart = {v.factor: gradient for v, (_, gradient) in zip(result.levels, each, strict=True)}
    promised = {v.factor: value * v.evaluations for v, (value, _) in zip(result.levels, each, strict=True)}
    opened: Counter[int] = Counter()
    for kind, to, numbers, _bits, level, _evaluation in rows:
        if kind not in ("geometry", "mask grid", "sampling", "image"):
            assert to == "party 1"
            opened[level] += numbers
    for extra in filter(None, (result.starts, result.check)):
        assert extra.numbers > 0
        opened[extra.factor] -= extra.numbers
    for v in result.levels:  # one gradient per transform that a step was taken from, and where a search ended
        rest = opened.pop(v.factor) - promised[v.factor]
        steps = rest / apart[v.factor] if apart[v.factor] else rest
        searches = 1 + (v.rigid_iterations > 0)
        assert v.iterations <= steps <= v.iterations + searches if apart[v.factor] else steps == 0
    assert not any(opened.values())


LONG_CASES = ("affine mi 3D private mask", "similarity ssd 3D fill mask, own mask filled")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.long) if n in LONG_CASES else n for n in CASES])
def test_clear_and_fhe_take_the_same_path_to_the_truth(name: str, place: Place) -> None:
    dimension, p = CASES[name]
    own_mask = "own mask" in name
    clear = clear_run(place, name)
    fhe, rows = run(place, dimension, p, "fhe", own_mask)
    assert path_of(clear) == path_of(fhe)
    assert (clear.starts, clear.check) == (fhe.starts, fhe.check)
    assert bool(fhe.starts) == bool(fhe.check) == (p.initial == "compare")
    assert all(len(v.transforms) == len(v.values) == v.iterations + 1 for v in fhe.levels)
    drawn = "urs" in name  # by the owner's secret: another sample at every run, and another path
    still = drawn or p.loss == "mi"  # whose pool is the owner's secret, too: at times the best start is the end
    assert sum(v.iterations for v in fhe.levels) >= (0 if still else 2), "a run that does not move proves nothing"
    assert np.array_equal(clear.transform.GetParameters(), fhe.transform.GetParameters())
    check_count(place, dimension, fhe, rows)
    truth, geometry = motion_of(p.transform, plain_grid(dimension)), plain_grid(dimension)
    # Where everything outside a ball is filled, the grid's corners are extrapolated.
    assert distance(fhe.transform, truth, geometry) < (2.0 if "filled" in name else 0.7 if drawn else 0.35)
    kinds = {r[0] for r in rows}
    assert ("mask grid" in kinds) == (p.fixed_mask == "disclosed")
    assert "sampling" not in kinds, "party 2 must not learn which voxels take part under fhe"


MPC_CASES = (
    "translation ssd 2D", "rigid ncc 3D gms", "rigid mi 2D",
)  # fmt: skip


@pytest.mark.parametrize("name", [n if n in MPC_CASES else pytest.param(n, marks=pytest.mark.long) for n in CASES])
def test_mpc_takes_the_same_path_as_clear(name: str, place: Place) -> None:
    pytest.importorskip("torch")
    dimension, p = CASES[name]
    own_mask = "own mask" in name
    clear = clear_run(place, name)
    mpc, rows = run(place, dimension, p, "mpc", own_mask)
    assert path_of(clear) == path_of(mpc)
    check_count(place, dimension, mpc, rows)
    assert ("sampling" in {r[0] for r in rows}) == (p.sampling == "gms")
    assert mpc.dealer_bytes_sent > 0 and mpc.dealer_bytes_received > 0


def test_the_same_seed_gives_the_same_run_and_another_seed_another(place: Place) -> None:
    dimension, p = CASES["rigid ncc 2D urs"]
    first, again, other = (run(place, dimension, replace(p, seed=s), "fhe")[0] for s in (7, 7, 8))
    assert path_of(first) == path_of(again)
    assert path_of(first) != path_of(other)


def test_threads_do_not_change_the_path(place: Place) -> None:
    dimension, p = CASES["rigid ncc 3D gms"]
    one, three = (run(place, dimension, replace(p, threads=t), "fhe")[0] for t in (1, 3))
    assert path_of(one) == path_of(three)


def test_the_account_of_the_owner_holds_every_session(place: Place) -> None:
    dimension, p = CASES["translation ssd 2D"]
    home = place.sites["party-2"].home
    before = account_numbers(home)
    result, _ = run(place, dimension, p, "fhe")
    assert account_numbers(home) - before == result.numbers > 0
    run(place, dimension, p, "clear")
    assert account_numbers(home) - before == result.numbers, "clear discloses the image, not single numbers"


@pytest.mark.parametrize("protocol", ["fhe", "mpc"])
def test_simulate_starts_and_ends_all_parties(protocol: str) -> None:
    if protocol == "mpc":
        pytest.importorskip("torch")
    geometry = plain_grid(2)
    truth = motion_of("rigid", geometry)
    p = Parameters(protocol=protocol, transform="rigid", loss="ssd")
    result = simulate(PHANTOMS[2].on(geometry), PHANTOMS[2].on(geometry, truth), parameters=p)
    assert result.complete and result.numbers == result.peer_numbers
    assert distance(result.transform, truth, geometry) < 0.1


def test_peers_end_with_their_context(tmp_path: Path) -> None:
    file = save(PHANTOMS[2].on(plain_grid(2)), tmp_path / "fixed.mha")
    with peers(file) as world:
        children = world.children
        assert [c.process.poll() for c in children] == [None]
    assert all(c.process.poll() is not None for c in children)
    assert not world.home.exists(), "the temporary identities are gone"
