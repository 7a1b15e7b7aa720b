"""The same formula on shares: exact sums, extreme values, and no evaluation twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from halves_support import GRID, PLANE, level_of, pair_of, request

from PPIRLogic.errors import ProtocolError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.network.channel import memory_pair
from PPIRLogic.registration.losses.cross_correlation import (
    SHIFT,
    TERM_SHIFT,
    correlation,
    forces,
    window_sums,
)
from PPIRLogic.registration.symmetric.half_image import HalfImage
from PPIRLogic.registration.symmetric.protocol import CcFixed, CcProduct
from PPIRLogic.registration.symmetric.shares import CcShares
from PPIRLogic.registration.terms import GRADIENT, VALUE, terms_by_stage
from PPIRLogic.secure.product import LevelInfo, Link


@pytest.mark.parametrize("grid", [GRID, PLANE], ids=["3D", "2D"])
def test_shares_hold_the_similarity_and_both_forces(cc_exchange: Callable[..., Any], grid: Geometry) -> None:
    level = level_of(grid)
    first, second = pair_of(level)
    opened = cc_exchange(level.control_points, first, second)
    mine, theirs = opened.both(lambda s: s.similarity())
    assert level.control_points is not None
    v = window_sums(first.image * second.image) * first.root * second.root
    rho = (opened.sides[0]._rho + opened.sides[1]._rho).reshape(v.shape)
    excess = rho - (v >> SHIFT)
    assert set(np.unique(excess)) == {0, 1}  # exact but for one unit, everywhere; and never more
    assert 0.3 < excess.mean() < 0.7
    assert int((mine + theirs)[0]) == int(np.sum(rho * rho))

    (here_1, there_1), (here_2, there_2) = opened.both(lambda s: s.forces())
    for own, other, found in ((first, second, here_1 + there_2), (second, first, there_1 + here_2)):
        wanted = np.concatenate([level.control_points.box_sums(f) for f in forces(own, other, correlation(own, other))])
        assert np.abs(found - wanted).max() < 2e-4 * np.abs(wanted).max() and wanted.any()


@pytest.mark.parametrize("grid", [GRID, PLANE], ids=["3D", "2D"])
def test_terms_are_shortened_to_one_unit_and_their_sums_are_exact(
    cc_exchange: Callable[..., Any], grid: Geometry, monkeypatch: pytest.MonkeyPatch
) -> None:
    level = level_of(grid)
    first, second = pair_of(level)
    opened = cc_exchange(level.control_points, first, second)
    seen: dict[int, list[Any]] = {}
    shifted = CcShares._shifted

    def watched(self: CcShares, stage: str, *values: Any) -> Any:
        out = shifted(self, stage, *values)
        if stage == "shorten":
            seen[opened.sides.index(self)] = [*values, *out]
        return out

    monkeypatch.setattr(CcShares, "_shifted", watched)
    opened.both(lambda s: s.similarity())
    (here_1, there_1), (here_2, there_2) = opened.both(lambda s: s.forces())
    rho = opened.sides[0]._rho + opened.sides[1]._rho
    terms = [a + b for a, b in zip(seen[0], seen[1], strict=True)]
    for found, wanted in zip(terms[:3], (rho * first.unit.ravel(), rho * second.unit.ravel(), rho * rho), strict=True):
        assert np.array_equal(found, wanted)
    for found, short in zip(terms[:3], terms[3:], strict=True):
        excess = short - (found >> TERM_SHIFT)
        assert set(np.unique(excess)) <= {0, 1} and 0.2 < excess.mean() < 0.8
    mine, theirs, square = (t.reshape(first.image.shape) for t in terms[3:])
    assert level.control_points is not None
    for own, term, force in ((first, theirs, here_1 + there_2), (second, mine, there_1 + here_2)):
        each = [term * a - square * b for a, b in zip(own.slopes, own.products, strict=True)]
        assert np.array_equal(force, np.concatenate([level.control_points.box_sums(v) for v in each]))


def test_extreme_values_are_shifted_exactly(cc_exchange: Callable[..., Any]) -> None:
    """Values up to 2^62 on either side of zero, on shares that wrap round."""
    level = level_of(PLANE)
    first, second = pair_of(level)
    opened = cc_exchange(level.control_points, first, second)
    count = first.image.size
    rng = np.random.default_rng(0)
    v = rng.integers(-(2**62) + 1, 2**62, count)
    v[:4] = (2**62 - 1, -(2**62), 0, -1)
    part = rng.integers(-(2**63), 2**63 - 1, count)
    shares = {id(opened.sides[0]): part, id(opened.sides[1]): v - part}

    def shift(side: Any) -> Any:
        side._order("shift")
        return side._shifted("shift", shares[id(side)])[0]

    mine, theirs = opened.both(shift)
    assert set(np.unique(mine + theirs - (v >> SHIFT))) <= {0, 1}


def test_an_evaluation_cannot_be_repeated_on_either_side() -> None:
    mine, theirs = memory_pair("party 1", "party 2")
    info = LevelInfo(0, 10, ())
    one, two = CcProduct(Link(mine, b"s" * 32, 1, lambda: None)), CcFixed(Link(theirs, b"s" * 32, 1, lambda: None))
    one.open_level(info, b"")
    two.open_level(info, {}, b"", b"")
    one._used.add((0, 4))
    terms = terms_by_stage(request(), level_of(PLANE))[VALUE]
    half: Any = object.__new__(HalfImage)
    with pytest.raises(ProtocolError, match="never used twice"):
        one.evaluate(half, terms, 4, lambda: pytest.fail("it was announced"))
    two.move_image(lambda former: half)
    two._used.add((0, 4))
    with pytest.raises(ProtocolError, match="used already"):
        two.receive({"evaluation": 4, "length": 0.0}, terms)
    with pytest.raises(ProtocolError, match="does not exist"):
        two.receive({"evaluation": 5, "length": 0.3}, terms)
    force = terms_by_stage(request(), level_of(PLANE))[GRADIENT]
    with pytest.raises(ProtocolError, match="no similarity"):
        two.receive({"evaluation": 6}, force)
    mine.close()
    theirs.close()
