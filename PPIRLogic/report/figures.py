"""Figures as PNG: slices side by side, and the loss at every step. Only here is matplotlib needed."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PPIRLogic.errors import MissingDependencyError
from PPIRLogic.report.build import Report
from PPIRLogic.report.slices import Slice

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A finished figure: file stem, caption, PNG."""

    name: str
    caption: str
    png: bytes


def _figure(width: float, height: float) -> Figure:
    """A figure of its own, in inches: nothing of pyplot's global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError("Pictures need the package matplotlib: pip install matplotlib.") from None
    return Figure(figsize=(width, height), dpi=120, facecolor="white")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def draw(slices: Sequence[Slice], limit: float | None = None) -> bytes:
    """The slices side by side at one scale; grey from 0 to 1, or with `limit` as differences from −limit to limit."""
    widths, heights = zip(*(s.size_mm for s in slices), strict=True)
    widest, tallest = (9.0, 4.6) if len(slices) > 1 else (5.0, 5.0)  # inches for all panels
    inner = min(widest, tallest * sum(widths) / max(heights))
    tall = inner * max(heights) / sum(widths)
    pad = 0.45 if len(slices) > 1 else 0.1
    foot = 0.1 if limit is None else 0.65
    total = (inner + 0.4, tall + pad + foot)
    figure = _figure(*total)
    left = 0.1 / total[0]
    for s in slices:
        share = inner * s.size_mm[0] / sum(widths) / total[0]
        axes = figure.add_axes((left, foot / total[1], share, tall / total[1]))
        image = _show(axes, s, limit)
        left += share + 0.1 / total[0]
    if limit is not None:
        bar = figure.add_axes((0.3, 0.42 / total[1], 0.4, 0.1 / total[1]))
        figure.colorbar(image, cax=bar, orientation="horizontal")
        bar.tick_params(labelsize=8)
        words = "moving brighter  –  difference of normalised intensity  –  fixed brighter"
        bar.set_xlabel(words, fontsize=8, labelpad=2)
    return _png(figure)


def draw_rows(rows: Sequence[tuple[str, Sequence[Slice]]]) -> bytes:
    """Rows of slices, each under its title, at one scale and grey from 0 to 1. All rows have the same sizes."""
    widths, heights = zip(*(s.size_mm for s in rows[0][1]), strict=True)
    inner = 9.6  # inches
    tall = inner * max(heights) / sum(widths)
    total = (inner + 0.4, len(rows) * (tall + 0.75))
    figure = _figure(*total)
    for number, (title, slices) in enumerate(rows):
        top = total[1] - number * (tall + 0.75)
        figure.text(0.1 / total[0], (top - 0.28) / total[1], title, fontsize=11, color="#1d2733", weight="bold")
        left = 0.1 / total[0]
        for s in slices:
            share = inner * s.size_mm[0] / sum(widths) / total[0]
            _show(figure.add_axes((left, (top - 0.7 - tall) / total[1], share, tall / total[1])), s, None)
            left += share + 0.07 / total[0]
    return _png(figure)


def _show(axes: Any, s: Slice, limit: float | None) -> Any:
    from matplotlib import colormaps

    colours = colormaps["gray" if limit is None else "RdBu_r"].with_extremes(bad="#cfd8e0")
    low, high = (0.0, 1.0) if limit is None else (-limit, limit)
    width, height = s.size_mm
    image = axes.imshow(
        s.plane, cmap=colours, vmin=low, vmax=high, extent=(0, width, height, 0), interpolation="antialiased"
    )
    axes.set_axis_off()
    axes.set_anchor("N")
    axes.set_title(s.title, fontsize=10, color="#333333", pad=5)
    ends = (0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center")
    places = (*ends, (0.5, 0.98, "center", "top"), (0.5, 0.02, "center", "bottom"))
    for mark, (x, y, ha, va) in zip(s.marks, places, strict=True):
        box = {"facecolor": "black", "alpha": 0.45, "pad": 1.5, "edgecolor": "none"} if mark else None
        axes.text(x, y, mark, ha=ha, va=va, transform=axes.transAxes, fontsize=8, color="#ffd54a", bbox=box)
    return image


def convergence(report: Report) -> Picture | None:
    """The loss at every accepted step, one panel per level; None without any value."""
    levels = [level for level in report["levels"] if level["values"]]
    if not levels:
        return None
    figure = _figure(9.4, 2.7)
    panels = figure.subplots(1, len(levels), squeeze=False)[0]
    for axes, level in zip(panels, levels, strict=True):
        values = [math.nan if v is None else v for v in level["values"]]
        axes.plot(range(len(values)), values, "o-", color="#1f6f8b", markersize=4, linewidth=1.6)
        axes.set_title(f"shrink factor {level['factor']}", fontsize=10, color="#333333")
        axes.set_xlabel("accepted step", fontsize=9)
        axes.xaxis.get_major_locator().set_params(integer=True, nbins=6)
        axes.yaxis.get_major_locator().set_params(nbins=5)
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.grid(color="#e3e6ea", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8, colors="#444444")
    panels[0].set_ylabel(f"loss ({report['request']['loss']})", fontsize=9)
    room = 0.6 * len(levels) / 9  # of a panel: 0.6 inches for the numbers of each axis
    figure.subplots_adjust(left=0.085, right=0.99, bottom=0.2, top=0.88, wspace=room / (1 - room))
    return Picture("convergence", "The loss at every accepted step; lower is better", _png(figure))
