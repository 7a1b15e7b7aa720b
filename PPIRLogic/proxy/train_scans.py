"""Synthetic scans of label maps (optional torch): any contrast, bias, noise, resolution, pose and brain extraction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import InputError
from PPIRLogic.files import shown_path
from PPIRLogic.images.reading import read_volume

CLASSES = (
    "background", "grey matter", "white matter", "deep grey matter", "ventricles", "cerebrospinal fluid",
    "ventral diencephalon",
)  # fmt: skip
_FLUID = 5
SPACING_MM = 2.0  # of the network's grid
# FreeSurfer's numbers, class, and grey in T1, T2, FLAIR
_TISSUES: tuple[tuple[tuple[int, ...], int, float, float, float], ...] = (
    ((2, 41), 2, 0.80, 0.35, 0.50),  # white matter
    ((3, 42), 1, 0.52, 0.55, 0.62),  # cortex
    ((4, 43, 5, 44, 72), 4, 0.16, 0.95, 0.10),  # lateral ventricles
    ((7, 46), 2, 0.78, 0.38, 0.52),  # white matter of the cerebellum
    ((8, 47), 1, 0.52, 0.55, 0.60),  # cortex of the cerebellum
    ((10, 49), 3, 0.68, 0.48, 0.58),  # thalamus
    ((11, 50), 3, 0.57, 0.52, 0.62),  # caudate
    ((12, 51), 3, 0.62, 0.48, 0.60),  # putamen
    ((13, 52), 3, 0.72, 0.34, 0.52),  # pallidum
    ((14, 15), 4, 0.16, 0.95, 0.10),  # third and fourth ventricle
    ((16,), 2, 0.76, 0.40, 0.54),  # brain stem
    ((17, 53), 3, 0.53, 0.57, 0.66),  # hippocampus
    ((18, 54), 3, 0.52, 0.57, 0.66),  # amygdala
    ((26, 58), 3, 0.55, 0.55, 0.64),  # accumbens
    ((28, 60), 6, 0.70, 0.42, 0.55),  # ventral diencephalon
    ((24,), 5, 0.14, 0.95, 0.12),  # CSF outside
    ((30, 62), 0, 0.30, 0.60, 0.30),  # vessels
    ((25, 57), 2, 0.55, 0.75, 0.95),  # lesions
    ((85,), 0, 0.65, 0.45, 0.55),  # optic chiasm
)
INSIDE = len(_TISSUES)  # tissues 1 to INSIDE are within the skull
_OUTSIDE = 12  # kinds of tissue outside
_HEIGHT = 88  # voxels from the top of the head that are kept: the neck is not


@dataclass(frozen=True)
class LabelMap:
    """name; tissues: uint8 (z, y, x) at 2 mm: 0 air, then the tissues of the table, then those outside the skull."""

    name: str
    tissues: NDArray[np.uint8]


def classes_of_tissues() -> NDArray[np.int64]:
    """The class of each tissue number."""
    return np.array([0] + [t[1] for t in _TISSUES] + [0] * _OUTSIDE)


def read_label_maps(folder: str | Path, margin: int = 8) -> list[LabelMap]:
    """All `*_labels.nrrd` (FreeSurfer's numbers, 2 mm) of a folder, cut to the brain and a margin of voxels."""
    files = sorted(Path(folder).glob("*labels.nrrd"))
    if not files:
        raise InputError(f"No label maps (*labels.nrrd) are in '{shown_path(Path(folder))}'. Give their folder.")
    return [_read(path, margin) for path in files]


def _read(path: Path, margin: int) -> LabelMap:
    volume = read_volume(path)
    spacing = volume.geometry.spacing
    if volume.array.ndim != 3 or max(abs(s - SPACING_MM) for s in spacing) > 0.01:
        raise InputError(f"'{shown_path(path)}' is not a volume of {SPACING_MM:g} mm voxels. Resample it first.")
    labels = np.rint(volume.array).astype(np.int64)
    table = np.full(max(2048, int(labels.max()) + 1), INSIDE + _OUTSIDE, np.uint8)
    table[0] = 0
    for number, (freesurfer, *_) in enumerate(_TISSUES, 1):
        table[list(freesurfer)] = number
    for number, outside in enumerate((502, 506, 507, 508, 509, 511, 512, 514, 515, 516, 530), INSIDE + 1):
        table[outside] = number
    tissues = table[labels]
    inner = np.argwhere((tissues > 0) & (tissues <= INSIDE))
    if not len(inner):
        raise InputError(f"'{shown_path(path)}' has no label of a brain. Give label maps with FreeSurfer's numbers.")
    low, high = np.maximum(inner.min(0) - margin, 0), inner.max(0) + margin + 1
    low[0] = max(low[0], high[0] - _HEIGHT)
    cut = tissues[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return LabelMap(path.name.split("_")[0], np.ascontiguousarray(cut))


class Scanner:
    """Draws scans and their classes from label maps. All draws come from the generator that a call is given."""

    def __init__(self, torch: Any, maps: Sequence[LabelMap]) -> None:
        self.torch = torch
        self.names = [m.name for m in maps]
        self.maps = [torch.from_numpy(m.tissues.astype(np.float32))[None, None] for m in maps]
        self.classes = torch.from_numpy(classes_of_tissues())
        self.greys = torch.tensor([[t[2], t[3], t[4]] for t in _TISSUES], dtype=torch.float32)

    def grid(self, shape: Sequence[int]) -> Any:
        """Positions in mm (z, y, x, 3), components x, y, z, the origin in the middle."""
        axes = [(self.torch.arange(n, dtype=self.torch.float32) - (n - 1) / 2) * SPACING_MM for n in shape]
        z, y, x = self.torch.meshgrid(*axes, indexing="ij")
        return self.torch.stack([x, y, z], -1)

    def tissues(self, number: int, points: Any) -> Any:
        """Tissue numbers (z, y, x) of a map at points in mm from its middle."""
        volume = self.maps[number]
        size = self.torch.tensor(volume.shape[:1:-1], dtype=self.torch.float32)  # x, y, z
        at = points / (SPACING_MM * size / 2)
        found = self.torch.nn.functional.grid_sample(volume, at[None], mode="nearest", align_corners=False)
        return found[0, 0].long()

    def pose(self, rng: Any, degrees: float = 15, scale: float = 0.15, shear: float = 0.06) -> Any:
        """A random linear map (3, 3) near the identity."""
        torch = self.torch
        u = lambda *s: torch.rand(*s, generator=rng) * 2 - 1  # noqa: E731
        turn = torch.deg2rad(degrees * u(3))
        skew = torch.zeros(3, 3)
        skew[0, 1], skew[0, 2], skew[1, 2] = -turn[2], turn[1], -turn[0]
        rotation = torch.linalg.matrix_exp(skew - skew.T)
        size = torch.exp(scale * u(1) * 0.7 + scale * u(3) * 0.6)
        return rotation @ (torch.diag(size) + shear * u(3, 3) * (1 - torch.eye(3)))

    def means(self, rng: Any, column: int | None = None) -> Any:
        """A grey for each tissue number, 0 to 1: like T1 (column 0), T2 or FLAIR (2), or any."""
        torch = self.torch
        u = lambda *s: torch.rand(*s, generator=rng)  # noqa: E731
        kind = float(u(1))
        if kind < 0.85 or column is not None:
            if column is None:
                column = 0 if kind < 0.65 else 1 if kind < 0.75 else 2
            grey = self.greys[:, column]
            grey = grey + 0.035 * torch.randn(INSIDE, generator=rng)
            csf, white = (0.3 * u(1) - 0.1, 0.3 * u(1) - 0.15)
            grey = grey + csf * (self.greys[:, 0] < 0.2) + white * (self.greys[:, 0] > 0.75)
            grey = grey.clamp(0.02, 1.2) ** torch.exp(0.4 * (u(1) * 2 - 1))
        else:
            grey = u(INSIDE)
        outside = u(_OUTSIDE) * (0.4 + 0.9 * u(1))
        return torch.cat([torch.zeros(1), grey, outside])

    def image(self, rng: Any, tissues: Any, means: Any) -> Any:
        """Greys (z, y, x), before brain extraction and normalisation."""
        torch = self.torch
        u = lambda *s: torch.rand(*s, generator=rng)  # noqa: E731
        spread = torch.cat([torch.zeros(1), 0.01 + 0.06 * u(INSIDE + _OUTSIDE)])
        grain = torch.randn(tissues.shape, generator=rng)
        picture = means[tissues] + spread[tissues] * grain
        sigma = 0.25 + 0.45 * u(3)
        if float(u(1)) < 0.3:
            sigma[int(u(1) * 3)] += 0.9 * float(u(1))
        picture = self.blurred(picture, sigma.tolist())
        bias = self.smooth_noise(rng, tissues.shape, 4)
        picture = picture * torch.exp(0.35 * float(u(1)) * bias)
        return picture + 0.03 * float(u(1)) * torch.randn(tissues.shape, generator=rng)

    def blurred(self, volume: Any, sigmas: Sequence[float]) -> Any:
        """A volume (z, y, x) with a Gaussian of five voxels along each axis."""
        torch = self.torch
        at = torch.arange(-2, 3, dtype=torch.float32)
        out = volume[None, None]
        for axis, sigma in enumerate(sigmas):
            kernel = torch.exp(-(at**2) / (2 * sigma**2 + 1e-6))
            kernel = (kernel / kernel.sum()).tolist()
            reach = torch.nn.functional.pad(out, [2 if a // 2 == 2 - axis else 0 for a in range(6)], mode="replicate")
            n = volume.shape[axis]
            out = sum(k * reach.narrow(2 + axis, i, n) for i, k in enumerate(kernel))
        return out[0, 0]

    def smooth_noise(self, rng: Any, shape: Sequence[int], points: int) -> Any:
        """A smooth field (z, y, x) from that many random points along each axis."""
        return self.enlarged(self.torch.randn(points, points, points, generator=rng), shape)

    def enlarged(self, coarse: Any, shape: Sequence[int]) -> Any:
        """(…, z, y, x) at more points of the same extent, linear between."""
        out = coarse
        for axis in (-3, -2, -1):
            between = self._between(coarse.shape[axis], shape[axis])
            out = (out.movedim(axis, -1) @ between.T).movedim(-1, axis)
        return out

    def _between(self, few: int, many: int) -> Any:
        at = ((self.torch.arange(many, dtype=self.torch.float32) + 0.5) * few / many - 0.5).clamp(0, few - 1)
        return (1 - (at[:, None] - self.torch.arange(few)).abs()).clamp_min(0)

    def extracted(self, rng: Any, picture: Any, tissues: Any) -> tuple[Any, Any]:
        """As the client prepares it, greys 0 to 1, outside a mask nought (as tight or wide as it may be); and classes.

        Fluid that the mask leaves out is background.
        """
        torch = self.torch
        u = float(torch.rand(1, generator=rng))
        inner = ((tissues > 0) & (tissues <= INSIDE)).float()
        half = torch.nn.functional.avg_pool3d(inner[None, None], 2)
        soft = self.enlarged(torch.nn.functional.avg_pool3d(half, 3, 1, 1)[0, 0], inner.shape)
        if u < 0.2:
            mask = torch.ones_like(inner, dtype=torch.bool)
        else:
            level = 0.04 + 0.5 * float(torch.rand(1, generator=rng)) + 0.08 * self.smooth_noise(rng, inner.shape, 6)
            mask = soft > level
        classes = self.classes[tissues]
        classes = torch.where(mask | (classes != _FLUID), classes, torch.zeros_like(classes))
        return self.normalised(picture, mask), classes

    def normalised(self, picture: Any, mask: Any) -> Any:
        """Percentiles 1 to 99 inside the mask to 0 to 1, in 255 steps; outside nought."""
        torch = self.torch
        inside = picture[mask]
        if inside.numel() < 100:
            return torch.zeros_like(picture)
        some = inside[:: max(1, inside.numel() // 20000)].sort().values
        low, high = some[int(0.01 * (len(some) - 1))], some[int(0.99 * (len(some) - 1))]
        scaled = ((picture - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
        return torch.where(mask, torch.round(scaled * 255) / 255, torch.zeros_like(picture))
