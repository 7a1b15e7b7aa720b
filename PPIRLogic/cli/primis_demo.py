"""The work of `ppir primis demo`: a site that seals a real image and shares it, another that asks for every level.

Each has a home of its own; they talk over TLS on loopback. The owner is a process, who asks is this one.
"""

from __future__ import annotations

from pathlib import Path

from PPIRLogic.cli.demo import DATA
from PPIRLogic.cli.output import Arguments, print_line
from PPIRLogic.errors import InputError, OutputError, PPIRError
from PPIRLogic.files import shown_path
from PPIRLogic.primis.levels import LEVELS

IMAGE = "chest_xray_00001308_002.png"  # in sample_data


def run_demo(a: Arguments) -> None:
    show_sharing(a.image or DATA / IMAGE, a.output)


def show_sharing(image: Path, output: Path) -> None:
    """Seal, share, ask, open; pictures and a page into `output`. Errors: as `seal`, `ask` and `unseal`, OutputError."""
    from PPIRLogic.cli.primis_show import show
    from PPIRLogic.primis.party1 import ask
    from PPIRLogic.primis.simulate import NAME, sharing
    from PPIRLogic.report.sealed import decibels
    from PPIRLogic.report.wording import human_bytes

    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {shown_path(output)} cannot be made: {error.strerror}.") from None
    print_line("Hospital B seals the image and shares it …")
    with sharing(image) as world:
        for level in LEVELS:
            got = ask(NAME, world.address, level, "demonstration", output / "hospital_a", home=world.asker)
            print_line(f"Hospital A asks for '{level}' and is granted it: {got.grant.stat().st_size} bytes.")
            if level == LEVELS[0]:
                _no_more(got.file, got.grant, world.asker)
        for row in show(got.file, output, home=world.asker, grant=got.grant):
            print_line(f"  {row.level:15s} {human_bytes(row.so_far):>9s}  {decibels(row.psnr):>8s}  {row.picture}")
    print_line(f"Pictures and sizes on one page: {(output / 'levels.html').resolve()}")


def _no_more(file: Path, grant: Path, home: Path) -> None:
    """That a grant opens its level and none above is tried, not said."""
    from PPIRLogic.primis import unseal

    try:
        unseal(file, home=home, grant=grant, level=LEVELS[1])
    except InputError as refused:
        print_line(f"With that grant it cannot open more: {refused}")
    else:
        raise PPIRError(f"A grant of '{LEVELS[0]}' opened '{LEVELS[1]}'. This must not be: please report it.")
