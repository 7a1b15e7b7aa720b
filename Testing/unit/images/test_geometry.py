"""Grids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images_support import IDENTITY, grid

from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Oblique, anisotropic, left- and right-handed grids."""
    dim = draw(st.sampled_from([2, 3]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    direction = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return Geometry(
        tuple(rng.integers(2, 40, dim).tolist()),
        tuple(rng.uniform(0.3, 5, dim).tolist()),
        tuple(rng.uniform(-500, 500, dim).tolist()),
        tuple(direction.ravel().tolist()),
    )


@settings(max_examples=50, deadline=None)
@given(geometries(), st.integers(0, 2**32 - 1))
def test_affines_agree_with_itk(geometry: Geometry, seed: int) -> None:
    image = geometry.to_sitk_reference()
    assert Geometry.from_sitk(image) == geometry
    index = np.random.default_rng(seed).uniform(-3, 50, geometry.dimension)
    point = image.TransformContinuousIndexToPhysicalPoint(index.tolist())
    homogeneous = geometry.index_to_physical() @ [*index, 1]
    assert np.allclose(homogeneous, point, atol=1e-9)
    assert np.allclose(geometry.physical_to_index() @ [*point, 1.0], index, atol=1e-8)
    middle = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in geometry.size])
    assert np.allclose(geometry.centre(), middle, atol=1e-9)
    assert geometry.corners().shape == (2**geometry.dimension, geometry.dimension)
    assert np.allclose(geometry.corners().mean(0), geometry.centre(), atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(geometries())
def test_dictionary_round_trip(geometry: Geometry) -> None:
    assert Geometry.from_dict(geometry.to_dict()) == geometry


def test_geometry_properties() -> None:
    geometry = grid(181, 217, 180, spacing=(1, 1, 2.5))
    assert geometry.describe() == "181×217×180 voxels, 1×1×2.5 mm"
    assert geometry.array_shape == (180, 217, 181)
    assert (geometry.dimension, geometry.voxels) == (3, 181 * 217 * 180)
    assert geometry.extent_mm() == (181.0, 217.0, 450.0)


def test_matches_counts_in_voxels() -> None:
    geometry = grid(100, 50)
    assert geometry.matches(Geometry((100, 50), (1, 1), (0.0009, 0), IDENTITY[2]))
    assert not geometry.matches(Geometry((100, 50), (1, 1), (0.002, 0), IDENTITY[2]))
    assert geometry.matches(Geometry((100, 50), (1, 1), (0.002, 0), IDENTITY[2]), tol=0.01)
    assert not geometry.matches(Geometry((100, 50), (1.001, 1), (0, 0), IDENTITY[2]))
    assert not geometry.matches(grid(100, 51))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("size", "10", "'size' must be a list of whole numbers"),
        ("size", [10, 10.0], "'size' must be a list of whole numbers"),
        ("size", [10, True], "'size' must be a list of whole numbers"),
        ("size", [10], "'size' has 1 entries"),
        ("size", [10] * 4, "'size' has 4 entries"),
        ("size", [10, 1], "'size' must have 2 to 4096"),
        ("size", [10, -5], "'size' must have 2 to 4096"),
        ("size", [10, 4097], "'size' must have 2 to 4096"),
        ("size", [10, 10**5000], "'size' must have 2 to 4096"),
        ("size", [4096] * 3, "at most 2^28"),
        ("spacing", [1, 0], "'spacing' must be positive"),
        ("spacing", [1, -1.0], "'spacing' must be positive"),
        ("spacing", [1, float("nan")], "'spacing' must hold finite"),
        ("spacing", [1, float("inf")], "'spacing' must hold finite"),
        ("spacing", [1, 1, 1], "'spacing' must have 2 entries"),
        ("spacing", None, "'spacing' must be a list of numbers"),
        ("spacing", [1, "1"], "'spacing' must be a list of numbers"),
        ("origin", [0, float("nan")], "'origin' must hold finite"),
        ("origin", [0, 10**5000], "'origin' must hold finite"),
        ("origin", [0], "'origin' must have 2 entries"),
        ("direction", [1, 0, 0], "'direction' must have 4 entries"),
        ("direction", [1, 0.01, 0, 1], "'direction' is not orthonormal"),
        ("direction", [0, 0, 0, 0], "'direction' is not orthonormal"),
        ("direction", [float("nan"), 0, 0, 1], "'direction' must hold finite"),
    ],
)
def test_from_dict_refuses(field: str, value: Any, words: str) -> None:
    good = grid(10, 12).to_dict()
    with pytest.raises(InputError) as caught:
        Geometry.from_dict({**good, field: value})
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


def test_from_dict_refuses_other_fields() -> None:
    good: dict[str, Any] = grid(10, 12).to_dict()
    with pytest.raises(InputError, match="missing: origin"):
        Geometry.from_dict({key: value for key, value in good.items() if key != "origin"})
    with pytest.raises(InputError, match="others"):
        Geometry.from_dict({**good, "more": 1})
    with pytest.raises(InputError, match="must be a mapping"):
        Geometry.from_dict([1, 2])  # type: ignore[arg-type]
    Geometry.from_dict({**good, "direction": [-1, 0, 0, 1]})  # left-handed
