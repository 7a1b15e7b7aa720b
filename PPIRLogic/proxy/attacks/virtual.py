"""All attacks by identity networks, on virtual subjects of label maps (optional torch)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PPIRLogic.proxy.attacks.evidence import RecognitionFinding
from PPIRLogic.proxy.attacks.identity import NAIVE, RETRAINED, Proxies, judged_attacker, trained_attacker
from PPIRLogic.proxy.spectrum import Spectrum
from PPIRLogic.proxy.train_networks import torch_module
from PPIRLogic.proxy.train_scans import Scanner, read_label_maps
from PPIRLogic.proxy.train_subjects import Visits, make_pool
from PPIRLogic.proxy.training import split

STEPS, PERSONS = 150, 60
_OWN = 96  # virtual subjects of the attacker's own


def virtual_findings(
    labels: str | Path,
    spectra: Sequence[tuple[str, Spectrum]],
    strengths: Sequence[float],
    *,
    seed: int = 0,
    steps: int = STEPS,
    persons: int = PERSONS,
    own: int = _OWN,
    check: Callable[[], None] = lambda: None,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> Iterator[RecognitionFinding]:
    """What identity networks find: first without a deformation (an attacker who does not find nine in ten there tells
    nothing), then, for every spectrum and strength, the same one, and one that was trained again on such proxies.

    labels: folder of label maps; the attacker trains on virtual subjects of the first four fifths, and is judged on
    `persons` of the others.
    """
    torch = torch_module()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    teach, judge = split(read_label_maps(labels))
    scanners = Scanner(torch, teach), Scanner(torch, judge)
    mine = Visits(scanners[0], make_pool(scanners[0], own, seed + 11, check))
    theirs = Visits(scanners[1], make_pool(scanners[1], persons, seed + 12, check))
    clear = Proxies(Spectrum.plain(), "none", 0.0)
    naive = trained_attacker(
        mine, clear, seed=seed, steps=steps, check=check, progress=lambda n: progress("attacker, clear", n, steps)
    )
    yield judged_attacker(naive, theirs, clear, RETRAINED, seed=seed)[0]
    for name, spectrum in spectra:
        for strength in (s for s in strengths if s):
            proxies = Proxies(spectrum, name, strength)
            yield from judged_attacker(naive, theirs, proxies, NAIVE, seed=seed)
            what = f"attacker, {name}, {strength:g} mm"
            again = trained_attacker(
                mine, proxies, seed=seed, steps=steps, check=check,
                progress=lambda n, what=what: progress(what, n, steps),  # type: ignore[misc]
            )  # fmt: skip
            yield from judged_attacker(again, theirs, proxies, RETRAINED, seed=seed)
