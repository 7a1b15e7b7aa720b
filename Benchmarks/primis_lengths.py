"""How long the codes of many images are: from this come the anchors of `PPIRLogic/primis/filling.py`.

    python -m Benchmarks.primis_lengths --data FOLDER [--most N]

FOLDER has pictures and `labels.csv`, as of `ppir primis train`. The patients to judge with are left out. Prints the
bytes of each code by size and level: the median, and what 995 of 1000 stay below; then by what power of the number of
pixels the latter grows.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.primis.codec import encode
from PPIRLogic.primis.levels import LEVELS
from PPIRLogic.primis.study import averaged, read_study

SIZES = (160, 80, 40)
BELOW = 99.5  # per cent
ROOM = 1.05  # above that


def lengths(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(images, levels): bytes of each code, with the byte that ends it and the byte of the extras of a plain image."""
    return np.array([[len(code) + 1 + (level == 0) for level, code in enumerate(encode(i).codes)] for i in images])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--most", type=int, default=0, help="so many images at most")
    a = parser.parse_args()
    images = read_study(a.data, most=a.most).split()[0].images
    print(f"{'pixels':>10s} {'level':15s} {'median':>8s} {'99.5 %':>8s} {'bytes a pixel':>14s}")
    highest: dict[tuple[int, str], float] = {}
    for size in SIZES:
        made = [averaged(i.astype(np.float64), size).round().astype(np.uint8) for i in images]
        found = lengths(np.stack(made))
        for level, column in zip(LEVELS, found.T, strict=True):
            high = np.percentile(column, BELOW)
            highest[size, level] = high
            print(f"{size}x{size:<7d} {level:15s} {np.median(column):8.0f} {high:8.0f} {high / size**2:14.4f}")
    print("anchors", tuple(math.ceil(ROOM * highest[SIZES[0], level]) for level in LEVELS))
    for level in LEVELS:
        ratio = highest[SIZES[0], level] / highest[SIZES[-1], level]
        print(f"{level:15s} power {np.log(ratio) / np.log((SIZES[0] / SIZES[-1]) ** 2):.3f}")


if __name__ == "__main__":
    main()
