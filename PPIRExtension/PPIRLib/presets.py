"""Presets are data: one JSON file each under Resources/Presets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "Resources" / "Presets"


def names() -> list[str]:
    """The presets by title, in their files' order."""
    return [read(path)["title"] for path in sorted(FOLDER.glob("*.json"))]


def values(title: str) -> dict[str, Any]:
    """The parameters a preset sets; empty for an unknown title."""
    for path in sorted(FOLDER.glob("*.json")):
        preset = read(path)
        if preset["title"] == title:
            return dict(preset["parameters"])
    return {}


def needs(title: str) -> str:
    """What the owner of the fixed image must grant beyond the default budget, in words; empty where that is enough."""
    for path in sorted(FOLDER.glob("*.json")):
        preset = read(path)
        if preset["title"] == title and "budget" in preset:
            share, bits = preset["budget"]["percent"], preset["budget"]["bits"]
            return (
                f"'{title}' needs more than the default budget. Ask the owner of the fixed image to serve it with"
                f" --budget-percent {share} --budget-bits {bits} (Share: {share} % of each level, {bits} % in bits)."
            )
    return ""


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
