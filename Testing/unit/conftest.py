"""Puts the `*_support` modules beside this file within reach of the tests below it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("least_squares_support")
