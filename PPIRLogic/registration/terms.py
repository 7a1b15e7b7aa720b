"""What a request opens, stage by stage, as both sides derive it from public values alone.

An evaluation has up to two stages. `value` comes first; `gradient` only where the optimiser goes on from there. A
loss that needs few numbers opens all of them with its value. Where both images move, a third one, `field`, comes once
at the end of a level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from PPIRLogic.registration.levels import Level
from PPIRLogic.registration.losses import LOSSES, Loss
from PPIRLogic.registration.losses.cross_correlation import FORCE, HALF, VOXELS
from PPIRLogic.registration.losses.point_sums import POINT_LOSSES
from PPIRLogic.registration.losses.private_mask import with_private_mask
from PPIRLogic.registration.protocols import protocol_of
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.transform_kinds import TRANSFORMS
from PPIRLogic.secure.product import Term, numbers_of

VALUE, GRADIENT, FIELD = "value", "gradient", "field"
TermsByStage = Mapping[str, Sequence[Term]]


def loss_of(request: Request) -> Loss:
    """The loss of a request (or the sums of point sets), restricted to a private mask if it asks for one."""
    known = POINT_LOSSES if request.loss in POINT_LOSSES else LOSSES
    loss = known[request.loss].configured(request)
    return with_private_mask(loss) if request.fixed_mask == "private" and not loss.masks_itself else loss


def terms_by_stage(request: Request, level: Level) -> TermsByStage:
    """The terms of every stage of an evaluation at a level."""
    loss = loss_of(request)
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


def numbers_by_stage(request: Request, level: Level) -> tuple[int, int]:
    """Numbers opened per value and per gradient (0 where the value's numbers suffice)."""
    stages = terms_by_stage(request, level)
    return numbers_of(stages[VALUE]), numbers_of(stages.get(GRADIENT, ()))


def numbers_once(request: Request, level: Level) -> int:
    """Numbers opened once, at the end of a level."""
    return numbers_of(terms_by_stage(request, level).get(FIELD, ()))
