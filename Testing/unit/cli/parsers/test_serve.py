"""What is typed after `ppir serve`: names as on the wire, and a help that says what is permitted without options."""

from __future__ import annotations

from PPIRLogic.cli.main import build_parser, parse
from PPIRLogic.registration.protocols import permitted_by_default


def test_the_help_names_the_protocols_that_are_permitted_by_default() -> None:
    shown = next(a for a in build_parser("serve")._subparsers._group_actions[0].choices["serve"]._actions
                 if a.dest == "protocols")  # fmt: skip
    assert shown.default is None and f": {','.join(sorted(permitted_by_default()))})" in shown.help


def test_lists_become_names_on_the_wire() -> None:
    a = parse(["serve", "a.nrrd", "b.nrrd", "--subject", "one", "--protocols", "fhe, published_cc", "--masks", ""])
    assert a.protocols == {"fhe", "published"} and a.masks == frozenset() and a.subject == ["one", "one"]
    assert a.budget == [5.0, 20.0, 20_000, 200_000, 200, 2.0]
