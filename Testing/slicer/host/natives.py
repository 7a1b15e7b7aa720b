"""Help to write stand-ins for classes that are C++ in Slicer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from PySide6 import QtCore

from .pythonqt import _setattr, keep_properties

T = TypeVar("T", bound=type)


def native(cls: T) -> T:
    """Marks a class as C++ in Slicer: it takes no new attributes, and its Q_PROPERTYs are attributes.

    Its own state is kept under names that begin with _host_.
    """
    cls._host_native = True  # type: ignore[attr-defined]
    cls.__setattr__ = _setattr  # type: ignore[assignment, method-assign]
    keep_properties(cls)
    return cls


def stored(kind: str | type, name: str, default: Any, changed: Callable[[Any], None] | None = None) -> Any:
    """A Q_PROPERTY kept in the Python object; `changed(self)` is called when it has a new value."""
    key = f"_host_{name}"

    def read(self: Any) -> Any:
        return getattr(self, key, default)

    def write(self: Any, value: Any) -> None:
        if value != read(self):
            setattr(self, key, value)
            if changed is not None:
                changed(self)

    return QtCore.Property(kind, read, write)


def constant(kind: str | type, read: Callable[[Any], Any]) -> Any:
    """A Q_PROPERTY without a setter."""
    return QtCore.Property(kind, read)
