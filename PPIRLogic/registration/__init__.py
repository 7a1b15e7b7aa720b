"""Registration of two images that neither owner shows: losses, levels, parties."""

from typing import Any

from PPIRLogic.former_paths import look_up


def __getattr__(name: str) -> Any:
    return look_up(__name__, name)
