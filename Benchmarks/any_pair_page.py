"""Docs/results/any-pair.md, from the rows of `any_pair`: what was found, warned of, silent, and at what price."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import median
from typing import Any

from Benchmarks.sections import RESULTS, write_section

Rows = list[dict[str, Any]]
OURS = ("ncc", "mi")
PAGE = RESULTS / "any-pair.md"


def is_right(row: dict[str, Any]) -> bool:
    return row["error_mm"] is not None and row["error_mm"] < row["limit_mm"]


def is_silent(row: dict[str, Any]) -> bool:
    return not is_right(row) and not row["doubts"]


def _grouped(rows: Rows, *keys: str) -> dict[tuple[str, ...], Rows]:
    out: dict[tuple[str, ...], Rows] = defaultdict(list)
    for row in rows:
        out[tuple(row[key] for key in keys)].append(row)
    return out


def _counts(rows: Rows) -> list[int]:
    """Runs, found, warned, silent, and found ones that were warned of."""
    right = [row for row in rows if is_right(row)]
    silent = sum(map(is_silent, rows))
    return [len(rows), len(right), len(rows) - len(right) - silent, silent, sum(bool(r["doubts"]) for r in right)]


def _opened(rows: Rows, purposes: Iterable[str] | None = None) -> str:
    """Median of the numbers opened, and the most."""
    sums = [sum(n for p, n in row["numbers"].items() if purposes is None or p in purposes) for row in rows]
    return f"{median(sums):.0f} ({max(sums)})"


def table(rows: Rows) -> list[str]:
    """By pair, loss and kind."""
    ours = [row for row in rows if row["loss"] in OURS]
    lines = [
        "| pair | loss | kind | runs | found | warned | silent | found, but warned | numbers: median (most) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (pair, loss, kind), group in sorted(_grouped(ours, "pair", "loss", "kind").items()):
        lines.append(f"| {pair} | {loss} | {kind} | {' | '.join(map(str, _counts(group)))} | {_opened(group)} |")
    return lines


def totals(rows: Rows) -> list[str]:
    """By pair and loss, with the numbers of the starts and seconds."""
    lines = [
        "| pair | loss | runs | found | warned | silent | found, but warned | numbers of all | of the starts | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (pair, loss), group in _grouped([row for row in rows if row["loss"] in OURS], "pair", "loss").items():
        cpu = median(row.get("cpu_seconds", 0.0) for row in group)
        counts = " | ".join(map(str, _counts(group)))
        lines.append(f"| {pair} | {loss} | {counts} | {_opened(group)} | {_opened(group, ('starts',))} | {cpu:.0f} |")
    return lines


def beside_others(rows: Rows) -> list[str]:
    """Found, of the cases that all of them ran."""
    programs = [p for p in dict.fromkeys(row["loss"] for row in rows) if p not in OURS]
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    kinds = {}
    for row in rows:
        found[row["pair"], row["case"]][row["loss"]] = row
        kinds[row["case"]] = row["kind"]
    both = {k: v for k, v in found.items() if all(p in v for p in programs) and any(o in v for o in OURS)}
    lines = [f"| kind | cases | ours ncc | ours mi | {' | '.join(programs)} |", "|---" * (4 + len(programs)) + "|"]
    groups: dict[str, list[dict[str, dict[str, Any]]]] = defaultdict(list)
    for (_, case), by in both.items():
        groups[kinds[case]].append(by)
    if not programs or not groups:
        return []
    for kind, group in [*sorted(groups.items()), ("all", [*both.values()])]:
        cells = [_share([by[who] for by in group if who in by]) for who in (*OURS, *programs)]
        lines.append(f"| {kind} | {len(group)} | {' | '.join(cells)} |")
    seconds = {p: median(r["seconds"] for r in rows if r["loss"] == p) for p in programs}
    said = ", ".join(f"{p} {s:.0f} s" for p, s in seconds.items())
    return [*lines, "", f"Seconds of a whole run of the others, median, on a machine with other work: {said}."]


def _share(rows: Rows) -> str:
    return f"{sum(map(is_right, rows))} of {len(rows)}" if rows else "–"


def wrong_ends(rows: Rows) -> list[str]:
    """Every end of ours that is not right."""
    wrong = [row for row in rows if row["loss"] in OURS and not is_right(row)]
    lines = ["| pair | loss | case | error, mm | said |", "|---|---|---|---|---|"]
    for row in wrong:
        error = "no end" if row["error_mm"] is None else f"{row['error_mm']:.1f}"
        said = row["doubts"][0].split(".")[0] if row["doubts"] else "**nothing**"
        lines.append(f"| {row['pair']} | {row['loss']} | {row['case']} | {error} | {said} |")
    return lines if wrong else ["None."]


def write_page(rows: Rows) -> None:
    runs, found, warned, silent, alarms = _counts([row for row in rows if row["loss"] in OURS])
    head = (
        f"{runs} runs: {found} found, {warned} warned, {silent} silent. {alarms} of those found were warned of all the"
        " same. A case is found within the limit of its pair: 3 mm of heads, 2 mm of slices, 12 mm of parts of a"
        " breathing lung."
    )
    write_section(PAGE, "any pair", "In all", head, totals(rows))
    write_section(PAGE, "others", "Beside other programs", _OTHERS, beside_others(rows))
    write_section(PAGE, "wrong ends", "Every end that is not right", _WRONG, wrong_ends(rows))
    write_section(PAGE, "kinds", "By kind", "What each kind is: `Benchmarks/hard_cases.py`.", table(rows))


_OTHERS = (
    "The same cases by other programs, with their defaults, affine, both images in one hand; only cases that all of"
    " them ran. Ours compares starts and may warn; they begin from the centres of the grids."
)
_WRONG = "Warned ones, with the first words of the warning, and silent ones if there are any."
