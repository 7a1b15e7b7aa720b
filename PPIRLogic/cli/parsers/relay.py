"""What can be typed after `ppir relay`."""

from __future__ import annotations

from typing import Any

from PPIRLogic.cli.parsers.common import add_command, add_listen, add_parent_options


def add_relay(commands: Any) -> None:
    text = "Be the relay that two sites behind closed firewalls call. It passes on bytes that it cannot read. Run it at"
    text += " a third place."
    example = "ppir relay --listen 0.0.0.0:443 --allow 'Hospital A' --allow 'Hospital B'"
    p = add_command(commands, "relay", "relay:run_relay", text, example)
    add_listen(p)
    p.add_argument(
        "--allow", action="append", default=[], metavar="PEER",
        help="trusted peer (name or fingerprint) that may use it; may be given several times (every trusted peer)",
    )  # fmt: skip
    p.add_argument("--lines", type=int, default=64, help="lines between two sites at once, in all (64)")
    p.add_argument("--lines-of-caller", type=int, default=8, help="of these of one site that calls (8)")
    p.add_argument("--lines-of-room", type=int, default=16, help="of these of one site that is called (16)")
    p.add_argument("--hours", type=float, default=24.0, help="the longest that a line lasts; a run goes on over the"
                   " next (24)")  # fmt: skip
    add_parent_options(p)
