"""How many numbers a run can open, and whether a budget allows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from PPIRLogic.disclosure.accounts import Budget, ImageAccount
from PPIRLogic.disclosure.ledger import HISTOGRAM
from PPIRLogic.errors import BudgetError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.registration.levels import Level, make_levels
from PPIRLogic.registration.losses.point_sums import POINT_LOSSES
from PPIRLogic.registration.protocols import protocol_of
from PPIRLogic.registration.request import LOST_ANSWERS, LevelGrant, Request
from PPIRLogic.registration.terms import VALUE, numbers_by_stage, numbers_once, terms_by_stage
from PPIRLogic.secure.protocol import Protocol

MIN_EVALUATIONS = 3  # a level that cannot afford these is refused before the run starts


def most_numbers(request: Request, geometry: Geometry) -> list[LevelGrant]:
    """What a run could open at most, level by level, before any budget."""
    out = []
    for level in make_levels(geometry, request):
        each, gradient = numbers_by_stage(request, level)
        steps = steps_asked(request, level.index) if gradient else 0
        more = numbers_once(request, level), _shown(request, gradient)
        out.append(LevelGrant(level.factor, len(level.samples), each, request.evaluations, 0, gradient, steps, *more))
    return out


def steps_asked(request: Request, index: int) -> int:
    """How often a level may open a gradient apart from the value."""
    return request.iterations[index] if request.iterations else request.evaluations


def grants(
    request: Request, levels: list[Level], measurable_voxels: list[int], account: ImageAccount, protocol: Protocol
) -> list[LevelGrant]:
    """What each level may open, given what is on record. measurable_voxels: voxels of each level that can be measured.

    The limits per session and per image are shared out among the levels, so that a run that starts can end.
    """
    budget = account.budget
    shared = max(0, min(budget.numbers_per_session, account.left_in_all()))
    fewest = [_fewest(request, level) for level in levels]
    out = []
    for index, (level, voxels) in enumerate(zip(levels, measurable_voxels, strict=True)):
        # the levels to come get something, too; a B-spline run gets all that it asks for, or nothing
        reserved = 0 if request.iterations else sum(fewest[index + 1 :])
        bits = max(protocol.bits_of(terms) for terms in terms_by_stage(request, level).values())
        left = min(account.left(level.factor, voxels, bits), max(0, shared - reserved))
        fits, steps = _fitting(request, level, left)
        if any(t.kind == HISTOGRAM for t in terms_by_stage(request, level)[VALUE]):
            fits = min(fits, account.histograms_left(level.factor))
            steps = min(fits, steps)
        each, gradient = numbers_by_stage(request, level)
        more = numbers_once(request, level), _shown(request, gradient)
        out.append(LevelGrant(level.factor, level.numbers, each, fits, left, gradient, steps, *more))
        shared -= out[-1].most
    return out


def _shown(request: Request, gradient: int) -> int:
    """Numbers of party 1's image that party 2 learns with each gradient of so many numbers."""
    protocol = protocol_of(request)
    return gradient if protocol.two_sided and protocol.counted else 0


def _fewest(request: Request, level: Level) -> int:
    """Numbers without which a level is of no use."""
    return MIN_EVALUATIONS * sum(numbers_by_stage(request, level))


def _fitting(request: Request, level: Level, left: int) -> tuple[int, int]:
    """Evaluations and gradients that so many numbers allow."""
    each, gradient = numbers_by_stage(request, level)
    asked, steps = request.evaluations, steps_asked(request, level.index) if gradient else 0
    if not protocol_of(request).counted:
        return asked, steps
    if request.iterations and gradient:
        left = max(0, left - numbers_once(request, level))
        steps = min(steps, max(0, left - MIN_EVALUATIONS * each) // gradient)
        return min(asked, (left - steps * gradient) // each), steps
    fits = min(asked, left // (each + gradient))
    return fits, fits if gradient else 0


def check_budget(request: Request, levels: list[LevelGrant], account: ImageAccount) -> None:
    """BudgetError before the run starts if a level cannot afford the fewest useful evaluations."""
    if request.iterations:
        _check_steps(request, levels, account.budget, account.total)
        return
    fewest, what = min(request.evaluations, MIN_EVALUATIONS), "voxels"
    if request.loss in POINT_LOSSES:
        what = "coordinates"
    poor = [g for g in levels if g.evaluations < fewest]
    if not poor:
        return
    lines = [
        f"shrink factor {g.factor} ({g.samples} {what}): {g.numbers_left} numbers left,"
        f" {g.numbers_per_evaluation + g.numbers_per_gradient} needed per evaluation and at least {fewest}"
        f" evaluation{'s' if fewest > 1 else ''}"
        for g in poor
    ]
    fits = [str(g.factor) for g in levels if g.evaluations >= fewest]
    b = account.budget
    raise BudgetError(
        "The disclosure budget does not allow this run: "
        + "; ".join(lines)
        + ". "
        + (f"Levels {','.join(fits)} would fit, or a transform with fewer parameters. " if fits else "")
        + f"The owner of the fixed image can raise it: now {b.percent_per_level:g} % of each level (ppir serve"
        f" --budget-percent) and {b.bits_percent_per_level:g} % of its bits (--budget-bits), {b.numbers_per_session}"
        f" numbers per session (--budget-session), {b.numbers_per_image} per peer and image (--budget-image), of which"
        f" {account.total} are used, {b.histograms_per_level} joint histograms per level (--budget-histograms); all"
        f" peers together, {b.times_per_subject:g} times that of one subject (--budget-subject)."
    )


def _check_steps(request: Request, levels: list[LevelGrant], budget: Budget, used: int) -> None:
    """BudgetError unless every level of a deformable run can open all the gradients that were asked for."""
    fewest = min(request.evaluations, MIN_EVALUATIONS)
    poor = [
        (g, steps)
        for g, steps in zip(levels, request.iterations, strict=True)
        if g.gradients < steps or g.evaluations < fewest
    ]
    if not poor:
        return
    lines = []
    for g, steps in poor:
        need = MIN_EVALUATIONS * g.numbers_per_evaluation + steps * g.numbers_per_gradient + g.numbers_once
        lines.append(
            f"shrink factor {g.factor}: {steps} iterations of {g.numbers_per_gradient} numbers are"
            f" {100 * need / g.samples:.3g} % of its {g.samples} voxels; {g.numbers_left} numbers are left, enough for"
            f" {g.gradients} iterations"
        )
    raise BudgetError(
        "The disclosure budget does not allow this run: " + "; ".join(lines) + ". Fewer --iterations, a larger"
        " --grid-spacing or --stride, or fewer --levels need less. The owner of the fixed image can raise the budget:"
        f" now {budget.percent_per_level:g} % of each level (ppir serve --budget-percent) and"
        f" {budget.bits_percent_per_level:g} % of its bits (--budget-bits), {budget.numbers_per_session} numbers per"
        f" session (--budget-session), {budget.numbers_per_image} per peer and image (--budget-image), of which {used}"
        f" are used; all peers together, {budget.times_per_subject:g} times that of one subject (--budget-subject)."
    )


def check_offered(request: Request, geometry: Geometry, limits: Mapping[str, float], used: int) -> None:
    """The same at party 1, from what the peer offers, before it begins with the affine part."""
    budget = Budget(
        limits["percent_per_level"], 100.0, int(limits["numbers_per_session"]), int(limits["numbers_per_image"])
    )
    shared, out = min(budget.numbers_per_session, budget.numbers_per_image - used), []
    for g in most_numbers(request, geometry):
        left = max(0, min(int(g.samples * budget.percent_per_level / 100), shared))
        room = max(0, left - g.numbers_once - MIN_EVALUATIONS * g.numbers_per_evaluation) // g.numbers_per_gradient
        out.append(replace(g, gradients=min(g.gradients, room), numbers_left=left))
        shared -= out[-1].gradients * g.numbers_per_gradient + g.numbers_once
    _check_steps(request, out, budget, used)


def grant_rows(levels: list[LevelGrant]) -> list[str]:
    """What is granted, level by level, in words and numbers."""
    most, again = sum(g.most for g in levels), max(g.again for g in levels)
    in_all = f"in all at most {most} numbers"
    if again:
        in_all += (
            f"; after each lost connection, {LOST_ANSWERS} times at most, {again} more for the answer that was lost"
        )
    return [
        f"shrink factor {g.factor}: {g.samples} voxels,"
        f" {g.numbers_per_evaluation + g.numbers_per_gradient} numbers per evaluation, at most {g.evaluations}"
        f" evaluations: {g.most} numbers ({100 * g.most / g.samples:.3g} % of the level)"
        + (f"; this site learns at most {g.shown} numbers of the moving image" if g.shown else "")
        for g in levels
    ] + [in_all]
