"""Grey images on physical grids: in, out, and their values between voxels."""

from typing import Any

from PPIRLogic.former_paths import look_up


def __getattr__(name: str) -> Any:
    return look_up(__name__, name)
