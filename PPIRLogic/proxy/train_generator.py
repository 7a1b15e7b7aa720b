"""Learning the amplitudes (optional torch): against an identity network, while the segmentation network keeps its Dice.

One loss, end to end: the identity network makes it small, the table of amplitudes makes it large, through the warped
scans. A multiplier holds the segmentation's loss on proxies at that of the plain spectrum at the same strength, and
another keeps fields from folding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PPIRLogic.proxy.spectrum import ONE, Spectrum
from PPIRLogic.proxy.train_identity import identity_loss, identity_network
from PPIRLogic.proxy.train_networks import autocast, overlap_loss
from PPIRLogic.proxy.train_scans import SPACING_MM, Scanner
from PPIRLogic.proxy.train_state import keep, take_up
from PPIRLogic.proxy.train_subjects import FINER, GRID_MM, SHAPE, Pool, Visits, numbers_of
from PPIRLogic.proxy.train_warps import warped

WARM_STEPS = 30
SCALES_MM = (112, 72, 44, 28)
REGIONS = 3
_SUBJECTS = 10  # of a batch
_STRENGTHS = (7.0, 13.0)  # mm, drawn between
_RATE, _TABLE_RATE = 2e-3, 0.1
_WEIGHT_RATE = 0.5  # of the multiplier
_PATCH = (48, 64, 48)  # voxels of 2 mm on which the segmentation is judged
_MIN_JACOBIAN = 0.2  # Jacobian determinant below which a field is made to pay
_KEEP_EVERY = 10


def _generator(torch: Any) -> Any:
    """The table of amplitudes, as logarithms, inside what `keep` can write; and the multiplier of the Dice."""
    generator = torch.nn.Module()
    plain = plain_amplitudes(torch)
    generator.logs = torch.nn.Parameter(plain.clamp_min(0.1).log())
    generator.register_buffer("multiplier", torch.tensor(4.0))
    return generator


def plain_amplitudes(torch: Any) -> Any:
    """The plain spectrum's scales, as near as ours have them, in each region."""
    near = {112: 0.15, 72: 0.45, 44: 0.6, 28: 0.5}
    return torch.tensor([[near[s] for s in SCALES_MM]] * REGIONS)


def spectrum_of(torch: Any, logs: Any) -> Spectrum:
    """The table in whole numbers: the largest amplitude is ONE."""
    amplitudes = logs.detach().exp()
    whole = torch.round(amplitudes / amplitudes.max() * ONE).long().tolist()
    return Spectrum(SCALES_MM, tuple(tuple(int(n) for n in row) for row in whole))


def train_generator(
    scanner: Scanner,
    pool: Pool,
    segmentation: Any,
    *,
    seed: int,
    steps: int,
    kept: Path,
    progress: Callable[[int, str], None],
    check: Callable[[], None],
) -> Spectrum:
    """The learned spectrum. segmentation: the trained network, which is not changed."""
    torch = scanner.torch
    visits = Visits(scanner, pool)
    torch.manual_seed(seed)
    identity, generator = identity_network(torch, SHAPE), _generator(torch)
    learner = torch.optim.Adam(identity.parameters(), lr=_RATE)
    teacher = torch.optim.Adam([generator.logs], lr=_TABLE_RATE)
    begin = min(
        take_up(torch, kept / "identity.npz", identity, learner), take_up(torch, kept / "table.npz", generator, teacher)
    )
    for parameter in segmentation.parameters():
        parameter.requires_grad_(False)
    for step in range(begin, steps):
        check()
        rng = torch.Generator().manual_seed((seed << 32) + (1 << 24) + step)
        learned = step >= min(WARM_STEPS, steps // 3)
        amplitudes = generator.logs.exp() if learned else generator.logs.exp().detach()
        told = _identity_part(visits, identity, amplitudes, rng)
        loss, words = told, f"identity {float(told.detach()):.2f}"
        if learned:
            cost, over = _segmentation_part(visits, segmentation, generator.logs.exp(), rng)
            loss = told - float(generator.multiplier) * cost
            words += f", Dice {float(over):+.3f}"
            generator.multiplier.mul_(math.exp(_WEIGHT_RATE * max(-0.2, min(0.2, float(over)))))
        learner.zero_grad()
        teacher.zero_grad()
        loss.backward()
        learner.step()
        if learned:
            generator.logs.grad.neg_()  # the table makes large what the network makes small
            teacher.step()
            with torch.no_grad():
                generator.logs.sub_(generator.logs.mean()).clamp_(-3.5, 3.5)  # ratios alone count
        if (step + 1) % _KEEP_EVERY == 0 or step + 1 == steps:
            _keep_both(kept, step + 1, identity, learner, generator, teacher, learned)
        progress(step + 1, words)
    return spectrum_of(torch, generator.logs)


def _keep_both(kept: Path, step: int, identity: Any, learner: Any, generator: Any, teacher: Any, learned: bool) -> None:
    if learned:  # before, there is nothing of the table to keep
        keep(kept / "identity.npz", step, identity, learner)
        keep(kept / "table.npz", step, generator, teacher)


def _identity_part(visits: Visits, identity: Any, amplitudes: Any, rng: Any) -> Any:
    """The loss of telling a batch's subjects apart: a clear visit, and two proxies of two others."""
    torch = visits.torch
    numbers = numbers_of(rng, torch, visits.pool, _SUBJECTS)
    views = [visits.draw(numbers, rng)]
    for _ in range(2):
        strength = _strengths(torch, rng, len(numbers))
        velocity = visits.velocity(numbers, rng, SCALES_MM, amplitudes, strength)
        views.append(visits.draw(numbers, rng, visits.fields(velocity)))
    with autocast(torch):
        found = identity(torch.cat(views))
    return identity_loss(torch, identity, found.reshape(3, len(numbers), -1))


def _strengths(torch: Any, rng: Any, count: int) -> Any:
    return _STRENGTHS[0] + (_STRENGTHS[1] - _STRENGTHS[0]) * torch.rand(count, generator=rng)


def _segmentation_part(visits: Visits, segmentation: Any, amplitudes: Any, rng: Any) -> tuple[Any, Any]:
    """What a proxy costs the segmentation, with what folding costs; and by how much more than a plain one costs."""
    torch, scanner = visits.torch, visits.scanner
    fine = tuple(FINER * n for n in SHAPE)
    low = [int(torch.randint(n - m + 1, (1,), generator=rng)) for n, m in zip(fine, _PATCH, strict=True)]
    cut = tuple(slice(a, a + m) for a, m in zip(low, _PATCH, strict=True))
    number = int(torch.randint(len(visits.pool), (1,), generator=rng))
    tissues = scanner.tissues(visits.pool.bases[number], scanner.grid(fine) @ scanner.pose(rng, degrees=5).T)
    scan, classes = scanner.extracted(rng, scanner.image(rng, tissues, scanner.means(rng)), tissues)
    wanted = torch.nn.functional.one_hot(classes, int(scanner.classes.max()) + 1).movedim(-1, 0)[None].float()
    strength = float(_strengths(torch, rng, 1))
    seed = int(torch.randint(1 << 40, (1,), generator=rng))
    shift = SPACING_MM * torch.tensor(low[::-1], dtype=torch.float32)[None, :, None, None, None]  # of the patch
    costs = []
    for table in (amplitudes, plain_amplitudes(torch)):
        with torch.set_grad_enabled(table is amplitudes):
            draws = torch.Generator().manual_seed(seed)
            velocity = visits.velocity([number], draws, SCALES_MM, table, strength)
            coarse = visits.fields(velocity)
            field = scanner.enlarged(coarse, fine)[(..., *cut)]
            both = warped(torch, torch.cat([scan[None, None], wanted], 1), field + shift, SPACING_MM)
            proxy, truth = both[:, :1], both[:, 1:]
            with autocast(torch):
                logits = segmentation(proxy)
            costs.append(overlap_loss(torch, logits, truth))
            if table is amplitudes:
                fold = torch.relu(_MIN_JACOBIAN - jacobian(torch, coarse)).mean() * 50
    return costs[0] + fold, (costs[0] - costs[1]).detach()


def jacobian(torch: Any, displacement: Any, spacing: float = GRID_MM) -> Any:
    """Determinants (n, z, y, x) of x + displacement (n, 3, z, y, x; components x, y, z)."""
    m = [list(torch.gradient(displacement[:, c], spacing=spacing, dim=(3, 2, 1))) for c in range(3)]
    for c in range(3):
        m[c][c] = m[c][c] + 1
    return (
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
        - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
    )
