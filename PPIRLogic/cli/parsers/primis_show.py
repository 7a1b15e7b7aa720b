"""What can be typed after `ppir primis show` and `ppir primis demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PPIRLogic.cli.parsers.common import add_command, add_parent_options, file_path


def add_show(commands: Any) -> None:
    text = "Write a picture of each level of a sealed image that this site can open, and a page with their sizes."
    p = add_command(commands, "show", "primis_show:run_show", text, "ppir primis show x-ray.ppis --output levels")
    p.add_argument("file", type=file_path, help="sealed image (.ppis)")
    p.add_argument("--grant", type=file_path, help="grant of its owner; without one this site's own keys")
    p.add_argument("--output", type=file_path, metavar="FOLDER", required=True, help="for pictures and page")
    add_parent_options(p)


def add_demo(commands: Any) -> None:
    text = (
        "See it work: one site seals an image and shares it, another asks for every level and opens what it is given."
    )
    p = add_command(commands, "demo", "primis_demo:run_demo", text, "ppir primis demo --output primis-demo")
    p.add_argument("image", nargs="?", type=file_path, help="image to seal (a chest X-ray)")
    p.add_argument(
        "--output", type=file_path, metavar="FOLDER", default=Path("primis-demo"), help="for the results (primis-demo)"
    )
