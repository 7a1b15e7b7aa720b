"""The names of ours: losses, transforms and protocols, and where each is. A new one of ours is one file and one line.

Nothing is loaded before it is used. What installed packages add is found by entry points of the groups named here.
"""

from __future__ import annotations

import warnings
from typing import Any

from PPIRLogic.registry import Registry

SHOWN = {"published": "published_cc"}  # protocols that people see under another name than the wire
FORMER = {"fhe_verified": "fhe"}  # names of the release before, taken for one more
OF_POINTS = ("points_2d", "points_3d")  # what a registration of points opens, requested like a loss
_LOSSES = "PPIRLogic.registration.losses"
_KINDS = "PPIRLogic.registration.transform_kinds"
LOSSES: Registry[Any] = Registry(
    "ppir.losses",
    {
        "ncc": f"{_LOSSES}.ncc:NCC",
        "ssd": f"{_LOSSES}.ssd:SSD",
        "lncc": f"{_LOSSES}.lncc:LNCC",
        "cc": f"{_LOSSES}.cross_correlation:CrossCorrelation",
        "mi": f"{_LOSSES}.mutual_information:MutualInformation",
    },
    f"{_LOSSES}.base:Loss",
    OF_POINTS,
)
TRANSFORMS: Registry[Any] = Registry(
    "ppir.transforms",
    {
        "translation": f"{_KINDS}.linear:TRANSLATION",
        "rigid": f"{_KINDS}.linear:RIGID",
        "similarity": f"{_KINDS}.linear:SIMILARITY",
        "affine": f"{_KINDS}.linear:AFFINE",
        "bspline": f"{_KINDS}.bspline:BSplineKind",
        "diffeo": f"{_KINDS}.diffeo:DiffeoKind",
    },
    f"{_KINDS}.base:TransformKind",
)
PROTOCOLS: Registry[Any] = Registry(
    "ppir.protocols",
    {
        "fhe": "PPIRLogic.secure.fhe.protocol:PROTOCOL",
        "mpc": "PPIRLogic.secure.mpc.protocol:PROTOCOL",
        "clear": "PPIRLogic.secure.clear:PROTOCOL",
        "fhe_v1": "PPIRLogic.secure.published.fhe_v1:PROTOCOL",
        "fhe_v2": "PPIRLogic.secure.published.fhe_v2:PROTOCOL",
    },
    "PPIRLogic.secure.protocol:Protocol",
    (*SHOWN, *SHOWN.values(), *FORMER),
)
TWO_SIDED: Registry[Any] = Registry(  # of losses that move both images
    "",
    {
        "mpc": "PPIRLogic.registration.symmetric.protocol:MPC",
        "clear": "PPIRLogic.registration.symmetric.protocol:CLEAR",
        "published": "PPIRLogic.registration.symmetric.protocol:PUBLISHED",
    },
    "PPIRLogic.secure.protocol:Protocol",
)


def protocol_names() -> tuple[str, ...]:
    """All protocols, as on the wire."""
    return tuple(dict.fromkeys((*PROTOCOLS, *TWO_SIDED)))


def shown_name(name: str) -> str:
    """The name that people see of a protocol."""
    return SHOWN.get(name, name)


def wire_name(name: str) -> str:
    """The name on the wire and in ledgers, from the one that people see, or saw in the release before."""
    name = FORMER.get(name, name)
    return next((wire for wire, shown in SHOWN.items() if shown == name), name)


def warn_of_former(name: str) -> None:
    """Tell a person who gave a protocol's former name: a FutureWarning, which the command shows as a note."""
    if name in FORMER:
        warnings.warn(
            f"The protocol {name} is now {FORMER[name]}, which checks every answer. The former name goes with the next"
            " release.",
            FutureWarning,
            stacklevel=3,
        )
