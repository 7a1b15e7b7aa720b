"""Puts `system_support` within reach of the tests here, whichever way pytest imports them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "unit")]
pytest.register_assert_rewrite("system_support")
