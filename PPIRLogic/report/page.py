"""The HTML page of a report: for screen and paper, without scripts or outside references."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.registration.catalogue import shown_name
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.report.build import Report
from PPIRLogic.report.disclosure import disclosed_line, disclosure_section, meaning_section, peer_name
from PPIRLogic.report.figures import convergence
from PPIRLogic.report.markup import PAGE, STYLE, escape, image, pairs, table
from PPIRLogic.report.pictures import Pictures, figures_of
from PPIRLogic.report.wording import REASONS, STOPS, human_bytes, human_seconds, number, share, times


def render(report: Report, pictures: Pictures | None) -> str:
    """The whole page. MissingDependencyError without matplotlib."""
    sections = (
        _head_section(report),
        _summary_section(report),
        _picture_section(report, pictures),
        _convergence_section(report),
        _extra_section(report),
        disclosure_section(report),
        meaning_section(report),
        _transform_section(report),
        _details_section(report),
    )
    return PAGE.replace("@STYLE@", STYLE).replace("@BODY@", "\n".join(sections))


def _head_section(report: Report) -> str:
    stop = STOPS.get(report["stop_reason"], report["stop_reason"])
    kind, peer, fixed = report["transform"]["kind"], peer_name(report), report["request"]["image"]
    if report["complete"] and report["doubts"]:
        title, box = "Registration in doubt", "warn"
        text = (
            f"The search for a transform of this site's moving image to the fixed image “{fixed}” of {peer} ended, but"
            " its result is not to be trusted without a look at the images."
        )
    elif report["complete"]:
        title, box = "Registration finished", "ok"
        text = f"This site's moving image was aligned to the fixed image “{fixed}” of {peer} ({kind} transform)."
    else:
        title, box = "Registration ended early", "warn"
        text = (
            f"Aligning this site's moving image to the fixed image “{fixed}” of {peer} stopped before the end: {stop}."
            " The transform below is the best one found until then."
        )
    said = f'<p class="said">{escape(report["error"])}</p>' if report["error"] else ""
    limited = [lv["factor"] for lv in report["levels"] if lv["reason"] == "evaluations"]
    hint = "Whether the alignment is good enough for its purpose has to be judged on the images."
    if limited:
        names = ", ".join(map(str, limited))
        hint = f"At shrink factor {names} the permitted evaluations were used up before the search settled. {hint}"
    said += "".join(f'<p class="said">{escape(doubt)}</p>' for doubt in report["doubts"])
    when = report["created"].replace("T", " ").replace("+00:00", " UTC")
    return (
        f'<header class="{box}"><p class="when">Private image registration · {escape(when)}</p><h1>{title}</h1>'
        f"<p>{escape(text)}</p>{said}<p>{escape(hint)}</p></header>"
    )


def _change(level: Mapping[str, Any]) -> str:
    first, last = level["values"][0], level["values"][-1]
    return f"{number(first)} → {number(last)} at shrink factor {level['factor']}"


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
        (
            "Method",
            f"{request['transform']} transform, loss {request['loss']}, protocol {shown_name(request['protocol'])}",
        ),
        ("Fixed image", f"{times(report['fixed']['size'])} voxels of {times(report['fixed']['spacing_mm'])} mm"),
    ]
    if report["moving"]["size"]:
        grid = report["moving"]
        rows.append(("Moving image", f"{times(grid['size'])} voxels of {times(grid['spacing_mm'])} mm"))
    if reached:
        rows.append(("Loss (lower is better)", "; ".join(map(_change, reached))))
        share = reached[-1]["overlap"]
        covered = "–" if share is None else f"{100 * share:.0f} % of the fixed samples lie in the moving image"
        rows.append(("Overlap", covered))
    rows += [
        ("Time", human_seconds(totals["seconds"])),
        ("Network", _traffic(totals)),
        ("Disclosed to this site", disclosed_line(report)),
        ("Results", ", ".join(f for f in (report["transform"]["file"], report["warped"]["file"]) if f) or "not saved"),
    ]
    return f"<section><h2>Summary</h2>{pairs(rows)}</section>"


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
    figures = "".join(image(p) for p in figures_of(pictures))
    style = "two" if flat else "one"
    return (
        f"<section><h2>Before and after</h2><p>{escape(text + grey + planes)}</p>"
        f'<div class="{style}">{figures}</div></section>'
    )


def _steps(level: Report) -> str:
    rigid = level.get("rigid_iterations", 0)
    return f"{level['iterations']}" + (f" ({rigid} of them rigid)" if rigid else "")


def _convergence_section(report: Report) -> str:
    curve = convergence(report)
    head = ["Shrink factor", "Voxels", "Spacing (mm)", "Samples", "Evalu\u00adations", "Steps"]
    head += ["Loss, start", "Loss, end", "Over\u00adlap", "Time", "Ended because"]
    rows = [
        (
            level["factor"],
            times(level["shape"]),
            times(level["spacing_mm"]),
            f"{level['samples']:,}",
            level["evaluations"],
            _steps(level),
            number(level["values"][0] if level["values"] else None),
            number(level["values"][-1] if level["values"] else None),
            "–" if level["overlap"] is None else f"{100 * level['overlap']:.0f} %",
            human_seconds(level["seconds"]),
            REASONS.get(level["reason"], level["reason"]),
        )
        for level in report["levels"]
    ]
    loss = LOSSES[report["request"]["loss"]].words or report["request"]["loss"]
    text = (
        f"Coarse versions of the images are aligned first (large shrink factor), then finer ones. Loss: {loss}."
        " Losses of different levels are not comparable; each curve has its own scale. Samples: fixed voxels that took"
        " part. Evaluations: exchanges with the other side. Steps: those that were accepted."
    )
    shown = image(curve) if curve else ""
    return f"<section><h2>How it converged</h2><p>{escape(text)}</p>{shown}{table(head, 'rnnrrrrrrrl', rows)}</section>"


def _extra_section(report: Report) -> str:
    """Where the search began, and how its end compares with what lies around it."""
    starts, check, parts = report["starts"], report["check"], []
    if starts is not None:
        text = f"The search began from: {starts['chosen']}."
        if starts["values"]:
            text += f" {starts['values']} starts were compared at shrink factor {starts['factor']}."
        parts.append(f"<p>{escape(' '.join(filter(None, (text, starts['note']))))}</p>")
        rows = [(name, number(at, ".3g"), number(end, ".3g")) for name, at, end in starts["tried"]]
        if rows:
            parts.append(table(("Start", "Information there", "At its end"), "lrr", rows))
    if check is not None:
        edges = "" if check["detail"] is None else f" Edges lie on edges with a correlation of {check['detail']:.2f}."
        text = (
            f"At the end one image tells {number(check['info'], '.3g')} nats per voxel of the other;"
            f" {number(check['sharp'], '.3g')} more than shifted or turned a little, on average, and"
            f" {number(check['rise'], '.3g')} more than at the best of those places.{edges}"
        )
        parts.append(f"<p>{escape(text)}</p>")
    return f"<section><h2>Start and end</h2>{''.join(parts)}</section>" if parts else ""


def _transform_section(report: Report) -> str:
    found = report["transform"]
    matrix, dim = np.array(found["matrix"], float), len(found["matrix"])
    lines = [(f"A, row {i + 1}", *(number(v, ".6f") for v in row)) for i, row in enumerate(found["matrix"])]
    lines.append(("t (mm)", *(number(v, ".4f") for v in found["translation_mm"])))
    lines.append(("c (mm)", *(number(v, ".4f") for v in found["centre_mm"])))
    shown = table(("", *"xyz"[:dim]), "l" + "r" * dim, lines)
    words = found["convention"].replace(" - ", " − ")
    text = (
        f"Kind {found['kind']}: it turns by {_turn_degrees(matrix):.2f}° and changes the"
        f" {'volume' if dim == 3 else 'area'} by a factor of {float(np.linalg.det(matrix)):.4f}. {words}"
    )
    bent = "".join(f"<p>{escape(words(found[part]))}</p>" for part, words in _PARTS if found[part])
    return f"<section><h2>The transform</h2><p>{escape(text)}</p>{shown}{bent}</section>"


def _bending(spline: Mapping[str, Any]) -> str:
    """The B-spline part in words."""
    return (
        f"The B-spline before it has control points every {times(spline['spacing_mm'])} mm and {_displacement(spline)}"
    )


def _flow(diffeo: Mapping[str, Any]) -> str:
    """The displacement field in words."""
    error = diffeo["inverse_error_voxels"]
    return (
        f"The displacement field before it {_displacement(diffeo)} There and back by its inverse, a point comes"
        f" {number(error['mean'], '.2g')} voxels off on average, at most {number(error['largest'], '.2g')}."
    )


_PARTS = (("spline", _bending), ("diffeo", _flow))


def _displacement(part: Mapping[str, Any]) -> str:
    j = part["jacobian"]
    folds = (
        "it folds nowhere" if j["folded_percent"] == 0 else f"it folds at {share(j['folded_percent'])} of the voxels"
    )
    return (
        f"moves fixed points by {number(part['mean_mm'], '.3g')} mm on average, at most"
        f" {number(part['largest_mm'], '.3g')} mm. It changes small volumes by factors from"
        f" {number(j['smallest'], '.3g')} to {number(j['largest'], '.3g')} (1 to 99 % of the voxels:"
        f" {number(j['percentile_1'], '.3g')} to {number(j['percentile_99'], '.3g')}): {folds}."
    )


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
        ("fixed size", f"{times(fixed['size'])} voxels"),
        ("fixed spacing", f"{times(fixed['spacing_mm'])} mm"),
        ("fixed origin", ", ".join(number(v, ".6g") for v in fixed["origin_mm"]) + " mm"),
        ("fixed direction", ", ".join(number(v, ".4g") for v in fixed["direction"])),
        ("moving intensities", f"{number(scale['low'])} → 0, {number(scale['high'])} → 1 ({scale['method']})"),
    ]
    if scale.get("padding") is not None:
        grids.append(("moving padding", f"{number(scale['padding'])}, left out"))
    wire = [
        ("sent to the other side", f"{human_bytes(totals['bytes_sent'])} ({totals['bytes_sent']:,} bytes)"),
        ("received from it", f"{human_bytes(totals['bytes_received'])} ({totals['bytes_received']:,} bytes)"),
    ]
    if totals["dealer_bytes_sent"] or totals["dealer_bytes_received"]:
        wire.append(("sent to the dealer", human_bytes(totals["dealer_bytes_sent"])))
        wire.append(("received from the dealer", human_bytes(totals["dealer_bytes_received"])))
    if totals["reconnections"]:
        wire.append(("connection lost and made again", f"{totals['reconnections']} times"))
    versions = [(name, version or "not installed") for name, version in report["software"].items()]
    parts = {"Parameters": asked, "The other side": other, "Grids and intensities": grids}
    parts |= {"Network": wire, "Versions": versions}
    blocks = "".join(f'<div class="block"><h3>{escape(name)}</h3>{pairs(rows)}</div>' for name, rows in parts.items())
    return f'<section><h2>Technical details</h2><div class="details">{blocks}</div></section>'


def _value(value: Any) -> str:
    if value is None:
        return "automatic"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
