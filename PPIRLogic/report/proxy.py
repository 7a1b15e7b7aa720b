"""What a person sees of a proxy: original and proxy side by side before it is sent, and a page of what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import OutputError
from PPIRLogic.files import shown_path
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.proxy.party1 import Consent
from PPIRLogic.proxy.rates import NOT_ENCRYPTED, NOT_MEASURED
from PPIRLogic.proxy.segmentation_result import Segmentation
from PPIRLogic.report.figures import Picture, draw_rows
from PPIRLogic.report.markup import PAGE, STYLE, escape, image, pairs, table
from PPIRLogic.report.slices import Slice, slices
from PPIRLogic.report.wording import human_bytes

TITLE = "Segmented at another site"
_CAPTION = "What is left of the scan, and its proxy"
_RAS = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
_SKIN = 25  # of 255: what is brighter is seen from the front


def preview(consent: Consent) -> bytes:
    """A PNG: what is left of the scan above, what would be sent below; middle planes, and a volume from the front."""
    rows = [
        ("what is left of the scan", _views(consent.original, consent.spacing)),
        ("the proxy, which is sent", _views(consent.proxy, consent.spacing)),
    ]
    return draw_rows(rows)


def _views(array: NDArray[np.uint8], spacing: tuple[float, ...]) -> list[Slice]:
    dim = array.ndim
    direction = _RAS if dim == 3 else (1.0, 0.0, 0.0, 1.0)
    volume = Volume(array.astype(np.float32), Geometry(array.shape[::-1], spacing, (0.0,) * dim, direction), "preview")
    planes = [Slice(s.title, s.plane / np.float32(255), s.size_mm, s.marks) for s in slices(volume)]
    return [*planes, _from_the_front(array, spacing)] if dim == 3 else planes


def _from_the_front(array: NDArray[np.uint8], spacing: tuple[float, ...]) -> Slice:
    """The surface as one sees it who stands before the head: all that is left of a face."""
    seen = array[:, ::-1] > _SKIN
    depth = np.where(seen.any(axis=1), seen.argmax(axis=1) * spacing[1], np.nan)
    down, across = np.gradient(np.nan_to_num(depth, nan=float(array.shape[1] * spacing[1])))
    steep = np.sqrt((down / spacing[2]) ** 2 + (across / spacing[0]) ** 2)
    shade = np.where(np.isnan(depth), 0.0, 1 / np.sqrt(1 + 0.5 * steep**2)).astype(np.float32)
    nz, _, nx = array.shape
    return Slice("from the front", shade[::-1, ::-1], (nx * spacing[0], nz * spacing[2]), ("R", "L", "S", "I"))


def write_report(found: Segmentation, consent: Consent, folder: Path) -> Path:
    """report.json, report.html and preview.png in a folder; returns the page. OutputError: not writable."""
    picture = preview(consent)
    content = {
        "report.json": (json.dumps(found.to_dict(), indent=2) + "\n").encode(),
        "preview.png": picture,
        "report.html": _page(found, picture).encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in content.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        raise OutputError(f"The report cannot be written to {shown_path(folder)}: {error.strerror}.") from None
    return folder / "report.html"


def _page(found: Segmentation, picture: bytes) -> str:
    facts = found.facts
    volumes = [(name, f"{ml:.1f}") for name, ml in found.volumes_ml().items()]
    body = (
        f'<header class="warn"><h1>{TITLE}</h1><p>{escape(NOT_ENCRYPTED)}</p></header>'
        f"<section><h2>Volumes</h2>{table(('tissue', 'ml'), 'lr', volumes)}"
        "<p>Of the likeliest class of each voxel. A network made them; they are not for diagnosis.</p></section>"
        f"<section><h2>Who may recognise the person</h2>{_rates(facts)}</section>"
        f"<section><h2>What was sent</h2>{image(Picture('preview', _CAPTION, picture))}"
        f"{pairs(_facts(facts))}</section>"
    )
    page = PAGE.replace("Private image registration: report", TITLE)
    return page.replace("@STYLE@", STYLE).replace("@BODY@", body)


def _rates(facts: Mapping[str, Any]) -> str:
    rows = [
        (
            r["attack"], f"{r['strength_mm']:g} mm", f"{100 * r['found']:.0f} %",
            f"{100 * r['low']:.0f} to {100 * r['high']:.0f} %", f"{100 * r['chance']:.0f} %", r["persons"],
        )
        for r in facts["rates"]
    ]  # fmt: skip
    if not rows:
        return f"<p>{escape(NOT_MEASURED)}</p>"
    return table(("attack", "strength", "recognised", "95 % interval", "by chance", "persons"), "lrrrrr", rows)


def _facts(facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """In words; what a run without a network does not have is left out."""
    error = facts["inverse_error_mm"]
    rows = [
        ("strength", f"{facts['strength_mm']:g} mm rms"), ("taken of the scan", facts["strip"]),
        ("disclosed", f"the whole image, {facts['bits']} bits, on record in the ledger as {facts['proxy']}"),
        ("there and back", f"{error['mean']} mm on the mean, {error['largest']} mm at most"),
        ("smallest Jacobian determinant", facts["smallest_jacobian"]),
    ]  # fmt: skip
    if "model" in facts:
        rows += [
            ("site", facts["peer"]), ("model", facts["model"]),
            ("sent, received", f"{human_bytes(facts['bytes_sent'])}, {human_bytes(facts['bytes_received'])}"),
            ("seconds", facts["seconds"]),
        ]  # fmt: skip
    return rows
