"""`ppir primis`: a group of commands, each with the options that every command has, and an example."""

from __future__ import annotations

import argparse
import importlib

import pytest

from PPIRLogic.cli.main import build_parser


def inner() -> dict[str, argparse.ArgumentParser]:
    """The commands of `ppir primis`."""
    groups = [a for a in build_parser("primis")._actions if isinstance(a, argparse._SubParsersAction)]
    (group,) = [a for a in groups[0].choices["primis"]._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(group.choices)


NAMES = [
    "seal", "unseal", "inspect", "card", "grant", "reseal", "escrow", "serve", "catalogue", "ask", "show", "demo",
    "train", "attack",
]  # fmt: skip


def test_these_are_the_commands() -> None:
    assert list(inner()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_command_teaches_and_names_its_work(name: str) -> None:
    parser = inner()[name]
    options = {option for action in parser._actions for option in action.option_strings}
    assert {"--home", "--json"} <= options and (name in ("attack", "demo") or "--with-parent" in options)
    assert parser.epilog is not None and parser.epilog.startswith(f"example:\n  ppir primis {name} ")
    file, _, work = str(parser.get_default("run")).partition(":")
    assert callable(getattr(importlib.import_module(f"PPIRLogic.cli.{file}"), work))
