"""Coarse to fine: one level after the other, each by the level run of its transform and loss."""

from __future__ import annotations

import numpy as np

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.interpolation import MovingImage
from PPIRLogic.images.pyramid import margin_voxels, smooth
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.levels import Level
from PPIRLogic.registration.names import STARTS
from PPIRLogic.registration.party1.extra_runs import check, find_start
from PPIRLogic.registration.party1.session import ClientSession
from PPIRLogic.registration.party1.state import RunState
from PPIRLogic.registration.terms import loss_of
from PPIRLogic.registration.transform_kinds import TRANSFORMS
from PPIRLogic.transforms import LinearTransform


def moving_sigma_mm(moving: Geometry, fixed: Geometry, level: Level) -> float:
    """Smoothing of the moving image at a level: the fixed image's, or more where the moving grid is much finer."""
    fixed_spacing, moving_spacing = min(fixed.spacing), min(moving.spacing)
    if level.sigma_mm == 0.0 and moving_spacing < fixed_spacing / 1.5:
        return 0.5 * float(np.sqrt(fixed_spacing**2 - moving_spacing**2))
    return level.sigma_mm


def run_levels(state: RunState, session: ClientSession, transform: LinearTransform) -> None:
    """Run all levels of a session from a first transform; `state.best` and `state.records` follow."""
    request, kind = session.request, TRANSFORMS[session.request.transform]
    state.first = transform
    opened = list(zip(session.levels, session.grants, strict=True))
    search = [(level, grant) for level, grant in opened if not level.purpose]
    extra = {level.purpose: (level, grant) for level, grant in opened if level.purpose}
    state.best = kind.start(transform, request, session.geometry, search[0][0].geometry)
    if STARTS in extra:
        find_start(state, session, *extra[STARTS])
    loss = loss_of(request)
    level_run = kind.level_run(loss)
    smoothed: tuple[float, Volume] | None = None
    for level, grant in search:
        state.cancel.check()
        sigma = moving_sigma_mm(state.moving.geometry, session.geometry, level)
        if smoothed is None or smoothed[0] != sigma:
            smoothed = (sigma, smooth(state.scaled, sigma))
        rows = state.rows
        image = loss.prepared(smoothed[1], level.factor)
        moving = MovingImage(image, margin_voxels(state.moving.geometry, level.margin_mm), rows, loss.cubic)
        evaluations = min(grant.evaluations, state.parameters.evaluations)
        level_run(state, session, level, moving).run(evaluations, grant.gradients)
        state.records[-1].kind = kind.name
    check(state, session, extra)
