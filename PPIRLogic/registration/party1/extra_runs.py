"""The extra levels of a run: where it begins, and whether its end is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from PPIRLogic.images.interpolation import MovingImage
from PPIRLogic.images.pyramid import margin_voxels, smooth
from PPIRLogic.registration.extra_levels import CHECKED, detail, start_kind
from PPIRLogic.registration.level_record import StartsRecord
from PPIRLogic.registration.levels import Level
from PPIRLogic.registration.losses.correlation_ratio import CorrelationRatio
from PPIRLogic.registration.names import CHECK, DETAIL
from PPIRLogic.registration.party1.end_check import as_general, check_end, detail_at
from PPIRLogic.registration.party1.level_runs.ratio_values import CorrelationRatioValueRun
from PPIRLogic.registration.party1.level_runs.values import MutualInformationValueRun, ValueRun
from PPIRLogic.registration.party1.moments import fixed_moments, moving_moments
from PPIRLogic.registration.party1.session import ClientSession
from PPIRLogic.registration.party1.start_search import StartSearch, first_starts
from PPIRLogic.registration.party1.state import RunState
from PPIRLogic.registration.request import LevelGrant
from PPIRLogic.registration.terms import loss_at
from PPIRLogic.transforms import LinearTransform

MIN_STARTS = 3
UNCHECKED = (
    "The end was not compared with what lies around it: the owner's budget leaves too few numbers, or too little"
    " overlaps. Look at the images before you use the transform."
)


def open_values(state: RunState, session: ClientSession, level: Level, grant: LevelGrant) -> ValueRun:
    """An extra level, open."""
    loss = loss_at(session.request, level)
    rows = state.rows
    seen = detail if level.purpose == DETAIL else smooth
    image = seen(state.scaled, level.sigma_mm)
    margin = margin_voxels(state.moving.geometry, level.margin_mm)
    moving = MovingImage(image, margin, rows, loss.cubic)
    kind: type[ValueRun] = MutualInformationValueRun if loss.pooled else ValueRun
    if isinstance(loss, CorrelationRatio):
        kind = CorrelationRatioValueRun
    return kind(state, session, level, moving, grant)


def find_start(state: RunState, session: ClientSession, level: Level, grant: LevelGrant) -> None:
    """Begin from the best of several starts; from the centres where too few may be compared."""
    assert isinstance(state.best, LinearTransform)
    centred = state.best
    state.starts = StartsRecord(level.factor, len(level.samples), chosen="centres")
    if grant.evaluations < MIN_STARTS:
        state.starts.note = "The owner's budget leaves too few numbers to compare starts."
        state.report_progress(session, "started", detail=f"begins from the centres: {state.starts.note}")
        return
    state.report_progress(session, "starts", detail=level.describe())
    run = open_values(state, session, level, grant)
    fixed, moving = fixed_moments(run), moving_moments(state.scaled)
    moments = None if fixed is None or moving is None else (fixed, moving)
    kind = start_kind(session.request)
    search = StartSearch(run, state.starts, moments)
    end = search.best(first_starts(kind, session.geometry, state.moving.geometry, moments))
    state.starts.numbers = run.opened
    if end is None:
        return
    state.start_info = end.found.info if not isinstance(run, CorrelationRatioValueRun) else None
    state.first = state.best = replace(end.transform, kind=centred.kind)
    state.report_progress(session, "started", detail=f"begins from: {end.name}")


def check(state: RunState, session: ClientSession, extra: Mapping[str, tuple[Level, LevelGrant]]) -> None:
    """Compare the end with transforms around it, and its detail, as far as the budget leaves the numbers."""
    end = state.best
    if not isinstance(end, LinearTransform) or CHECK not in extra:
        return
    level, grant = extra[CHECK]
    if grant.evaluations < CHECKED[level.geometry.dimension]:
        state.report_progress(session, "note", detail=UNCHECKED)
        return
    state.report_progress(session, "check", detail=level.describe())
    run = open_values(state, session, level, grant)
    state.check = check_end(run, end)
    if state.check is None:
        state.report_progress(session, "note", detail=UNCHECKED)
        return
    state.check.start_info = state.start_info
    if state.start_info is None and state.starts is not None and state.first is not None:
        found = run.value(as_general(state.first))
        state.check.start_info = None if found is None else found.info
    state.check.numbers = run.opened
    if DETAIL in extra and extra[DETAIL][1].evaluations:
        run = open_values(state, session, *extra[DETAIL])
        state.check.detail = detail_at(run, end)
        state.check.numbers += run.opened
