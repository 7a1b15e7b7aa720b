"""The coefficients' levels: an image, a code and maps give the same values; contexts are whole numbers and do save."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from PPIRLogic.errors import InputError
from PPIRLogic.primis.coefficients import (
    BINS,
    FromCode,
    FromImage,
    FromMaps,
    PlaneModel,
    activity_of,
    add_maps,
    refine_means,
    refine_planes,
)
from PPIRLogic.primis.entropy_coding import Reader, Tables, Writer
from PPIRLogic.primis.model import shipped

STEP = 200


def blocks(rows: int = 6, columns: int = 7) -> np.ndarray:
    """Coefficients that fade with frequency and are large in one half of the picture."""
    rng = np.random.default_rng(2)
    size = 2000 / (1 + np.arange(64)) * np.where(np.arange(columns) < columns // 2, 0.05, 1)[None, None, :, None]
    return rng.laplace(0, 1, (2, rows, columns, 64)) * size


def run(source: object, writer: Writer | None, model: PlaneModel) -> tuple[np.ndarray, np.ndarray]:
    values, maps = np.zeros((2, 6, 7, 64), np.int32), np.zeros((2, 6, 7, 64), np.int32)
    means = np.zeros((2, 6, 7), np.int64)
    refine_planes(values, maps, model, STEP, means, source, writer, lambda: None)  # type: ignore[arg-type]
    return values, maps


def test_an_image_its_code_and_its_maps_give_the_same_values() -> None:
    model, writer = shipped().fine_levels[0], Writer()
    wanted = blocks()
    values, maps = run(FromImage(wanted.reshape(-1, 64)), writer, model)
    assert np.abs(values - wanted)[..., 1:].max() < 1.1 * STEP and np.any(values)
    again, read = run(FromCode(Reader(writer.finish())), None, model)
    assert np.array_equal(again, values) and np.array_equal(read, maps)
    assert np.array_equal(run(FromMaps(maps.reshape(-1, 64).copy()), None, model)[0], values)
    added = np.zeros_like(values)
    add_maps(added, maps, model, STEP)
    assert np.array_equal(added, values)


def test_contexts_save_bytes() -> None:
    """Against one table for all, which is what a code without contexts has."""
    model, wanted = shipped().fine_levels[0], blocks(6, 7)
    sizes = []
    alike = np.tile(model.tables.frequencies[:BINS].mean(axis=0, dtype=np.int64), (2 * BINS, 1))
    for tables in (model.tables, Tables(alike)):
        writer = Writer()
        run(FromImage(wanted.reshape(-1, 64)), writer, replace(model, tables=tables))
        sizes.append(len(writer.finish()))
    assert sizes[0] < 0.8 * sizes[1]


def test_a_rare_symbol_needs_to_be_worth_its_bytes() -> None:
    cuts = shipped().fine_levels[0].cuts
    assert np.all(cuts[:, 0] >= 0.5) and np.all(np.diff(cuts, axis=1) >= 0.5 - 1e-9)
    assert cuts[0, 0] > cuts[BINS - 4, 0], "where all is calm, a small coefficient is left out"


@pytest.mark.parametrize("level", [0, 1])
def test_means_come_back_and_far_ones_are_refused(level: int) -> None:
    tops, wanted = shipped().tops, np.random.default_rng(0).normal(0, 90000, (2, 3, 4))
    writer = Writer()
    values, maps = np.zeros((2, 3, 4), np.int32), np.zeros((2, 3, 4), np.int32)
    refine_means(values, level, STEP, tops, wanted, maps, writer)
    assert np.abs(values - wanted).max() <= STEP / 2
    back, read = np.zeros_like(values), np.zeros_like(maps)
    refine_means(back, level, STEP, tops, None, read, Reader(writer.finish()))
    assert np.array_equal(back, values) and np.array_equal(read, maps)
    hostile = Writer()
    hostile.symbols(np.full(24, 1 << 29), np.full(24, level), tops)
    with pytest.raises(InputError, match="too large"):
        refine_means(back, level, STEP, tops, None, read, Reader(hostile.finish()))


def test_activity_is_in_parts_of_a_step_and_bounded() -> None:
    values = np.array([0, STEP, -3 * STEP, 1 << 25], np.int32).reshape(1, 1, 1, 4)
    assert activity_of(values, STEP, np.zeros((1, 1, 1), np.int64))[0, 0, 0].tolist() == [0, 8, 24, 2040]
    slope = activity_of(np.zeros((1, 1, 2, 4), np.int32), STEP, np.array([[[0, 8 * STEP]]]))
    assert slope[..., 0].tolist() == [[[8, 8]]]
