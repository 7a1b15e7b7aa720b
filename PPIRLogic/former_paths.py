"""Where public names were imported from in release 0.1: those paths work for one release, with a warning.

A module that is gone is made when somebody imports it; one that became a folder looks its former names up here.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_REGISTRATION = ("CancelToken", "Parameters", "Peer", "Progress", "RegistrationResult", "register")
FORMER: dict[str, tuple[str, ...]] = {
    "PPIRLogic.api": ("deal", "serve"),
    "PPIRLogic.fixed": ("FixedImage",),
    "PPIRLogic.images": ("Geometry", "Volume", "read_mask", "read_volume", "write_volume"),
    "PPIRLogic.parameters": ("CancelToken", "Parameters", "Progress", "RegistrationResult"),
    "PPIRLogic.peer": (),
    "PPIRLogic.peer.ledger": ("Budget",),
    "PPIRLogic.points.fixed": ("FixedPoints",),
    "PPIRLogic.pointsets": ("PointsResult", "register_points"),
    "PPIRLogic.policy": ("Policy",),
    "PPIRLogic.registration": _REGISTRATION,
    "PPIRLogic.server": ("Shared",),
    "PPIRLogic.simulate": ("simulate", "simulate_points"),
    "PPIRLogic.transforms.linear": ("read_transform", "write_transform"),
}
_homes: dict[str, str] = {}


def look_up(module: str, name: str) -> Any:
    """A public name under its former path, with a DeprecationWarning; AttributeError for another name."""
    if name not in FORMER.get(module, ()):
        raise AttributeError(f"module '{module}' has no attribute '{name}'")
    value = getattr(import_module(f"PPIRLogic.{_homes[name]}"), name)
    setattr(sys.modules[module], name, value)  # said once
    warnings.warn(
        f"'from {module} import {name}' is the path of release 0.1 and goes with the next release: from PPIRLogic"
        f" import {name}.",
        DeprecationWarning,
        stacklevel=3,
    )
    return value


class _Former(ModuleType):
    """A module that is gone. `PPIRLogic.simulate` is the function as well: importing the module must not hide it."""

    def __getattr__(self, name: str) -> Any:
        return look_up(self.__name__, name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return look_up(self.__name__, self.__name__.rpartition(".")[2])(*arguments, **options)


class _Finder(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in FORMER:
            return None
        return ModuleSpec(fullname, self, is_package=fullname == "PPIRLogic.peer")

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = _Former(spec.name, "Where names of release 0.1 were imported from.")
        module.__all__ = list(FORMER[spec.name])  # type: ignore[attr-defined]
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


def install(homes: Mapping[str, str]) -> None:
    """Once, at the end of the line: what exists is found before. homes: of every public name, its module today."""
    _homes.update(homes)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
