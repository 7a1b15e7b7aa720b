"""What can be typed after `ppir primis attack`."""

from __future__ import annotations

from typing import Any

from PPIRLogic.cli.output import Arguments
from PPIRLogic.cli.parsers.common import add_command, file_path
from PPIRLogic.errors import InputError


def add_attack(commands: Any) -> None:
    text = (
        "Attack the public side of your own images, sealed and as codes with decoys, and say what comes out. All"
        " of it happens here; nothing is sent."
    )
    example = "ppir primis attack --data chests --output attacked"
    p = add_command(commands, "attack", "primis_attack:run_attack", text, example, check_attack)
    p.add_argument(
        "--data", type=file_path, required=True, metavar="FOLDER",
        help="images of many patients; labels.csv in it may name image, patient, label (DICOM names the patient)",
    )  # fmt: skip
    p.add_argument(
        "--output", type=file_path, metavar="FOLDER",
        help="writes the table, all figures as JSON, and one image as everybody sees it",
    )  # fmt: skip
    p.add_argument("--size", type=int, default=160, help="pixels to which each image is cut and averaged")
    p.add_argument("--images", type=int, default=300, help="take so many at most; 0: all")
    p.add_argument("--quick", action="store_true", help="attackers learn from few images, to see that everything works")
    p.add_argument("--changes", type=int, default=20_000, help="changed files that are tried")
    p.add_argument("--seed", type=int, default=0, help="of the attackers")


def check_attack(a: Arguments) -> None:
    """InputError for a number out of its range."""
    for name, value, low, high in (
        ("--size", a.size, 32, 1024), ("--images", a.images, 0, 100_000), ("--changes", a.changes, 1, 10_000_000),
        ("--seed", a.seed, 0, 2**32 - 1),
    ):  # fmt: skip
        if not low <= value <= high:
            raise InputError(f"{name} {value} cannot be used: give a number from {low} to {high}.")
