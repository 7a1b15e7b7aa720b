"""Which settings of a request go together, and which fit an image."""

from __future__ import annotations

import math

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.pyramid import level_geometry
from PPIRLogic.registration.catalogue import OF_POINTS, shown_name
from PPIRLogic.registration.extra_levels import extra_problem
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.protocols import PROTOCOLS, TWO_SIDED, protocol_named
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.transform_kinds import TRANSFORMS, TransformKind, is_deformable


def request_problem(request: Request) -> str:
    """What is wrong with the settings of a request that go together; empty if nothing is."""
    if request.loss in OF_POINTS:
        deforms = is_deformable(request.transform)
        return "Points are registered with linear transforms." if deforms else _protocol_problem(request)
    if LOSSES[request.loss].two_sided:
        problem = _two_sided_problem(request)
    else:
        problem = _protocol_problem(request)
    if problem := problem or extra_problem(request):
        return problem
    if not is_deformable(request.transform):
        deformable = " and ".join(name for name in TRANSFORMS.builtin if is_deformable(name))
        return f"Only {deformable} have --iterations." if request.iterations else ""
    return _deformable_problem(request, TRANSFORMS[request.transform])


def _protocol_problem(request: Request) -> str:
    """What a protocol does not carry."""
    if request.protocol in PROTOCOLS:
        protocol = PROTOCOLS[request.protocol]
        if protocol.per_control_point or not is_deformable(request.transform):
            return ""
        able = " or ".join(n for n in PROTOCOLS.builtin if PROTOCOLS[n].per_control_point and PROTOCOLS[n].counted)
        return f"A {request.transform} transform is not offered under {shown_name(request.protocol)}: {able}."
    losses = ", ".join(name for name in LOSSES.builtin if LOSSES[name].two_sided)
    return f"The protocol {shown_name(request.protocol)} is that of the loss {losses} alone."


def _deformable_problem(request: Request, kind: TransformKind) -> str:
    if request.sampling != "full" and not LOSSES[request.loss].pooled:
        return f"A {kind.name} transform uses every voxel of a level: sampling 'full', unless the loss is mi."
    if request.fixed_mask == "private":
        return f"A {kind.name} transform cannot use a private fixed mask: none, fill or disclosed."
    if len(request.iterations) != len(request.levels):
        return (
            f"A {kind.name} transform needs one count of iterations per level, {len(request.levels)}, not"
            f" {len(request.iterations)}."
        )
    return kind.problem(request)


def _two_sided_problem(request: Request) -> str:
    """What a loss that moves both images cannot do."""
    loss, kind = request.loss, TRANSFORMS[request.transform]
    if not kind.two_sided:
        able = ", ".join(name for name in TRANSFORMS.builtin if TRANSFORMS[name].two_sided)
        return f"The loss {loss} moves both images: it goes with the transform {able}, not {kind.name}."
    if request.protocol not in TWO_SIDED:
        return f"The loss {loss} needs products of two moving images: protocol mpc, not {shown_name(request.protocol)}."
    if request.fixed_mask not in ("none", "fill"):
        return f"The loss {loss} cannot use a {request.fixed_mask} fixed mask: none or fill."
    return ""


def grid_problem(request: Request, geometry: Geometry) -> str:
    """Why a grid, a window or the samples of a protocol do not fit the fixed image; empty if they do."""
    shortest = min(n * s for n, s in zip(geometry.size, geometry.spacing, strict=True))
    window = 2 * request.radius_mm * max(request.levels)
    if window > shortest:
        return (
            f"The window of {request.loss}, {window:g} mm wide at shrink factor {max(request.levels)}, is larger than"
            f" the fixed image ({shortest:.4g} mm on its shortest axis). Give a smaller --radius, or no coarse level."
        )
    return _samples_problem(request, geometry) or TRANSFORMS[request.transform].grid_problem(request, geometry)


def _samples_problem(request: Request, geometry: Geometry) -> str:
    """More samples than the protocol is offered for."""
    most = protocol_named(request.protocol).max_samples
    voxels = math.prod(level_geometry(geometry, min(request.levels)).size)
    count = round(voxels * request.percent / 100)
    if not most or count <= most:
        return ""
    return (
        f"{shown_name(request.protocol)} encrypts every sample anew at each evaluation and is offered for {most}"
        f" samples; shrink factor {min(request.levels)} has {count}. Use fhe, or --sampling urs --percent"
        f" {max(1, int(100 * most / voxels))}, or no fine level."
    )
