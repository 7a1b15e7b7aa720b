"""Point sets between real processes and over real sockets: every protocol, every refusal, and what is counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from system_support import (
    Phantom,
    account_numbers,
    events_of,
    here,
    ledger_rows,
    owner,
    plain_grid,
    ppir,
    session_files,
    shared,
    two_sites,
)

from PPIRLogic import Budget, FixedPoints, Peer, PointSet, Policy, Shared, register_points, simulate_points
from PPIRLogic.errors import BudgetError, InputError, PolicyError, ProtocolError
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.points.fit import FitSums, fit
from PPIRLogic.registration.points.register import PointsResult
from PPIRLogic.transforms import read_transform

RNG = np.random.default_rng(193)
FIXED = np.array([20, -40, 900]) + RNG.uniform(-60, 60, (193, 3))
ANGLE = np.deg2rad(25)
TURN = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]])
MOVING = FIXED @ TURN.T + [3, -8, 15] + RNG.normal(0, 1, FIXED.shape)
NUMBERS = 13


def reference(fixed: np.ndarray, moving: np.ndarray, kind: str) -> np.ndarray:
    """Where the fixed points go under the fit in floats, from both sets."""
    q, w = moving - moving.mean(axis=0), fixed - fixed.mean(axis=0)
    sums = FitSums(q.T @ w, (q**2).sum(), (w**2).sum(), len(q), moving.mean(axis=0), fixed.mean(axis=0))
    return fit(sums, kind).transform.apply(fixed)


def distance(result: PointsResult, expected: np.ndarray, fixed: np.ndarray) -> float:
    return float(np.sqrt(np.square(result.fit.transform.apply(fixed) - expected).sum(axis=1).mean()))


def test_every_protocol_reaches_the_fit_in_floats() -> None:
    pytest.importorskip("torch")
    expected = reference(FIXED, MOVING, "rigid")
    found = {p: simulate_points(FIXED, MOVING, protocol=p) for p in ("clear", "fhe", "mpc")}
    for protocol, result in found.items():
        assert distance(result, expected, FIXED) < 1e-5, protocol
        assert np.array_equal(result.fit.transform.matrix, found["clear"].fit.transform.matrix), protocol
        assert result.fit.residual_mm == pytest.approx(np.sqrt(3) * 1.0, rel=0.1)
        assert result.numbers == result.peer_numbers
    assert found["fhe"].numbers == found["mpc"].numbers == NUMBERS


def test_a_similarity_over_sockets(tmp_path: Path) -> None:
    mine, theirs = two_sites(tmp_path)
    moving = 1.2 * MOVING
    with owner(theirs, points(protocols=frozenset({"fhe"}))) as there:
        result = register_points(moving, Peer(there.address), home=mine.home, transform="similarity")
    assert distance(result, reference(FIXED, moving, "similarity"), FIXED) < 1e-5


def test_two_dimensions_over_fhe() -> None:
    fixed, moving = FIXED[:, :2], MOVING[:, :2]
    result = simulate_points(fixed, moving)
    assert distance(result, reference(fixed, moving, "rigid"), fixed) < 1e-5 and result.numbers == 7


def test_a_closed_contour_goes_with_an_open_one_and_is_said() -> None:
    said: list[str] = []
    closed = np.vstack([MOVING, MOVING[:1]])
    found = simulate_points(
        FIXED, closed, protocol="clear", progress=lambda p: said.append(p.detail) if p.stage == "note" else None
    )
    assert distance(found, reference(FIXED, MOVING, "rigid"), FIXED) < 1e-5
    assert len(said) == 1 and "closed contour" in said[0]


def test_the_commands(tmp_path: Path) -> None:
    fixed, moving = tmp_path / "fixed.fcsv", tmp_path / "moving.txt"
    rows = [f"P{i},{-x!r},{-y!r},{z!r}" for i, (x, y, z) in enumerate(FIXED.tolist())]
    fixed.write_text("# CoordinateSystem = RAS\n" + "\n".join(rows))
    np.savetxt(moving, MOVING, header="point\n193", comments="", fmt="%.17g")
    out, report = tmp_path / "T.h5", tmp_path / "R.json"
    done = ppir(
        tmp_path / "home", "simulate-points", "--fixed", fixed, "--moving", moving, "--output", out, "--report", report,
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    transform, told = read_transform(out), json.loads(report.read_text())
    mapped = np.array([transform.TransformPoint(p) for p in FIXED.tolist()])
    assert np.abs(mapped - reference(FIXED, MOVING, "rigid")).max() < 1e-5
    assert told["counts_agree"] and told["totals"]["numbers"] == NUMBERS and told["warnings"] == []
    assert told["disclosed"]["per_level"][-1]["percent"] == pytest.approx(100 * NUMBERS / FIXED.size)
    assert events_of(done)[-1]["residual_mm"] == pytest.approx(told["residual_mm"])


def points(name: str = "pts", values: np.ndarray = FIXED, **policy: object) -> Shared:
    rules = {"protocols": frozenset({"fhe", "clear"}), **policy}
    return Shared(FixedPoints(name, PointSet(values)), Policy(**rules))


def test_both_ledgers_and_the_account_agree_and_the_default_budget_holds(tmp_path: Path) -> None:
    mine, theirs = two_sites(tmp_path)
    with owner(theirs, points()) as there:
        for run in (1, 2):
            register_points(MOVING, Peer(there.address, "pts"), home=mine.home)
            assert account_numbers(theirs.home) == run * NUMBERS
        with pytest.raises(BudgetError, match="579 coordinates"):  # 5 % of 579 are 28
            register_points(MOVING, Peer(there.address, "pts"), home=mine.home)
    assert account_numbers(theirs.home) == 2 * NUMBERS
    ours, others = session_files(mine.home)[0], session_files(theirs.home)[0]
    assert ledger_rows(ours) == ledger_rows(others)
    kinds = {(r[0], r[2]) for r in ledger_rows(ours)}
    assert kinds == {("geometry", 5), ("cross-covariance", 9), ("centroid", 3), ("spread", 1)}


def test_four_landmarks_exceed_the_default_budget_until_their_owner_raises_it(tmp_path: Path) -> None:
    mine, theirs = two_sites(tmp_path)
    few, raised = points("few", FIXED[:4]), points("raised", FIXED[:4], budget=Budget(200.0, 500.0))
    with owner(theirs, few, raised) as there:
        with pytest.raises(BudgetError, match="--budget-percent"):
            register_points(MOVING[:4], Peer(there.address, "few"), home=mine.home)
        result = register_points(MOVING[:4], Peer(there.address, "raised"), home=mine.home)
    assert distance(result, reference(FIXED[:4], MOVING[:4], "rigid"), FIXED[:4]) < 1e-4


def test_what_does_not_fit_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    mine, theirs = two_sites(tmp_path)
    phantom = Phantom.make(plain_grid(3)).on(plain_grid(3))
    with owner(theirs, points(protocols=frozenset({"fhe"})), shared(phantom, name="scan")) as there:

        def refused(kind: type[Exception], words: str, moving: np.ndarray = MOVING, **options: str) -> None:
            name = options.pop("name", "pts")
            with pytest.raises(kind, match=words):
                register_points(moving, Peer(there.address, name), home=mine.home, **options)

        refused(InputError, "has 193 points, 3D, mine 192 points", MOVING[:-1])
        refused(InputError, "mine 193 points, 2D", MOVING[:, :2])
        refused(InputError, "at least 3", MOVING[:2])
        refused(InputError, "one line", np.outer(np.arange(193.0), [1, 2, 3]))
        refused(InputError, "rigid or similarity", transform="affine")
        refused(PolicyError, "'clear' is not permitted", protocol="clear")
        refused(PolicyError, "offered: pts", name="scan")
        with pytest.raises(PolicyError, match="offered: scan"):
            register(phantom, Peer(there.address, "pts"), home=mine.home, parameters=Parameters(transform="rigid"))
    assert account_numbers(theirs.home) == 0


def test_a_request_for_points_of_an_image_and_the_reverse_are_refused(tmp_path: Path, monkeypatch: object) -> None:
    from system_support import call, last_words

    from PPIRLogic.registration.request import Request

    mine, theirs = two_sites(tmp_path)
    phantom = Phantom.make(plain_grid(3)).on(plain_grid(3))
    asked = [
        Request("scan", "fhe", "rigid", "points_3d", (1,), evaluations=1),
        Request("pts", "fhe", "rigid", "ssd", (1,), evaluations=1),
        Request("pts", "fhe", "rigid", "points_2d", (1,), evaluations=1),
        Request("pts", "fhe", "rigid", "points_3d", (2, 1), evaluations=1),
        Request("pts", "fhe", "affine", "points_3d", (1,), evaluations=1),
        Request("pts", "fhe", "rigid", "points_3d", (1,), evaluations=1, fixed_mask="private"),
        Request("pts", "fhe", "rigid", "points_3d", (1,), evaluations=1, sampling="gms"),
    ]
    with owner(theirs, points(), shared(phantom, name="scan")) as there:
        for request in asked:
            channel = call(mine, there.address)
            channel.send("open", {**request.to_dict(), "nonce": bytes(32)})
            assert isinstance(last_words(channel), PolicyError), request
            channel.close()
    assert account_numbers(theirs.home) == 0


def test_points_in_another_order_are_told() -> None:
    points = np.random.default_rng(4).normal(0.0, 30.0, (12, 3))
    assert simulate_points(points, points + 1.0, protocol="clear").warnings == []
    result = simulate_points(points, points[np.roll(np.arange(12), 5)], protocol="clear")
    assert result.fit.reflection or "hardly correspond" in result.warnings[0]
    assert result.warnings


def test_mirrored_points_are_told(tmp_path: Path) -> None:
    mine, theirs = two_sites(tmp_path)
    with owner(theirs, points()) as there:
        result = register_points(MOVING * [-1, 1, 1], Peer(there.address), home=mine.home)
    assert result.fit.reflection and "mirror image" in result.warnings[0]
    assert np.linalg.det(result.fit.transform.matrix) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2 3\n", "at least 3"),
        ("0 0 0\n1 1 1\n2 2 2\n", "one line"),
        ("index\n1\n1 2 3\n", "indices"),
        ("", "points"),
    ],
)
def test_party_2_does_not_offer_unusable_points(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "p.txt"
    file.write_text(text)
    done = here(tmp_path / "home", "serve", "--points", file, "--listen", "127.0.0.1:0")
    assert done.returncode == 2 and words in done.stderr
    assert here(tmp_path / "home", "serve", "--listen", "127.0.0.1:0").returncode == 2


def test_check_lists_point_sets(tmp_path: Path) -> None:
    mine, theirs = two_sites(tmp_path)
    with owner(theirs, points()) as there:
        done = here(mine.home, "check", there.address)
    assert "point set 'pts': 193 points, 3D" in done.stdout


def test_points_that_change_between_offer_and_session_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PPIRLogic.registration.party2 import server

    mine, theirs = two_sites(tmp_path)
    first = points()
    with owner(theirs, first) as there:
        real = server.ServerSession.__init__

        def swap(session: object, *arguments: object) -> None:
            there.server.site.shared["pts"] = points(values=FIXED * 3)
            real(session, *arguments)

        monkeypatch.setattr(server.ServerSession, "__init__", swap)
        with pytest.raises(ProtocolError, match="changed its points"):
            register_points(MOVING, Peer(there.address), home=mine.home)
