"""Virtual subjects and their visits (optional torch): what identity networks are trained and judged on.

A virtual subject is an anatomy of a label map under a smooth deformation of its own, with its own size; a visit shows
it in another contrast, pose, bias and noise, brain-extracted, on a grid of 6 mm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PPIRLogic.proxy.train_scans import INSIDE, SPACING_MM, Scanner
from PPIRLogic.proxy.train_warps import basis, exponential, lattice, spline, warped

GRID_MM = 6.0
FINER = round(GRID_MM / SPACING_MM)
SHAPE = (28, 34, 28)  # z, y, x voxels of GRID_MM
_GROUPS = ((1, 14, 18), (2,), (3, 10), (4,), (5,), (6,), (7,), (8, 9), (11, 15), (12, 13), (16,), (17, 19))
_SHAPE_SCALES = ((60.0, 3.5), (32.0, 1.8))  # mm between control points, rms in mm


@dataclass(frozen=True)
class Pool:
    """tissues: uint8 (n, groups, z, y, x), shares in 255ths; depth: float32 (n, z, y, x) in mm inside the brain;
    bases: the numbers of the label maps."""

    tissues: Any
    depth: Any
    bases: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.bases)


def make_pool(
    scanner: Scanner, count: int, seed: int, check: Callable[[], None], progress: Callable[[float], None] | None = None
) -> Pool:
    """Virtual subjects, the label maps in turn."""
    torch = scanner.torch
    tissues, depths = [], []
    for number in range(count):
        check()
        rng = torch.Generator().manual_seed((seed << 24) + number)
        shares = _anatomy(scanner, number % len(scanner.maps), rng)
        tissues.append(torch.round(shares * 255).to(torch.uint8))
        depths.append(_depth(torch, shares.sum(0) > 0.5))
        if progress:
            progress((number + 1) / count)
    bases = tuple(i % len(scanner.maps) for i in range(count))
    return Pool(torch.stack(tissues), torch.stack(depths), bases)


def _anatomy(scanner: Scanner, number: int, rng: Any) -> Any:
    """Shares (groups, z, y, x) of a new anatomy."""
    torch = scanner.torch
    fine = tuple(FINER * n for n in SHAPE)
    field = torch.zeros(3, *fine)
    for scale, rms in _SHAPE_SCALES:
        bases = [basis(torch, n, SPACING_MM, scale, beyond=1) for n in fine]
        part = spline(torch, torch.randn(3, *(b.shape[1] for b in bases), generator=rng), bases)
        field = field + part * (rms / part.square().mean().sqrt())
    points = (scanner.grid(fine) + field.movedim(0, -1)) @ scanner.pose(rng, degrees=4, scale=0.12, shear=0.05).T
    found = scanner.tissues(number, points)
    found = torch.where(found <= INSIDE, found, torch.zeros_like(found))
    groups = [sum((found == t).float() for t in group) for group in _GROUPS]
    return torch.nn.functional.avg_pool3d(torch.stack(groups)[None], FINER)[0]


def _depth(torch: Any, mask: Any) -> Any:
    """mm inside a mask (z, y, x); nought outside. By as many erosions as it takes."""
    left = mask.float()[None, None]
    depth = torch.zeros_like(left)
    while bool(left.any()):
        depth = depth + left * GRID_MM
        left = (torch.nn.functional.avg_pool3d(left, 3, 1, 1) > 0.999).float()
    return depth[0, 0]


class Visits:
    """Draws visits of a pool's subjects, and proxies of them."""

    def __init__(self, scanner: Scanner, pool: Pool) -> None:
        self.scanner, self.torch, self.pool = scanner, scanner.torch, pool
        torch = self.torch
        axes = [(torch.arange(n, dtype=torch.float32) - (n - 1) / 2) * GRID_MM for n in SHAPE]
        z, y, x = torch.meshgrid(*axes, indexing="ij")
        self.points = torch.stack([x, y, z])  # 3, z, y, x
        self.rims = torch.tensor([g[0] for g in _GROUPS])

    def draw(self, numbers: Sequence[int], rng: Any, displacement: Any = None) -> Any:
        """Scans (n, 1, z, y, x) of subjects at a new visit each, 0 to 1, warped by displacements (n, 3, …) in mm."""
        torch = self.torch
        greys = []
        for number in numbers:
            means = self.scanner.means(rng)[self.rims]
            shares = self.pool.tissues[number].float() / 255
            grain = 1 + 0.03 * torch.randn(SHAPE, generator=rng)
            greys.append((means[:, None, None, None] * shares).sum(0) * grain)
        at = self._posed(len(numbers), rng, displacement)
        inside = self.pool.tissues[list(numbers)].sum(1, dtype=torch.float32) / 255
        both = warped(torch, torch.stack([torch.stack(greys), inside], 1), at, GRID_MM)
        scan, mask = both[:, :1], (both[:, 1:] > 0.4).float()
        out = []
        for one, where in zip(scan, mask, strict=True):
            bias = torch.exp(0.3 * float(torch.rand(1, generator=rng)) * self.scanner.smooth_noise(rng, SHAPE, 4))
            out.append(one * bias + 0.02 * torch.randn(SHAPE, generator=rng))
            values = out[-1].detach()[where > 0]
            some = values[:: max(1, len(values) // 5000)].sort().values
            low, high = some[int(0.01 * len(some))], some[int(0.99 * (len(some) - 1))]
            out[-1] = ((out[-1] - low) / (high - low).clamp_min(1e-3)).clamp(0, 1) * where
        return torch.stack(out)

    def _posed(self, count: int, rng: Any, displacement: Any) -> Any:
        """The pose of a visit after a displacement, as one displacement."""
        torch = self.torch
        points = self.points[None].expand(count, -1, -1, -1, -1)
        moved = points if displacement is None else points + displacement
        turns = torch.stack([self.scanner.pose(rng, degrees=6, scale=0, shear=0) for _ in range(count)])
        shift = 3 * torch.randn(count, 3, 1, 1, 1, generator=rng)
        return torch.einsum("nij,njzyx->nizyx", turns, moved) + shift - points

    def velocity(
        self, numbers: Sequence[int], rng: Any, scales: Sequence[float], amplitudes: Any, strength: Any
    ) -> Any:
        """Velocities (n, 3, z, y, x) in mm, differentiable in the amplitudes (regions, scales).

        Each is scaled to `strength` (a number, or one for each): rms of a component over the brain, about the mean.
        """
        torch = self.torch
        depth = self.pool.depth[list(numbers)]
        field = torch.zeros(len(numbers), 3, *SHAPE)
        for s, scale in enumerate(scales):
            bases = [lattice(torch, n, GRID_MM, scale) for n in SHAPE]
            draws = torch.randn(len(numbers), 3, *(b[0].shape[1] for b in bases), generator=rng)
            region = self.regions(depth, [b[1] for b in bases], len(amplitudes))
            field = field + spline(torch, draws * amplitudes[:, s][region][:, None], [b[0] for b in bases])
        inside = (depth > 0).float()[:, None]
        count = inside.sum((2, 3, 4), keepdim=True)
        mean = (field * inside).sum((2, 3, 4), keepdim=True) / count
        square = ((field - mean).square() * inside).sum((1, 2, 3, 4), keepdim=True) / (3 * count)
        wanted = torch.as_tensor(strength, dtype=torch.float32).reshape(-1, 1, 1, 1, 1)
        return field * wanted / square.clamp_min(1e-12).sqrt()

    def regions(self, depth: Any, at: Sequence[Any], regions: int) -> Any:
        """The region (n, cz, cy, cx) of control points at indices of the grid, from the rim to the depth."""
        near = depth[:, at[0]][:, :, at[1]][:, :, :, at[2]]
        deepest = depth.amax((1, 2, 3), keepdim=True)
        return (near * regions / (deepest + 1e-3)).long().clamp(0, regions - 1)

    def fields(self, velocity: Any) -> Any:
        """Displacements (n, 3, z, y, x) in mm of velocities."""
        return exponential(self.torch, velocity, GRID_MM)


def numbers_of(rng: Any, torch: Any, pool: Pool, count: int) -> list[int]:
    """Different subjects, drawn."""
    return [int(i) for i in torch.randperm(len(pool), generator=rng)[:count]]
