"""Arguments of the public functions, checked at the door: another kind is refused in words, not by a traceback."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PPIRLogic.errors import InputError


def as_path(value: Any, what: str) -> Path:
    """A path that was given as text or as a Path. InputError, beginning with `what`, for everything else.

    >>> as_path("fixed.nrrd", "The image").name
    'fixed.nrrd'
    >>> as_path(None, "The image")
    Traceback (most recent call last):
    PPIRLogic.errors.InputError: The image is a NoneType. Give a file's path, as text or as a Path.
    """
    if isinstance(value, (str, os.PathLike)) and isinstance(os.fspath(value), str):
        if not os.fspath(value):
            raise InputError(f"{what} is empty. Give a file's path.")
        return Path(value)
    raise InputError(f"{what} is a {type(value).__name__}. Give a file's path, as text or as a Path.")


def check_kinds(function: str, values: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]]) -> None:
    """InputError for a value whose kind is not among those of its name; `callable` values have no kinds here.

    True and False are no numbers.

    >>> check_kinds("serve", {"threads": "two"}, {"threads": (int,)})
    Traceback (most recent call last):
    PPIRLogic.errors.InputError: serve cannot be called with threads 'two': it must be int.
    """
    for name, allowed in kinds.items():
        value = values[name]
        number = isinstance(value, bool) and bool not in allowed and object not in allowed
        if number or not isinstance(value, allowed):
            words = " or ".join("None" if kind is type(None) else kind.__name__ for kind in allowed)
            raise InputError(f"{function} cannot be called with {name} {value!r:.60}: it must be {words}.")


def check_callable(function: str, **values: Any) -> None:
    """InputError for a value that cannot be called.

    >>> check_callable("register", progress=print)
    """
    for name, value in values.items():
        if not callable(value):
            raise InputError(f"{function} cannot be called with {name} {value!r:.60}: it must be a function.")
