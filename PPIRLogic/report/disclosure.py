"""The page's account of what left either site: the numbers, who learned them and what they mean."""

from __future__ import annotations

from collections import defaultdict

from PPIRLogic.disclosure.ledger import METADATA, VOXEL_BITS
from PPIRLogic.registration.protocols import protocol_named
from PPIRLogic.report.build import Report
from PPIRLogic.report.markup import escape, table
from PPIRLogic.report.wording import KINDS, share


def peer_name(report: Report) -> str:
    return report["peer"]["name"] or report["peer"]["address"] or "the other side"


def _counted(report: Report) -> bool:
    """Whether the protocol protected the fixed image and counted what it opened."""
    return protocol_named(report["request"]["protocol"]).counted


def disclosed_line(report: Report) -> str:
    """What this site learned, in one line."""
    if not _counted(report):
        return "the fixed image itself (unprotected protocol)"
    rows = [row for row in report["disclosed"]["rows"] if row["to"] != "party 2" and row["kind"] not in METADATA]
    sums = [row for row in rows if row["kind"] != "mask grid"]
    shares: dict[int, float] = defaultdict(float)
    for row in sums:
        shares[row["level"]] += row["percent"] or 0
    most = f"; at most {share(max(shares.values()))} of the samples of a level" if any(shares.values()) else ""
    outline = " and the outline of its mask" if len(sums) < len(rows) else ""
    return f"{sum(row['numbers'] for row in sums):,} numbers about the fixed image{outline}{most}"


def disclosure_section(report: Report) -> str:
    protocol, found = report["request"]["protocol"], report["disclosed"]
    box = "" if _counted(report) else ' class="alarm"'
    words = protocol_named(protocol).words
    paragraphs = [f"<p{box}>{escape(words)} {escape(_who_learned(report))}</p>"]
    if report["counts_agree"]:
        paragraphs.append("<p>The other side counted the same total independently.</p>")
    elif report["counts_agree"] is None:
        text = "The other side's own count is not known, because the run did not end in order."
        paragraphs.append(f"<p>{escape(text)}</p>")
    else:
        text = (
            f"The two sides counted differently: {report['totals']['numbers']:,} numbers here,"
            f" {report['peer_numbers']:,} at the other side. Find out why before trusting either count."
        )
        paragraphs.append(f'<p class="alarm">{escape(text)}</p>')
    head = ("Shrink factor", "What", "To", "Numbers", "% of level", "Bits, at most")
    rows, foot = [], []
    for r in found["rows"]:
        what, to = KINDS.get(r["kind"], (r["kind"],))[0], _party(r["to"])
        rows.append((r["level"] or "–", what, to, f"{r['numbers']:,}", share(r["percent"]), f"{r['bits']:,}"))
    for r in found["per_level"]:
        bits = f"{r['bits']:,}" + ("" if r["bits_percent"] is None else f" ({share(r['bits_percent'])})")
        foot.append((r["level"] or "–", "all", _party(r["to"]), f"{r['numbers']:,}", share(r["percent"]), bits))
    foot += [("all", "all", _party(r["to"]), f"{r['numbers']:,}", "", f"{r['bits']:,}") for r in found["per_party"]]
    listed = table(head, "rllrrr", rows, foot) if rows else "<p>No number was disclosed.</p>"
    return f"<section><h2>What was disclosed, and to whom</h2>{''.join(paragraphs)}{listed}</section>"


def _party(name: str) -> str:
    return {"party 1": "this site", "party 2": "the other side", "both": "both sides"}.get(name, name)


def _who_learned(report: Report) -> str:
    totals = {row["to"]: row["numbers"] for row in report["disclosed"]["per_party"]}
    mine = totals.get("party 1", 0) + totals.get("both", 0)
    theirs = totals.get("party 2", 0) + totals.get("both", 0)
    first = (
        ""
        if not _counted(report)
        else f"This site learned {mine:,} numbers computed from the fixed image, listed below. "
    )
    choice = (
        f"{theirs:,} bits about this site's choice of voxels, listed below"
        if theirs
        else "no voxel of the moving image"
    )
    second = f"The other side ({peer_name(report)}) learned {choice}. It does know"
    return (
        f"{first}{second} what was asked for (transform, loss, levels), how many evaluations there were and when. This"
        " site also knows the size, spacing and position of the fixed grid."
    )


def meaning_section(report: Report) -> str:
    kinds = [k for k in dict.fromkeys(row["kind"] for row in report["disclosed"]["rows"]) if k in KINDS]
    items = "".join(f"<li><b>{escape(KINDS[k][0])}</b> ({escape(k)}): {escape(KINDS[k][1])}.</li>" for k in kinds)
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
    body = f"<ul>{items}</ul><p>{escape(text)}</p><p>{escape(scale)}</p>"
    return f'<section class="more"><h3>What these numbers mean</h3>{body}</section>'
