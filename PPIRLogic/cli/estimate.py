"""The command `ppir estimate`: what a registration would disclose at most, before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass

from PPIRLogic.cli.check import say_offers
from PPIRLogic.cli.common import called, home_of, peer_address, watch_parent
from PPIRLogic.cli.output import Arguments, say
from PPIRLogic.cli.run_options import parameters_of
from PPIRLogic.errors import PPIRError
from PPIRLogic.points.pointset import PointLayout
from PPIRLogic.registration.disclosure_estimate import MIN_EVALUATIONS, check_offered, most_numbers
from PPIRLogic.registration.losses.point_sums import POINT_LOSSES
from PPIRLogic.registration.names import PURPOSES
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import check_request, choose_offer, sessions_of
from PPIRLogic.registration.points.fixed_points import loss_name
from PPIRLogic.registration.protocols import protocol_of
from PPIRLogic.registration.request import LevelGrant, Offer, Peer
from PPIRLogic.secure.product import numbers_of
from PPIRLogic.version import SOFTWARE


@dataclass(frozen=True)
class LevelEstimate:
    """The worst case of one level, and what the owner's budget per level leaves of it (numbers; bits may be fewer)."""

    transform: str
    grant: LevelGrant
    allowed: int
    points: bool = False

    def describe(self) -> str:
        g = self.grant
        what = "coordinates" if self.points else "voxels"
        what_for = f", {PURPOSES[g.purpose]}" if g.purpose else ""
        text = f"{self.transform}{what_for}, shrink factor {g.factor}: at most {g.most} numbers"
        text += f", {100 * g.most / g.samples:.3g} % of its {g.samples} {what}"
        text += f"; the other side at most {g.party2_learns} of this site's image" if g.party2_learns else ""
        if self.allowed >= g.most:
            return text
        if g.purpose:
            return f"{text}; the owner's budget leaves less: fewer transforms are compared, or none"
        enough = self.allowed >= min(g.evaluations, MIN_EVALUATIONS) * (
            g.numbers_per_evaluation + g.numbers_per_gradient
        )
        return f"{text}; the owner's budget has {self.allowed} left" + ("" if enough else ", too few to begin")


def estimates(parameters: Parameters, offer: Offer) -> tuple[list[LevelEstimate], int]:
    """Level by level, and all in all: no session discloses more than the owner allows a session."""
    levels, most = [], 0
    for session in sessions_of(parameters):
        grants = most_numbers(
            session.request(offer.name, offer.geometry, "", SOFTWARE, offer.usual_mask), offer.geometry
        )
        record, share = offer.record(), offer.budget["percent_per_level"] / 100
        levels += [
            LevelEstimate(session.transform, g, max(0, int(g.samples * share) - record.opened(g.factor)))
            for g in grants
        ]
        most += min(sum(g.most for g in grants), int(offer.budget["numbers_per_session"]))
    return levels, most


def point_estimates(transform: str, offer: Offer) -> tuple[list[LevelEstimate], int]:
    """The same for a point set, whose one level is evaluated once; its samples are coordinates."""
    layout: PointLayout = offer.geometry
    each, coordinates = numbers_of(POINT_LOSSES[loss_name(layout.dimension)].terms(0)), layout.count * layout.dimension
    allowed = int(coordinates * offer.budget["percent_per_level"] / 100)
    return [LevelEstimate(transform, LevelGrant(1, coordinates, each, 1, 0), allowed, True)], each


def run_estimate(a: Arguments) -> None:
    parameters = parameters_of(a, False)
    if a.with_parent:
        watch_parent(a.scratch)
    with called(home_of(a), peer_address(a)) as session:
        say_offers(a, session)
        offer = choose_offer(session.points() if a.points else session.offers(), Peer(a.peer, a.image))
    levels, most = point_estimates(a.transform, offer) if a.points else estimates(parameters, offer)
    problem = "" if a.points else _problem(parameters, offer)
    rows = [
        {"transform": e.transform, **e.grant.to_dict(), "most": e.grant.most, "shown": e.grant.party2_learns}
        for e in levels
    ]
    text = "\n".join(f"    {e.describe()}" for e in levels)
    text += f"\n    in all: at most {most} numbers" + (f"\n    {problem}" if problem else "")
    say(a, "estimate", text, image=offer.name, levels=rows, most=most, problem=problem)


def _problem(parameters: Parameters, offer: Offer) -> str:
    """Why the run would be refused before it begins, as far as this side can tell; empty if it would not."""
    try:
        for session in sessions_of(parameters):
            request = session.request(offer.name, offer.geometry, "", SOFTWARE, offer.usual_mask)
            check_request(request, offer)
            if protocol_of(request).counted:
                check_offered(request, offer.geometry, offer.record())
    except PPIRError as error:
        return str(error)
    return ""
