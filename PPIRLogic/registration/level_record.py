"""What a run keeps of one of its levels."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class LevelRecord:
    """One level in the report. `values`: the loss at the start and at every accepted step; `parameters` likewise."""

    factor: int
    shape: list[int]
    spacing: list[float]
    samples: int
    evaluations: int = 0
    iterations: int = 0
    reason: str = ""
    seconds: float = 0.0
    values: list[float] = field(default_factory=list)
    steps_mm: list[float] = field(default_factory=list)
    overlap: float = 0.0
    transforms: list[list[float]] = field(default_factory=list)
    kind: str = ""  # of the transform that the level moves
    smallest_jacobian: float | None = None  # of a deformable one, at the level's voxels
