"""Lines of text are found in pictures, and X-rays with their marks of the side are left in peace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

import PPIRLogic
from PPIRLogic.primis.text_in_picture import looks_like_text

X_RAYS = sorted((Path(PPIRLogic.__file__).parent / "sample_data").glob("chest_xray_*.png"))


def x_ray(number: int = 0) -> np.ndarray:
    return np.asarray(Image.open(X_RAYS[number]).convert("L"))


def with_text(pixels: np.ndarray, text: str, size: int, at: tuple[int, int] = (6, 5)) -> np.ndarray:
    """Bright letters, or dark ones where it is bright."""
    image = Image.fromarray(pixels)
    under = pixels[at[1] : at[1] + size, at[0] :].mean()
    ImageDraw.Draw(image).text(at, text, fill=255 if under < 140 else 0, font=ImageFont.load_default(size))
    return np.asarray(image)


@pytest.mark.parametrize("number", range(len(X_RAYS)))
def test_x_rays_raise_no_alarm_and_their_text_does(number: int) -> None:
    assert len(X_RAYS) >= 4 and not looks_like_text(x_ray(number))
    assert looks_like_text(with_text(x_ray(number), "DOE^JANE", 14))


@pytest.mark.parametrize("size", [9, 12, 18])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16"])
def test_letters_of_any_size_and_type(size: int, kind: str) -> None:
    pixels = with_text(x_ray(), "DOE^JANE 1970" if size < 14 else "DOE^JANE", size)
    assert looks_like_text(pixels.astype(kind) * 7 if kind != "uint8" else pixels)


def test_in_large_pictures_and_in_slices_of_volumes() -> None:
    large = np.kron(with_text(x_ray(), "DOE^JANE", 14), np.ones((9, 9), np.uint8))
    assert looks_like_text(large) and not looks_like_text(np.kron(x_ray(), np.ones((9, 9), np.uint8)))
    assert looks_like_text(np.stack([x_ray()] * 3 + [with_text(x_ray(), "DOE^JANE", 14)]))


def test_one_letter_noise_and_stripes_are_none() -> None:
    assert not looks_like_text(with_text(np.full((100, 100), 30, np.uint8), "R", 20))
    assert not looks_like_text(np.random.default_rng(0).integers(0, 255, (200, 200)).astype(np.uint8))
    assert not looks_like_text((np.indices((90, 90))[1] % 6 < 2).astype(np.uint8) * 200)
    for shape in ((2, 2), (5, 300), (1, 40, 40)):
        assert not looks_like_text(np.zeros(shape, np.uint8))
