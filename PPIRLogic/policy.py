"""What the owner of a fixed image permits, and the estimate of what a run would disclose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from PPIRLogic.errors import BudgetError, PolicyError
from PPIRLogic.images import Geometry
from PPIRLogic.levels import Level, check_factors, make_levels
from PPIRLogic.losses import LOSSES
from PPIRLogic.losses.mattes import BINS
from PPIRLogic.losses.points import POINT_LOSSES
from PPIRLogic.openings import VALUE, numbers_by_stage, openings
from PPIRLogic.peer.ledger import HISTOGRAM, Budget, ImageAccount
from PPIRLogic.peer.messages import LevelGrant, Request
from PPIRLogic.protocols import PROTOCOLS
from PPIRLogic.transforms import KINDS

FEWEST_EVALUATIONS = 3  # a level that cannot afford these is refused before the run starts
MASK_MODES = ("none", "fill", "private", "disclosed")


@dataclass(frozen=True)
class Policy:
    """One owner's rules for one shared image. Everything not listed is refused.

    `peers`: fingerprints that may use the image; empty means every trusted peer. `protocols`: 'clear' discloses the
    whole image and is never in the default, nor are fhe_v1 and fhe_v2. `masks`: how a mask of the fixed image may be
    used. `ask`: a person's answer before each session (peer's name, request, estimate) → yes or no.
    """

    protocols: frozenset[str] = frozenset({"fhe", "fhe_verified", "mpc"})
    losses: frozenset[str] = frozenset(LOSSES)
    transforms: frozenset[str] = frozenset(KINDS)
    masks: frozenset[str] = frozenset({"none", "fill", "private"})
    peers: frozenset[str] = frozenset()
    disclosed_sampling: bool = False
    budget: Budget = field(default_factory=Budget)
    ask: Callable[[str, Request, list[LevelGrant]], bool] | None = None

    def check(self, request: Request, peer: str, has_mask: bool) -> None:
        """PolicyError naming what is refused and what is permitted."""
        if self.peers and peer not in self.peers:
            raise PolicyError(f"The owner of image '{request.image}' does not offer it to this peer.")
        for what, value, allowed in (
            ("protocol", request.protocol, self.protocols),
            ("loss", request.loss, self.losses | frozenset(POINT_LOSSES)),  # an image has no use for the latter
            ("transform", request.transform, self.transforms),
            ("use of the fixed mask", request.fixed_mask, self.masks),
        ):
            if value not in allowed:
                raise PolicyError(
                    f"The {what} '{value}' is not permitted for image '{request.image}' by its owner;"
                    f" permitted: {', '.join(sorted(allowed))}."
                )
        if request.fixed_mask != "none" and not has_mask:
            raise PolicyError(
                f"Image '{request.image}' is shared without a mask: the use of its mask must be 'none', not"
                f" '{request.fixed_mask}'."
            )
        check_factors(request.levels)
        if request.bins not in BINS:
            raise PolicyError(f"A joint histogram of {request.bins} bins is not offered: {', '.join(map(str, BINS))}.")
        if request.sampling == "gms" and PROTOCOLS[request.protocol].told_samples:
            self._check_disclosed_sampling(request)

    def _check_disclosed_sampling(self, request: Request) -> None:
        if not (self.disclosed_sampling and request.disclose_sampling):
            raise PolicyError(
                f"Under {request.protocol}, gms sampling shows party 2 where the moving image has edges. Both sides"
                " must allow it by name (register --disclose-sampling, serve --allow-disclosed-sampling); or use fhe,"
                " or urs."
            )


def most_numbers(request: Request, geometry: Geometry) -> list[LevelGrant]:
    """What a run could open at most, level by level, before any budget."""
    out = []
    for level in make_levels(geometry, request):
        each, gradient = numbers_by_stage(request, level)
        steps = request.evaluations if gradient else 0
        out.append(LevelGrant(level.factor, len(level.samples), each, request.evaluations, 0, gradient, steps))
    return out


def grants(
    request: Request, levels: list[Level], touchable: list[int], account: ImageAccount, bits: int
) -> list[LevelGrant]:
    """What each level may open, given what is on record. `touchable`: voxels of each level that can be measured.

    The limits per session and per image are shared out among the levels, so that a run that starts can end.
    """
    budget = account.budget
    shared = max(0, min(budget.numbers_per_session, budget.numbers_per_image - account.total))
    costs = [sum(numbers_by_stage(request, level)) for level in levels]
    out = []
    for index, (level, voxels) in enumerate(zip(levels, touchable, strict=True)):
        reserved = FEWEST_EVALUATIONS * sum(costs[index + 1 :])  # the levels to come get something, too
        left = min(account.left(level.factor, voxels, bits), max(0, shared - reserved))
        fits = request.evaluations if request.protocol == "clear" else min(request.evaluations, left // costs[index])
        if any(t.kind == HISTOGRAM for t in openings(request, level)[VALUE]):
            fits = min(fits, account.histograms_left(level.factor))
        each, gradient = numbers_by_stage(request, level)
        out.append(LevelGrant(level.factor, level.numbers, each, fits, left, gradient, fits if gradient else 0))
        shared -= out[-1].most
    return out


def check_budget(levels: list[LevelGrant], account: ImageAccount, request: Request) -> None:
    """BudgetError before the run starts if a level cannot afford the fewest useful evaluations (or the asked)."""
    fewest, what = min(request.evaluations, FEWEST_EVALUATIONS), "voxels"
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
        f" {account.total} are used, {b.histograms_per_level} joint histograms per level (--budget-histograms)."
    )
