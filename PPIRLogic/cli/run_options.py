"""The options of a run, and the Parameters made from them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from PPIRLogic.cli.common import Arguments, add_parent_options, counts_of, warn_of_protocols
from PPIRLogic.errors import InputError, OutputError
from PPIRLogic.images.writing import WRITABLE_IMAGES
from PPIRLogic.registration.catalogue import protocol_names, shown_name, wire_name
from PPIRLogic.registration.options import OPTIONS, Option
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.transform_kinds import TRANSFORMS
from PPIRLogic.transforms import TRANSFORM_FILES


def add_registration_options(p: Any) -> None:
    add_run_options(p)
    p.add_argument("--output", type=Path, required=True, help=f"transform file ({', '.join(TRANSFORM_FILES)})")
    p.add_argument("--inverse", type=Path, help="transform file for the inverse (moving to fixed); not of bspline")
    p.add_argument("--warped", type=Path, help="moving image resampled on the fixed grid")
    p.add_argument("--report", type=Path, help="report as JSON; a readable .html is written beside it")
    p.add_argument("--pictures", type=Path, help="existing folder for the report's pictures as PNG files")


def add_run_options(p: Any) -> None:
    """Everything that decides how a run goes, and so what it discloses: the table of options."""
    add_parent_options(p)
    # what the command decides only when it knows its other options
    later = {"percent": None, "fixed_mask": None, "levels": "", "iterations": "", "threads": os.cpu_count() or 1}
    for name, option in OPTIONS.items():
        add_option(p, option, later.get(name, option.default))


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
    name = wire_name(text)
    if name not in protocol_names():
        shown = ", ".join(shown_name(n) for n in protocol_names())
        raise argparse.ArgumentTypeError(f"unknown protocol '{text}' (choose from {shown})")
    return name


def parameters_of(a: Arguments, has_fixed_mask: bool) -> Parameters:
    from PPIRLogic.transforms import read_transform

    warn_of_protocols(a, [a.protocol])
    if a.sampling != "full" and a.percent is None:
        raise InputError(f"--sampling {a.sampling} needs --percent, such as --percent 20.")
    values = {name: getattr(a, option.option[2:].replace("-", "_")) for name, option in OPTIONS.items()}
    if a.initial not in OPTIONS["initial"].allowed:
        values["initial"] = read_transform(a.initial)
    values["levels"] = counts_of("--levels", a.levels, "shrink factors such as 4,2,1")
    values["iterations"] = counts_of("--iterations", a.iterations, "one count per level, such as 6,6,2")
    values["percent"] = a.percent if a.sampling != "full" else 100.0
    values["fixed_mask"] = a.fixed_mask or ("fill" if has_fixed_mask else "none")
    return Parameters(**values)


def check_outputs(a: Arguments) -> None:
    """Say before a long run, not after it, that a result could not be written."""
    kind = TRANSFORMS[a.transform]
    if a.inverse is not None and not kind.has_inverse:
        able = ", ".join(name for name in TRANSFORMS.builtin if TRANSFORMS[name].has_inverse)
        raise InputError(f"--inverse: a {kind.name} transform has no inverse here; these have one: {able}.")
    transforms = kind.files
    files = ((a.output, transforms), (a.inverse, transforms), (a.warped, WRITABLE_IMAGES), (a.report, (".json",)))
    for path, endings in files:
        if path is None:
            continue
        if not path.name.lower().endswith(endings):
            why = " A displacement field needs a binary file." if path.name.lower().endswith(TRANSFORM_FILES) else ""
            raise OutputError(f"{path}: the name must end in one of {', '.join(endings)}.{why}")
        folder = path.resolve().parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise OutputError(f"{path}: the folder {folder} does not exist or cannot be written to.")
        if path.is_dir():
            raise OutputError(f"{path} is a folder; give a file name.")
    if a.pictures is not None and not a.pictures.is_dir():
        raise OutputError(f"{a.pictures}: this folder does not exist. Make it, or give another with --pictures.")
