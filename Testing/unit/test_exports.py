"""What the package offers by name: a change of it is deliberate, here and in PPIRLogic/__init__.py."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import PPIRLogic

PUBLIC = [
    "Budget",
    "CancelToken",
    "FixedImage",
    "FixedPoints",
    "Geometry",
    "LinearTransform",
    "PPIRError",
    "Parameters",
    "Peer",
    "PointSet",
    "PointsResult",
    "Policy",
    "Progress",
    "RegistrationResult",
    "Shared",
    "SourceSeries",
    "Volume",
    "__version__",
    "deal",
    "read_mask",
    "read_points",
    "read_source_series",
    "read_transform",
    "read_volume",
    "register",
    "register_points",
    "serve",
    "simulate",
    "simulate_points",
    "write_dicom",
    "write_transform",
    "write_volume",
]


def test_the_public_names_are_these_in_order() -> None:
    assert PPIRLogic.__all__ == PUBLIC == sorted(PUBLIC)


@pytest.mark.parametrize("name", [n for n in PUBLIC if n != "__version__"])
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    thing = getattr(PPIRLogic, name)
    assert inspect.isclass(thing) or inspect.isfunction(thing)
    text = thing.__doc__ or ""
    assert len(text.split()) >= 3 and not text.startswith(f"{name}("), f"{name} says only: {text!r}"


@pytest.mark.parametrize("name", ["PPIRLogic", "PPIRLogic.primis", "PPIRLogic.proxy"])
def test_no_public_name_is_that_of_a_module_beside_it(name: str) -> None:
    """Once such a module is loaded, its name would stand for the module."""
    package = importlib.import_module(name)
    assert not set(package.__all__) & {module.name for module in pkgutil.iter_modules(package.__path__)}


def test_the_version_is_the_distribution_s() -> None:
    from importlib.metadata import version

    assert PPIRLogic.__version__ == version("ppir")


def test_a_star_import_brings_these_names_alone() -> None:
    found: dict[str, object] = {}
    exec("from PPIRLogic import *", found)  # noqa: S102
    assert sorted(n for n in found if n != "__builtins__") == PUBLIC
