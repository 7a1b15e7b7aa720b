"""Puts `system_support` within reach of the tests here, whichever way pytest imports them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("system_support")
