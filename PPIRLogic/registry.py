"""What can be chosen by name: ours, from a table, and what other packages add, from entry points.

Ours are loaded when they are first used, so that a name costs nothing. An entry point is a line of an installed
package's metadata, such as

    [project.entry-points."ppir.losses"]
    huber = "my_package.huber:Huber"

Nothing is loaded from a package that is not installed at this site, and a name from the network loads nothing that the
owner's policy does not name.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Generic, TypeVar

from PPIRLogic.errors import InputError

T = TypeVar("T")
NAME = re.compile(r"[a-z][a-z0-9_]{0,15}")  # as on the wire


class Registry(Mapping[str, T], Generic[T]):
    """Names to objects of one kind.

    group: of the entry points, such as 'ppir.losses'; empty: none. builtin: name → 'module:attribute'. kind: what every
    object is, 'module:Class'; a class of that kind is made an object without arguments. reserved: names that no plugin
    may take, besides ours.
    Errors: KeyError for an unknown name; InputError for a plugin that cannot be loaded or is not of the kind.

    >>> registry = Registry("a.group", {"ssd": "PPIRLogic.registration.losses.ssd:SSD"}, "builtins:object")
    >>> "ssd" in registry, registry["ssd"].name
    (True, 'ssd')
    """

    def __init__(self, group: str, builtin: Mapping[str, str], kind: str, reserved: Iterable[str] = ()) -> None:
        self._group, self._table, self._kind = group, dict(builtin), kind
        self._reserved = {*builtin, *reserved}
        self._loaded: dict[str, T] = {}
        self.builtin = tuple(builtin)

    @cached_property
    def _entry_points(self) -> tuple[importlib.metadata.EntryPoint, ...]:
        return tuple(importlib.metadata.entry_points(group=self._group)) if self._group else ()

    @cached_property
    def _plugins(self) -> dict[str, importlib.metadata.EntryPoint]:
        return {e.name: e for e in self._entry_points if not self._problem(e.name)}

    def passed_over(self) -> dict[str, str]:
        """Plugins that are not offered, by name, and why: what `ppir doctor` says of them."""
        return {e.name: problem for e in self._entry_points if (problem := self._problem(e.name))}

    def _problem(self, name: str) -> str:
        if name in self._reserved:
            return "its name is taken by one of ours"
        if not NAME.fullmatch(name):
            return "its name must have 1 to 16 lower-case letters, digits and _, a letter first"
        return ""

    def __iter__(self) -> Iterator[str]:
        yield from self._table
        yield from self._plugins

    def __len__(self) -> int:
        return len(self._table) + len(self._plugins)

    def __contains__(self, name: object) -> bool:
        return name in self._table or name in self._plugins

    def __getitem__(self, name: str) -> T:
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> T:
        if name in self._table:
            return self._object(_attribute(self._table[name]))
        plugin = self._plugins[name]
        where = f"The plugin '{name}' ({self._group}, {plugin.value})"
        try:
            found = self._object(plugin.load())
        except (Exception, SystemExit) as error:
            raise InputError(
                f"{where} cannot be loaded ({type(error).__name__}: {error}). Repair or remove the package."
            ) from error
        kind = _attribute(self._kind)
        if not isinstance(found, kind) or getattr(found, "name", name) != name:
            raise InputError(f"{where} is no {kind.__name__} of that name. Repair or remove the package.")
        return found  # type: ignore[no-any-return]

    @staticmethod
    def _object(found: Any) -> Any:
        return found() if isinstance(found, type) else found


def _attribute(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)
