"""What columns over an operand of several bins say of themselves: sums of magnitudes and norms, over all groups."""

from __future__ import annotations

import numpy as np
import pytest

from PPIRLogic.registration.columns.mutual_information import BinColumns, FactorColumns, parzen_source
from PPIRLogic.secure.layout import CHUNK, GROUP


def sources(bins: int) -> dict[str, BinColumns]:
    generator = np.random.default_rng(3)
    samples = 11 * CHUNK // bins  # a group and a part of one
    slopes, factors = (
        generator.integers(-255, 256, shape).astype(np.int32) for shape in (samples * bins, (6, samples))
    )
    parzen = parzen_source(generator.uniform(1.0, bins - 3.0, samples), generator.random(samples) > 0.3, bins)
    return {"parzen": parzen, "factors": FactorColumns(slopes, factors, bins)}


@pytest.mark.parametrize("kind", ["parzen", "factors"])
@pytest.mark.parametrize("bins", [8, 32])
def test_sums_and_norms_are_those_of_the_blocks(bins: int, kind: str) -> None:
    source = sources(bins)[kind]
    source.prepare(1)
    blocks = np.empty((source.groups, source.columns, GROUP), np.int32)
    for group, block in enumerate(blocks):
        source.block(group, 0, block)
    values = blocks.transpose(1, 0, 2).reshape(source.columns, -1).astype(np.int64)
    assert source.groups == 2 and values.any()
    assert np.array_equal(source.absolute_sums(), np.abs(values).sum(axis=1))
    assert np.array_equal(source.norms(), np.sqrt(np.square(values).sum(axis=1).astype(np.float64)))
