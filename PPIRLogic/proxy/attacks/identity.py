"""Identity networks as attackers (optional torch): one that never saw a proxy, and one that was trained again on them.

The attacker holds clear scans of all candidates, knows the program, the spectrum and the strength, and has any number
of subjects of his own to train on; he does not have the key. Virtual subjects, whose scans are another visit's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from PPIRLogic.proxy.attacks.evidence import RecognitionFinding, finding
from PPIRLogic.proxy.spectrum import ONE, Spectrum
from PPIRLogic.proxy.train_identity import identity_loss, identity_network
from PPIRLogic.proxy.train_networks import autocast
from PPIRLogic.proxy.train_subjects import SHAPE, Visits, numbers_of

_RATE = 2e-3
_SUBJECTS = 12  # of a batch
NAIVE, RETRAINED, LINKED = "naive network", "retrained network", "two proxies linked"


@dataclass(frozen=True)
class Proxies:
    """How proxies are made: by a spectrum (and what it is called), at a strength in mm; 0: not at all."""

    spectrum: Spectrum
    name: str
    strength: float

    def fields(self, visits: Visits, numbers: Sequence[int], rng: Any) -> Any:
        """Displacements of new keys, or None."""
        if not self.strength:
            return None
        torch = visits.torch
        amplitudes = torch.tensor(self.spectrum.amplitudes, dtype=torch.float32) / ONE
        scales = self.spectrum.scales_mm
        return visits.fields(visits.velocity(numbers, rng, scales, amplitudes, self.strength))


def trained_attacker(
    visits: Visits, proxies: Proxies, *, seed: int, steps: int, check: Callable[[], None],
    progress: Callable[[int], None] | None = None,
) -> Any:  # fmt: skip
    """An identity network, trained to find the clear scan of a proxy's subject, and another proxy of his."""
    torch = visits.torch
    torch.manual_seed(seed)
    network = identity_network(torch, SHAPE)
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE)
    for step in range(steps):
        check()
        optimiser.param_groups[0]["lr"] = _RATE * 0.5 * (1 + np.cos(np.pi * step / steps)) + 1e-5
        rng = torch.Generator().manual_seed((seed << 32) + (5 << 24) + step)
        numbers = numbers_of(rng, torch, visits.pool, _SUBJECTS)
        with torch.no_grad():
            views = [visits.draw(numbers, rng)]
            views += [visits.draw(numbers, rng, proxies.fields(visits, numbers, rng)) for _ in range(2)]
        with autocast(torch):
            found = network(torch.cat(views))
        loss = identity_loss(torch, network, found.reshape(3, len(numbers), -1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if progress:
            progress(step + 1)
    return network.eval()


def judged_attacker(
    network: Any, visits: Visits, proxies: Proxies, attack: str, *, seed: int, repeats: int = 2
) -> list[RecognitionFinding]:
    """What an attacker finds among all subjects of a pool: the clear scan of each proxy, and another proxy of his."""
    torch = visits.torch
    rng = torch.Generator().manual_seed((seed << 32) + (6 << 24))
    everybody = list(range(len(visits.pool)))
    with torch.no_grad(), autocast(torch):
        candidates = network(visits.draw(everybody, rng)).float()
        probes = [
            network(visits.draw(everybody, rng, proxies.fields(visits, everybody, rng))).float()
            for _ in range(max(2, repeats))
        ]
    alike = torch.cat([p @ candidates.T for p in probes]).numpy()
    linked = (probes[0] @ probes[1].T).numpy()
    right = everybody * len(probes)
    found = [finding(attack, proxies.strength, proxies.name, alike, right)]
    if attack == RETRAINED:
        found.append(finding(LINKED, proxies.strength, proxies.name, linked, everybody))
    return found
