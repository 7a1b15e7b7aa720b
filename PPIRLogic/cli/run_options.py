"""The options of a run, and the Parameters made from them."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PPIRLogic.cli.common import (
    Arguments,
    add_parent_options,
    counts_of,
    current_name,
    file_path,
    note,
    warn_of_protocols,
)
from PPIRLogic.errors import InputError, OutputError
from PPIRLogic.files import name_problem, shown_path
from PPIRLogic.images.volume import Volume
from PPIRLogic.images.writing import WRITABLE_IMAGES, png_problem
from PPIRLogic.registration.catalogue import protocol_names, shown_name
from PPIRLogic.registration.options import OPTIONS, Option
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import RECONNECT
from PPIRLogic.registration.transform_kinds import TRANSFORMS
from PPIRLogic.transforms import TRANSFORM_FILES


def add_registration_options(p: Any) -> None:
    add_run_options(p)
    p = p.add_argument_group("results")
    p.add_argument("--output", type=file_path, required=True, help=f"transform file ({', '.join(TRANSFORM_FILES)})")
    p.add_argument("--inverse", type=file_path, help="transform file for the inverse (moving to fixed); not of bspline")
    p.add_argument("--warped", type=file_path, help="moving image resampled on the fixed grid")
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


def reconnect_of(a: Arguments) -> float:
    if not 0 <= a.reconnect < float("inf"):
        raise InputError("--reconnect must be a number of seconds of at least 0.")
    return float(a.reconnect)


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


def parameters_of(a: Arguments, has_fixed_mask: bool) -> Parameters:
    from PPIRLogic.transforms import read_transform

    warn_of_protocols(a, [a.protocol])
    if a.sampling != "full" and a.percent is None:
        raise InputError(f"--sampling {a.sampling} needs --percent, such as --percent 20.")
    values = {name: getattr(a, option.option[2:].replace("-", "_")) for name, option in OPTIONS.items()}
    if a.initial not in OPTIONS["initial"].allowed:
        if not os.path.exists(a.initial):
            known = ", ".join(map(str, OPTIONS["initial"].allowed))
            raise InputError(f"--initial {a.initial}: it is none of {known}, and a file of this name does not exist.")
        values["initial"] = read_transform(a.initial)
    values["levels"] = counts_of("--levels", a.levels, "shrink factors such as 4,2,1")
    values["iterations"] = counts_of("--iterations", a.iterations, "one count per level, such as 6,6,2")
    values["percent"] = OPTIONS["percent"].checked(OPTIONS["percent"].default if a.percent is None else a.percent)
    _note_what_has_no_use(a, values)
    values["percent"] = values["percent"] if a.sampling != "full" else OPTIONS["percent"].default
    values["fixed_mask"] = a.fixed_mask or ("fill" if has_fixed_mask else None)
    return Parameters(**values)


def _note_what_has_no_use(a: Arguments, values: Mapping[str, Any]) -> None:
    """Say which options were given that this transform, loss or sampling has no use for."""
    chosen = {a.transform, a.loss, a.sampling}
    for name, option in OPTIONS.items():
        if values[name] not in (option.default, None) and option.of and not chosen & set(option.of):
            note(a, f"{option.option} has no use here: it goes with {', '.join(option.of)}.")


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
        if problem := name_problem(path):
            raise OutputError(f"'{shown_path(path)}' cannot be written: {problem}")
        if not path.name.lower().endswith(endings):
            text = endings is kind.files and path.name.lower().endswith(TRANSFORM_FILES)
            why = " A displacement field needs a binary file." if text else ""
            raise OutputError(f"{path}: the name must end in one of {', '.join(endings)}.{why}")
        folder = path.resolve().parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise OutputError(f"{path}: the folder {folder} does not exist or cannot be written to.")
        if path.is_dir():
            raise OutputError(f"{path} is a folder; give a file name.")
        _try_folder(path, folder)
    _check_distinct(a)
    if a.pictures is not None and not a.pictures.is_dir():
        raise OutputError(f"{a.pictures}: this folder does not exist. Make it, or give another with --pictures.")


def _try_folder(path: Path, folder: Path) -> None:
    """OutputError unless a file can be made where `path` is to lie; a permission may say more than is true."""
    trial = folder / f".{secrets.token_hex(8)}.part"
    try:
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise OutputError(
            f"{path}: no file can be made in the folder {folder}: {error.strerror}. Choose another."
        ) from None


def _check_distinct(a: Arguments) -> None:
    """OutputError where two outputs are one file, or an output is an input."""
    inputs = ("moving", "fixed", "mask", "fixed_mask_file", "show_fixed", "initial")
    seen = {
        Path(given).resolve(): f"the input {given}"
        for name in inputs
        if isinstance(given := getattr(a, name, None), (str, Path)) and os.path.exists(given)
    }
    outputs = {f"--{name}": getattr(a, name) for name in ("output", "inverse", "warped", "report")}
    if a.report is not None:
        outputs["the page beside --report"] = a.report.with_suffix(".html")
    for name, path in outputs.items():
        if path is None:
            continue
        if (known := seen.setdefault(path.resolve(), name)) is not name:
            raise OutputError(f"{name} {path}: this file is {known}, too. Give each a file of its own.")


def check_warped(path: Path | None, moving: Volume) -> None:
    """OutputError where the format of the warped image cannot hold what is to be written: said before the run."""
    if path is None or not path.name.lower().endswith((".png", ".tif", ".tiff")):
        return
    if moving.geometry.dimension != 2:
        raise OutputError(f"--warped {path}: this format holds 2D images only. Use .nrrd or .nii.gz.")
    if path.name.lower().endswith(".png") and (problem := png_problem(moving.array)):
        raise OutputError(f"--warped {path}: {problem}")
