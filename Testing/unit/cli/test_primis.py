"""`ppir primis`: a group of commands, of which one is loaded when it is called."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from PPIRLogic.cli.main import build_parser
from PPIRLogic.cli.primis import COMMANDS


def inner(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The commands of `ppir primis` in a parser."""
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    (group,) = [a for a in groups[0].choices["primis"]._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(group.choices)


def test_one_command_is_loaded_alone() -> None:
    assert list(inner(build_parser("primis", "card"))) == ["card"]


@pytest.mark.parametrize("typed", ["", "--help", "nonsense"])
def test_all_are_loaded_for_the_help_and_for_mistakes(typed: str) -> None:
    assert list(inner(build_parser("primis", typed))) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_ends_with_the_process_that_started_it(name: str) -> None:
    parser = inner(build_parser("primis", name))[name]
    options = {option for action in parser._actions for option in action.option_strings}
    assert {"--home", "--json"} <= options and (name in ("train", "attack", "demo") or "--with-parent" in options)
