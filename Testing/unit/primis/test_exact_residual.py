"""The exact level: whatever is left comes back, for next to what it must cost."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_data_support import ROOT

from PPIRLogic.errors import InputError
from PPIRLogic.primis.entropy_coding import Reader, Writer
from PPIRLogic.primis.exact_residual import code_rest
from PPIRLogic.primis.model import shipped


def coded(rest: np.ndarray, base: np.ndarray) -> bytes:
    writer = Writer()
    code_rest(rest.copy(), base, shipped().residual, writer, lambda: None)
    return writer.finish()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20)),
    size=st.sampled_from([0, 0.3, 3, 300, 30000]),
    seed=st.integers(0, 100),
)
def test_rests_of_any_size_come_back(shape: tuple[int, int, int], size: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rest = np.rint(rng.laplace(0, size, shape)).astype(np.int64).clip(-65535, 65535)
    base = rng.integers(0, 4000, shape)
    back = np.zeros_like(rest)
    code_rest(back, base, shipped().residual, Reader(coded(rest, base)), lambda: None)
    assert np.array_equal(back, rest)


@pytest.mark.parametrize("size", [1.2, 5, 40, 900])
def test_noise_costs_about_its_entropy(size: float) -> None:
    rng = np.random.default_rng(0)
    rest = np.rint(rng.normal(0, size, (1, 128, 128))).astype(np.int64)
    entropy = np.log2(size * np.sqrt(2 * np.pi * np.e)) * rest.size / 8
    assert len(coded(rest, np.zeros_like(rest))) < 1.08 * entropy


def test_a_code_that_nobody_wrote_is_an_error_or_other_rests() -> None:
    base, refused = np.zeros((1, 16, 16), np.int64), 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        try:
            code_rest(base.copy(), base, shipped().residual, Reader(rng.bytes(300)), lambda: None)
        except InputError as error:
            assert "damaged" in str(error)
            refused += 1
    assert refused < 30


def test_codes_are_the_same_without_compiled_functions() -> None:
    """What numba compiles and what Python itself computes: the same bytes, all five codes."""
    program = (
        "import hashlib, numpy as np\n"
        "from PPIRLogic.primis.codec import encode\n"
        "y, x = np.mgrid[:24, :32]\n"
        "image = ((x * x + 3 * x * y + (x ^ y) * 5) % 251).astype('uint8')\n"
        "print(hashlib.sha256(b''.join(encode(image).codes)).hexdigest())\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "NUMBA_DISABLE_JIT": off, "PYTHONPATH": str(ROOT)},
        ).stdout
        for off in ("0", "1")
    }
    assert len(found) == 1 and len(found.pop().strip()) == 64
