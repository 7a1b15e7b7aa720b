"""Addressed randomness: the same address gives the same bytes, and no two addresses meet by accident."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from PPIRLogic.secure.prg import KEY_BYTES, Stream, derive_key, new_key, secret_stream

KEY = bytes(range(32))
labels = st.lists(st.one_of(st.binary(max_size=6), st.text(max_size=6), st.integers(-(2**40), 2**40)), max_size=4)


def spelled(label: list[Any]) -> list[tuple[type, Any]]:
    """The parts as they count: with their types."""
    return [(type(p), p) for p in label]


def test_the_same_address_gives_the_same_bytes() -> None:
    first, second = Stream(KEY, "a", 3, b"x"), Stream(KEY, "a", 3, b"x")
    assert first.bytes(1000).tobytes() == second.bytes(1000).tobytes()


def test_the_bytes_are_those_of_aes_256_in_counter_mode() -> None:
    """Two releases must expand a seed alike: these are the bytes of derive_key and AES-CTR, worked out separately."""
    key = hashlib.sha256(b"PPIR-PRG-1" + KEY + b"str\0\0\0\1a" + b"int\0\0\0\x0212" + b"bytes\0\0\0\2\xffx").digest()
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305
    expected = b"".join(block.update(i.to_bytes(16, "big")) for i in range(4))
    assert derive_key(KEY, "a", 12, b"\xffx") == key
    assert Stream(KEY, "a", 12, b"\xffx").bytes(64).tobytes() == expected


@pytest.mark.parametrize("cuts", [[1, 2, 3, 94], [16, 84], [0, 100], [99, 1]])
def test_successive_calls_continue_the_stream(cuts: list[int]) -> None:
    whole, parts = Stream(KEY, "s").bytes(100), Stream(KEY, "s")
    assert np.concatenate([parts.bytes(n) for n in cuts]).tobytes() == whole.tobytes()


@settings(max_examples=200, deadline=None)
@given(labels, labels)
def test_labels_share_a_key_only_if_their_parts_are_equal(one: list[Any], two: list[Any]) -> None:
    assert (derive_key(KEY, *one) == derive_key(KEY, *two)) == (spelled(one) == spelled(two))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (("ab", "c"), ("a", "bc")), (("a",), ("a", "")), (("a", 1, 11), ("a", 11, 1)), ((), ("",)),
        (("a", 1), ("b", 1)), ((1,), ("1",)), ((1,), (b"1",)), (("1",), (b"1",)), ((1,), (b"int:1",)), ((0,), ("",)),
    ],
)  # fmt: skip
def test_label_parts_do_not_run_into_each_other(one: tuple[Any, ...], two: tuple[Any, ...]) -> None:
    assert not np.array_equal(Stream(KEY, *one).bytes(64), Stream(KEY, *two).bytes(64))


def test_another_key_gives_other_bytes() -> None:
    other = bytes([KEY[0] ^ 1]) + KEY[1:]
    same = np.mean(Stream(KEY, "a").bytes(10_000) == Stream(other, "a").bytes(10_000))
    assert same < 0.01  # 1/256 where the two are unrelated


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.uint64, np.int32, np.int64])
def test_words_cover_the_whole_range_of_their_type(dtype: type[np.generic]) -> None:
    words = Stream(KEY, "w").words(20_000, dtype)
    limits = np.iinfo(dtype)
    share = (words.astype(np.float64) - limits.min) / (float(limits.max) - limits.min)
    assert words.dtype == dtype and words.shape == (20_000,)
    assert share.min() < 0.01 and share.max() > 0.99
    assert abs(share.mean() - 0.5) < 0.012  # six standard errors


def test_words_are_little_endian_on_every_machine() -> None:
    raw = Stream(KEY, "w").bytes(8).tobytes()
    assert int(Stream(KEY, "w").words(1, np.uint64)[0]) == int.from_bytes(raw, "little")


def test_every_bit_is_set_half_of_the_time() -> None:
    bits = np.unpackbits(Stream(KEY, "bits").bytes(8 * 4096)).reshape(-1, 64)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.047  # six standard errors of 4096 bits


def test_keys_and_secret_streams_are_fresh() -> None:
    keys = {new_key() for _ in range(50)}
    assert len(keys) == 50 and all(len(k) == KEY_BYTES for k in keys)
    assert not np.array_equal(secret_stream().bytes(32), secret_stream().bytes(32))
