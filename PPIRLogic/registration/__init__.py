"""Registration of two images that neither owner shows: losses, levels, parties."""

from typing import Any

from PPIRLogic import former_paths


def __getattr__(name: str) -> Any:
    return former_paths.look_up(__name__, name)
