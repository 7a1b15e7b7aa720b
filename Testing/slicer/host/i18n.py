"""slicer.i18n: texts pass through `translator`, which is the identity until a test sets another one."""

from __future__ import annotations

import string
import sys
import types
from collections.abc import Callable
from pathlib import Path

import slicer

translators: dict[str, Callable[[str, str], str]] = {}
"""Set translators["current"] to a function of (context, text) to see a module in another language."""


def _fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def translate(context: str, text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"Only a text can be translated, not {text!r}")
    return translators["current"](context, text) if "current" in translators else text


def tr(text: str) -> str:
    """Translates in the context of the calling file; a translation with other {placeholders} is not used."""
    caller = Path(sys._getframe(1).f_code.co_filename)
    package = f"{caller.parent.name}." if (caller.parent / "__init__.py").exists() else ""
    translated = translate(package + caller.stem, text)
    return translated if _fields(translated) == _fields(text) else text


def install() -> None:
    module = types.ModuleType("slicer.i18n")
    module.tr, module.translate = tr, translate  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    slicer.i18n = module


install()
