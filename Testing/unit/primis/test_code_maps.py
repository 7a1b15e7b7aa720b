"""The maps between an image and its codes: both halves of encode and decode, and what is no map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from PPIRLogic.errors import InputError
from PPIRLogic.primis.code_maps import code, quantise, quantised_of, reconstruct
from PPIRLogic.primis.codec import decode, encode


def image(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    rng = np.random.default_rng(5)
    return (90 + 60 * np.sin(np.indices(shape).sum(0) / 9) + rng.normal(0, 3, shape)).astype(dtype)


@pytest.mark.parametrize("shape", [(45, 70), (3, 20, 33)])
def test_both_halves_are_encode_and_decode(shape: tuple[int, ...]) -> None:
    pixels = image(shape, "int16")
    coded, maps = encode(pixels, 4), quantise(pixels)
    assert code(maps) == coded
    back = quantised_of(coded)
    for ours, read in zip((*maps.maps, *maps.means), (*back.maps, *back.means), strict=True):
        assert np.array_equal(ours, read)
    assert np.array_equal(reconstruct(maps), decode(coded.codes, coded.shape, coded.dtype, coded.model))


def test_changed_maps_are_coded_and_shown_as_they_are() -> None:
    maps = quantise(image((40, 48)))
    rng = np.random.default_rng(0)
    changed = [m + rng.integers(-3, 4, m.shape).astype(np.int32) for m in maps.maps]
    for m in changed:
        m[0] = 0  # the empty channel
    other = replace(maps, maps=tuple(changed))
    coded = code(other)
    assert all(np.array_equal(a, b) for a, b in zip(quantised_of(coded).maps, changed, strict=True))
    assert np.array_equal(reconstruct(other), decode(coded.codes, coded.shape, coded.dtype, coded.model))
    assert not np.array_equal(reconstruct(other), reconstruct(maps))


def test_what_is_no_map_is_refused() -> None:
    maps = quantise(image((40, 48)))
    with pytest.raises(InputError, match="do not fit"):
        reconstruct(replace(maps, shape=(40, 80)))
    with pytest.raises(InputError, match="levels"):
        quantise(image((8, 8)), 5)
    with pytest.raises(InputError, match="Install the release"):
        code(replace(maps, model="0" * 64))
