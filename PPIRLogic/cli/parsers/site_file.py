"""A file of options, such as site.toml of `ppir serve --config`: the options of a command by their own names.

What is typed beats what the file says. Every key is an option; an unknown one, or a value of another type, is refused
by name: a mistyped limit must not be no limit.
"""

from __future__ import annotations

import argparse
import difflib
import os
import stat
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PPIRLogic.cli.output import Arguments
from PPIRLogic.cli.parsers.common import file_path
from PPIRLogic.errors import InputError
from PPIRLogic.files import shown_path

NOT_IN_A_FILE = ("help", "config", "health", "with_parent")
POSITIONAL = {"fixed": "images"}  # what they are called in a file
_MAX_BYTES = 2**20


def key_of(action: argparse.Action) -> str:
    """What an option is called in a file: its own name without the dashes."""
    return action.option_strings[-1][2:] if action.option_strings else POSITIONAL.get(action.dest, action.dest)


def keys_of(command: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Every option of a command that a file may hold, by its key, in the order of the help."""
    return {
        key_of(action): action
        for action in command._actions
        if action.help != argparse.SUPPRESS and action.dest not in NOT_IN_A_FILE
    }


def with_file(parser: argparse.ArgumentParser, given: Sequence[str], a: Arguments) -> Arguments:
    """What was typed, completed by the file that it names with --config. InputError that names file and key."""
    if getattr(a, "config", None) is None:
        return a
    command = command_parser(parser, a.command)
    values = read_site_file(a.config, command)
    typed = _typed(parser, command, given)
    for key, action in keys_of(command).items():
        if key in values and action.dest not in typed:
            action.default = values[key]
    return parser.parse_args(given)


def command_parser(parser: argparse.ArgumentParser, name: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    commands = next(v for v in parser._actions if isinstance(v, argparse._SubParsersAction))
    found: argparse.ArgumentParser = commands.choices[name]
    return found


def _typed(parser: argparse.ArgumentParser, command: argparse.ArgumentParser, given: Sequence[str]) -> set[str]:
    """Which options were typed, whatever their values: parsed once more without defaults."""
    former = [(action, action.default) for action in command._actions]
    for action, _ in former:
        action.default = argparse.SUPPRESS
    try:
        return set(vars(parser.parse_args(given)))
    finally:
        for action, default in former:
            action.default = default


def read_site_file(path: Path, command: argparse.ArgumentParser) -> dict[str, Any]:
    """The values of a file by their keys, as the command would have them. Paths are below the folder of the file."""
    known = keys_of(command)
    told = _load(path)
    out: dict[str, Any] = {}
    for key, value in told.items():
        if key not in known:
            near = difflib.get_close_matches(key.replace("_", "-").lower(), known, 1)
            advice = f"Did you mean '{near[0]}'?" if near else f"Known are {', '.join(known)}."
            raise InputError(f"{shown_path(path)}: unknown key '{key:.40}'. {advice}")
        try:
            out[key] = _value(known[key], value, path.resolve().parent)
        except TypeError as wanted:
            raise InputError(f"{shown_path(path)}: '{key}' must be {wanted}, not {_toml_kind(value)}.") from None
    return out


def _load(path: Path) -> Mapping[str, Any]:
    what = f"The site file '{shown_path(path)}'"
    try:
        status = path.stat()
        if os.name == "posix" and status.st_mode & stat.S_IWOTH:
            raise InputError(f"{what} can be written by every user of this machine. Say: chmod o-w {shown_path(path)}")
        if status.st_size > _MAX_BYTES:
            raise InputError(f"{what} is longer than 1 MiB. Give a file of options.")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{what} cannot be read: {error.strerror or error}. Check the path.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{what} is not TOML: {str(error)[:120]}.") from None


def kind_of(action: argparse.Action) -> str:
    """What a value in the file must be, in words."""
    if isinstance(action, argparse._StoreTrueAction):
        return "true or false"
    if _is_list(action):
        return "a list of texts"
    numbers: dict[Any, str] = {int: "a whole number", float: "a number"}
    return numbers.get(action.type, "a text")


def _is_list(action: argparse.Action) -> bool:
    return isinstance(action, argparse._AppendAction) or action.nargs == "*" or is_names(action)


def is_names(action: argparse.Action) -> bool:
    """Whether an option takes names with commas between them: a list in the file."""
    return str(action.metavar).startswith("NAME,NAME")


def _value(action: argparse.Action, value: Any, folder: Path) -> Any:
    """A value of the file as the command line would give it; TypeError, saying what it must be."""
    wanted = TypeError(kind_of(action))
    if isinstance(action, argparse._StoreTrueAction):
        if not isinstance(value, bool):
            raise wanted
        return value
    if _is_list(action):
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            raise wanted
        if is_names(action):
            return ",".join(value)
        return [_text(action, v, folder) for v in value]
    if action.type in (int, float):
        if isinstance(value, bool) or not isinstance(value, (int,) if action.type is int else (int, float)):
            raise wanted
        return action.type(value)  # type: ignore[operator]
    if not isinstance(value, str):
        raise wanted
    return _text(action, value, folder)


def _text(action: argparse.Action, value: str, folder: Path) -> Any:
    return folder / value if action.type is file_path else value


def _toml_kind(value: Any) -> str:
    kinds: tuple[tuple[Any, str], ...] = (
        (bool, "true or false"), (int, "a whole number"), (float, "a number"), (str, "a text"), (list, "a list"),
        (dict, "a table"),
    )  # fmt: skip
    return next((words for kind, words in kinds if isinstance(value, kind)), "a date or time")
