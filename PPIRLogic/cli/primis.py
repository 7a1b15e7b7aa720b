"""The work of `ppir primis`: seal, open, grant, and what belongs to it."""

from __future__ import annotations

import functools
import getpass
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PPIRLogic.cli.common import Interruptible, home_of, watch_parent
from PPIRLogic.cli.output import Arguments, note, say
from PPIRLogic.errors import InputError


def _watched(work: Callable[[Arguments], None]) -> Callable[[Arguments], None]:
    """Work that ends with the process that started it, such as Slicer, and then leaves no scratch folder behind."""

    @functools.wraps(work)
    def run(a: Arguments) -> None:
        if a.with_parent:
            watch_parent(a.scratch)
        work(a)

    return run


def run_seal(a: Arguments) -> None:
    from PPIRLogic.primis import seal

    with Interruptible(a) as run, _progress(a, "sealing") as progress:
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
    if not sys.stderr.isatty():
        yield lambda part: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn(what), BarColumn(bar_width=24), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=1.0)
        yield lambda part: bars.update(task, completed=part)


def _tell(a: Arguments, text: str) -> None:
    say(a, "note", "", note=text) if a.json else note(a, text)


def run_unseal(a: Arguments) -> None:
    from PPIRLogic.primis import unseal
    from PPIRLogic.primis.whole_files import refuse_unwritable

    refuse_unwritable(a.output, a.force)
    with Interruptible(a) as run, _progress(a, "opening") as progress:
        found = unseal(a.file, home=home_of(a), grant=a.grant, level=a.level, progress=progress, cancel=run.token)
        run.token.check()
        beside = found.write(a.output, overwrite=a.force)
    how = f"exact: every value as it was sealed, as {found.pixels.dtype}" if found.exact else found.note
    if not found.exact and a.output.suffix.lower() not in (".nrrd", ".mha"):
        how += f" (a {a.output.suffix} holds no such mark: keep the file beside it)"
    tags = "".join(f"\ntag      {name}: {value}" for name, value in found.tags.items())
    text = f"level    {found.level}; {how}{tags}\nimage    {a.output}\nbeside   {beside}"
    say(a, "unsealed", text, level=found.level, exact=found.exact, note=found.note, output=str(a.output))


@_watched
def run_inspect(a: Arguments) -> None:
    from PPIRLogic.primis import cards, grants, inspect
    from PPIRLogic.primis.whole_files import read_small

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


@_watched
def run_card(a: Arguments) -> None:
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


@_watched
def run_grant(a: Arguments) -> None:
    from PPIRLogic.primis import cards, grant, grants, read_card, read_grant
    from PPIRLogic.primis.whole_files import read_small

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


@_watched
def run_reseal(a: Arguments) -> None:
    from PPIRLogic.primis import reseal

    header = reseal(a.file, a.output, home=home_of(a), level=a.levels, pad=not a.no_pad, overwrite=a.force).header
    text = f"{_table(header)}\nre-sealed  {a.output}: no former grant opens it"
    say(a, "resealed", text, **header.to_dict(), output=str(a.output))


@_watched
def run_escrow(a: Arguments) -> None:
    from PPIRLogic.primis import cards, escrow
    from PPIRLogic.primis.whole_files import read_small

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
        from PPIRLogic.primis.whole_files import read_small

        lines = read_small(a.passphrase_file, 1024, "The passphrase's file").decode(errors="replace").splitlines()
        return lines[0] if lines else ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", getpass.GetPassWarning
            )  # without a terminal it would be shown as it is typed
            words = getpass.getpass("passphrase: ")
            if again and getpass.getpass("again: ") != words:
                raise InputError("The two passphrases differ. Start again.")
    except (EOFError, getpass.GetPassWarning):
        raise InputError("There is no terminal to ask for the passphrase. Give --passphrase-file.") from None
    return words


def refuse_output(path: Path, suffix: str, overwrite: bool) -> None:
    """Before anything is made or put on record: an output of another name, that exists, or where nothing can be."""
    from PPIRLogic.files import split_extension
    from PPIRLogic.primis.whole_files import refuse_existing

    split_extension(path, (suffix,))
    refuse_existing(path, overwrite)


def write_output(path: Path, data: bytes, *, private: bool = False) -> None:
    """An output, whole or not at all."""
    from PPIRLogic.primis.whole_files import write_whole

    write_whole(path, data, private=private)
