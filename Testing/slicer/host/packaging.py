"""slicer.packaging: nothing is ever installed; requests are recorded, and refused or made to fail on demand."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
import slicer.util

MODES = ("install", "decline", "fail")


@dataclass(frozen=True)
class Request:
    """A call of pip_ensure, pip_install or pip_uninstall."""

    function: str
    requirements: tuple[str, ...]
    options: dict[str, Any]


class Packaging:
    """What the module wanted to install. `mode`: "install" (pretend), "decline" (the user says no), "fail" (pip)."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.requests: list[Request] = []
        self.satisfied: set[str] | None = None
        self.mode = "install"

    def check(self, requirement: str) -> bool:
        """Whether a requirement is satisfied: those in `satisfied`, or, where it is None, whatever is installed."""
        name = requirement.strip()
        for mark in "<>=!~;[ ":
            name = name.split(mark)[0]
        if self.satisfied is not None:
            return name in self.satisfied
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return False
        return True

    def record(self, function: str, requirements: list[str], options: dict[str, Any]) -> None:
        self.requests.append(Request(function, tuple(requirements), options))
        if self.mode == "fail":
            raise subprocess.CalledProcessError(1, ["pip", "install", *requirements])
        if self.satisfied is not None:
            self.satisfied |= {r for r in requirements if not self.check(r)}


packaging = Packaging()


def _listed(requirements: Any) -> list[str]:
    if isinstance(requirements, str):
        return requirements.split()
    return [str(r) for r in (requirements if isinstance(requirements, (list, tuple)) else [requirements])]


def load_requirements(path: str | os.PathLike[str]) -> list[str]:
    lines = (line.split("#")[0].strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def pip_check(req: Any) -> bool:
    return all(packaging.check(r) for r in _listed(req))


def pip_ensure(
    requirements: Any,
    constraints: Any = None,
    skip_packages: list[str] | None = None,
    prompt_install: bool = True,
    prompt_restart: bool = True,
    requester: str | None = None,
    skip_in_testing: bool = True,
    show_progress: bool = True,
) -> None:
    """Records the missing requirements; RuntimeError if the user declines, CalledProcessError if pip fails."""
    missing = [r for r in _listed(requirements) if not packaging.check(r)]
    if not missing or (skip_in_testing and slicer.app.testingEnabled()):
        return
    if prompt_install and packaging.mode == "decline":
        packaging.requests.append(Request("declined", tuple(missing), {"requester": requester}))
        raise RuntimeError("User declined package installation")
    packaging.record("pip_ensure", missing, {"requester": requester, "constraints": constraints})


def pip_install(requirements: Any, **options: Any) -> None:
    packaging.record("pip_install", _listed(requirements), options)


def pip_uninstall(requirements: Any, **options: Any) -> None:
    packaging.record("pip_uninstall", _listed(requirements), options)


def install() -> None:
    """Makes slicer.packaging, and slicer.util's older names for it."""
    module = types.ModuleType("slicer.packaging")
    for function in (load_requirements, pip_check, pip_ensure, pip_install, pip_uninstall):
        setattr(module, function.__name__, function)
    sys.modules[module.__name__] = module
    slicer.util.pip_install, slicer.util.pip_uninstall = pip_install, pip_uninstall


install()
