"""Names to objects: ours when they are used, plugins by entry point, and faults that stay where they are."""

from __future__ import annotations

import importlib.metadata
import sys
from importlib.metadata import EntryPoint

import pytest

from PPIRLogic.cli.parsers.run_options import protocol_argument
from PPIRLogic.errors import InputError
from PPIRLogic.registration.catalogue import LOSSES, PROTOCOLS, protocol_names, shown_name, wire_name
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party2.policy import Policy
from PPIRLogic.registry import Registry

OURS = {"ncc": "PPIRLogic.registration.losses.ncc:NCC"}
LOSS = "PPIRLogic.registration.losses.base:Loss"
PLUGINS = {
    "raises": "no_such_module_at_all:X",
    "leaves": "leaves_at_import:X",
    "wrong": "json:dumps",
    "ncc": "json:dumps",  # a name of ours
    "kept": "json:dumps",  # a reserved one
    "Capital": "json:dumps",
    "far_too_long_a_name": "json:dumps",
    "twin": "PPIRLogic.registration.losses.ssd:SSD",  # says another name of itself
}


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> Registry[object]:
    (tmp_path / "leaves_at_import.py").write_text("raise SystemExit(3)")  # type: ignore[operator]
    monkeypatch.syspath_prepend(str(tmp_path))
    found = [EntryPoint(name, value, "a.group") for name, value in PLUGINS.items()]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found if group == "a.group" else [])
    return Registry("a.group", OURS, LOSS, ("kept",))


def test_names_cost_nothing(registry: Registry[object]) -> None:
    assert list(registry) == ["ncc", "raises", "leaves", "wrong", "twin"] and registry.builtin == ("ncc",)
    assert "leaves_at_import" not in sys.modules and len(registry) == 5


def test_no_plugin_takes_a_name_of_ours(registry: Registry[object]) -> None:
    assert type(registry["ncc"]).__name__ == "NCC"
    for name in ("kept", "Capital", "far_too_long_a_name"):
        assert name not in registry
        with pytest.raises(KeyError):
            registry[name]


@pytest.mark.parametrize("name", ["raises", "leaves", "wrong", "twin"])
def test_a_plugin_that_cannot_be_used_says_so_when_it_is_used(registry: Registry[object], name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}'.*Repair or remove the package"):
        registry[name]
    assert registry["ncc"] is registry["ncc"]


def test_the_names_that_people_see_need_no_protocol_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Registry, "_load", lambda self, name: pytest.fail(f"{name} was loaded"))
    assert [wire_name(shown_name(n)) for n in protocol_names()] == list(protocol_names())
    assert shown_name("published") == "published_cc" and shown_name("unknown") == wire_name("unknown") == "unknown"


def test_names_that_mean_something_else_are_reserved() -> None:
    assert {"published", "published_cc"} <= PROTOCOLS._reserved and "points_2d" in LOSSES._reserved


def test_a_former_name_of_a_protocol_is_taken_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    assert wire_name("fhe_verified") == "fhe" and "fhe_verified" in PROTOCOLS._reserved
    with pytest.warns(FutureWarning, match="fhe_verified is now fhe"):
        assert Parameters(protocol="fhe_verified").protocol == "fhe"
    with pytest.warns(FutureWarning, match="fhe_verified is now fhe"):
        assert Policy(protocols=frozenset({"fhe_verified", "mpc"})).protocols == {"fhe", "mpc"}
    assert protocol_argument("fhe_verified") == "fhe"
    assert "note: The protocol fhe_verified is now fhe" in capsys.readouterr().err
    assert protocol_argument("fhe") == "fhe" and not capsys.readouterr().err
