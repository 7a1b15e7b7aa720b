"""What can be typed after `ppir doctor`."""

from __future__ import annotations

from typing import Any

from PPIRLogic.cli.parsers.common import add_command


def add_doctor(commands: Any) -> None:
    text = "Look at this machine: versions, processor, packages, this site's folder, clock, port, and a registration"
    text += " of two made images on loopback. For a bug report: prints no name, key, peer or image of this site."
    p = add_command(commands, "doctor", "doctor:run_doctor", text, "ppir doctor")
    p.add_argument("--no-round-trip", action="store_true", help="leave out the registrations on loopback (seconds)")
