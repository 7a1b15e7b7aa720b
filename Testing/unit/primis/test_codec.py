"""encode and decode: exact to the bit for every kind of image, and an error for what is none."""

from __future__ import annotations

import io
import time
import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from sample_data_support import ROOT

from PPIRLogic.errors import Cancelled, InputError
from PPIRLogic.primis import coefficients, transform
from PPIRLogic.primis.codec import DTYPES, Coded, decode, encode
from PPIRLogic.primis.levels import LEVELS
from PPIRLogic.progress import CancelToken


def opened(coded: Coded, levels: int = len(LEVELS)) -> NDArray[Any]:
    return decode(coded.codes[:levels], coded.shape, coded.dtype, coded.model)


def made(kind: str, shape: tuple[int, ...], dtype: str, seed: int) -> NDArray[Any]:
    rng, limits = np.random.default_rng(seed), np.iinfo(dtype)
    if kind == "noise":
        return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)
    if kind == "constant":
        return np.full(shape, rng.integers(limits.min, limits.max + 1)).astype(dtype)
    if kind == "fields of a chess board":
        return np.where(np.indices(shape).sum(0) % 2, limits.min, limits.max).astype(dtype)
    if kind == "one bright pixel":
        image = np.zeros(shape, dtype)
        image.flat[rng.integers(image.size)] = limits.max
        return image
    smooth = 100 + 50 * np.sin(np.indices(shape).sum(0) / 7) + rng.normal(0, 2, shape)
    return np.clip(smooth, 0, 255).astype(dtype)


KINDS = ("noise", "constant", "fields of a chess board", "one bright pixel", "smooth")


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from(KINDS),
    shape=st.one_of(st.tuples(st.integers(1, 70), st.integers(1, 70)), st.tuples(*[st.integers(1, 20)] * 3)),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 1000),
    quality=st.sampled_from([1.0, 0.25, 7.0]),
)
def test_with_all_codes_every_bit_comes_back(
    kind: str, shape: tuple[int, ...], dtype: str, seed: int, quality: float
) -> None:
    image = made(kind, shape, dtype, seed)
    coded = encode(image, quality=quality)
    assert len(coded.codes) == len(LEVELS)
    back = opened(coded)
    assert back.dtype == image.dtype and back.shape == image.shape
    assert np.array_equal(back, image)


def test_each_level_is_nearer() -> None:
    image = made("smooth", (90, 110), "uint8", 3)
    coded = encode(image)
    errors = [np.abs(opened(coded, n).astype(float) - image).mean() for n in range(1, len(LEVELS) + 1)]
    assert all(a > b for a, b in pairwise(errors)) and errors[-1] == 0
    assert encode(image, 2).codes == coded.codes[:2], "fewer levels are the first of all levels"


@settings(max_examples=30, deadline=None, derandomize=True)
@given(level=st.integers(0, 4), seed=st.integers(0, 10**6), how=st.sampled_from(["flip", "cut", "other", "none"]))
def test_a_damaged_code_is_an_error_or_another_image(level: int, seed: int, how: str) -> None:
    coded, rng = encode(made("smooth", (24, 32), "int16", 1)), np.random.default_rng(seed)
    codes = list(coded.codes)
    code = bytearray(codes[level])
    if how == "flip":
        code[rng.integers(len(code))] ^= 1 << int(rng.integers(8))
    elif how == "cut":
        del code[int(rng.integers(len(code))) :]
    else:
        code = bytearray(rng.bytes(int(rng.integers(200))) if how == "other" else b"")
    codes[level] = bytes(code)
    try:
        image = decode(codes, coded.shape, coded.dtype, coded.model)
    except InputError as error:
        assert "damaged" in str(error)
    else:
        assert image.shape == coded.shape and image.dtype == coded.dtype


@pytest.mark.parametrize("level", range(5))
def test_a_code_that_ends_too_early_costs_no_time(level: int) -> None:
    """Past its end a code reads as the rarest symbols, each with a number behind it: millions, if nobody counts."""
    coded = encode(np.zeros((1024, 1024), np.uint8))
    codes = [c if n != level else c[:1] for n, c in enumerate(coded.codes)]
    began = time.process_time()
    with pytest.raises(InputError, match="damaged"):
        decode(codes, coded.shape, coded.dtype, coded.model)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((3, 3), np.float32), "float32"),
        (np.zeros((2, 3, 3, 3), np.uint8), "4 dimensions"),
        (np.zeros((0, 3), np.uint8), "0 x 3"),
        (np.zeros(7, np.uint8), "1 dimensions"),
    ],
)
def test_what_is_no_grey_image_is_refused(pixels: NDArray[Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        encode(pixels)


def test_numbers_that_no_image_has_are_refused() -> None:
    image = np.zeros((8, 8), np.uint8)
    coded = encode(image)
    for quality in (0.0, 100.0, float("nan")):
        with pytest.raises(InputError, match="quality"):
            encode(image, quality=quality)
    for levels in (0, 6):
        with pytest.raises(InputError, match="levels"):
            encode(image, levels)
    with pytest.raises(InputError, match="codes"):
        decode([], coded.shape, coded.dtype, coded.model)
    with pytest.raises(InputError, match="at most"):
        decode(coded.codes, (1 << 16, 1 << 16), coded.dtype, coded.model)
    with pytest.raises(InputError, match="Install the release"):
        decode(coded.codes, coded.shape, coded.dtype, "0" * 64)


def test_a_cancelled_run_ends() -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        encode(np.zeros((8, 8), np.uint8), cancel=token)


def test_progress_is_told() -> None:
    heard: list[float] = []
    encode(np.zeros((3, 1024, 1024), np.uint8), 1, progress=heard.append)
    assert heard == sorted(heard) and heard[-1] == 1 and len(heard) == 3


def test_less_than_jpeg_and_png_of_the_shipped_x_rays() -> None:
    """At the classification level better than a JPEG of as many bytes, sealed alike; in all about PNG's bytes."""
    for path in sorted((ROOT / "PPIRLogic" / "sample_data").glob("chest_xray_*.png")):
        image = np.array(Image.open(path))
        coded = encode(image)
        size = sum(len(c) + SEALED for c in coded.codes[:3])
        jpeg = [jpeg_of(image, quality) for quality in range(5, 96, 3)]
        fitting = [psnr for length, psnr in jpeg if length + SEALED <= size]
        assert size < 2600 and psnr_of(image, opened(coded, 3)) > max(fitting) + 1
        assert sum(len(c) for c in coded.codes) < path.stat().st_size * 1.06
        assert np.array_equal(opened(coded), image)


SEALED = 64  # bytes that sealing adds to a code at most


def psnr_of(image: NDArray[Any], back: NDArray[Any]) -> float:
    return float(10 * np.log10(255**2 / np.mean((image.astype(float) - back) ** 2)))


def jpeg_of(image: NDArray[Any], quality: int) -> tuple[int, float]:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality, optimize=True)
    return len(out.getvalue()), psnr_of(image, np.array(Image.open(out)))


def test_memory_is_some_times_that_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts are a sixteenth of the image here, as they are of one of 4096 x 4096."""
    monkeypatch.setattr(transform, "_AT_ONCE", 512 * 512 // 16)
    monkeypatch.setattr(coefficients, "_AT_ONCE", 64 * 64 // 16)
    image = np.random.default_rng(1).normal(128, 20, (512, 512)).clip(0, 255).astype(np.uint8)
    coded = encode(image)  # all is loaded and compiled
    tracemalloc.start()
    try:
        assert encode(image).codes == coded.codes
        most_to_encode = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        assert (decode(coded.codes, coded.shape, coded.dtype, coded.model) == image).all()
        most_to_decode = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert max(most_to_encode, most_to_decode) < 50 * image.size, (most_to_encode, most_to_decode)
