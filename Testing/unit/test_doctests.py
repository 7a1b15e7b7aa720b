"""The examples in the docstrings of the public names, run as they stand."""

from __future__ import annotations

import doctest
import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import PPIRLogic

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MIN_EXAMPLES = 12


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


@pytest.mark.parametrize("name", sorted(set(PPIRLogic.__all__) - {"__version__"}))
def test_every_public_name_has_an_example(name: str) -> None:
    assert ">>> " in (inspect.getdoc(getattr(PPIRLogic, name)) or "")


def raising() -> Iterator[tuple[str, Any]]:
    """Public functions, and methods of public classes that raise by themselves."""
    for name in PPIRLogic.__all__:
        value = getattr(PPIRLogic, name)
        if inspect.isfunction(value):
            yield name, value
        for part, found in vars(value).items() if inspect.isclass(value) else ():
            method = getattr(found, "__func__", getattr(found, "fget", found))
            if not part.startswith("_") and inspect.isfunction(method) and "raise " in inspect.getsource(method):
                yield f"{name}.{part}", method


@pytest.mark.parametrize(("name", "function"), list(raising()), ids=lambda v: v if isinstance(v, str) else "")
def test_every_public_function_says_what_it_raises(name: str, function: Any) -> None:
    assert any(word in (inspect.getdoc(function) or "") for word in ("Error", "Cancelled", "with its errors")), name


@pytest.mark.parametrize("name", sorted(set(PPIRLogic.__all__) - {"__version__"}))
def test_every_public_name_says_what_it_is(name: str) -> None:
    value = getattr(PPIRLogic, name)
    text = inspect.getdoc(value) or ""
    assert text and not text.startswith(f"{name}("), name  # not what dataclasses write by themselves
