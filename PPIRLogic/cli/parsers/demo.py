"""What can be typed after `ppir demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PPIRLogic.cli.parsers.common import add_command, file_path


def add_demo(commands: Any) -> None:
    text = "See it work: two published image pairs, clear, fhe and mpc side by side, as real processes."
    p = add_command(commands, "demo", "demo:run_demo", text, "ppir demo --output demo-output")
    p.add_argument(
        "--output", type=file_path, metavar="FOLDER", default=Path("demo-output"), help="for the results (demo-output)"
    )
    p.add_argument("--quick", action="store_true", help="the 2D pair only")
