"""What a person can choose in the panels: names and ranges come from the engine's table of options.

The table needs no package that Slicer does not bring, so that the panels can be drawn before anything is installed.
"""

from __future__ import annotations

from typing import Any

from PPIRLib import engine

engine.add_to_path()
from PPIRLogic.primis.levels import LEVELS  # noqa: E402, F401 - found by the line before
from PPIRLogic.registration.names import POINT_TRANSFORMS as OF_POINTS  # noqa: E402, F401
from PPIRLogic.registration.options import OPTIONS  # noqa: E402

LINEAR = "vtkMRMLLinearTransformNode"
BSPLINE = "vtkMRMLBSplineTransformNode"
GRID = "vtkMRMLGridTransformNode"
ANY = "vtkMRMLTransformNode"  # holds every kind

DEFORMABLE = OPTIONS["iterations"].of
TRANSFORMS = {  # with the class of node that holds the result; a deformation is a composite with an affine transform
    name: ANY if name in DEFORMABLE else LINEAR for name in OPTIONS["transform"].allowed
}
LOSSES = OPTIONS["loss"].allowed
PROTOCOLS = ("fhe", "mpc")  # what an owner permits by default
SAMPLINGS = OPTIONS["sampling"].allowed
FIXED_MASKS = ("auto", *OPTIONS["fixed_mask"].allowed)
BINS = ("auto", *map(str, OPTIONS["bins"].allowed))
STRENGTHS = ("low", "medium", "high")  # of a proxy
STRIPS = ("brain", "face")
RESULTS = {LINEAR: "linear", BSPLINE: "B-spline", GRID: "displacement field"}
_MAX_SHOWN, _MIN_SHOWN = 1e6, 0.001  # what a spin box shows of a range without an end, or without its lowest value


def uses(name: str, *chosen: str) -> bool:
    """Whether an option has a use with what is chosen: a transform, a loss, a sampling."""
    return not OPTIONS[name].of or any(value in OPTIONS[name].of for value in chosen)


def range_of(name: str) -> tuple[float, float]:
    """The range of a number in the panel; 0 stands for the engine's own choice where it has one."""
    option = OPTIONS[name]
    low = 0 if option.optional else option.low + _MIN_SHOWN if option.above else option.low
    high = min(option.high, _MAX_SHOWN)
    return (int(low), int(high)) if option.kind == "whole" else (float(low), float(high))


def usual(name: str) -> Any:
    """What an option is where a person chooses nothing. Where the engine decides: 'auto' of names, 0 of a number, ''
    of a list."""
    option = OPTIONS[name]
    if option.default is not None:
        return option.default
    return "auto" if option.choices and option.kind != "counts" else "" if option.kind == "counts" else 0.0
