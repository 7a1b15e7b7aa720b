"""Where the tests find the repository's files."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PLACES = ROOT / "PPIRLogic" / "sample_data", ROOT / "Resources" / "SampleData"


def sample(name: str) -> Path:
    """A sample image: those of the demonstration lie in the package, the others beside it."""
    return next(place / name for place in _PLACES if (place / name).is_file())
