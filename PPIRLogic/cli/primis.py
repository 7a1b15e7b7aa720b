"""The commands `ppir primis …`: the table of them, and those that seal, open and grant."""

from __future__ import annotations

import getpass
import importlib
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from PPIRLogic.cli.common import (
    Arguments,
    HelpFormat,
    Interruptible,
    add_command,
    add_parent_options,
    file_path,
    home_of,
    note,
    say,
    watch_parent,
)
from PPIRLogic.errors import InputError
from PPIRLogic.primis.levels import LEVELS

COMMANDS = {  # in the order of the help; the file of a command is loaded when it is needed
    "seal": "primis:add_seal",
    "unseal": "primis:add_unseal",
    "inspect": "primis:add_inspect",
    "card": "primis:add_card",
    "grant": "primis:add_grant",
    "reseal": "primis:add_reseal",
    "escrow": "primis:add_escrow",
    "serve": "primis_serve:add_serve",
    "catalogue": "primis_serve:add_catalogue",
    "ask": "primis_serve:add_ask",
    "show": "primis_show:add_show",
    "demo": "primis_demo:add_demo",
    "train": "primis_train:add_train",
    "attack": "primis_attack:add_attack",
}


def add_primis(commands: Any, only: str = "") -> None:
    """The group itself. only: load this command of it alone."""
    text = "Share images as sealed codes, opened by compact keys: seal, grant, unseal, and more."
    words = (
        "An image becomes several codes, from an overview to the exact image. Each is encrypted under a key of its own,"
    )
    words += " so the file may lie anywhere; a grant opens it up to a level, for one recipient."
    example = "ppir primis seal chest.dcm --output chest.ppis\n  ppir primis grant chest.ppis --to b.ppic"
    p = commands.add_parser(
        "primis", help=text, description=textwrap.fill(words, 100), formatter_class=HelpFormat, allow_abbrev=False,
        epilog=f"example:\n  {example} --level segmentation --purpose 'lung study'",
    )  # fmt: skip
    inner = p.add_subparsers(dest="primis_command", required=True, metavar="COMMAND")
    for name in [only] if only in COMMANDS else COMMANDS:
        file, _, add = COMMANDS[name].partition(":")
        getattr(importlib.import_module(f"PPIRLogic.cli.{file}"), add)(inner)


# ------------------------------------------------------------------------------------------------------------- parsers


def _add(commands: Any, name: str, run: Callable[[Arguments], None], text: str, example: str) -> Any:
    """A command that ends with the process that started it, such as Slicer, and removes its scratch folders then."""

    def watched(a: Arguments) -> None:
        if a.with_parent:
            watch_parent(a.scratch)
        run(a)

    p = add_command(commands, name, watched, text, example)
    add_parent_options(p)
    return p


def add_seal(commands: Any) -> None:
    text = (
        "Seal an image: one encrypted code a level, in a file that may lie anywhere. This site's master key opens it."
    )
    p = _add(commands, "seal", _seal, text, "ppir primis seal chest.dcm --output chest.ppis")
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
    p = _add(commands, "unseal", _unseal, text, "ppir primis unseal chest.ppis --grant b.ppig --output chest.nrrd")
    p.add_argument("file", type=file_path, help="the sealed file")
    _add_output(p, "the image; beside it FILE.json says its level and whether it is exact")
    p.add_argument("--grant", type=file_path, help="a grant for this site")
    p.add_argument("--level", choices=LEVELS, help="open no more than this (all that the key opens)")


def add_inspect(commands: Any) -> None:
    text = "What anybody can read of a sealed image, a grant or a card, without keys."
    p = _add(commands, "inspect", _inspect, text, "ppir primis inspect chest.ppis")
    p.add_argument("file", type=file_path, help="a sealed file, a grant or a card")


def add_card(commands: Any) -> None:
    text = "Write this site's card: the key to which grants for it are encrypted, signed. Public; send it by mail."
    p = _add(commands, "card", _card, text, "ppir primis card --output hospital-b.ppic")
    _add_output(p, "the card, NAME.ppic")
    p.add_argument("--days", type=int, default=365, help="that it holds")
    p.add_argument(
        "--new-keys", action="store_true",
        help="new master and encryption keys from now on; the former ones still open what was made under them",
    )  # fmt: skip


def add_grant(commands: Any) -> None:
    text = "Grant a peer an image of this site up to a level: a file of at most 400 bytes, put on record in the ledger."
    example = "ppir primis grant chest.ppis --to b.ppic --level segmentation --purpose 'lung study' --output b.ppig"
    p = _add(commands, "grant", _grant, text, example)
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
    p = _add(commands, "reseal", _reseal, text, "ppir primis reseal chest.ppis --output chest.ppis --force")
    p.add_argument("file", type=file_path, help="the sealed file")
    _add_output(p, "the new file, NAME.ppis")
    p.add_argument("--levels", choices=LEVELS, default=LEVELS[-1], help="the highest level to seal again")
    _add_lengths(p)


def add_escrow(commands: Any) -> None:
    text = (
        "Write all keys that open this site's sealed images into one file, under a passphrase or for a peer's card; or"
    )
    text += " restore them from it. Keep it where a fire here does not reach."
    p = _add(commands, "escrow", _escrow, text, "ppir primis escrow --to archive.ppic --output keys.ppie")
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


# ------------------------------------------------------------------------------------------------------------- running


def _seal(a: Arguments) -> None:
    from PPIRLogic.primis import seal

    with Interruptible() as run, _progress(a, "sealing") as progress:
        sealed = seal(
            a.image, a.output, home=home_of(a), levels=a.levels, pad=not a.no_pad, quality=a.quality,
            keep_tags=a.keep_tag, rounded=a.round, overwrite=a.force, note=lambda text: _tell(a, text),
            progress=progress, cancel=run.token,
        )  # fmt: skip
    header = sealed.header
    say(a, "sealed", f"{_table(header)}\nsealed   {a.output}", **header.to_dict(), output=str(a.output))


@contextmanager
def _progress(a: Arguments, what: str) -> Iterator[Callable[[float], None]]:
    """A bar on a terminal, an event for a program: the part that is done."""
    if a.json:
        yield lambda part: say(a, "progress", "", part=round(part, 3))
        return
    columns = TextColumn(what), BarColumn(bar_width=24), TimeElapsedColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("", total=1.0)
        yield lambda part: bars.update(task, completed=part)


def _tell(a: Arguments, text: str) -> None:
    say(a, "note", "", note=text) if a.json else note(a, text)


def _unseal(a: Arguments) -> None:
    from PPIRLogic.primis import unseal
    from PPIRLogic.primis.sealing import refuse_unwritable

    refuse_unwritable(a.output, a.force)
    with Interruptible() as run, _progress(a, "opening") as progress:
        found = unseal(a.file, home=home_of(a), grant=a.grant, level=a.level, progress=progress, cancel=run.token)
        beside = found.write(a.output, overwrite=a.force)
    how = "exact: bit for bit what was sealed" if found.exact else found.note
    tags = "".join(f"\ntag      {name}: {value}" for name, value in found.tags.items())
    text = f"level    {found.level}; {how}{tags}\nimage    {a.output}\nbeside   {beside}"
    say(a, "unsealed", text, level=found.level, exact=found.exact, note=found.note, output=str(a.output))


def _inspect(a: Arguments) -> None:
    from PPIRLogic.primis import cards, grants, inspect
    from PPIRLogic.primis.sealing import read_small

    beginning = _beginning(a.file)
    if beginning == grants.MAGIC:
        found = grants.read_grant(read_small(a.file, grants.MAX_GRANT, "The grant"))
        text = (
            f"grant of {found.level_name} of image {found.image_id.hex()}\nfor      {found.recipient}\n"
            f"from     {found.issuer}\npurpose  {found.purpose}\n"
            f"holds    {cards.day_of(found.issued)} to {cards.day_of(found.expires)}"
        )
        say(a, "grant", text, **found.to_dict())
    elif beginning == cards.MAGIC:
        card = cards.read_card(read_small(a.file, cards.MAX_CARD, "The card"))
        text = f"card of {card.name}\nfingerprint  {card.fingerprint}\nholds until  {cards.day_of(card.expires)}"
        say(a, "card", text, name=card.name, fingerprint=card.fingerprint, expires=card.expires)
    else:
        header = inspect(a.file)
        say(a, "header", f"{_table(header)}\nNot authenticated without a key.", **header.to_dict())


def _beginning(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(4)
    except OSError:
        return b""  # `inspect` says why


def _table(header: Any) -> str:
    rows = [f"{name:<15}{code.length:>12} bytes" for name, code in zip(header.levels, header.codes, strict=True)]
    size = "×".join(map(str, reversed(header.shape)))
    first = f"image {header.image_id.hex()}  {size} {header.dtype}  model {header.model[:12]}…"
    return "\n".join([first, *rows, f"{'file':<15}{header.size:>12} bytes"])


def _card(a: Arguments) -> None:
    from PPIRLogic.primis import cards, own_card, read_card
    from PPIRLogic.primis.keys import renew_keys

    refuse_output(a.output, cards.SUFFIX, a.force)
    home = home_of(a)
    if a.new_keys:
        renew_keys(home)
    data = own_card(home, days=a.days)
    write_output(a.output, data)
    card = read_card(data)
    text = (
        f"card         {a.output}\nfingerprint  {card.fingerprint}\nholds until  {cards.day_of(card.expires)}\n"
        f"The other site trusts this fingerprint (ppir trust add), and grants with:  --to {a.output.name}"
    )
    say(a, "card", text, output=str(a.output), fingerprint=card.fingerprint, name=card.name, expires=card.expires)


def _grant(a: Arguments) -> None:
    from PPIRLogic.primis import cards, grant, grants, read_card, read_grant
    from PPIRLogic.primis.sealing import read_small

    refuse_output(a.output, grants.SUFFIX, a.force)
    card = read_small(a.to, cards.MAX_CARD, "The card")
    data = grant(a.file, card, a.level, home=home_of(a), purpose=a.purpose, days=a.days)
    write_output(a.output, data)
    found, holder = read_grant(data), read_card(card)
    text = (
        f"granted  {found.level_name} and what is below it, to {holder.name}\nto       {found.recipient}\n"
        f"until    {cards.day_of(found.expires)} (honest software stops then; what was opened stays with him)\n"
        f"grant    {a.output} ({len(data)} bytes); on record in the ledger"
    )
    say(a, "granted", text, **found.to_dict(), output=str(a.output), bytes=len(data))


def _reseal(a: Arguments) -> None:
    from PPIRLogic.primis import reseal

    header = reseal(a.file, a.output, home=home_of(a), level=a.levels, pad=not a.no_pad, overwrite=a.force).header
    text = f"{_table(header)}\nre-sealed  {a.output}: no former grant opens it"
    say(a, "resealed", text, **header.to_dict(), output=str(a.output))


def _escrow(a: Arguments) -> None:
    from PPIRLogic.primis import cards, escrow
    from PPIRLogic.primis.sealing import read_small

    home = home_of(a)
    if (a.restore is None) == (a.output is None):
        raise InputError("Give --output to write an escrow file, or --restore to take the keys from one.")
    if a.restore is not None:
        data = read_small(a.restore, escrow.MAX_ESCROW, "The escrow file")
        words = _passphrase(a, again=False) if escrow.needs_passphrase(data) else None
        ring = escrow.restore_escrow(data, home, passphrase=words)
        text = f"restored: this home now has {len(ring.masters)} master keys and {len(ring.encryption)} encryption keys"
        say(a, "restored", text, masters=len(ring.masters), encryption=len(ring.encryption))
        return
    refuse_output(a.output, escrow.SUFFIX, a.force)
    card = None if a.to is None else cards.trusted_card(read_small(a.to, cards.MAX_CARD, "The card"), home)
    data = escrow.write_escrow(home, card=card, passphrase=None if card is not None else _passphrase(a, again=True))
    write_output(a.output, data, private=True)
    whom = f"{card.name} ({card.fingerprint})" if card is not None else "whoever knows the passphrase"
    say(a, "escrow", f"escrow  {a.output}\nopens all sealed images of this site for {whom}", output=str(a.output))


def _passphrase(a: Arguments, again: bool) -> str:
    if a.passphrase_file is not None:
        from PPIRLogic.primis.sealing import read_small

        lines = read_small(a.passphrase_file, 1024, "The passphrase's file").decode(errors="replace").splitlines()
        return lines[0] if lines else ""
    try:
        words = getpass.getpass("passphrase: ")
        if again and getpass.getpass("again: ") != words:
            raise InputError("The two passphrases differ. Start again.")
    except EOFError:
        raise InputError("There is no terminal to ask for the passphrase. Give --passphrase-file.") from None
    return words


def refuse_output(path: Path, suffix: str, overwrite: bool) -> None:
    """Before anything is made or put on record: an output of another name, that exists, or where nothing can be."""
    from PPIRLogic.files import split_extension
    from PPIRLogic.primis.sealing import refuse_existing

    split_extension(path, (suffix,))
    refuse_existing(path, overwrite)


def write_output(path: Path, data: bytes, *, private: bool = False) -> None:
    """An output, whole or not at all."""
    from PPIRLogic.primis.sealing import write_whole

    write_whole(path, data, private=private)
