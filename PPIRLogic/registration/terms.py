"""What a request opens, stage by stage, as both sides derive it from public values alone.

An evaluation has up to two stages. `value` comes first; `gradient` only where the optimiser goes on from there. A
loss that needs few numbers opens all of them with its value. Where both images move, a third one, `field`, comes once
at the end of a level; where starts are compared, `moments` come once at its beginning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from PPIRLogic.registration.extra_levels import extra_loss, start_kind
from PPIRLogic.registration.levels import Level
from PPIRLogic.registration.losses import LOSSES, Loss
from PPIRLogic.registration.losses.cross_correlation import FORCE, HALF, VOXELS
from PPIRLogic.registration.losses.mutual_information import FACTOR
from PPIRLogic.registration.losses.point_sums import POINT_LOSSES
from PPIRLogic.registration.losses.private_mask import with_private_mask
from PPIRLogic.registration.names import STARTS
from PPIRLogic.registration.protocols import protocol_of
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.transform_kinds import TRANSFORMS
from PPIRLogic.secure.product import Term, numbers_of

VALUE, GRADIENT, FIELD, MOMENTS = "value", "gradient", "field", "moments"
TermsByStage = Mapping[str, Sequence[Term]]


def loss_of(request: Request) -> Loss:
    """The loss of a request (or the sums of point sets), restricted to a private mask if it asks for one."""
    known = POINT_LOSSES if request.loss in POINT_LOSSES else LOSSES
    return _masked(known[request.loss].configured(request), request)


def loss_at(request: Request, level: Level) -> Loss:
    """The loss of a level: the request's, or at an extra level the one that is compared there."""
    if level.purpose:
        return _masked(extra_loss(request, level.purpose), request)
    if request.loss in POINT_LOSSES:
        return loss_of(request)
    finer = len(request.levels) - 1 - level.index
    return _masked(LOSSES[request.loss].configured(request, finer), request)


def _masked(loss: Loss, request: Request) -> Loss:
    return with_private_mask(loss) if request.fixed_mask == "private" and not loss.masks_itself else loss


def terms_by_stage(request: Request, level: Level) -> TermsByStage:
    """The terms of every stage of an evaluation at a level."""
    if level.purpose:
        return _extra_terms(request, level)
    loss = loss_at(request, level)
    if level.control_points is not None:
        if loss.two_sided:
            axes = range(level.geometry.dimension)
            force = [Term(a, "", FORCE, level.control_points.count, revealed_to_both=True) for a in axes]
            if protocol_of(request).opens_voxels:
                force = [Term(k, "", VOXELS, len(level.samples), revealed_to_both=True) for k in range(3)]
            field = [Term(a, "", HALF, math.prod(level.control_points.counts)) for a in axes]
            return {VALUE: loss.terms(0), GRADIENT: force, FIELD: field}
        return {
            VALUE: loss.terms(0),
            GRADIENT: loss.control_point_terms(level.geometry.dimension, level.control_points.count),
        }
    parameters = TRANSFORMS[request.transform].parameters(level.geometry.dimension)
    stages = {VALUE: loss.terms(parameters), GRADIENT: loss.gradient_terms(parameters)}
    return {name: terms for name, terms in stages.items() if terms}


def _extra_terms(request: Request, level: Level) -> TermsByStage:
    """Values at single transforms; where starts are compared, slopes of a start that moves, and moments once.

    Inside a private fixed mask even party 1's own sums would be joint ones: values alone.
    """
    loss, dimension = loss_at(request, level), level.geometry.dimension
    stages: dict[str, Sequence[Term]] = {VALUE: loss.terms(0)}
    if level.purpose != STARTS or (request.fixed_mask == "private" and not loss.masks_itself):
        return stages
    moved = TRANSFORMS[start_kind(request, dimension)].parameters(dimension)
    stages[GRADIENT] = loss.gradient_terms(moved) or [Term(k, "J", "gradient") for k in range(moved)]
    operand, width = loss.operands[0], loss.width
    largest = FACTOR**2 if width > 1 else 0
    moments = range(moment_count(dimension))
    stages[MOMENTS] = [Term(k, operand, "moments", vectors=width, largest=largest) for k in moments]
    return stages


def moment_count(dimension: int) -> int:
    """Of brightness: its sum, its first and its second moments."""
    return (dimension + 1) * (dimension + 2) // 2


def numbers_by_stage(request: Request, level: Level) -> tuple[int, int]:
    """Numbers opened per value and per gradient (0 where the value's numbers suffice)."""
    stages = terms_by_stage(request, level)
    return numbers_of(stages[VALUE]), numbers_of(stages.get(GRADIENT, ()))


def numbers_once(request: Request, level: Level) -> int:
    """Numbers opened once, at the beginning or the end of a level."""
    stages = terms_by_stage(request, level)
    return numbers_of([*stages.get(FIELD, ()), *stages.get(MOMENTS, ())])
