"""Pages of Docs/results that measurements write: one section each, with date, commit and machine; the rest is kept."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "Docs" / "results"
WIDTH = 120  # of the lines of a page; tables are as wide as they are


def begun(where: dict[str, Any]) -> str:
    """When, at what commit and on what machine a measurement began, as `surroundings` found it."""
    return (
        f"begun on {where['date']}, commit {where['commit']}, on {where['processor']}, {where['cores']} cores,"
        f" load {where['load_at_start']:.1f} at the start"
    )


def wrapped(lines: list[str]) -> list[str]:
    """The same lines, none but those of tables wider than a page."""
    out: list[str] = []
    for line in lines:
        whole = len(line) <= WIDTH or line.startswith(("|", "#"))
        out += [line] if whole else textwrap.wrap(line, WIDTH, break_long_words=False, break_on_hyphens=False)
    return out


def write_section(page: Path, name: str, title: str, head: str, lines: list[str]) -> None:
    """Replace the section of this name, or add it at the end."""
    body = wrapped([f"## {title}", "", head, "", *lines])
    section = "\n".join([f"<!-- {name} -->", *body, f"<!-- end of {name} -->"])
    text = page.read_text(encoding="utf-8") if page.exists() else f"# {page.stem.capitalize()}\n"
    pattern = re.compile(rf"<!-- {name} -->.*?<!-- end of {name} -->", re.DOTALL)
    text = pattern.sub(lambda _: section, text) if pattern.search(text) else f"{text.rstrip()}\n\n{section}\n"
    page.write_text(text, encoding="utf-8")
