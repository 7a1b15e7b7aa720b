"""Terms with several outputs: every protocol gives what numpy gives, number for number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from PPIRLogic.errors import ProtocolError
from PPIRLogic.registration.columns.mutual_information import FactorColumns
from PPIRLogic.secure.fhe.bfv import answer_bytes, positions
from PPIRLogic.secure.integer_sums import products, ring_bytes, sample_part
from PPIRLogic.secure.layout import CHUNK
from PPIRLogic.secure.product import LevelInfo, OperandInfo, Term, numbers_of, packing

Ints = NDArray[np.int32]


def lay_out(vectors: Ints) -> Ints:
    """Fixed vectors (T, N), N a multiple of CHUNK / T, as one operand: (N·T,)."""
    width, part = len(vectors), CHUNK // len(vectors)
    return np.ascontiguousarray(vectors.reshape(width, -1, part).transpose(1, 0, 2)).reshape(-1)


def spread(columns: Ints, width: int) -> Ints:
    """Columns (m, N) as blocks of chunks with their samples at the end: (m, N·T)."""
    part = CHUNK // width
    out = np.zeros((len(columns), columns.shape[1] // part, CHUNK), np.int32)
    out[:, :, -part:] = columns.reshape(len(columns), -1, part)
    return out.reshape(len(columns), -1)


@pytest.mark.parametrize("protocol", ["clear", "fhe", "mpc"])
@pytest.mark.parametrize("width", [2, 32])
def test_all_products_of_columns_and_vectors_at_once(protocol: str, width: int, exchange: Any) -> None:
    rng = np.random.default_rng(width)
    samples = 10 * CHUNK // width  # more than one group of eight chunks
    vectors = rng.integers(0, 2, (width, samples), dtype=np.int32)
    columns = rng.integers(-4000, 4000, (3, samples), dtype=np.int32)
    run = exchange(protocol, {"B": lay_out(vectors)})
    terms = [Term(c, "B", "histogram", width) for c in range(3)]
    got = run.evaluate(spread(columns, width), terms)
    assert np.array_equal(np.reshape(got, (3, width)), columns.astype(np.int64) @ vectors.T.astype(np.int64))


@pytest.mark.parametrize("protocol", ["clear", "fhe", "mpc"])
def test_flattened_columns_over_the_same_operand(protocol: str, exchange: Any) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.integers(0, 2, (32, 512), dtype=np.int32)
    columns = rng.integers(-4000, 4000, (2, 32, 512), dtype=np.int32)
    run = exchange(protocol, {"B": lay_out(vectors)})
    flat = np.stack([lay_out(c) for c in columns])
    got = run.evaluate(flat, [Term(c, "B", "gradient") for c in range(2)])
    assert got == [int((c.astype(np.int64) * vectors).sum()) for c in columns]


@pytest.mark.parametrize("protocol", ["clear", "fhe", "mpc"])
@pytest.mark.parametrize("largest", [0, 255**2])
def test_sums_of_products_of_three(protocol: str, largest: int, exchange: Any) -> None:
    """In the ring of 64 bits and, where their range is known, in that of 32."""
    rng = np.random.default_rng(7)
    bins, samples = 32, 10 * CHUNK // 32  # more than one group
    fixed = rng.integers(0, bins, samples)
    vectors = np.eye(bins, dtype=np.int32)[fixed].T
    u, s = rng.integers(-255, 256, (bins, samples), np.int32), rng.integers(-255, 256, (3, samples), np.int32)
    run = exchange(protocol, {"B": lay_out(vectors)})
    terms = [Term(k, "B", "gradient", vectors=bins, largest=largest) for k in range(3)]
    for evaluation in range(2):
        got = run.evaluate(FactorColumns(lay_out(u), s, bins), terms, evaluation)
        assert got == (s.astype(np.int64) @ (u * vectors).sum(axis=0)).tolist()
    if protocol == "mpc":
        sent = sum(len(m.payload) for sender, _, m in run.sent if sender == "party 1" and m.kind == "request")
        assert sent == 2 * (4 if largest else 8) * (bins + 3) * samples


def test_a_small_ring_holds_what_fits_and_no_more() -> None:
    def width(samples: int, **term: int) -> int:
        level = LevelInfo(0, samples * 32, (OperandInfo("B", 1),))
        return ring_bytes([Term(0, "B", "x", **term)], level)

    assert width(2**15, vectors=32, largest=255**2) == 4 and 2**15 * 255**2 < 2**31
    assert width(2**15 + 512, vectors=32, largest=255**2) == 8
    assert width(2**22, outputs=32, largest=256) == 4 and width(2**23, outputs=32, largest=256) == 8
    assert width(1, vectors=32) == 8, "what has no public bound gets the whole ring"


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([1, 2, 8, 64]), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_block_products_against_numpy(width: int, chunks: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = chunks * CHUNK // width
    vectors = rng.integers(-(2**40), 2**40, (width, samples))
    columns = rng.integers(-(2**20), 2**20, (2, samples), dtype=np.int32)
    own = sample_part(spread(columns, width), width)
    got = products(own, {"V": lay_out(vectors)}, [Term(c, "V", "x", width) for c in range(2)])
    assert np.array_equal(got.reshape(2, width), columns.astype(np.int64) @ vectors.T)


def test_sizes_and_places() -> None:
    assert list(positions(1)) == [CHUNK - 1] and list(positions(2)) == [CHUNK // 2 - 1, CHUNK - 1]
    assert answer_bytes(32) == answer_bytes(1) + 31 * 12
    terms = [Term(0, "B", "histogram", 32), Term(1, "B", "histogram", 32)]
    assert numbers_of(terms) == 64 and packing(terms) == 32
    with pytest.raises(ProtocolError):
        packing([*terms, Term(0, "B", "gradient")])
