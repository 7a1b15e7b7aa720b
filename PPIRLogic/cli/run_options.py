"""The Parameters of a run from what was typed, and its outputs, checked."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PPIRLogic.cli.common import warn_of_protocols
from PPIRLogic.cli.output import Arguments, note
from PPIRLogic.cli.parsers.run_options import values_of
from PPIRLogic.errors import InputError, OutputError
from PPIRLogic.files import TRANSFORM_FILES, name_problem, shown_path
from PPIRLogic.images.volume import Volume
from PPIRLogic.images.writing import WRITABLE_IMAGES, png_problem
from PPIRLogic.registration.options import OPTIONS
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.transform_kinds import TRANSFORMS
from PPIRLogic.transforms import read_transform


def reconnect_of(a: Arguments) -> float:
    if not 0 <= a.reconnect < float("inf"):
        raise InputError("--reconnect must be a number of seconds of at least 0.")
    return float(a.reconnect)


def parameters_of(a: Arguments, has_fixed_mask: bool) -> Parameters:
    warn_of_protocols(a, [a.protocol])
    values = values_of(a)
    if a.initial not in OPTIONS["initial"].allowed:
        values["initial"] = read_transform(a.initial)
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
