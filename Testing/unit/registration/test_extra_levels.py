"""The levels beside those of the search, as both sides derive them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from PPIRLogic.errors import PolicyError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.extra_levels import BINS, detail, extra_grid, extra_problem, start_kind
from PPIRLogic.registration.levels import make_levels
from PPIRLogic.registration.losses.correlation_ratio import KNOTS
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party2.policy import Policy
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.terms import GRADIENT, MOMENTS, VALUE, loss_at, terms_by_stage
from PPIRLogic.secure.product import numbers_of

HEAD = Geometry((181, 217, 180), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))
SLICE = Geometry((181, 217), (1.0, 1.0), (0.0, 0.0), (1, 0, 0, 1))
TINY = Geometry((10, 12), (1.0, 1.0), (0.0, 0.0), (1, 0, 0, 1))


def request(geometry: Geometry = HEAD, **options: object) -> Request:
    return Parameters(**options).request("head", geometry, "", "")  # type: ignore[arg-type]


def numbers(asked: Request, geometry: Geometry, purpose: str) -> dict[str, int]:
    (level,) = (v for v in make_levels(geometry, asked) if v.purpose == purpose)
    return {stage: numbers_of(terms) for stage, terms in terms_by_stage(asked, level).items()}


def test_what_the_extra_levels_of_a_head_open() -> None:
    assert numbers(request(), HEAD, "starts") == {VALUE: 3, GRADIENT: 6, MOMENTS: 10}
    assert numbers(request(), HEAD, "check") == numbers(request(), HEAD, "detail") == {VALUE: 3}
    assert numbers(request(loss="mi"), HEAD, "starts") == {VALUE: KNOTS + 1, GRADIENT: 6, MOMENTS: 10}
    private = request(loss="mi", fixed_mask="private")
    assert numbers(private, HEAD, "starts") == {VALUE: BINS**2, GRADIENT: 6, MOMENTS: 10}
    assert numbers(request(loss="mi"), HEAD, "detail") == {VALUE: 3}
    assert numbers(request(SLICE, transform="translation"), SLICE, "starts") == {VALUE: 3, GRADIENT: 2, MOMENTS: 6}


def stages(asked: Request) -> list[tuple[int, int]]:
    """Numbers of a value and of a gradient, by level of the search."""
    terms = [terms_by_stage(asked, level) for level in make_levels(HEAD, asked) if not level.purpose]
    return [(numbers_of(t[VALUE]), numbers_of(t.get(GRADIENT, ()))) for t in terms]


def test_mi_has_few_bins_but_at_its_last_level() -> None:
    assert stages(request(loss="mi")) == [(256, 12), (256, 12), (1024, 12)]
    assert stages(request(loss="mi", levels=(1,), bins=16)) == [(256, 12)]
    assert stages(request(loss="mi", transform="translation")) == [(256, 3), (256, 3), (1024, 3)]
    assert stages(request()) == [(15, 0)] * 3


def test_inside_a_private_mask_only_values_are_opened() -> None:
    masked = request(fixed_mask="private")
    assert numbers(masked, HEAD, "starts") == numbers(masked, HEAD, "check") == {VALUE: 6}
    assert set(numbers(request(loss="mi", fixed_mask="private"), HEAD, "starts")) == {VALUE, GRADIENT, MOMENTS}


@pytest.mark.parametrize(("loss", "voxel"), [("ncc", 8.0), ("mi", 4.0)])
def test_values_of_a_head_are_compared_at_8_mm_and_by_mi_at_4(loss: str, voxel: float) -> None:
    found = extra_grid(HEAD, request(loss=loss), "check")
    assert found is not None and found.factor == voxel and found.sigma_mm == pytest.approx(voxel / 2, rel=0.05)


def test_the_levels_of_the_search_are_those_without_extra_ones() -> None:
    with_extra, without = make_levels(HEAD, request(loss="mi")), make_levels(
        HEAD, request(loss="mi", initial="centres", skip_check=True)
    )  # fmt: skip
    assert [v.purpose for v in with_extra] == ["starts", "", "", "", "check", "detail"]
    assert sorted(v.index for v in with_extra) == list(range(6)), "each index names one level of the session"
    search = [v for v in with_extra if not v.purpose]
    for a, b in zip(search, without, strict=True):
        assert (a.index, a.factor, a.sigma_mm) == (b.index, b.factor, b.sigma_mm)
        assert np.array_equal(a.samples, b.samples)


def test_an_image_too_small_for_a_pool_has_none() -> None:
    asked = request(TINY, loss="mi", levels=(1,))
    assert extra_grid(TINY, asked, "starts") is None and extra_grid(TINY, asked, "detail") is not None


def test_a_deformation_has_none() -> None:
    asked = request(transform="bspline")
    assert (asked.starts, asked.skip_check) == (0, True)
    hostile = replace(asked, starts=5)
    assert "deformation" in extra_problem(hostile)
    with pytest.raises(PolicyError, match="deformation"):
        Policy().check(hostile, "", False)


def test_protocols_with_an_error_have_none() -> None:
    asked = request(protocol="fhe_v1")
    assert (asked.starts, asked.skip_check) == (0, True)


def test_detail_sees_edges_and_no_brightness() -> None:
    grid = Geometry((60, 50), (1.0, 2.0), (0.0, 0.0), (1, 0, 0, 1))
    step = np.zeros((50, 60), np.float32)
    step[:, 30:] = 1.0
    seen = detail(Volume(step, grid), 8.0).array
    assert seen[25, 29:31].min() > 0.6, "an edge is more than its surroundings"
    assert seen[25, 18] < 0.5 and abs(seen[25, 2] - 0.5) < 0.02, "beside it less, far from it nothing"
    assert np.allclose(seen, detail(Volume(1 - step, grid), 8.0).array, atol=1e-5), "brighter or darker is the same"


def test_the_loss_of_an_extra_level() -> None:
    asked = request(loss="ssd")
    by_purpose = {v.purpose: loss_at(asked, v).name for v in make_levels(HEAD, asked)}
    assert by_purpose == {"starts": "ncc", "": "ssd", "check": "ncc", "detail": "ncc"}


@pytest.mark.parametrize(
    ("options", "dimension", "kind"),
    [
        ({}, 2, "similarity"),
        ({"transform": "similarity"}, 2, "similarity"),
        ({"transform": "rigid"}, 2, "rigid"),
        ({"transform": "translation"}, 2, "translation"),
        ({"loss": "mi"}, 2, "rigid"),
        ({}, 3, "rigid"),
    ],
)
def test_how_a_start_may_move(options: dict[str, str], dimension: int, kind: str) -> None:
    assert start_kind(request(SLICE if dimension == 2 else HEAD, **options), dimension) == kind
