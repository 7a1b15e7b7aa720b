"""Grey images on physical grids: in, out, and their values between voxels."""

from typing import Any

from PPIRLogic import former_paths


def __getattr__(name: str) -> Any:
    return former_paths.look_up(__name__, name)
