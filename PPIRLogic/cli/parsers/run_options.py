"""The options of a run, from the table of options."""

from __future__ import annotations

import argparse
import os
from typing import Any

from PPIRLogic.cli.output import Arguments, current_name
from PPIRLogic.cli.parsers.common import add_parent_options, file_path
from PPIRLogic.errors import InputError
from PPIRLogic.files import TRANSFORM_FILES
from PPIRLogic.registration.catalogue import protocol_names, shown_name
from PPIRLogic.registration.names import RECONNECT, factors_problem
from PPIRLogic.registration.options import OPTIONS, Option


def add_registration_options(p: Any) -> None:
    add_run_options(p)
    p = p.add_argument_group("results")
    p.add_argument("--output", type=file_path, required=True, help=f"transform file ({', '.join(TRANSFORM_FILES)})")
    p.add_argument("--inverse", type=file_path, help="transform file for the inverse (moving to fixed); not of bspline")
    p.add_argument("--warped", type=file_path, help="moving image resampled on the fixed grid")
    p.add_argument(
        "--dicom", type=file_path, metavar="FOLDER",
        help="new folder for a DICOM registration object and the warped series; the moving image is a DICOM series",
    )  # fmt: skip
    p.add_argument("--report", type=file_path, help="report as JSON; a readable .html is written beside it")
    p.add_argument(
        "--accept-doubtful", action="store_true", help="end with exit code 0, not 13, if the result is in doubt"
    )
    p.add_argument(
        "--pictures", type=file_path, metavar="FOLDER", help="existing folder for the report's pictures as PNG files"
    )


def add_run_options(p: Any) -> None:
    """Everything that decides how a run goes, and so what it discloses: the table of options."""
    add_parent_options(p)
    # what the command decides only when it knows its other options
    later = {"percent": None, "levels": "", "iterations": "", "threads": os.cpu_count() or 1}
    run, of = p.add_argument_group("the run"), p.add_argument_group("for some transforms, losses and samplings only")
    for name, option in OPTIONS.items():
        add_option(of if option.of else run, option, later.get(name, option.default))


def add_reconnect(p: Any) -> None:
    p.add_argument(
        "--reconnect", type=float, default=RECONNECT,
        help=f"seconds to try to reach a lost peer again and go on ({RECONNECT:g}; 0: never)",
    )  # fmt: skip


def add_option(p: Any, option: Option, value: Any) -> None:
    """One option of the table as an argument; `value`: what it is where it is not given."""
    said = option.help.replace("%", "%%")
    if option.kind == "yes":
        p.add_argument(option.option, action="store_true", help=said)
        return
    kinds = {"whole": int, "number": float}
    convert: Any = protocol_argument if option.name == "protocol" else kinds.get(option.kind, str)
    one_of = option.allowed if option.kind == "choice" and option.name != "protocol" else None
    metavar = f"{{{','.join(option.allowed)}}}" if option.name == "protocol" else option.metavar or None
    p.add_argument(option.option, type=convert, choices=one_of, default=value, metavar=metavar, help=said)


def protocol_argument(text: str) -> str:
    """The protocol's name on the wire, from the one that people see."""
    name = current_name(text)
    if name not in protocol_names():
        shown = ", ".join(shown_name(n) for n in protocol_names())
        raise argparse.ArgumentTypeError(f"unknown protocol '{text}' (choose from {shown})")
    return name


def values_of(a: Arguments) -> dict[str, Any]:
    """Every option of a run by its name, within its range; `initial` may be a file. InputError that says what is wrong.

    Whether they go together, `Parameters` knows.
    """
    if a.sampling != "full" and a.percent is None:
        raise InputError(f"--sampling {a.sampling} needs --percent, such as --percent 20.")
    values = {name: getattr(a, option.option[2:].replace("-", "_")) for name, option in OPTIONS.items()}
    if a.initial not in OPTIONS["initial"].allowed and not os.path.exists(a.initial):
        known = ", ".join(map(str, OPTIONS["initial"].allowed))
        raise InputError(f"--initial {a.initial}: it is none of {known}, and a file of this name does not exist.")
    values["levels"] = counts_of("--levels", a.levels, "shrink factors such as 4,2,1")
    values["iterations"] = counts_of("--iterations", a.iterations, "one count per level, such as 6,6,2")
    values["percent"] = OPTIONS["percent"].default if a.percent is None else a.percent
    if problem := factors_problem(values["levels"]) if values["levels"] else "":
        raise InputError(problem)
    as_they_are = ("initial", "protocol")  # a file, and a name that the parser has looked up
    return {name: v if name in as_they_are else OPTIONS[name].checked(v) for name, v in values.items()}


def check_values(a: Arguments) -> None:
    """InputError for an option that is out of its range, before anything is loaded for the run."""
    values_of(a)


def counts_of(option: str, text: str, what: str) -> tuple[int, ...] | None:
    """Whole numbers with commas between them; None for nothing."""
    try:
        return tuple(int(v) for v in text.split(",")) if text else None
    except ValueError:
        raise InputError(f"{option} {text}: give {what}.") from None
