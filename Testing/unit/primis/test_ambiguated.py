"""Codes with decoys: right with the key, refused with another, and decoys as the published method wants them."""

from __future__ import annotations

import numpy as np
import pytest

from PPIRLogic.errors import InputError
from PPIRLogic.primis.ambiguated import arrays, coded_bytes, hide, in_both, keep, reveal, true_entries, values
from PPIRLogic.primis.code_maps import code, quantise, quantised_of, reconstruct
from PPIRLogic.primis.codec import decode, encode
from PPIRLogic.secure.prg import Stream

DRAW = np.random.default_rng(0)


def blobs(shape: tuple[int, ...] = (52, 61), dtype: str = "uint8", top: float = 255) -> np.ndarray:
    """Smooth, with edges and some noise."""
    y, x = np.indices(shape[-2:])
    grey = 0.5 + 0.3 * np.sin(x / 7) * np.cos(y / 9) + 0.15 * (np.hypot(x - 30, y - 25) < 14)
    return np.clip(top * (grey + DRAW.normal(0, 0.02, shape)), 0, top).astype(dtype)


IMAGE = blobs()
MAPS = quantise(IMAGE)
PUBLIC, KEY = hide(MAPS)


def error(image: np.ndarray, truth: np.ndarray = IMAGE) -> float:
    return float(np.sqrt(np.mean(np.square(image.astype(float) - truth))))


def test_with_the_key_it_is_what_the_codec_decodes() -> None:
    coded = encode(IMAGE, 4)
    assert np.array_equal(reconstruct(reveal(PUBLIC, KEY)), decode(coded.codes, coded.shape, coded.dtype, coded.model))


def test_a_volume() -> None:
    maps = quantise(blobs((3, 40, 33), "int16", 900), 3)
    public, key = hide(maps)
    assert not np.array_equal(reconstruct(public), reconstruct(maps))
    assert np.array_equal(reconstruct(reveal(public, key)), reconstruct(maps))


def test_what_is_published_are_codes_of_the_codec() -> None:
    again = quantised_of(code(PUBLIC))
    assert all(np.array_equal(a, b) for (_, _, a), (_, _, b) in zip(arrays(again), arrays(PUBLIC), strict=True))
    assert np.array_equal(reconstruct(reveal(again, KEY)), reconstruct(MAPS))


def test_with_the_key_the_maps_are_as_they_were() -> None:
    found = reveal(PUBLIC, KEY)
    assert all(np.array_equal(a, b) for (_, _, a), (_, _, b) in zip(arrays(found), arrays(MAPS), strict=True))
    assert np.array_equal(reconstruct(found), reconstruct(MAPS))
    assert np.array_equal(reconstruct(keep(PUBLIC, true_entries(MAPS, PUBLIC))), reconstruct(MAPS))
    assert error(reconstruct(PUBLIC)) > 5 * error(reconstruct(found))


def test_a_key_of_another_image_or_a_damaged_one_is_refused() -> None:
    other = hide(MAPS)[1]
    with pytest.raises(InputError, match="not of these maps"):
        reveal(PUBLIC, other)
    with pytest.raises(InputError, match="not of these maps"):
        reveal(PUBLIC, b"")
    with pytest.raises(InputError, match="longer or shorter"):
        reveal(PUBLIC, KEY + b"\0")


def test_as_many_decoys_as_there_is_room_for_with_the_values_of_true_entries() -> None:
    for (_, _, own), (_, _, both) in zip(arrays(MAPS), arrays(PUBLIC), strict=True):
        for k in range(own.shape[-1]):
            true, all_ = own[..., k], both[..., k]
            decoys = all_[true == 0]
            decoys = decoys[decoys != 0]
            assert np.array_equal(all_[true != 0], true[true != 0])
            assert len(decoys) == min(np.count_nonzero(true), np.sum(true == 0))
            assert set(decoys.tolist()) <= set(true[true != 0].tolist())


def test_decoys_follow_from_a_cryptographic_stream() -> None:
    """Of a key: the same again; of fresh keys: two publications share hardly more than the true entries."""
    one, two = (hide(MAPS, Stream(bytes(32), "test"))[1] for _ in range(2))
    assert one == two != KEY
    common = in_both(PUBLIC, hide(MAPS)[0])
    right = int(
        sum(np.sum((c != 0) & (a != 0)) for (_, _, c), (_, _, a) in zip(arrays(common), arrays(MAPS), strict=True))
    )
    assert right == len(values(MAPS)) and len(values(common)) < 1.3 * right


def test_sizes() -> None:
    """The key has a bit for each entry: it is no compact key of 32 bytes."""
    assert len(KEY) == 28 + -(-len(values(PUBLIC)) // 8)
    assert 1.3 * coded_bytes(MAPS) < coded_bytes(PUBLIC) < 3 * coded_bytes(MAPS)
