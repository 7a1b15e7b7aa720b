"""Symbols to bytes and back, near the tables' cost, and nothing but an error from bytes that nobody wrote."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from PPIRLogic.errors import InputError
from PPIRLogic.primis.entropy_coding import TOTAL, Reader, Tables, Writer
from PPIRLogic.primis.model import of_shape

WRITTEN = "43d03a8ec3492dfeb642b87833175aaee9c3a6651f2097003264ec9bcbbb9468"
TABLES = Tables(of_shape(np.array([0.05, 1.0, 6.0]), 8))


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    contexts = rng.integers(0, 3, count)
    rows = TABLES.frequencies / TABLES.frequencies.sum(1, keepdims=True)
    return np.array([rng.choice(17, p=rows[c]) - 8 for c in contexts]), contexts


def test_symbols_come_back_at_the_cost_of_their_tables() -> None:
    values, contexts = drawn(3000)
    values = np.where(np.abs(values) == 8, 0, values)
    writer = Writer()
    writer.symbols(values, contexts, TABLES)
    code = writer.finish()
    assert np.array_equal(Reader(code).symbols(contexts, TABLES), values)
    cost = -np.log2(TABLES.frequencies[contexts, values + 8] / TOTAL).sum() / 8
    assert len(code) < 1.005 * cost + 8


def test_far_symbols_numbers_and_bits_come_back() -> None:
    values, contexts = np.array([0, 8, -8, 9, -500, 1 << 30]), np.zeros(6, np.int64)
    writer = Writer()
    writer.number(0)
    writer.symbols(values, contexts, TABLES)
    writer.number((1 << 34) + 5)
    writer.bits(np.array([0, 65535]), 16)
    reader = Reader(writer.finish())
    assert reader.number() == 0 and np.array_equal(reader.symbols(contexts, TABLES), values)
    assert reader.number() == (1 << 34) + 5 and reader.bits(2, 16).tolist() == [0, 65535]
    with pytest.raises(InputError, match="too far"):
        writer.number(1 << 41)


def test_the_bytes_are_those_of_every_machine_and_release_of_the_coder() -> None:
    """Sealed files live long: should a release of constriction write other bytes, it cannot be taken as it is."""
    at = np.arange(500)
    writer = Writer()
    writer.symbols(at * at % 19 - 9, at % 3, Tables(np.array([[1, 9, 80, 900, 64000, 500, 40, 5, 1]] * 3)))
    assert hashlib.sha256(writer.finish()).hexdigest() == WRITTEN


@pytest.mark.parametrize("seed", range(20))
def test_bytes_that_nobody_wrote_end_in_numbers_or_an_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reader = Reader(rng.bytes(int(rng.integers(0, 60))))
    try:
        found = reader.symbols(rng.integers(0, 3, 400), TABLES)
        assert found.size == 400
        reader.number()
    except InputError as error:
        assert "damaged" in str(error)
