"""How many numbers a run can open, and whether a budget allows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from PPIRLogic.disclosure.accounts import Budget, DisclosureRecord
from PPIRLogic.disclosure.ledger import HISTOGRAM
from PPIRLogic.errors import BudgetError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.registration.extra_levels import CHECKED
from PPIRLogic.registration.levels import Level, make_levels
from PPIRLogic.registration.losses.mutual_information import COARSE_BINS
from PPIRLogic.registration.losses.point_sums import POINT_LOSSES
from PPIRLogic.registration.names import DETAIL, PURPOSES, STARTS
from PPIRLogic.registration.protocols import protocol_of
from PPIRLogic.registration.request import LOST_ANSWERS, LevelGrant, Request
from PPIRLogic.registration.terms import VALUE, loss_at, numbers_by_stage, numbers_once, terms_by_stage
from PPIRLogic.secure.protocol import Protocol

VALUES_PER_STEP = 2  # of a start that moves: as many values are asked for as steps, at least
LAST_EVALUATIONS = 30  # of mi at its last level, whose histograms are large: it begins from the end of the one before
MIN_EVALUATIONS = 3  # a level that cannot afford these is refused before the run starts


def most_numbers(request: Request, geometry: Geometry) -> list[LevelGrant]:
    """What a run could open at most, level by level, before any budget."""
    out = []
    for level in make_levels(geometry, request):
        each, gradient = numbers_by_stage(request, level)
        steps = steps_asked(request, level) if gradient else 0
        more = numbers_once(request, level), _party2_learns(request, gradient), level.purpose
        asked = values_asked(request, level)
        out.append(LevelGrant(level.factor, len(level.samples), each, asked, 0, gradient, steps, *more))
    return out


def values_asked(request: Request, level: Level) -> int:
    """How many values of the loss a run may want at a level."""
    if level.purpose:
        ends = CHECKED[level.geometry.dimension] + loss_at(request, level).pooled  # and the start, on the same scale
        return {STARTS: request.starts, DETAIL: 1}.get(level.purpose, ends)
    if loss_at(request, level).width > COARSE_BINS and 0 < level.index == len(request.levels) - 1:
        return min(request.evaluations, max(LAST_EVALUATIONS, request.evaluations // 2))
    return request.evaluations


def steps_asked(request: Request, level: Level) -> int:
    """How often a level may open a gradient apart from the value."""
    if level.purpose:
        return request.starts // VALUES_PER_STEP
    return request.iterations[level.index] if request.iterations else values_asked(request, level)


def grants(
    request: Request, levels: list[Level], measurable_voxels: list[int], account: DisclosureRecord, protocol: Protocol
) -> list[LevelGrant]:
    """What each level may open, given what is on record. measurable_voxels: voxels of each level that can be measured.

    The limits per session and per image are shared out among the levels, so that a run that starts can end.
    """
    return _Sharing(request, account, protocol).out(list(zip(levels, measurable_voxels, strict=True)))


@dataclass
class _Sharing:
    """What is left of a budget, shared out: first to the levels of the search, then to the check, then to the starts.

    So a run that fits without the extra levels fits with them, and its search may open what it could without them.
    """

    request: Request
    account: DisclosureRecord
    protocol: Protocol

    def out(self, levels: list[tuple[Level, int]]) -> list[LevelGrant]:
        budget = self.account.budget
        self._shared = max(0, min(budget.numbers_per_session, self.account.left_in_all()))
        given: dict[int, LevelGrant] = {}
        search = [(level, voxels) for level, voxels in levels if not level.purpose]
        fewest = [_fewest(self.request, level) for level, _ in search]
        for at, (level, voxels) in enumerate(search):
            # the levels to come get something, too; a B-spline run gets all that it asks for, or nothing
            reserved = 0 if self.request.iterations else sum(fewest[at + 1 :])
            given[level.index] = self._grant(level, min(self._room(level, voxels), max(0, self._shared - reserved)))
        for level, voxels in sorted((v for v in levels if v[0].purpose), key=lambda v: v[0].purpose):
            given[level.index] = self._grant(level, self._beside(level, voxels, search, given))
        return [given[level.index] for level, _ in levels]

    def _room(self, level: Level, voxels: int) -> int:
        bits = max(self.protocol.bits_of(terms) for terms in terms_by_stage(self.request, level).values())
        return self.account.left(level.factor, voxels, bits)

    def _beside(
        self, level: Level, voxels: int, search: list[tuple[Level, int]], given: Mapping[int, LevelGrant]
    ) -> int:
        """What an extra level may open without taking from others with the same shrink factor."""
        same = [(other, count) for other, count in search if other.factor == level.factor]
        room = [self._room(other, count) for other, count in [*same, (level, voxels)]]
        taken = sum(grant.most for grant in given.values() if grant.factor == level.factor)
        return max(0, min(min(room) - taken, self._shared))

    def _grant(self, level: Level, left: int) -> LevelGrant:
        request = self.request
        fits, steps = _fitting(request, level, left)
        if any(t.kind == HISTOGRAM for t in terms_by_stage(request, level)[VALUE]):
            fits = min(fits, self.account.histograms_left(level.factor))
            steps = min(fits, steps)
        each, gradient = numbers_by_stage(request, level)
        once = numbers_once(request, level) if fits or not level.purpose else 0
        more = once, _party2_learns(request, gradient), level.purpose
        grant = LevelGrant(level.factor, level.numbers, each, fits, left, gradient, steps, *more)
        self._shared -= grant.most
        return grant


def _party2_learns(request: Request, gradient: int) -> int:
    """Numbers of party 1's image that party 2 learns with each gradient of so many numbers."""
    protocol = protocol_of(request)
    return gradient if protocol.two_sided and protocol.counted else 0


def _fewest(request: Request, level: Level) -> int:
    """Numbers without which a level is of no use."""
    return MIN_EVALUATIONS * sum(numbers_by_stage(request, level))


def _fitting(request: Request, level: Level, left: int) -> tuple[int, int]:
    """Evaluations and gradients that so many numbers allow."""
    each, gradient = numbers_by_stage(request, level)
    asked, steps = values_asked(request, level), steps_asked(request, level) if gradient else 0
    if not protocol_of(request).counted:
        return asked, steps
    if level.purpose:
        return _fitting_values(left - numbers_once(request, level), each, gradient, asked, steps)
    if request.iterations and gradient:
        left = max(0, left - numbers_once(request, level))
        steps = min(steps, max(0, left - MIN_EVALUATIONS * each) // gradient)
        return min(asked, (left - steps * gradient) // each), steps
    fits = min(asked, left // (each + gradient))
    return fits, fits if gradient else 0


def _fitting_values(left: int, each: int, gradient: int, asked: int, steps: int) -> tuple[int, int]:
    """The same at an extra level, where not every value is followed by a step."""
    if not gradient:
        return max(0, min(asked, left // each)), 0
    values = max(0, min(asked, VALUES_PER_STEP * left // (VALUES_PER_STEP * each + gradient)))
    return values, max(0, min(steps, (left - values * each) // gradient))


def check_budget(request: Request, levels: list[LevelGrant], account: DisclosureRecord) -> None:
    """BudgetError before the run starts if a level cannot afford the fewest useful evaluations."""
    if request.iterations:
        _check_steps(request, levels, account.budget, account.total)
        return
    levels = [grant for grant in levels if not grant.purpose]
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


def offered_grants(request: Request, geometry: Geometry, record: DisclosureRecord) -> list[LevelGrant]:
    """What the peer would grant, as far as this side can tell: it does not know how much a mask covers."""
    levels = make_levels(geometry, request)
    return grants(request, levels, [len(level.samples) for level in levels], record, protocol_of(request))


def check_offered(request: Request, geometry: Geometry, record: DisclosureRecord) -> None:
    """BudgetError at party 1, before anything is sent, for a run that the peer would refuse."""
    check_budget(request, offered_grants(request, geometry, record), record)


def grant_rows(levels: list[LevelGrant]) -> list[str]:
    """What is granted, level by level, in words and numbers."""
    most, again = sum(g.most for g in levels), max(g.again for g in levels)
    in_all = f"in all at most {most} numbers"
    if again:
        in_all += (
            f"; after each lost connection, {LOST_ANSWERS} times at most, {again} more for the answer that was lost"
        )
    return [*map(_grant_row, levels), in_all]


def _grant_row(g: LevelGrant) -> str:
    numbers = f"{g.most} numbers ({100 * g.most / g.samples:.3g} % of the level)"
    if g.purpose:
        return f"{PURPOSES[g.purpose]}, shrink factor {g.factor}: {g.samples} voxels, at most {numbers}"
    return (
        f"shrink factor {g.factor}: {g.samples} voxels,"
        f" {g.numbers_per_evaluation + g.numbers_per_gradient} numbers per evaluation, at most {g.evaluations}"
        f" evaluations: {numbers}"
        + (f"; this site learns at most {g.party2_learns} numbers of the moving image" if g.party2_learns else "")
    )
