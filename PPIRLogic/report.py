"""What a run did, for people and for programs: a JSON report, an HTML page, pictures. Written at party 1.

    report = build_report(result, transform_file="t.tfm", warped_file="warped.nrrd", moving=moving)
    write_report(report, "report.json")
    write_html(report, "report.html", pictures=pictures_of(result, moving))

The report is described field by field in `report_schema.json` (`schema()`). It holds no image content and no file
path but those given; the pictures do show the moving image, which is party 1's own. Party 1 never has the fixed
image: `Pictures.fixed` is only for trials where one machine holds both. Everything the peer chose (its name, its
image's name, its error texts) is escaped on the page, which runs no script and loads nothing.
"""

from __future__ import annotations

import base64
import html
import importlib.metadata
import importlib.resources
import io
import itertools
import json
import math
import os
import platform
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from PPIRLogic.errors import InputError, MissingDependencyError, OutputError
from PPIRLogic.images import Geometry, Volume, write_atomically
from PPIRLogic.peer.ledger import VOXEL_BITS
from PPIRLogic.registration import LevelRecord, RegistrationResult
from PPIRLogic.transforms import LinearTransform
from PPIRLogic.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA_VERSION = 1
CONVENTION = (
    "Maps points of the fixed image to points of the moving image, as resampling the moving image on the fixed grid"
    " needs it: y = A(x - c) + c + t, with A the matrix (row by row), t the translation and c the centre, in mm in the"
    " LPS coordinates of DICOM and ITK."
)
GEOMETRY = "geometry"  # the ledger's kind for the fixed grid
LIBRARIES = ("numpy", "SimpleITK", "numba", "tenseal", "torch", "crypten")

Report = dict[str, Any]
Plane = NDArray[np.float32]


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the report."""
    text = importlib.resources.files("PPIRLogic").joinpath("report_schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


# ------------------------------------------------------------------------------------------------- the report


def build_report(
    result: RegistrationResult,
    *,
    transform_file: str | None,
    warped_file: str | None,
    moving: Volume | None = None,
) -> Report:
    """Everything worth keeping about a run, ready for JSON: what is not finite becomes null.

    transform_file, warped_file: where the results were written, None if they were not. moving: the raw moving image,
    of which only the size and spacing are taken.
    """
    grid = moving.geometry if moving is not None else None
    agree = None if result.peer_numbers is None else result.peer_numbers == result.numbers
    report = {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "software": _software(),
        "complete": result.complete,
        "stop_reason": result.stop_reason,
        "error": None if result.error is None else str(result.error),
        "peer": {key: result.peer.get(key, "") for key in ("name", "fingerprint", "address", "software")},
        "request": result.request.to_dict(),
        "parameters": result.parameters,
        "moving": {
            "size": grid.size if grid else None,
            "spacing_mm": grid.spacing if grid else None,
            "normalisation": result.normalisation,
        },
        "fixed": _geometry(result.fixed_geometry),
        "levels": [_level(record) for record in result.levels],
        "totals": {
            "seconds": result.seconds,
            "bytes_sent": result.bytes_sent,
            "bytes_received": result.bytes_received,
            "dealer_bytes_sent": result.dealer_bytes_sent,
            "dealer_bytes_received": result.dealer_bytes_received,
            "numbers": result.numbers,
        },
        "disclosed": _disclosed(result.ledger, {r.factor: r.samples for r in result.levels}),
        "peer_numbers": result.peer_numbers,
        "counts_agree": agree,
        "transform": _transform(result.linear, transform_file),
        "warped": {"file": warped_file},
    }
    plain: Report = _plain(report)
    return plain


def _software() -> dict[str, Any]:
    """Versions; None for a library that is not installed. Nothing is imported to find out."""
    versions: dict[str, Any] = {"ppir": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _geometry(grid: Geometry) -> dict[str, Any]:
    return {"size": grid.size, "spacing_mm": grid.spacing, "origin_mm": grid.origin, "direction": grid.direction}


def _level(record: LevelRecord) -> dict[str, Any]:
    names = ("factor", "shape", "samples", "evaluations", "iterations", "reason", "seconds", "values", "steps_mm")
    return {**{n: getattr(record, n) for n in names}, "spacing_mm": record.spacing, "overlap": record.overlap}


def _transform(linear: LinearTransform, file: str | None) -> dict[str, Any]:
    return {
        "file": file,
        "kind": linear.kind,
        "matrix": linear.matrix.tolist(),
        "translation_mm": linear.translation.tolist(),
        "centre_mm": linear.centre.tolist(),
        "convention": CONVENTION,
    }


def _disclosed(ledger: Iterable[Mapping[str, Any]], samples: Mapping[int, int]) -> dict[str, Any]:
    """The ledger's rows with their totals. `samples`: fixed voxels that took part, by shrink factor.

    What party 2 learns concerns no fixed voxel: no percentage there. The grid's geometry says nothing of what an image
    holds: it is listed, not summed.
    """
    rows = [dict(row) for row in ledger]
    summed = [row for row in rows if row["kind"] != GEOMETRY]
    parties, levels = _totals(summed, ("to",)), _totals(summed, ("to", "level"))
    for row in levels:
        count = None if row["to"] == "party 2" else samples.get(row["level"])
        row["samples"] = count
        row["percent"] = _percent(row["numbers"], count)
        row["bits_percent"] = _percent(row["bits"], count and count * VOXEL_BITS)
    for row in rows:
        row["percent"] = _percent(row["numbers"], None if row["to"] == "party 2" else samples.get(row["level"]))
    return {"rows": rows, "per_party": parties, "per_level": levels}


def _totals(rows: Iterable[Mapping[str, Any]], keys: tuple[str, ...]) -> list[dict[str, Any]]:
    numbers: Counter[tuple[Any, ...]] = Counter()
    bits: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        name = tuple(row[k] for k in keys)
        numbers[name] += row["numbers"]
        bits[name] += row["bits"]
    return [{**dict(zip(keys, name, strict=True)), "numbers": n, "bits": bits[name]} for name, n in numbers.items()]


def _percent(part: float, whole: float | None) -> float | None:
    return 100.0 * part / whole if whole else None


def _plain(value: Any) -> Any:
    """Only what JSON knows: NumPy numbers and tuples become plain ones, numbers that are not finite None."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_report(report: Report, path: str | os.PathLike[str]) -> None:
    """Write the report as JSON. OutputError if that fails; then `path` is as it was before."""
    _write(path, (json.dumps(report, indent=2, allow_nan=False) + "\n").encode("ascii"))


def _write(path: str | os.PathLike[str], data: bytes) -> None:
    """`data` as a whole file, or OutputError and nothing."""

    def write(name: str) -> None:
        with open(name, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    try:
        write_atomically(path, Path(path).suffix, write, len(data))
    except OSError as error:  # the folder itself cannot be looked at
        raise OutputError(
            f"Cannot write '{os.fspath(path)}': {error.strerror or error}. Choose a folder that this user may write to."
        ) from None


# ----------------------------------------------------------------------------------------------- the pictures


@dataclass(frozen=True, eq=False)
class Pictures:
    """The images to show. NaN voxels count as 'outside' and are drawn in a neutral colour.

    moving: raw, on its own grid; its intensities set the grey scale. before, warped: the moving image on the fixed
    grid under the initial and the final transform. fixed: ONLY where this machine holds both images (a trial).
    InputError if the grids of before, warped and fixed differ.
    """

    moving: Volume
    warped: Volume
    before: Volume
    fixed: Volume | None = None

    def __post_init__(self) -> None:
        for other in (self.before, self.fixed):
            if other is not None and not other.geometry.matches(self.warped.geometry):
                raise InputError(
                    "The images to show are not on one grid: the moving image before and after, and the fixed image if"
                    " given, must all be on the fixed grid."
                )


def pictures_of(result: RegistrationResult, moving: Volume, fixed: Volume | None = None) -> Pictures:
    """The pictures of a run: `moving` on the fixed grid before and after, NaN outside of it.

    `fixed` as in `Pictures`.
    """
    reference, image = result.fixed_geometry.to_sitk_reference(), moving.to_sitk()

    def resample(transform: sitk.Transform) -> Volume:
        out = sitk.Resample(image, reference, transform, sitk.sitkLinear, math.nan, sitk.sitkFloat32)
        return Volume.from_sitk(out, moving.name)

    return Pictures(moving, resample(result.transform), resample(result.first.to_sitk()), fixed)


@dataclass(frozen=True, eq=False)
class _Slice:
    """A plane to show: rows downwards; size_mm: width, height; marks: directions left, right, top, bottom."""

    title: str
    plane: Plane
    size_mm: tuple[float, float]
    marks: tuple[str, str, str, str] = ("", "", "", "")


@dataclass(frozen=True)
class _Picture:
    """A finished figure: file stem, caption, PNG."""

    name: str
    caption: str
    png: bytes


def _slices(volume: Volume) -> list[_Slice]:
    """A 2D image as stored; of a 3D one the middle axial, coronal and sagittal planes as radiologists see them."""
    if volume.geometry.dimension == 2:
        width, height = volume.geometry.extent_mm()
        return [_Slice("", volume.array, (width, height))]
    view, (sz, sy, sx), straight = _anatomical(volume)
    nz, ny, nx = view.shape
    z, y, x = nz * sz, ny * sy, nx * sx
    name = "" if straight else " (nearest; the grid is oblique)"
    return [
        _Slice("axial" + name, view[nz // 2], (x, y), ("R", "L", "A", "P")),
        _Slice("coronal" + name, view[::-1, ny // 2], (x, z), ("R", "L", "S", "I")),
        _Slice("sagittal" + name, view[::-1, :, nx // 2], (y, z), ("A", "P", "S", "I")),
    ]


def _anatomical(volume: Volume) -> tuple[Plane, tuple[float, float, float], bool]:
    """A view whose axes run to superior, posterior, left; mm per voxel of each; False if more than 18° off."""
    direction = np.reshape(volume.geometry.direction, (3, 3))  # column: grid axis, row: L, P, S

    def along(axes: tuple[int, ...]) -> list[float]:
        return [float(direction[way, axis]) for way, axis in enumerate(axes)]

    axes = max(itertools.permutations(range(3)), key=lambda p: sum(map(abs, along(p))))
    signs = along(axes)
    view = volume.array.transpose([2 - axis for axis in reversed(axes)])
    view = view[tuple(slice(None, None, -1 if s < 0 else 1) for s in reversed(signs))]
    left, posterior, superior = (volume.geometry.spacing[axis] for axis in axes)
    return view, (superior, posterior, left), min(map(abs, signs)) > 0.95


def _window(array: NDArray[np.float32]) -> tuple[float, float]:
    """The 1st and 99th percentile of the finite values (of at most about a million of them)."""
    values = array.ravel()[:: -(-array.size // 1_000_000)]
    values = values[np.isfinite(values)]
    low, high = (float(v) for v in np.percentile(values, (1, 99))) if values.size else (0.0, 1.0)
    return (low, high) if low < high else (low, low + 1.0)


def _scaled(volume: Volume, window: tuple[float, float]) -> list[_Slice]:
    """The slices with the window's ends at 0 and 1, clipped."""
    low, high = window
    return [_Slice(s.title, np.clip((s.plane - low) / (high - low), 0, 1), s.size_mm, s.marks) for s in _slices(volume)]


def _combine(first: list[_Slice], second: list[_Slice], how: Any) -> list[_Slice]:
    return [_Slice(a.title, how(a, b), a.size_mm, a.marks) for a, b in zip(first, second, strict=True)]


def _checkerboard(fixed: _Slice, moving: _Slice) -> Plane:
    """Squares of both, the fixed image first; nine along the longer side, square in mm."""
    rows, columns = fixed.plane.shape
    edge = max(fixed.size_mm) / 9
    down = (np.arange(rows) + 0.5) * fixed.size_mm[1] / rows // edge
    across = (np.arange(columns) + 0.5) * fixed.size_mm[0] / columns // edge
    mine = (down[:, None] + across) % 2 > 0
    return np.where(mine, moving.plane, fixed.plane)


def _pictures(pictures: Pictures) -> list[_Picture]:
    """The figures that this site may see."""
    window = _window(pictures.moving.array)
    before, after = _scaled(pictures.before, window), _scaled(pictures.warped, window)
    if pictures.fixed is None:
        text = "The moving image on the fixed grid, {} registration"
        return [
            _Picture("moving_before", text.format("before"), _draw(before)),
            _Picture("moving_after", text.format("after"), _draw(after)),
        ]
    fixed = _scaled(pictures.fixed, _window(pictures.fixed.array))
    boards = [_combine(fixed, moving, _checkerboard) for moving in (before, after)]
    gaps = [_combine(fixed, moving, lambda f, m: f.plane - m.plane) for moving in (before, after)]
    sizes = np.concatenate([np.abs(s.plane[np.isfinite(s.plane)]).ravel() for s in gaps[0]])
    limit = max(0.05, float(np.percentile(sizes, 99))) if sizes.size else 1.0
    return [
        _Picture("checkerboard_before", "Checkerboard before registration", _draw(boards[0])),
        _Picture("checkerboard_after", "Checkerboard after registration", _draw(boards[1])),
        _Picture("difference_before", "Fixed minus moving, before registration", _draw(gaps[0], limit)),
        _Picture("difference_after", "Fixed minus moving, after registration", _draw(gaps[1], limit)),
    ]


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


def _draw(slices: Sequence[_Slice], limit: float | None = None) -> bytes:
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


def _show(axes: Any, s: _Slice, limit: float | None) -> Any:
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


def _convergence(report: Report) -> _Picture | None:
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
    return _Picture("convergence", "The loss at every accepted step; lower is better", _png(figure))


def save_pictures(
    pictures: Pictures | None, folder: str | os.PathLike[str], *, report: Report | None = None
) -> list[Path]:
    """The page's figures as PNG files in `folder`, which must exist; returns their paths. OutputError if that fails.

    With the fixed image: checkerboard_before, checkerboard_after, difference_before, difference_after; without:
    moving_before, moving_after. With a report also convergence.
    """
    drawn = _pictures(pictures) if pictures is not None else []
    curve = _convergence(report) if report is not None else None
    paths = []
    for picture in [*drawn, *([curve] if curve else [])]:
        paths.append(Path(folder) / f"{picture.name}.png")
        _write(paths[-1], picture.png)
    return paths


# ------------------------------------------------------------------------------------------------- the words

KINDS = {
    GEOMETRY: (
        "fixed grid",
        "size, spacing, origin and direction of the fixed image: no content, and not part of the totals",
    ),
    "gradient": (
        "slope of the loss",
        "for each parameter of the transform, the sum over the voxels of the fixed intensity times how much the moving"
        " image would change there: which way to move, and by how much",
    ),
    "value": ("product of both images", "the sum of fixed times moving intensity: how similar the two images are"),
    "overlap": (
        "brightness and contrast",
        "the sum of the fixed intensities or of their squares over the region that the moving image covers: the mean"
        " and the contrast of the fixed image there",
    ),
    "mask": (
        "sums inside the fixed mask",
        "sums of this site's own values over the inside of the fixed image's private mask: they tell how large the"
        " mask is and roughly where it lies; they hold no intensity of the fixed image",
    ),
    "mask grid": (
        "outline of the fixed mask",
        "the mask of the fixed image itself, one bit per voxel of the level: its outline is no longer private",
    ),
    "sampling": (
        "choice of voxels",
        "which blocks of voxels this site chose, one bit per voxel: it shows the other side where the moving image has"
        " strong edges",
    ),
    "image": (
        "the fixed image itself",
        "every voxel of the level that took part, with its square where the loss needs it: nothing of the fixed image"
        " is private at this level",
    ),
}
REASONS = {
    "step": "steps became shorter than the tolerance",
    "loss": "the loss stopped falling",
    "evaluations": "the permitted evaluations were used up",
    "damping": "no further step lowered the loss",
    "": "not finished",
}
STOPS = {
    "finished": "all levels were run",
    "BudgetError": "the disclosure budget was used up",
    "PolicyError": "the owner of the fixed image does not permit it",
    "PeerError": "the other side was lost",
    "DealerError": "the dealer was lost",
    "Cancelled": "it was cancelled",
    "OverlapError": "the images no longer overlapped enough",
    "FixedPointError": "a value would have left the exact range",
    "TrustError": "the trust between the two sides was withdrawn",
}
PROTOCOLS = {
    "fhe": "The fixed image reached this site encrypted only, and this site's values reached the other side hidden as"
    " well (protocol fhe, homomorphic encryption, no third party).",
    "mpc": "The two sites worked on random shares of their images (protocol mpc, with a dealer). This holds as long as"
    " the dealer works together with neither side; it learned the sizes and the number of evaluations.",
    "clear": "The unprotected protocol clear was used: the other side sent the fixed image itself. Nothing of it was"
    " private from this site at the levels below.",
}
LOSSES = {
    "ncc": "1 − NCC², with NCC the correlation of the two images where they overlap: 0 for images that differ in"
    " brightness and contrast only, 1 for unrelated ones",
    "ssd": "the mean squared difference of the normalised intensities where the images overlap: 0 for equal images",
}


def human_bytes(count: float) -> str:
    """Bytes as a person reads them, in powers of 1000: '0 B', '12.3 kB', '4.56 GB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} B" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB" if count < 1000 else f"{count:,.0f} TB"


def human_seconds(seconds: float | None) -> str:
    """A duration: '0.25 s', '12.3 s', '3 min 5 s', '1 h 2 min'; a dash where it is not known."""
    if seconds is None:
        return "–"
    if seconds < 99.95:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _number(value: float | None, form: str = ".4g") -> str:
    return "–" if value is None else format(value, form).replace("-", "−")


def _share(value: float | None) -> str:
    """Per cent to two significant digits, without an exponent."""
    if value is None:
        return "–"
    if 0 < value < 0.0001:
        return "< 0.0001 %"
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %"


def _times(values: Sequence[float] | None) -> str:
    return " × ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values) if values else "–"


# -------------------------------------------------------------------------------------------------- the page


def write_html(report: Report, path: str | os.PathLike[str], *, pictures: Pictures | None = None) -> None:
    """Write one HTML page that needs nothing else: for screen and paper, without scripts or outside references.

    OutputError if that fails; MissingDependencyError without matplotlib. Then `path` is as it was before.
    """
    sections = (
        _head_section(report),
        _summary_section(report),
        _picture_section(report, pictures),
        _convergence_section(report),
        _disclosure_section(report),
        _meaning_section(report),
        _transform_section(report),
        _details_section(report),
    )
    page = _PAGE.replace("@STYLE@", _STYLE).replace("@BODY@", "\n".join(sections))
    _write(path, page.encode("utf-8", "replace"))


def _e(text: Any) -> str:
    return html.escape(str(text), quote=True)


def _table(head: Sequence[str], align: str, rows: Iterable[Sequence[Any]], foot: Iterable[Sequence[Any]] = ()) -> str:
    """A table whose cells are all escaped. align: a letter per column: l, r, n (left, unbroken)."""

    def line(cells: Sequence[Any], tag: str) -> str:
        inner = (f'<{tag} class="{a}">{_e(c)}</{tag}>' for c, a in zip(cells, align, strict=True))
        return f"<tr>{''.join(inner)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    top = f"<thead>{line(head, 'th')}</thead>" if head else ""
    bottom = "".join(line(row, "td") for row in foot)
    bottom = f"<tfoot>{bottom}</tfoot>" if bottom else ""
    return f'<div class="wide"><table>{top}<tbody>{body}</tbody>{bottom}</table></div>'


def _pairs(rows: Iterable[tuple[str, Any]]) -> str:
    """A two-column table: names and values, all escaped."""
    body = "".join(f'<tr><th class="l" scope="row">{_e(k)}</th><td>{_e(v)}</td></tr>' for k, v in rows)
    return f'<table class="pairs"><tbody>{body}</tbody></table>'


def _image(picture: _Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    text = _e(picture.caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def _peer_name(report: Report) -> str:
    return report["peer"]["name"] or report["peer"]["address"] or "the other side"


def _head_section(report: Report) -> str:
    stop = STOPS.get(report["stop_reason"], report["stop_reason"])
    kind, peer, image = report["transform"]["kind"], _peer_name(report), report["request"]["image"]
    if report["complete"]:
        title, box = "Registration finished", "ok"
        text = f"This site's moving image was aligned to the fixed image “{image}” of {peer} ({kind} transform)."
    else:
        title, box = "Registration ended early", "warn"
        text = (
            f"Aligning this site's moving image to the fixed image “{image}” of {peer} stopped before the end: {stop}."
            " The transform below is the best one found until then."
        )
    said = f'<p class="said">{_e(report["error"])}</p>' if report["error"] else ""
    limited = [lv["factor"] for lv in report["levels"] if lv["reason"] == "evaluations"]
    more = ""
    if limited:
        names = ", ".join(map(str, limited))
        more = f" At shrink factor {names} the permitted evaluations were used up before the search settled."
    hint = f"{more} Whether the alignment is good enough for its purpose has to be judged on the images."
    when = report["created"].replace("T", " ").replace("+00:00", " UTC")
    return (
        f'<header class="{box}"><p class="when">Private image registration · {_e(when)}</p><h1>{title}</h1>'
        f"<p>{_e(text)}</p>{said}<p>{_e(hint.strip())}</p></header>"
    )


def _change(level: Mapping[str, Any]) -> str:
    first, last = level["values"][0], level["values"][-1]
    return f"{_number(first)} → {_number(last)} at shrink factor {level['factor']}"


def _traffic(totals: Mapping[str, Any]) -> str:
    text = f"{human_bytes(totals['bytes_sent'])} sent, {human_bytes(totals['bytes_received'])} received"
    if totals["dealer_bytes_sent"] or totals["dealer_bytes_received"]:
        text += (
            f"; dealer: {human_bytes(totals['dealer_bytes_sent'])} sent,"
            f" {human_bytes(totals['dealer_bytes_received'])} received"
        )
    return text


def _summary_section(report: Report) -> str:
    request, totals = report["request"], report["totals"]
    reached = [level for level in report["levels"] if level["values"]]
    rows = [
        ("Method", f"{request['transform']} transform, loss {request['loss']}, protocol {request['protocol']}"),
        ("Fixed image", f"{_times(report['fixed']['size'])} voxels of {_times(report['fixed']['spacing_mm'])} mm"),
    ]
    if report["moving"]["size"]:
        grid = report["moving"]
        rows.append(("Moving image", f"{_times(grid['size'])} voxels of {_times(grid['spacing_mm'])} mm"))
    if reached:
        rows.append(("Loss (lower is better)", "; ".join(map(_change, reached))))
        share = reached[-1]["overlap"]
        covered = "–" if share is None else f"{100 * share:.0f} % of the fixed samples lie in the moving image"
        rows.append(("Overlap", covered))
    rows += [
        ("Time", human_seconds(totals["seconds"])),
        ("Network", _traffic(totals)),
        ("Disclosed to this site", _disclosed_line(report)),
        ("Results", ", ".join(f for f in (report["transform"]["file"], report["warped"]["file"]) if f) or "not saved"),
    ]
    return f"<section><h2>Summary</h2>{_pairs(rows)}</section>"


def _disclosed_line(report: Report) -> str:
    if report["request"]["protocol"] == "clear":
        return "the fixed image itself (unprotected protocol)"
    rows = [row for row in report["disclosed"]["rows"] if row["to"] != "party 2" and row["kind"] != GEOMETRY]
    sums = [row for row in rows if row["kind"] != "mask grid"]
    shares: dict[int, float] = defaultdict(float)
    for row in sums:
        shares[row["level"]] += row["percent"] or 0
    most = f"; at most {_share(max(shares.values()))} of the samples of a level" if any(shares.values()) else ""
    outline = " and the outline of its mask" if len(sums) < len(rows) else ""
    return f"{sum(row['numbers'] for row in sums):,} numbers about the fixed image{outline}{most}"


def _picture_section(report: Report, pictures: Pictures | None) -> str:
    if pictures is None:
        return ""
    flat = pictures.warped.geometry.dimension == 2
    outside = any(np.isnan(v.array).any() for v in (pictures.before, pictures.warped))
    grey = " Grey-blue: outside of the moving image." if outside else ""
    planes = "" if flat else " Middle planes of the fixed grid; R/L right/left, A/P front/back, S/I head/feet."
    if pictures.fixed is None:
        text = (
            "Both pictures show this site's own moving image, resampled on the grid of the fixed image. The fixed image"
            " is not shown because this site does not have it: only its owner can compare the two directly."
        )
    else:
        text = (
            "Trial with both images on this machine: in a run between two sites the fixed image would not be here."
            " Checkerboard: squares of the fixed and of the moving image in turn, so that edges should continue from"
            " square to square. Difference: fixed minus moving, each normalised to its own 1st and 99th percentile;"
            " white is equal, and both pictures have the same colour scale. Where the two images differ in contrast, a"
            " difference remains even if the alignment is perfect."
        )
    figures = "".join(_image(p) for p in _pictures(pictures))
    style = "two" if flat else "one"
    return (
        f"<section><h2>Before and after</h2><p>{_e(text + grey + planes)}</p>"
        f'<div class="{style}">{figures}</div></section>'
    )


def _convergence_section(report: Report) -> str:
    curve = _convergence(report)
    head = ["Shrink factor", "Voxels", "Spacing (mm)", "Samples", "Evalu\u00adations", "Steps"]
    head += ["Loss, start", "Loss, end", "Over\u00adlap", "Time", "Ended because"]
    rows = [
        (
            level["factor"],
            _times(level["shape"]),
            _times(level["spacing_mm"]),
            f"{level['samples']:,}",
            level["evaluations"],
            level["iterations"],
            _number(level["values"][0] if level["values"] else None),
            _number(level["values"][-1] if level["values"] else None),
            "–" if level["overlap"] is None else f"{100 * level['overlap']:.0f} %",
            human_seconds(level["seconds"]),
            REASONS.get(level["reason"], level["reason"]),
        )
        for level in report["levels"]
    ]
    loss = LOSSES.get(report["request"]["loss"], "")
    text = (
        f"Coarse versions of the images are aligned first (large shrink factor), then finer ones. Loss: "
        f"{loss or report['request']['loss']}. Losses of different levels are not comparable;"
        " each curve has its own scale. Samples: fixed voxels"
        " that took part. Evaluations: exchanges with the other side. Steps: those that were accepted."
    )
    shown = _image(curve) if curve else ""
    return f"<section><h2>How it converged</h2><p>{_e(text)}</p>{shown}{_table(head, 'rnnrrrrrrrl', rows)}</section>"


def _disclosure_section(report: Report) -> str:
    protocol, found = report["request"]["protocol"], report["disclosed"]
    box = ' class="alarm"' if protocol == "clear" else ""
    paragraphs = [f"<p{box}>{_e(PROTOCOLS.get(protocol, ''))} {_e(_who_learned(report))}</p>"]
    if report["counts_agree"] is False:
        text = (
            f"The two sides counted differently: {report['totals']['numbers']:,} numbers here,"
            f" {report['peer_numbers']:,} at the other side. Find out why before trusting either count."
        )
        paragraphs.append(f'<p class="alarm">{_e(text)}</p>')
    elif report["counts_agree"]:
        paragraphs.append(f"<p>{_e('The other side counted the same total independently.')}</p>")
    else:
        text = "The other side's own count is not known, because the run did not end in order."
        paragraphs.append(f"<p>{_e(text)}</p>")
    head = ("Shrink factor", "What", "To", "Numbers", "% of level", "Bits, at most")
    rows, foot = [], []
    for r in found["rows"]:
        what, to = KINDS.get(r["kind"], (r["kind"],))[0], _party(r["to"])
        rows.append((r["level"] or "–", what, to, f"{r['numbers']:,}", _share(r["percent"]), f"{r['bits']:,}"))
    for r in found["per_level"]:
        bits = f"{r['bits']:,}" + ("" if r["bits_percent"] is None else f" ({_share(r['bits_percent'])})")
        foot.append((r["level"] or "–", "all", _party(r["to"]), f"{r['numbers']:,}", _share(r["percent"]), bits))
    foot += [("all", "all", _party(r["to"]), f"{r['numbers']:,}", "", f"{r['bits']:,}") for r in found["per_party"]]
    table = _table(head, "rllrrr", rows, foot) if rows else "<p>No number was disclosed.</p>"
    return f"<section><h2>What was disclosed, and to whom</h2>{''.join(paragraphs)}{table}</section>"


def _party(name: str) -> str:
    return {"party 1": "this site", "party 2": "the other side", "both": "both sides"}.get(name, name)


def _who_learned(report: Report) -> str:
    totals = {row["to"]: row["numbers"] for row in report["disclosed"]["per_party"]}
    mine = totals.get("party 1", 0) + totals.get("both", 0)
    theirs = totals.get("party 2", 0) + totals.get("both", 0)
    clear = report["request"]["protocol"] == "clear"
    first = "" if clear else f"This site learned {mine:,} numbers computed from the fixed image, listed below. "
    choice = (
        f"{theirs:,} bits about this site's choice of voxels, listed below"
        if theirs
        else "no voxel of the moving image"
    )
    second = f"The other side ({_peer_name(report)}) learned {choice}. It does know"
    return (
        f"{first}{second} what was asked for (transform, loss, levels), how many evaluations there were and when. This"
        " site also knows the size, spacing and position of the fixed grid."
    )


def _meaning_section(report: Report) -> str:
    kinds = list(dict.fromkeys(row["kind"] for row in report["disclosed"]["rows"]))
    items = "".join(f"<li><b>{_e(KINDS[k][0])}</b> ({_e(k)}): {_e(KINDS[k][1])}.</li>" for k in kinds if k in KINDS)
    text = (
        "Each number is one sum over all samples of a level, with weights that come from this site's own moving image."
        " Such a sum says little about any one voxel, but many together are not nothing: N sums fix up to N independent"
        " facts about the voxels of a level, and whoever knows the weights can compute the part of the fixed image that"
        " these weights span: something like a blurred impression while N is far below the number of voxels, more with"
        " general knowledge of what such images look like. A site that departed from the program could choose other"
        " weights, even such that single out a voxel; the other side's budget bounds how many."
    )
    scale = (
        "The percentage compares the numbers disclosed at a level to the samples of that level; 100 % would be as many"
        " numbers as samples. Bits are an upper bound, what the numbers could hold; their percentage is of"
        f" {VOXEL_BITS} bits per sample. Further runs on the same fixed image add to this: the other side keeps the"
        " total over all runs and limits it. There is no proof that the numbers are harmless; keep the percentages low"
        " where it matters."
    )
    body = f"<ul>{items}</ul><p>{_e(text)}</p><p>{_e(scale)}</p>"
    return f'<section class="more"><h3>What these numbers mean</h3>{body}</section>'


def _transform_section(report: Report) -> str:
    found = report["transform"]
    matrix, dim = np.array(found["matrix"], float), len(found["matrix"])
    lines = [(f"A, row {i + 1}", *(_number(v, ".6f") for v in row)) for i, row in enumerate(found["matrix"])]
    lines.append(("t (mm)", *(_number(v, ".4f") for v in found["translation_mm"])))
    lines.append(("c (mm)", *(_number(v, ".4f") for v in found["centre_mm"])))
    table = _table(("", *"xyz"[:dim]), "l" + "r" * dim, lines)
    words = found["convention"].replace(" - ", " − ")
    text = (
        f"Kind {found['kind']}: it turns by {_turn_degrees(matrix):.2f}° and changes the"
        f" {'volume' if dim == 3 else 'area'} by a factor of {float(np.linalg.det(matrix)):.4f}. {words}"
    )
    return f"<section><h2>The transform</h2><p>{_e(text)}</p>{table}</section>"


def _turn_degrees(matrix: NDArray[np.float64]) -> float:
    """The angle of the rotation next to `matrix`."""
    left, _, right = np.linalg.svd(matrix)
    rotation = left @ right
    cosine = (np.trace(rotation) - (len(matrix) - 2)) / 2
    return math.degrees(math.acos(min(1.0, max(-1.0, float(cosine)))))


def _details_section(report: Report) -> str:
    """For those who maintain it: parameters, peer, grids, traffic, versions."""
    peer, fixed, totals, scale = report["peer"], report["fixed"], report["totals"], report["moving"]["normalisation"]
    asked = [(k.replace("_", " "), _value(v)) for k, v in report["parameters"].items()]
    other = [(key, peer[key]) for key in ("name", "address", "fingerprint", "software")]
    other += [("image", report["request"]["image"]), ("dealer", report["request"]["dealer"] or "none")]
    grids = [
        ("fixed size", f"{_times(fixed['size'])} voxels"),
        ("fixed spacing", f"{_times(fixed['spacing_mm'])} mm"),
        ("fixed origin", ", ".join(_number(v, ".6g") for v in fixed["origin_mm"]) + " mm"),
        ("fixed direction", ", ".join(_number(v, ".4g") for v in fixed["direction"])),
        ("moving intensities", f"{_number(scale['low'])} → 0, {_number(scale['high'])} → 1 ({scale['method']})"),
    ]
    wire = [
        ("sent to the other side", f"{human_bytes(totals['bytes_sent'])} ({totals['bytes_sent']:,} bytes)"),
        ("received from it", f"{human_bytes(totals['bytes_received'])} ({totals['bytes_received']:,} bytes)"),
    ]
    if totals["dealer_bytes_sent"] or totals["dealer_bytes_received"]:
        wire.append(("sent to the dealer", human_bytes(totals["dealer_bytes_sent"])))
        wire.append(("received from the dealer", human_bytes(totals["dealer_bytes_received"])))
    versions = [(name, version or "not installed") for name, version in report["software"].items()]
    parts = {"Parameters": asked, "The other side": other, "Grids and intensities": grids}
    parts |= {"Network": wire, "Versions": versions}
    blocks = "".join(f'<div class="block"><h3>{_e(name)}</h3>{_pairs(rows)}</div>' for name, rows in parts.items())
    return f'<section><h2>Technical details</h2><div class="details">{blocks}</div></section>'


def _value(value: Any) -> str:
    if value is None:
        return "automatic"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


_STYLE = """
:root { color: #1d2733; background: #fff; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; max-width: 62rem;
  margin: 0 auto; padding: 1.5rem 1.25rem 3rem; overflow-wrap: break-word; }
h1 { font-size: 1.8rem; margin: 0 0 .4rem; line-height: 1.2; }
h2 { font-size: 1.2rem; margin: 0 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid #d9dee4; }
h3 { font-size: 1rem; margin: 0 0 .4rem; }
p { margin: 0 0 .7rem; max-width: 50rem; }
section { margin-top: 2rem; }
section.more { margin-top: 1.2rem; }
header { border-left: .4rem solid #2e7d4f; background: #f1f8f3; padding: 1rem 1.25rem .5rem; border-radius: .25rem; }
header.warn { border-color: #b26a00; background: #fdf6e9; }
.when { color: #5a6672; font-size: .87rem; margin: 0; }
.said { font-family: ui-monospace, Consolas, Menlo, monospace; font-size: .87rem; white-space: pre-wrap; }
.alarm { border-left: .3rem solid #b3261e; background: #fcefee; padding: .6rem .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .7rem; vertical-align: top; border-bottom: 1px solid #e6eaee; text-align: left; }
thead th { border-bottom: 2px solid #b9c2cb; vertical-align: bottom; font-weight: 600; }
th.r, td.r { text-align: right; }
td.r, td.n { white-space: nowrap; }
tfoot { display: table-row-group; }
tfoot td { font-weight: 600; background: #f6f8fa; }
.pairs th { font-weight: 400; color: #5a6672; padding-left: 0; white-space: nowrap; }
.pairs td { overflow-wrap: anywhere; }
figure { margin: .8rem 0; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { font-size: .87rem; color: #5a6672; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 0 1.2rem; }
.details { columns: 2 17rem; column-gap: 2.5rem; }
.block { break-inside: avoid; margin-bottom: 1.3rem; }
ul { margin: 0 0 .7rem; padding-left: 1.2rem; max-width: 50rem; }
@page { margin: 15mm; }
@media print {
  body { font-size: 9.5pt; max-width: none; padding: 0; }
  header, .alarm, tfoot td { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  .details { columns: 2; }
  figure img { max-height: 100mm; }
  figure, tr, header, .alarm { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .wide { overflow: visible; }
  th, td { padding: .15rem .35rem; }
  table { font-size: 8pt; }
  .two { grid-template-columns: 1fr 1fr; }
}
"""
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Private image registration: report</title>
<style>@STYLE@</style>
</head>
<body>
@BODY@
</body>
</html>
"""
