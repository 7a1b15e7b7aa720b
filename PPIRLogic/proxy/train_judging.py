"""The Dice of a trained network on synthetic scans of other heads, and on their proxies (optional torch)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.proxy.segmentation import NAMES, SPACING_MM, Segmenter, merged
from PPIRLogic.proxy.spectrum import ONE, Spectrum
from PPIRLogic.proxy.train_scans import Scanner
from PPIRLogic.proxy.train_subjects import FINER, SHAPE, Visits, make_pool
from PPIRLogic.proxy.train_warps import warped

STRENGTHS_MM = (0.0, 4.0, 8.0, 12.0)


def dice(found: NDArray[Any], truth: NDArray[Any]) -> list[float]:
    """Of each class but the background; 1 where neither has it.

    >>> dice(np.array([1, 1, 2]), np.array([1, 2, 2]))[:2]
    [0.6666666666666666, 0.6666666666666666]
    """
    out = []
    for k in range(1, len(NAMES)):
        total = int((found == k).sum() + (truth == k).sum())
        out.append(2 * int(((found == k) & (truth == k)).sum()) / total if total else 1.0)
    return out


def judged(
    scanner: Scanner, segmenter: Segmenter, spectrum: Spectrum, seed: int, check: Callable[[], None], each: int = 1
) -> list[dict[str, Any]]:
    """A row a strength: mm, and the mean Dice of each class on proxies of scans of each head, in the proxy's own space.

    Scans like T1 alone, brain-extracted.
    """
    torch = scanner.torch
    visits = Visits(scanner, make_pool(scanner, len(scanner.maps) * each, seed + 7, check))
    amplitudes = torch.tensor(spectrum.amplitudes, dtype=torch.float32) / ONE
    shape = tuple(FINER * n for n in SHAPE)
    rows = []
    for strength in STRENGTHS_MM:
        found = []
        for number in range(len(visits.pool)):
            check()
            rng = torch.Generator().manual_seed((seed << 32) + (3 << 24) + number)
            tissues = scanner.tissues(visits.pool.bases[number], scanner.grid(shape) @ scanner.pose(rng, degrees=5).T)
            picture = scanner.image(rng, tissues, scanner.means(rng, column=0))
            scan, classes = scanner.extracted(rng, picture, tissues)
            if strength:
                velocity = visits.velocity([number], rng, spectrum.scales_mm, amplitudes, strength)
                field = scanner.enlarged(visits.fields(velocity), shape)
                scan = warped(torch, scan[None, None], field, SPACING_MM)[0, 0]
                classes = warped(torch, classes[None, None].float(), field, SPACING_MM, "nearest")[0, 0].long()
            shares = segmenter.probabilities((scan * 255).round().to(torch.uint8).numpy(), (SPACING_MM,) * 3)
            found.append(dice(shares.argmax(0), merged(classes.numpy())))
        each_class = np.mean(found, axis=0)
        rows.append({
            "mm": strength, "mean": round(float(each_class.mean()), 4),
            **{name: round(float(d), 4) for name, d in zip(NAMES[1:], each_class, strict=True)},
        })  # fmt: skip
    return rows
