"""The public functions refuse arguments of other kinds in words, before anything is read, sent or written."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import PPIRLogic
from PPIRLogic import Budget, FixedImage, Geometry, Parameters, Peer, Policy, Shared, Volume
from PPIRLogic.errors import InputError, OutputError

GRID: dict[str, Any] = {"size": (4, 3), "spacing": (1.0, 1.0), "origin": (0.0, 0.0), "direction": (1, 0, 0, 1)}
IMAGE = Volume(np.arange(12.0).reshape(3, 4), Geometry(**GRID), "image")
SHARED = Shared(FixedImage("image", IMAGE), Policy())


def kind_of(value: Any) -> str:
    return type(value).__name__


NO_PATHS = (None, 5, 3.5, b"bytes", [], {}, object(), np.zeros(3))
NO_NUMBERS: tuple[Any, ...] = (None, 5, 3.5, "x", b"x", object(), ["x"], [None], [], (1.0,), np.zeros((2, 2)))


@pytest.mark.parametrize("value", NO_PATHS, ids=kind_of)
def test_what_is_no_path_is_named(value: Any, tmp_path: Path) -> None:
    calls: tuple[Callable[[], Any], ...] = (
        lambda: PPIRLogic.read_volume(value),
        lambda: PPIRLogic.read_mask(value, IMAGE),
        lambda: PPIRLogic.read_points(value),
        lambda: PPIRLogic.read_transform(value),
        lambda: PPIRLogic.write_volume(IMAGE, value),
        lambda: PPIRLogic.write_transform(PPIRLogic.LinearTransform.identity("affine", [0, 0]), value),
    )
    for call in calls:
        with pytest.raises(InputError, match=f"is a {type(value).__name__}"):
            call()


@pytest.mark.parametrize("value", [None, 5, "x", [], Path("x"), np.zeros(3)], ids=kind_of)
def test_only_images_and_transforms_are_written(value: Any, tmp_path: Path) -> None:
    for write, name in ((PPIRLogic.write_volume, "a.nrrd"), (PPIRLogic.write_transform, "a.tfm")):
        with pytest.raises(InputError, match=f"is a {type(value).__name__}"):
            write(value, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("field", GRID)
@pytest.mark.parametrize("value", NO_NUMBERS, ids=kind_of)
def test_a_grid_has_numbers_and_as_many_as_it_needs(field: str, value: Any) -> None:
    with pytest.raises(InputError, match="Grid field '"):
        Geometry(**{**GRID, field: value})


def test_a_size_is_whole() -> None:
    with pytest.raises(InputError, match="whole numbers"):
        Geometry(**{**GRID, "size": (3.5, 4)})
    for size in ((math.nan, 4), (math.inf, 4)):
        with pytest.raises(InputError, match="Grid field 'size'"):
            Geometry(**{**GRID, "size": size})
    assert Geometry(**{**GRID, "size": (np.int64(4), 3.0)}).size == (4, 3)


def test_what_counts_numbers_is_whole() -> None:
    for field in ("numbers_per_session", "numbers_per_image", "histograms_per_level"):
        with pytest.raises(InputError, match="whole number"):
            Budget(**{field: 1.5})
    assert Budget(percent_per_level=1.5, times_per_subject=1.5).percent_per_level == 1.5


@pytest.mark.parametrize("value", [None, 5, b"x", [], object()], ids=kind_of)
def test_a_peer_and_what_is_shared_are_described_in_text(value: Any) -> None:
    for field in ("address", "image", "dealer", "dealer_fingerprint"):
        with pytest.raises(InputError, match=f"Peer cannot be called with {field}"):
            Peer(**{"address": "host:7443", field: value})
    for field in ("dealer", "dealer_fingerprint", "subject"):
        with pytest.raises(InputError, match=f"Shared cannot be called with {field}"):
            Shared(**{"image": SHARED.image, "policy": SHARED.policy, field: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("peer", 5), ("peer", None), ("parameters", {}), ("home", 5), ("home", b"x"), ("progress", None),
        ("cancel", True), ("reconnect", "long"), ("reconnect", None), ("reconnect", True),
    ],
)  # fmt: skip
def test_a_registration_with_other_kinds_is_refused(name: str, value: Any, tmp_path: Path) -> None:
    arguments = {"peer": "127.0.0.1:1", "home": tmp_path / "home", name: value}
    with pytest.raises(InputError):
        PPIRLogic.register(IMAGE, **arguments)
    if name != "parameters":
        with pytest.raises(InputError):
            PPIRLogic.register_points([[0, 0], [10, 0], [0, 10]], **arguments)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images", []), ("images", SHARED), ("images", [IMAGE]), ("address", 7443), ("home", 5), ("on_event", None),
        ("cancel", 1), ("threads", "two"), ("queue", 1.5), ("max_sessions", None),
    ],
)  # fmt: skip
def test_a_service_with_other_kinds_is_refused(name: str, value: Any, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"images": [SHARED], "address": "127.0.0.1:0", "home": tmp_path / "home", name: value}
    with pytest.raises(InputError):
        PPIRLogic.serve(**arguments)
    if name in ("address", "home", "on_event", "cancel"):
        del arguments["images"]
        with pytest.raises(InputError):
            PPIRLogic.deal(**arguments)
    assert not (tmp_path / "home").exists()


def test_a_simulation_with_other_kinds_is_refused() -> None:
    for arguments in ({"parameters": 5}, {"budget": 5}, {"fixed": None}, {"moving": None}, {"moving_mask": "nowhere"}):
        with pytest.raises((InputError, OutputError)):
            PPIRLogic.simulate(**{"fixed": IMAGE, "moving": IMAGE, "parameters": Parameters(), **arguments})
