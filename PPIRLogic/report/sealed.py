"""A page of what each level of a sealed image shows: pictures, bytes, and how far each is from the exact image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from PPIRLogic.images.volume import Volume
from PPIRLogic.images.writing import write_volume
from PPIRLogic.primis.sealed_file import Header
from PPIRLogic.primis.unsealed import Unsealed
from PPIRLogic.primis.whole_files import write_whole
from PPIRLogic.report.figures import Picture
from PPIRLogic.report.markup import PAGE, STYLE, escape, image, table
from PPIRLogic.report.slices import scaled, window_of
from PPIRLogic.report.wording import human_bytes

TITLE = "A sealed image, level by level"


@dataclass(frozen=True)
class Shown:
    """A level as it was drawn. bytes: of its code; so_far: with those before it, which it needs.

    psnr: decibels against the exact image, infinite for that itself, NaN where that was not opened.
    """

    level: str
    bytes: int
    so_far: int
    psnr: float
    picture: Path
    note: str


def write_levels(opened: Sequence[Unsealed], header: Header, folder: Path) -> list[Shown]:
    """A picture of each opened level into a folder, all in the same window of grey, and the page `levels.html`.

    opened: in the order of the levels; a picture of a volume is its middle axial slice. OutputError: not writable.
    """
    best = opened[-1].volume
    window = window_of(best.array)
    shown, so_far = [], 0
    for one, code in zip(opened, header.codes, strict=False):
        so_far += code.length
        path = folder / f"{one.level}.png"
        write_volume(_picture(one.volume, window), path)
        psnr = _psnr(one, opened[-1]) if opened[-1].exact else math.nan
        shown.append(Shown(one.level, code.length, so_far, psnr, path, one.note))
    write_whole(folder / "levels.html", _page(shown, header).encode())
    return shown


def _picture(volume: Volume, window: tuple[float, float]) -> sitk.Image:
    plane = scaled(volume, window)[0].plane
    return sitk.GetImageFromArray(np.rint(255 * plane).astype(np.uint8), isVector=False)


def _psnr(one: Unsealed, exact: Unsealed) -> float:
    """Against the exact image's own range."""
    reference = exact.pixels.astype(np.float64)
    error = float(np.square(one.pixels.astype(np.float64) - reference).mean())
    width = float(reference.max() - reference.min()) or 1.0
    return math.inf if error == 0 else 10 * math.log10(width**2 / error)


def decibels(psnr: float) -> str:
    """For a person: '38.2 dB', 'exact', or a dash where it is not known.

    >>> decibels(38.24), decibels(math.inf), decibels(math.nan)
    ('38.2 dB', 'exact', '–')
    """
    return "–" if math.isnan(psnr) else "exact" if math.isinf(psnr) else f"{psnr:.1f} dB"


def _page(shown: Sequence[Shown], header: Header) -> str:
    size = " × ".join(map(str, reversed(header.shape)))
    rows = [(s.level, human_bytes(s.bytes), human_bytes(s.so_far), decibels(s.psnr)) for s in shown]
    figures = [
        image(
            Picture(s.level, f"{s.level}: {human_bytes(s.so_far)}{'. Not for diagnosis' if s.note else '. Exact'}", png)
        )
        for s, png in ((s, s.picture.read_bytes()) for s in shown)
    ]
    body = (
        f"<header><h1>{TITLE}</h1><p>{escape(size)} pixels, {escape(header.dtype)}; the whole file has"
        f" {escape(human_bytes(header.size))}. Each level is a code of its own under a key of its own, and needs those"
        " before it.</p><p>All but the exact level are lossy: not for diagnosis.</p></header>"
        f"<section>{table(('level', 'its code', 'with those before', 'PSNR'), 'lrrr', rows)}</section>"
        f'<section class="two">{"".join(figures)}</section>'
    )
    page = PAGE.replace("Private image registration: report", TITLE)
    return page.replace("@STYLE@", STYLE).replace("@BODY@", body)
