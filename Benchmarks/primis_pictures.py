"""What the filter of sealed images does to the seams between blocks, and how often text in a picture is warned of.

Two sections of `Benchmarks.primis`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from Benchmarks.rows import Row, at_least, at_most
from PPIRLogic.arrays import AnyArray
from PPIRLogic.primis.codec import decode_levels, encode
from PPIRLogic.primis.levels import LEVELS
from PPIRLogic.primis.model import LOSSY, shipped
from PPIRLogic.primis.text_in_picture import looks_like_text

BLOCK = 8
TEXTS = ((9, "DOE^JANE 1970"), (12, "DOE^JANE 1970"), (18, "DOE^JANE"))  # size of the letters, what is drawn


def step_across_blocks(picture: AnyArray) -> float:
    """Median step across the borders of blocks against that inside them, of both directions; 1 without seams."""
    ratios = []
    for turned in (picture.astype(float), picture.T.astype(float)):
        steps = np.abs(np.diff(turned, axis=1))
        border = np.arange(steps.shape[1]) % BLOCK == BLOCK - 1
        ratios.append((np.median(steps[:, border]) + 0.05) / (np.median(steps[:, ~border]) + 0.05))
    return float(np.mean(ratios))


def seams(images: Sequence[AnyArray]) -> tuple[list[Row], list[str]]:
    """Each lossy level without and with the filter: PSNR, SSIM, steps across the blocks' borders."""
    from skimage.metrics import structural_similarity

    bare = replace(shipped(), filter=b"")
    found = np.zeros((2, LOSSY, 3))
    for image in images:
        coded = encode(image, LOSSY)
        for number, model in enumerate((bare, shipped())):
            for level, shown in enumerate(decode_levels(coded.codes, coded.shape, coded.dtype, model)):
                error = float(np.mean((shown.astype(float) - image) ** 2))
                similar = structural_similarity(image, shown, data_range=255)
                found[number, level] += 10 * np.log10(255**2 / error), similar, step_across_blocks(shown)
    found /= len(images)
    own = float(np.mean([step_across_blocks(image) for image in images]))
    rows = [
        at_most("seams", "step across the overview's blocks, inside them 1", found[1, 0, 2], 1.05 * own, ""),
        at_least("seams", "PSNR in dB that the filter adds to the overview", found[1, 0, 0] - found[0, 0, 0], 0.0),
    ]
    lines = ["| level | PSNR, dB | SSIM | step across blocks |", "|" + "---|" * 4]
    for level, (without, filtered) in enumerate(zip(*found, strict=True)):
        cells = [f"{a:.{n}f} → {b:.{n}f}" for a, b, n in zip(without, filtered, (2, 4, 2), strict=True)]
        lines.append(f"| {LEVELS[level]} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Without the filter → with it, mean of {len(images)} judged images. Step: median between neighbours across the"
        f" borders of blocks of 8 × 8, over the median inside them; of the images themselves {own:.2f}.",
    ]
    return rows, lines


def text(images: Sequence[AnyArray]) -> tuple[list[Row], list[str]]:
    """How often `looks_like_text` warns of X-rays as they are, and of the same with a name drawn into a corner."""
    from PIL import Image, ImageDraw, ImageFont

    alarms = sum(map(looks_like_text, images))
    rows = [at_most("text", f"X-rays as they are that are warned of, of {len(images)}", alarms, 0.02 * len(images), "")]
    draw = np.random.default_rng(0)
    some = images[:: max(1, len(images) // 60)][:60]
    for size, words in TEXTS:
        found = 0
        for image in some:
            picture, font = Image.fromarray(image), ImageFont.load_default(size)
            pen = ImageDraw.Draw(picture)
            right, below = (int(n) for n in pen.textbbox((0, 0), words, font=font)[2:])
            x, y = draw.choice([3, image.shape[1] - right - 3]), draw.choice([3, image.shape[0] - below - 3])
            under = image[max(y, 0) : y + below, max(x, 0) : x + right].mean()
            pen.text((x, y), words, fill=255 if under < 140 else 0, font=font)
            found += looks_like_text(np.asarray(picture))
        rows.append(
            at_least("text", f"a name drawn in, {size} pixels high: part that is found", found / len(some), 0.9)
        )
    lines = [
        "Most of these X-rays bear a mark of the side, and some a small word such as PORTABLE, three or four pixels"
        " high: neither is warned of.",
    ]
    return rows, lines
