"""What can be typed after `ppir primis`: the commands of sealed images."""

from __future__ import annotations

import textwrap
from typing import Any

from PPIRLogic.cli.parsers.common import HelpFormat, add_command, add_parent_options, file_path
from PPIRLogic.cli.parsers.primis_attack import add_attack
from PPIRLogic.cli.parsers.primis_serve import add_ask, add_catalogue, add_serve
from PPIRLogic.cli.parsers.primis_show import add_demo, add_show
from PPIRLogic.cli.parsers.primis_train import add_train
from PPIRLogic.primis.levels import LEVELS


def add_primis(commands: Any) -> None:
    text = "Share images as sealed codes, opened by compact keys: seal, grant, unseal, and more."
    words = (
        "An image becomes several codes, from an overview to the exact image. Each is encrypted under a key of its own,"
    )
    words += " so the file may lie anywhere; a grant opens it up to a level, for one recipient."
    example = "ppir primis seal chest.dcm --output chest.ppis\n  ppir primis grant chest.ppis --to b.ppic"
    p = commands.add_parser(
        "primis", help=text, description=textwrap.fill(words, 100), formatter_class=HelpFormat, allow_abbrev=False,
        epilog=f"example:\n  {example} --level segmentation --purpose 'lung study' --output b.ppig",
    )  # fmt: skip
    inner = p.add_subparsers(dest="primis_command", required=True, metavar="COMMAND")
    for add in (
        add_seal, add_unseal, add_inspect, add_card, add_grant, add_reseal, add_escrow, add_serve, add_catalogue,
        add_ask, add_show, add_demo, add_train, add_attack,
    ):  # fmt: skip
        add(inner)


def _add(commands: Any, name: str, text: str, example: str) -> Any:
    p = add_command(commands, name, f"primis:run_{name}", text, example)
    add_parent_options(p)
    return p


def add_seal(commands: Any) -> None:
    text = (
        "Seal an image: one encrypted code a level, in a file that may lie anywhere. This site's master key opens it."
    )
    p = _add(commands, "seal", text, "ppir primis seal chest.dcm --output chest.ppis")
    p.add_argument("image", type=file_path, help="image file, or folder with one DICOM series (grey, at most 16 bits)")
    _add_output(p, "the sealed file, NAME.ppis")
    p.add_argument("--levels", choices=LEVELS, default=LEVELS[-1], help="the highest level to seal")
    _add_lengths(p)
    p.add_argument(
        "--quality", type=float, default=1.0, help="how much finer the lossy levels are than usual, 1/16 to 15"
    )
    p.add_argument(
        "--keep-tag", action="append", default=[], metavar="TAG",
        help="a DICOM tag to seal with the overview, such as Modality; none is kept otherwise",
    )  # fmt: skip
    p.add_argument("--round", action="store_true", help="take fractions to whole numbers; there is no exact level then")


def add_unseal(commands: Any) -> None:
    text = "Open a sealed image as far as a key goes: with a grant, or at the site that sealed it."
    p = _add(commands, "unseal", text, "ppir primis unseal chest.ppis --grant b.ppig --output chest.nrrd")
    p.add_argument("file", type=file_path, help="the sealed file")
    _add_output(p, "the image; beside it FILE.json says its level and whether it is exact")
    p.add_argument("--grant", type=file_path, help="a grant for this site")
    p.add_argument("--level", choices=LEVELS, help="open no more than this (all that the key opens)")


def add_inspect(commands: Any) -> None:
    text = "What anybody can read of a sealed image, a grant or a card, without keys."
    p = _add(commands, "inspect", text, "ppir primis inspect chest.ppis")
    p.add_argument("file", type=file_path, help="a sealed file, a grant or a card")


def add_card(commands: Any) -> None:
    text = "Write this site's card: the key to which grants for it are encrypted, signed. Public; send it by mail."
    p = _add(commands, "card", text, "ppir primis card --output hospital-b.ppic")
    _add_output(p, "the card, NAME.ppic")
    p.add_argument("--days", type=int, default=365, help="that it holds")
    p.add_argument(
        "--new-keys", action="store_true",
        help="new master and encryption keys from now on; the former ones still open what was made under them",
    )  # fmt: skip


def add_grant(commands: Any) -> None:
    text = "Grant a peer an image of this site up to a level: a file of at most 400 bytes, put on record in the ledger."
    example = "ppir primis grant chest.ppis --to b.ppic --level segmentation --purpose 'lung study' --output b.ppig"
    p = _add(commands, "grant", text, example)
    p.add_argument("file", type=file_path, help="the sealed file")
    p.add_argument("--to", type=file_path, required=True, metavar="CARD", help="the card of a trusted peer")
    p.add_argument("--level", choices=LEVELS, required=True, help="the highest level that it opens")
    p.add_argument("--purpose", required=True, help="what for; the recipient and the ledger are told")
    p.add_argument("--days", type=int, default=90, help="that it holds; binds honest software alone")
    _add_output(p, "the grant, NAME.ppig")


def add_reseal(commands: Any) -> None:
    text = (
        "Seal an image of this site anew, under new keys: no former grant opens the new file. Put it in the old one's"
    )
    text += " place. Whoever opened or kept the old file keeps what he has."
    p = _add(commands, "reseal", text, "ppir primis reseal chest.ppis --output chest.ppis --force")
    p.add_argument("file", type=file_path, help="the sealed file")
    _add_output(p, "the new file, NAME.ppis")
    p.add_argument("--levels", choices=LEVELS, default=LEVELS[-1], help="the highest level to seal again")
    _add_lengths(p)


def add_escrow(commands: Any) -> None:
    text = (
        "Write all keys that open this site's sealed images into one file, under a passphrase or for a peer's card; or"
    )
    text += " restore them from it. Keep it where a fire here does not reach."
    p = _add(commands, "escrow", text, "ppir primis escrow --to archive.ppic --output keys.ppie")
    p.add_argument("--to", type=file_path, metavar="CARD", help="the card of a trusted peer that may open everything")
    p.add_argument("--passphrase-file", type=file_path, help="its first line is the passphrase (asked for otherwise)")
    p.add_argument("--restore", type=file_path, metavar="ESCROW", help="take the keys of this file into the home")
    _add_output(p, "the escrow file, NAME.ppie", required=False)


def _add_lengths(p: Any) -> None:
    text = "leave every code its own length: smaller files, whose lengths tell of the content and link images"
    p.add_argument("--no-pad", action="store_true", help=text)


def _add_output(p: Any, text: str, required: bool = True) -> None:
    p.add_argument("--output", type=file_path, required=required, help=text)
    p.add_argument("--force", action="store_true", help="replace an output that exists")
