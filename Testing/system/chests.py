"""Pictures that look a little like chest X-rays, with what is on them known."""

from __future__ import annotations

import numpy as np

SIZE = 80


def chests(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures of two dark ellipses, half of them with a bright patch in one: images, masks, labels."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    images, masks, labels = [], [], np.arange(count) % 2 == 1
    for ill in labels:
        dy, dx, width = draw.normal(0, 0.03), draw.normal(0, 0.03), draw.uniform(0.12, 0.17)
        lungs = [((x - c - dx) / width) ** 2 + ((y - 0.5 - dy) / 0.32) ** 2 < 1 for c in (0.3, 0.7)]
        grey = 170.0 - 110 * (lungs[0] | lungs[1]) + draw.normal(0, 2, x.shape)
        if ill:
            grey += 130 * np.exp(-((x - 0.3 - dx) ** 2 + (y - 0.65 - dy) ** 2) / 0.015)
        images.append(np.clip(grey, 0, 255).astype(np.uint8))
        masks.append(lungs[0] | lungs[1])
    return np.array(images), np.array(masks), labels
