"""The examples in the docstrings of the public names, run as they stand."""

from __future__ import annotations

import doctest
import importlib
import inspect
from types import ModuleType

import pytest

import PPIRLogic

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MIN_EXAMPLES = 12
WITHOUT = {"PPIRError", "__version__"}  # nothing to show; the results of runs are shown where they come from
OF_RUNS = {"PointsResult", "RegistrationResult", "Shared", "Parameters"}


def defining_modules() -> list[ModuleType]:
    """The modules that the public names come from."""
    names = {
        inspect.getmodule(value).__name__  # type: ignore[union-attr]
        for name in PPIRLogic.__all__
        if not isinstance(value := getattr(PPIRLogic, name), str)
    }
    return [importlib.import_module(name) for name in sorted(names)]


@pytest.mark.parametrize("module", defining_modules(), ids=lambda module: module.__name__)
def test_the_examples_of_a_module_are_true(module: ModuleType) -> None:
    assert doctest.testmod(module, optionflags=FLAGS).failed == 0


def test_examples_are_there_and_run() -> None:
    """Counts what runs, not what is skipped because it needs another site."""
    finder, count = doctest.DocTestFinder(exclude_empty=True), 0
    for module in defining_modules():
        for test in finder.find(module):
            count += sum(not e.options.get(doctest.SKIP, False) for e in test.examples)
    assert count >= MIN_EXAMPLES


@pytest.mark.parametrize("name", sorted(set(PPIRLogic.__all__) - WITHOUT - OF_RUNS))
def test_every_public_name_has_an_example(name: str) -> None:
    assert ">>> " in (inspect.getdoc(getattr(PPIRLogic, name)) or "")


@pytest.mark.parametrize("name", sorted(set(PPIRLogic.__all__) - {"__version__"}))
def test_every_public_name_says_what_it_is(name: str) -> None:
    value = getattr(PPIRLogic, name)
    text = inspect.getdoc(value) or ""
    assert text and not text.startswith(f"{name}("), name  # not what dataclasses write by themselves
