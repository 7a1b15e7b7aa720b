"""Compiled functions: kept on disk, and read from there without what only a compilation needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from sample_data_support import ROOT

PROGRAM = """
import json, sys
import numpy as np
from numba import njit
from PPIRLogic.cubic_bspline import compiled_cubic, cubic
weights = compiled_cubic(0.3)
tables = "numba.np.arraymath" in sys.modules
assert weights == cubic(0.3)

@njit
def pairs(x):
    return np.outer(x, x)

assert pairs(np.arange(3.0)).tolist() == [[0, 0, 0], [0, 1, 2], [0, 2, 4]]
print(json.dumps([sum(compiled_cubic.stats.cache_hits.values()), tables]))
"""


def in_a_process(cache: Path) -> list[object]:
    """[functions read from the cache, whether numba's tables were filled for the first call]"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    words = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: list[object] = json.loads(done.stdout)
    return found


def test_what_is_kept_is_read_without_numba_s_tables_and_more_is_compiled_after_it(tmp_path: Path) -> None:
    assert in_a_process(tmp_path) == [0, True]  # compiled
    assert in_a_process(tmp_path) == [1, False]
