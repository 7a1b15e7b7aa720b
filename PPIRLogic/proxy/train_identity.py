"""The Siamese identity network (optional torch): an embedding in which scans of one subject are near each other."""

from __future__ import annotations

import math
from typing import Any

from PPIRLogic.proxy.train_networks import packed

LENGTH = 128  # of an embedding


def identity_network(torch: Any, shape: tuple[int, int, int]) -> Any:
    """Scans (n, 1, z, y, x) of that shape, of even sides, to unit vectors (n, LENGTH)."""
    nn = torch.nn
    cells = math.prod((n + 7) // 8 for n in shape)

    def block(inside: int, outside: int, stride: int = 1) -> list[Any]:
        return [
            nn.Conv3d(inside, outside, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm3d(outside, momentum=0.05),
            nn.ReLU(),
        ]

    class IdentityNetwork(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(*block(8, 32), *block(32, 64, 2), *block(64, 96), *block(96, 96, 2))
            self.thin = nn.Conv3d(96, 16, 1)
            self.head = nn.Linear(96 + 16 * cells, LENGTH)
            self.sharpness = nn.Parameter(torch.tensor(2.5))

        def forward(self, x: Any) -> Any:
            body = self.body(packed(torch, x))
            whole = torch.cat([body.mean((2, 3, 4)), self.thin(body).flatten(1)], 1)
            return torch.nn.functional.normalize(self.head(whole).float(), dim=1)

    return IdentityNetwork().to(memory_format=torch.channels_last_3d)


def identity_loss(torch: Any, network: Any, views: Any) -> Any:
    """How ill subjects are told apart: the cross-entropy of finding a view's partner among those of a batch.

    views: embeddings (views, subjects, LENGTH), the first view being the candidates.
    """
    right = torch.arange(views.shape[1])
    sharp = network.sharpness.exp()
    losses = []
    for first in range(len(views)):
        for second in range(first + 1, len(views)):
            alike = sharp * views[first] @ views[second].T
            losses += [torch.nn.functional.cross_entropy(a, right) for a in (alike, alike.T)]
    return torch.stack(losses).mean()
