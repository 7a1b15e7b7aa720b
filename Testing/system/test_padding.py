"""Padding around a round field of view: the images are aligned, not the circles of their scanners."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from system_support import Phantom, distance, here, motion_of, plain_grid, save

from PPIRLogic import write_volume
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume

GRID = plain_grid(2)


def seen_through_a_circle(image: Volume, padding: float) -> Volume:
    """Hounsfield-like values, and padding outside of a circle that stays where the scanner is."""
    values = 1500 * image.array / image.array.max() - 1000
    y, x = np.indices(values.shape)
    rows, columns = values.shape
    outside = ((x - columns / 2) / (0.42 * columns)) ** 2 + ((y - rows / 2) / (0.42 * rows)) ** 2 > 1
    values[outside] = padding
    return Volume(values, image.geometry, image.name)


@pytest.mark.parametrize("padding", [-3024.0, 1e9])
def test_the_circle_of_the_scanner_is_not_what_is_registered(padding: float, tmp_path: Path) -> None:
    phantom, truth = Phantom.make(GRID), motion_of("translation", GRID)
    fixed = save(seen_through_a_circle(phantom.on(GRID), padding), tmp_path / "fixed.mha")
    moving = save(seen_through_a_circle(phantom.on(GRID, truth), padding), tmp_path / "moving.mha")
    done = here(
        tmp_path / "home", "simulate", "--fixed", fixed, "--moving", moving, "--transform", "translation", "--protocol",
        "clear", "--threads", 1, "--output", tmp_path / "T.tfm",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "taken as padding" in done.stderr
    missed = distance(sitk.ReadTransform(str(tmp_path / "T.tfm")), truth, GRID)
    still = distance(sitk.TranslationTransform(2), truth, GRID)
    # what is left comes of the fixed side, whose padding is filled: leaving it out would cost numbers (a private mask)
    assert missed < 0.35 * still, f"{missed:.2f} mm of {still:.2f}"


def test_an_image_of_few_slices_is_said(tmp_path: Path) -> None:
    grid = Geometry((40, 36, 2), (1.0, 1.0, 8.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    image = save(Volume(np.random.default_rng(1).random(grid.array_shape), grid), tmp_path / "thin.mha")
    words = ("register", image, "--peer", "127.0.0.1:1", "--reconnect", "0", "--output", tmp_path / "T.tfm")
    assert "2 slices along one axis, too few slices" in here(tmp_path / "home", *words).stderr


def test_a_picture_that_says_no_size_is_said(tmp_path: Path) -> None:
    grid = Geometry((40, 36), (1.0, 1.0), (0.0, 0.0), (1, 0, 0, 1))
    image = Volume(np.arange(40.0 * 36).reshape(36, 40), grid)
    for name, said in (("picture.png", True), ("image.nrrd", False)):
        write_volume(image, tmp_path / name)
        words = (
            "register",
            tmp_path / name,
            "--peer",
            "127.0.0.1:1",
            "--reconnect",
            "0",
            "--output",
            tmp_path / "T.h5",
        )
        assert ("taken as 1 mm wide" in here(tmp_path / "home", *words).stderr) is said
