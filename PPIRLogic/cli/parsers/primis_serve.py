"""What can be typed after `ppir primis serve`, `catalogue` and `ask`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PPIRLogic.cli.parsers.common import (
    add_command,
    add_parent_options,
    add_relay_options,
    add_service_options,
    file_path,
)
from PPIRLogic.primis.levels import LEVELS, NOBODY


def add_serve(commands: Any) -> None:
    text = "Share sealed images with trusted peers. Any of them may have the files; who gets a grant, the rules say."
    example = "ppir primis serve x-ray.ppis --name x-ray --level segmentation --allow 'Hospital A=exact' --grants 5"
    p = add_command(commands, "serve", "primis_serve:run_serve", text, example)
    p.add_argument("files", nargs="+", type=file_path, metavar="FILE", help="sealed images (.ppis) of this site")
    p.add_argument(
        "--name", action="append", default=[], help="name to offer it under (image-1, …; never the file's); once a file"
    )
    p.add_argument(
        "--level", action="append", default=[], choices=[*LEVELS, NOBODY],
        help="highest level that is granted (overview); once, or once a file",
    )  # fmt: skip
    p.add_argument(
        "--allow", action="append", default=[], metavar="PEER[=LEVEL]",
        help="trusted peer (name or fingerprint) that sees the images, and its own highest level; may be given several"
        " times (every trusted peer)",
    )  # fmt: skip
    p.add_argument("--grants", type=int, default=10, help="grants of an image for one peer, over all sessions (10)")
    p.add_argument("--days", type=int, default=30, help="days until a grant expires (30)")
    p.add_argument("--ask", action="store_true", help="ask a person before each grant that the rules permit")
    p.add_argument("--max-sessions", type=int, default=8, help="sessions at once (8)")
    add_service_options(p)


def add_catalogue(commands: Any) -> None:
    text = "List the sealed images that a peer shows to this site: public headers, and what may be asked for."
    p = add_command(
        commands,
        "catalogue",
        "primis_serve:run_catalogue",
        text,
        "ppir primis catalogue --peer hospital-b.example:7443",
    )
    _add_peer(p)


def add_ask(commands: Any) -> None:
    text = "Fetch a sealed image of a peer and ask for a grant that opens it, for this site alone."
    example = "ppir primis ask x-ray --peer hospital-b.example:7443 --level overview --purpose teaching -o received"
    p = add_command(commands, "ask", "primis_serve:run_ask", text, example)
    p.add_argument("name", help="name of the image in the peer's catalogue")
    _add_peer(p)
    p.add_argument("--level", choices=LEVELS, default=LEVELS[0], help="level up to which to open it (overview)")
    p.add_argument("--purpose", required=True, help="what it is for; the owner reads it, and it is in the grant")
    p.add_argument(
        "-o", "--output", type=file_path, metavar="FOLDER", default=Path("."), help="for file and grant (this folder)"
    )


def _add_peer(p: Any) -> None:
    p.add_argument("--peer", required=True, metavar="HOST:PORT", help="where the peer shares its sealed images")
    add_relay_options(p)
    add_parent_options(p)
