"""Point sets and their layouts: what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from PPIRLogic.errors import InputError, ProtocolError
from PPIRLogic.points.pointset import PointLayout, PointSet

Array = NDArray[np.float64]
SQUARE = np.array([[0.0, 0, 0], [10, 0, 0], [0, 20, 0], [3, 4, 5]])


def cloud(seed: int, count: int, dimension: int, extent: float = 80.0) -> Array:
    rng = np.random.default_rng(seed)
    return rng.uniform(-extent, extent, (count, dimension)) + rng.uniform(-300, 300, dimension)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([[0, 0, 0], [1, 0, 0]], "at least 3"),
        ([[0, 0, 0], [1, 1, 1], [2, 2, 2], [5, 5, 5]], "one line"),
        ([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0]], "same point twice, at 2 and 4"),
        ([[0, 0, 0], [1, float("nan"), 0], [0, 1, 0]], "at point 2"),
        ([[0, 0, 0], [1, 0, 1e9], [0, 1, 0]], "beyond"),
        ([[0, 0, 0, 1]] * 3, "two or three coordinates"),
        ([0, 1, 2], "two or three coordinates"),
    ],
)
def test_unusable_points_are_refused(points: list[list[float]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        PointSet(np.array(points))


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_last_point_of_a_closed_contour_is_left_out(dimension: int) -> None:
    contour = cloud(4, 6, dimension)
    closed, plain = PointSet(np.vstack([contour, contour[:1]]), "rim"), PointSet(contour)
    assert np.array_equal(closed.points, contour) and closed.closed and not plain.closed
    assert PointLayout.of(closed.points) == PointLayout.of(plain.points), "a point said twice buys no budget"
    assert "'rim' are a closed contour" in closed.note and "6 remain" in closed.note and not plain.note
    with pytest.raises(InputError, match="same point twice, at 1 and 4"):
        PointSet(np.vstack([contour[:3], contour[:1], contour[3:]]))
    with pytest.raises(InputError, match="are 2; a registration needs at least 3"):
        PointSet(contour[[0, 1, 0]])


def test_a_layout_covers_its_points_and_says_little() -> None:
    for seed in range(20):
        points = cloud(seed, 50, 3, 10.0 ** (seed % 4 - 1))
        layout = PointLayout.of(points)
        assert np.abs(layout.integers(points)).max() <= 2**layout.bits
        assert layout.spreads(points).min() >= 0 and layout.spreads(points).max() <= 2**layout.bits
        assert np.all(np.array(layout.reference) % 2.0 ** (layout.exponent - 3) == 0)
        assert PointLayout.from_dict(layout.to_dict()) == layout


@pytest.mark.parametrize(
    "change",
    [
        {"count": 2}, {"count": 2**40}, {"count": True}, {"dimension": 4}, {"exponent": 99}, {"reference": [0.0]},
        {"reference": [float("nan")] * 3}, {"reference": "abc"}, {"reference": [1e300, 0, 0]},
    ],
)  # fmt: skip
def test_a_layout_from_the_network_is_checked(change: dict[str, object]) -> None:
    good = PointLayout.of(SQUARE).to_dict()
    with pytest.raises(ProtocolError):
        PointLayout.from_dict({**good, **change})
