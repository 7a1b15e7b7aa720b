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
    rigid_iterations: int = 0  # of its iterations, the first ones that were rigid steps only
    smallest_jacobian: float | None = None  # of a deformable one, at the level's voxels


@dataclass
class StartsRecord:
    """What came of comparing starts: the shrink factor, how many were compared, each of them, and the one chosen.

    tried: name, information per voxel in nats at the start, and at its end where it was let move (else None).
    """

    factor: int
    samples: int
    values: int = 0
    chosen: str = ""
    tried: list[tuple[str, float, float | None]] = field(default_factory=list)
    numbers: int = 0  # opened
    note: str = ""  # why fewer starts were compared than there are


@dataclass
class CheckRecord:
    """The end of a search against transforms around it, in nats per voxel of the overlap.

    info: what one image tells of the other there. sharp: by how much that is more than around it on average; rise: than
    at the best transform around it. pooled: of mutual information, not of NCC.
    """

    factor: int
    samples: int
    info: float
    share: float
    sharp: float
    rise: float
    pooled: bool
    start_info: float | None = None  # at the best start, on the same scale
    numbers: int = 0  # opened
    detail: float | None = None  # NCC of the edges less their surroundings
