"""The one table of options of a registration: type, range, default and words of each.

The command line, the checks of `Parameters`, the checks of a request from the network, Slicer's parameter node and
Docs/reference/options.md are made from it. It needs none of the packages that a registration needs, so that a panel can
be drawn where they are not installed yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from PPIRLogic.errors import InputError
from PPIRLogic.registration.catalogue import LOSSES, TRANSFORMS, protocol_names, shown_name
from PPIRLogic.registration.names import BINS, FACTORS, FIXED_MASK_USES, INITIALS, MASK_USES, SAMPLINGS

Choices = Sequence[str] | Sequence[int] | Callable[[], Sequence[str]]


@dataclass(frozen=True)
class Option:
    """One option of a run.

    name: the field of `Parameters`. kind: choice, whole, number, counts (whole numbers with commas between them), yes
    (a switch) or transform (one of the choices, or a file). low, high: its range, `above` without `low` itself.
    optional: None lets the program choose, as `usual` says. of: the transforms, losses or samplings that have a use for
    it; empty: all. wire: its name in a request, if it travels; wire_low, wire_high: its range there, where 0 stands for
    an option that has no use.
    """

    name: str
    kind: str
    default: Any
    words: str
    flag: str = ""
    label: str = ""  # in a message; the name if empty
    choices: Choices = ()
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    unit: str = ""
    optional: bool = False
    usual: str = ""
    of: tuple[str, ...] = ()
    metavar: str = field(default="", repr=False)
    wire: str = ""
    wire_low: float | None = None
    wire_high: float | None = None

    @property
    def option(self) -> str:
        """As written on a command line."""
        return self.flag or "--" + self.name.replace("_", "-")

    @property
    def allowed(self) -> tuple[Any, ...]:
        """The values it may have, where they are a list."""
        return tuple(self.choices() if callable(self.choices) else self.choices)

    @property
    def help(self) -> str:
        """For a person: what it is, its unit, and what is usual."""
        usual = self.usual or ("" if self.default in ("", None, False) else f"{self.default}")
        unit = f", {self.unit}" if self.unit else ""
        only = f"{', '.join(self.of)}: " if self.of else ""
        return f"{only}{self.words}{unit}" + (f" ({usual})" if usual else "")

    @property
    def wire_range(self) -> tuple[float, float]:
        low = self.low if self.wire_low is None else self.wire_low
        return low, self.high if self.wire_high is None else self.wire_high

    def checked(self, value: Any) -> Any:
        """The value as `Parameters` holds it. InputError, saying what is wrong and what is right."""
        if value is None and self.optional:
            return None
        if self.kind == "transform" and hasattr(value, "TransformPoint"):
            return value
        if self.kind in ("choice", "transform"):
            if not isinstance(value, str) or value not in self.allowed:
                raise InputError(
                    f"Unknown {self.in_words} '{value}'. Choose one of {', '.join(map(str, self.allowed))}."
                )
            return value
        if self.kind == "yes":
            if type(value).__name__ not in ("bool", "bool_"):
                raise InputError(f"Unusable {self.in_words} {value!r}: it must be True or False.")
            return bool(value)
        if self.kind != "counts":
            return self._number(value)
        try:
            values = tuple(value) if not isinstance(value, (str, bytes, dict, set)) else ()
        except TypeError:
            values = ()
        if not values:
            raise InputError(f"Unusable {self.in_words} {value!r}: give whole numbers, such as (4, 2, 1).")
        return tuple(self._number(v) for v in values)

    @property
    def in_words(self) -> str:
        return self.label or self.name.replace("_", " ")

    def _number(self, value: Any) -> float:
        """A plain int or float in the range; NumPy's numbers, too."""
        try:
            number = float("nan") if isinstance(value, (bool, str, bytes)) else float(value)
            if self.kind != "number":
                number = int(number) if number == int(number) else math.nan
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        fits = (self.low < number if self.above else self.low <= number) and number <= self.high
        if not fits or (self.allowed and number not in self.allowed):
            raise InputError(f"Unusable {self.in_words} {value}: {self._range()}.")
        return number

    def _range(self) -> str:
        what = "whole numbers" if self.kind == "counts" else "a whole number" if self.kind == "whole" else "a number"
        unit = f" of {self.unit}" if self.unit else ""
        if self.allowed:
            return f"it must be one of {', '.join(map(str, self.allowed))}"
        if math.isinf(self.high):
            return f"it must be {what}{unit} {'above' if self.above else 'of at least'} {_plain(self.low)}"
        low = f"above {_plain(self.low)}, at most" if self.above else f"from {_plain(self.low)} to"
        return f"it must be {what}{unit} {low} {_plain(self.high)}"


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def shown_protocols() -> tuple[str, ...]:
    """The protocols as people see them."""
    return tuple(shown_name(name) for name in protocol_names())


_DEFORMABLE = ("bspline", "diffeo")
_TABLE = (
    Option("transform", "choice", "affine", "what may move between the images", choices=lambda: tuple(TRANSFORMS),
           wire="transform"),
    Option("loss", "choice", "ncc", "how the images are compared", choices=lambda: tuple(LOSSES), wire="loss"),
    Option("protocol", "choice", "fhe", "how the images are protected", choices=shown_protocols, wire="protocol"),
    Option("sampling", "choice", "full", "which voxels take part: all, a random part (urs), or where the moving image"
           " has edges (gms)", choices=SAMPLINGS, wire="sampling"),
    Option("percent", "number", 100.0, "share of the voxels (urs) or blocks (gms) of each level", low=1e-3,
           high=100.0, unit="per cent", of=("urs", "gms"), label="sampling percentage", wire="percent", wire_low=1e-6),
    Option("disclose_sampling", "yes", False, "gms under mpc: let party 2 see the chosen blocks",
           wire="disclose_sampling"),
    Option("levels", "counts", None, "shrink factors, coarse to fine, such as 4,2,1", choices=FACTORS, optional=True,
           usual="by size", label="shrink factor", metavar="F,F,…"),
    Option("evaluations", "whole", 40, "evaluations of the loss per level, at most", low=1, high=10_000,
           label="number of evaluations", wire="evaluations"),
    Option("step_tolerance", "number", None, "a level ends when a step moves no corner of the fixed grid further than"
           " this times its voxel size", low=0, above=True, high=1000.0, optional=True,
           usual="0.0005 in 2D, 0.002 in 3D, 0.005 for mi"),
    Option("loss_tolerance", "number", 1e-6, "… or lowers the loss by a smaller part of it", low=0, high=1.0,
           usual="0.000001, which means 0.001 at coarse levels, and for mi 0.00003 at the finest"),
    Option("initial", "transform", "compare", "where the search starts: the best of several (compare), identity,"
           " centres (geometric), or a transform file (fixed to moving)", choices=INITIALS, label="initial transform"),
    Option("starts", "whole", None, "values of the loss at most where starts are compared", low=1, high=1000,
           optional=True, usual="120; 200 for mi, 36 inside a private mask", label="number of starts",
           wire="starts", wire_low=0),
    Option("skip_check", "yes", False, "do not compare the end with transforms around it", wire="skip_check"),
    Option("mask", "choice", "fill", "use of the moving mask: fill puts the mean of the inside outside, rows leaves"
           " those voxels out", flag="--mask-use", choices=MASK_USES, label="use of the moving mask"),
    Option("fixed_mask", "choice", None, "use of the peer's mask, if its owner permits", choices=FIXED_MASK_USES,
           optional=True, usual="none where its owner permits that or there is no mask, else fill",
           label="use of the fixed mask", wire="fixed_mask"),
    Option("bins", "whole", None, "bins of the joint histogram per image; at most 16 at all levels but the last"
           " of a linear transform", choices=BINS, optional=True,
           usual="16 in 2D, 32 in 3D", of=("mi",), label="number of bins", wire="bins", wire_low=1, wire_high=1024),
    Option("seed", "whole", 1, "of the public random choice of voxels; reveals nothing", low=0, high=2**62,
           wire="seed"),
    Option("threads", "whole", 2, "threads to compute with", low=1, usual="all of the machine's on the command line",
           label="number of threads"),
    Option("grid_spacing", "number", 10.0, "distance of the control points at the finest level, twice that at each"
           " coarser one", low=0.01, high=1e4, unit="mm", of=("bspline",), wire="grid_spacing", wire_low=0),
    Option("iterations", "counts", None, "steps per level at most, coarse to fine, such as 6,4,1; each opens one"
           " gradient", low=1, high=1000, optional=True, usual="by transform", of=_DEFORMABLE, metavar="N,N,…",
           label="number of iterations"),
    Option("bending", "number", None, "weight of the bending energy (diffeo: of each step)", low=0, high=1e12,
           unit="mm²", optional=True, usual="by loss", of=_DEFORMABLE, label="bending weight", wire="bending"),
    Option("stride", "whole", 5, "voxels of a level between control points of the velocity", low=2, high=64,
           of=("diffeo",), wire="stride", wire_low=0, wire_high=4096),
    Option("elastic", "number", 0.0, "standard deviation of a Gaussian over the field after every step (cc: over each"
           " velocity)", low=0, high=1e4, unit="mm", of=("diffeo",), label="elastic smoothing", wire="elastic_mm"),
    Option("radius_mm", "number", None, "radius of the window, times the shrink factor of a level", flag="--radius",
           low=0, above=True, high=1e4, unit="mm", optional=True, usual="five voxels of the fixed image", of=("lncc",),
           label="radius", wire="radius_mm"),
)  # fmt: skip
OPTIONS: dict[str, Option] = {option.name: option for option in _TABLE}


def default(name: str) -> Any:
    return OPTIONS[name].default
