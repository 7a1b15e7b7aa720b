"""The published protocols fhe_v1 and fhe_v2 over real sockets: never by default, near to clear, and who sees what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from system_support import (
    OPEN,
    Phantom,
    account_numbers,
    answer,
    call,
    distance,
    ledger_rows,
    motion_of,
    owner,
    plain_grid,
    session_files,
    shared,
    two_sites,
)

from PPIRLogic import FixedPoints, Parameters, Peer, PointSet, Policy, Shared, register, register_points
from PPIRLogic.errors import PolicyError
from PPIRLogic.registration.party2.policy import Policy as OwnersPolicy
from PPIRLogic.secure.published.ckks import ANSWER_BYTES

GRID = plain_grid(2)
PHANTOM = Phantom.make(GRID)
FIXED, MOVING = PHANTOM.on(GRID, name="fixed"), PHANTOM.on(GRID, motion_of("rigid", GRID), "moving")
BOTH = ("fhe_v1", "fhe_v2")
EACH = 5  # numbers of an evaluation: three of a rigid gradient in 2D, the value, the overlap


def run(protocol: str, **options: object) -> Parameters:
    return Parameters(transform="rigid", loss="ssd", levels=(2, 1), protocol=protocol, evaluations=12, **options)


@pytest.mark.parametrize("protocol", BOTH)
def test_no_default_permits_them(protocol: str, tmp_path: Path) -> None:
    assert protocol not in OwnersPolicy().protocols and Parameters().protocol == "fhe"
    mine, theirs = two_sites(tmp_path)
    default = Shared(shared(FIXED).image, Policy())
    refused = pytest.raises(PolicyError, match=f"'{protocol}' is not permitted")
    with owner(theirs, default) as there, refused:
        register(MOVING, Peer(there.address), home=mine.home, parameters=run(protocol))
    assert account_numbers(theirs.home) == 0


@pytest.mark.parametrize("protocol", BOTH)
def test_they_come_near_to_clear_and_the_ledger_says_who_sees_the_results(protocol: str, tmp_path: Path) -> None:
    mine, theirs = two_sites(tmp_path)
    told: list[str] = []
    with owner(theirs, shared(FIXED, protocols=frozenset({"clear", protocol}))) as there:
        peer = Peer(there.address)
        clear = register(MOVING, peer, home=mine.home, parameters=run("clear"))
        found = register(
            MOVING, peer, home=mine.home, parameters=run(protocol), progress=lambda p: told.append(p.detail)
        )
    assert found.complete, found.error
    assert distance(found.transform, clear.transform, GRID) < 0.1
    assert found.numbers == found.peer_numbers
    assert any("the other side sees the results too" in text for text in told)
    ours, others = session_files(mine.home)[-1], session_files(theirs.home)[-1]
    assert ledger_rows(ours) == ledger_rows(others)
    learned = {who: sum(r[2] for r in ledger_rows(ours) if r[1] == who and r[0] != "geometry") for who in
               ("party 1", "party 2")}  # fmt: skip
    assert learned["party 1"] == learned["party 2"] == account_numbers(theirs.home) > 0
    kinds = {r[0] for r in ledger_rows(ours) if r[1] == "party 2"}
    assert kinds == {"result" if protocol == "fhe_v1" else "half of the result"}


@pytest.mark.parametrize("protocol", BOTH)
def test_gms_tells_the_other_side_where_the_edges_are_so_both_must_allow_it(protocol: str, tmp_path: Path) -> None:
    mine, theirs = two_sites(tmp_path)
    gms = {"sampling": "gms", "percent": 30.0}
    policy = {"protocols": frozenset({protocol}), "budget": OPEN}
    closed, opened = (
        shared(FIXED, name="closed", **policy),
        shared(FIXED, name="open", disclosed_sampling=True, **policy),
    )
    with owner(theirs, closed, opened) as there:
        for image, allowed in (("closed", True), ("open", False)):
            with pytest.raises(PolicyError, match=f"Under {protocol}, gms"):
                parameters = run(protocol, disclose_sampling=allowed, **gms)
                register(MOVING, Peer(there.address, image), home=mine.home, parameters=parameters)
        parameters = run(protocol, disclose_sampling=True, **gms)
        assert register(MOVING, Peer(there.address, "open"), home=mine.home, parameters=parameters).complete
    rows = ledger_rows(session_files(theirs.home)[-1])
    assert {r[0] for r in rows if r[1] == "party 2"} >= {"sampling"}


@pytest.mark.parametrize("protocol", BOTH)
def test_points_come_within_the_published_error(protocol: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    fixed = rng.uniform(-60, 60, (193, 2))
    moving = fixed @ np.array([[0.8, -0.6], [0.6, 0.8]]).T + [4.0, -9.0] + rng.normal(0, 1, fixed.shape)
    mine, theirs = two_sites(tmp_path)
    item = Shared(FixedPoints("pts", PointSet(fixed)), Policy(protocols=frozenset({"clear", protocol}), budget=OPEN))
    with owner(theirs, item) as there:
        clear = register_points(moving, Peer(there.address), home=mine.home, protocol="clear")
        found = register_points(moving, Peer(there.address), home=mine.home, protocol=protocol)
    gaps = found.fit.transform.apply(fixed) - clear.fit.transform.apply(fixed)
    assert np.sqrt(np.square(gaps).sum(axis=1).mean()) < 1.1
    assert np.isnan(found.fit.residual_mm)  # no residual rather than a wrong one


def test_the_same_bytes_under_another_key_are_counted_again(tmp_path: Path) -> None:
    """Every evaluation has a key of its own, so a request that comes twice opens something new the second time."""
    mine, theirs = two_sites(tmp_path)
    with owner(theirs, shared(FIXED, protocols=frozenset({"fhe_v1"}))) as there, call(mine, there.address) as channel:
        request = run("fhe_v1").request("fixed", GRID, "", "")
        channel.send("open", {**request.to_dict(), "nonce": bytes(32)})
        channel.send("level", {"index": 0, "seed": bytes(32)})
        for kind in ("opened", "level"):
            answer(channel, kind)
        for count in (1, 2):
            channel.send("evaluate", {"level": 0, "evaluation": 0, "stage": "value"})
            for kind in ("key", *["data"] * 2):
                answer(channel, kind)
            channel.send("request", {}, bytes(EACH * ANSWER_BYTES))
            answer(channel, "answer")
            assert account_numbers(theirs.home) == count * EACH
