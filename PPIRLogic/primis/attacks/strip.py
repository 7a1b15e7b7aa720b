"""One image as its owner, a recipient, the public and an attacker see it, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from PPIRLogic.files import write_atomically

_ROOM = 2**20  # bytes


def write_strip(pictures: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Write pictures (y, x), each under its name, in one row as a PNG. OutputError if it cannot be written."""
    figure = Figure(figsize=(1.9 * len(pictures), 2.3), dpi=120, layout="constrained", facecolor="white")
    for axis, (name, image) in zip(figure.subplots(1, len(pictures), squeeze=False)[0], pictures.items(), strict=True):
        axis.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axis.set_title(name, fontsize=7)
        axis.axis("off")
    canvas = FigureCanvasAgg(figure)
    write_atomically(path, ".png", lambda name: canvas.print_png(name), _ROOM)
