"""What can be typed after `ppir proxy attack`."""

from __future__ import annotations

import argparse
from typing import Any

from PPIRLogic.cli.output import Arguments
from PPIRLogic.cli.parsers.common import add_command, file_path
from PPIRLogic.errors import InputError

_SPECTRA = ("learned", "plain")


def add_attack(commands: Any) -> None:
    text = (
        "Try to recognise whose a proxy is: on your own scans, and with networks trained for it on virtual subjects."
        " All of it happens here; nothing is sent."
    )
    example = "ppir proxy attack --data scans --register --output attacked"
    p = add_command(commands, "attack", "proxy_attack:run_attack", text, example, check_attack)
    p.add_argument(
        "--data", type=file_path, metavar="FOLDER",
        help="scans of at least 3 persons, SUBJECT_VISIT.nrrd: the first of each is known, the last becomes a proxy",
    )  # fmt: skip
    p.add_argument("--match", default="", metavar="TEXT", help="only scans with this in their names, such as FLAIR")
    p.add_argument("--register", action="store_true", help="also register candidates to proxies, and both to an atlas")
    p.add_argument(
        "--labels", type=file_path, metavar="FOLDER",
        help="label maps, to train identity networks on virtual subjects (needs the extra 'train'; long)",
    )  # fmt: skip
    p.add_argument(
        "--strengths", type=_numbers, default=(0.0, 4.0, 8.0, 12.0), metavar="MM,…",
        help="strengths to try; 0: the scan itself (0,4,8,12)",
    )  # fmt: skip
    p.add_argument(
        "--spectra", type=_words, default=("learned",), metavar="NAME,…", help="learned, plain, or both (learned)"
    )
    p.add_argument("--model", type=file_path, help="network that measures volumes (default: the one that is shipped)")
    p.add_argument("--steps", type=int, default=150, help="of a network's training")
    p.add_argument("--persons", type=int, default=60, help="virtual subjects among whom one is sought")
    p.add_argument("--seed", type=int, default=0, help="of virtual subjects and networks")
    p.add_argument("--output", type=file_path, metavar="FOLDER", help="writes the table, and all figures as JSON")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(n) for n in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not numbers with commas between") from None


def _words(text: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    if not set(found) <= set(_SPECTRA):
        raise argparse.ArgumentTypeError(f"'{text}' is not {' or '.join(_SPECTRA)}")
    return found


def check_attack(a: Arguments) -> None:
    """InputError for nothing to attack, or a number out of its range."""
    if a.data is None and a.labels is None:
        raise InputError("Give --data with scans, --labels with label maps, or both.")
    if not a.strengths or not all(0 <= s <= 24 for s in a.strengths):
        raise InputError("--strengths must be from 0 to 24 mm.")
    for name, value, low, high in (
        ("--steps", a.steps, 1, 100_000), ("--persons", a.persons, 4, 1000), ("--seed", a.seed, 0, 2**31 - 1),
    ):  # fmt: skip
        if not low <= value <= high:
            raise InputError(f"{name} {value} cannot be used: give a number from {low} to {high}.")
