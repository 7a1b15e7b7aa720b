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
from PPIRLogic import primis, proxy

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MIN_EXAMPLES = 12
PUBLIC = [
    (f"{package.__name__}.{name}", getattr(package, name))
    for package in (PPIRLogic, primis, proxy)
    for name in package.__all__
    if not isinstance(getattr(package, name), (str, tuple, dict))  # constants
]
NAMES, VALUES = zip(*PUBLIC, strict=True)


def defining_modules() -> list[ModuleType]:
    """The modules that the public names come from."""
    names = {inspect.getmodule(value).__name__ for value in VALUES}  # type: ignore[union-attr]
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


@pytest.mark.parametrize("value", VALUES, ids=NAMES)
def test_every_public_name_has_an_example(value: Any) -> None:
    assert ">>> " in (inspect.getdoc(value) or "")


def raising() -> Iterator[tuple[str, Any]]:
    """Public functions, and methods of public classes that raise by themselves."""
    for name, value in PUBLIC:
        if inspect.isfunction(value):
            yield name, value
        for part, found in vars(value).items() if inspect.isclass(value) else ():
            method = getattr(found, "__func__", getattr(found, "fget", found))
            if not part.startswith("_") and inspect.isfunction(method) and "raise " in inspect.getsource(method):
                yield f"{name}.{part}", method


@pytest.mark.parametrize(("name", "function"), list(raising()), ids=lambda v: v if isinstance(v, str) else "")
def test_every_public_function_says_what_it_raises(name: str, function: Any) -> None:
    assert any(word in (inspect.getdoc(function) or "") for word in ("Error", "Cancelled", "with its errors")), name


@pytest.mark.parametrize(("name", "value"), PUBLIC, ids=NAMES)
def test_every_public_name_says_what_it_is(name: str, value: Any) -> None:
    text = inspect.getdoc(value) or ""
    assert text and not text.startswith(f"{name.rpartition('.')[2]}("), name  # not what dataclasses write by themselves
