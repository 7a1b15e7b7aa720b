"""Rigid and similarity registration of corresponding point sets at party 1.

The order of the points says which belongs to which. One exchange opens dim² + dim + 1 numbers of the fixed points (13
in 3D, 7 in 2D); the transform follows in closed form. It maps fixed to moving points, LPS mm.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from numpy.typing import ArrayLike

from PPIRLogic.arguments import check_kinds
from PPIRLogic.errors import InputError, PolicyError, PPIRError, ProtocolError
from PPIRLogic.points.pointset import PointLayout, PointSet, as_points
from PPIRLogic.progress import CancelToken, Progress
from PPIRLogic.registration.names import POINT_TRANSFORMS, RECONNECT
from PPIRLogic.registration.party1.reconnecting import ReconnectingSession, call_peer
from PPIRLogic.registration.party1.register import check_call, dealer_of
from PPIRLogic.registration.points.columns import PointColumns, fit_sums
from PPIRLogic.registration.points.fit import PointFit, fit
from PPIRLogic.registration.points.fixed_points import LEVELS, loss_name, point_levels
from PPIRLogic.registration.protocols import PROTOCOLS
from PPIRLogic.registration.request import Offer, Peer, Request
from PPIRLogic.registration.terms import VALUE, loss_of, terms_by_stage
from PPIRLogic.version import SOFTWARE


class PointSession(ReconnectingSession):
    """A session with a peer that serves fixed points."""

    kind = "points"

    @staticmethod
    def _read_geometry(data: dict[str, Any]) -> PointLayout:
        return PointLayout.from_dict(data)

    @staticmethod
    def _make_levels(geometry: PointLayout, request: Request, seed: bytes) -> list[Any]:
        return point_levels(geometry)


_POOR = 0.25  # of the points' spread: landmarks that correspond fit better
_POOR_FIT = (
    "{:.3g} mm remain between points that lie {:.3g} mm about their centre: they hardly correspond. Check that both"
    " sides list the same points in the same order."
)


@dataclass
class PointsResult:
    """The outcome. `transform` maps fixed to moving points (LPS, mm); `fit` has the residual (not under fhe_v1, fhe_v2:
    there it is not a number) and says of a reflection.

    Times in seconds; numbers are what was opened of the fixed points, as counted here and by the peer.

    >>> result = register_points(read_points("moving.csv"), "hospital-b.example:7443")  # doctest: +SKIP
    >>> result.fit.residual_mm, result.numbers, result.warnings  # doctest: +SKIP
    (0.71, 13, [])
    """

    transform: sitk.Transform
    fit: PointFit
    layout: PointLayout
    request: Request
    ledger: list[dict[str, Any]]
    seconds: float
    bytes_sent: int
    bytes_received: int
    dealer_bytes_sent: int
    dealer_bytes_received: int
    numbers: int
    peer_numbers: int
    peer: dict[str, str]

    @property
    def _fits_poorly(self) -> bool:
        return self.fit.residual_mm > _POOR * self.fit.spread_mm  # false if the residual is not a number

    @property
    def warnings(self) -> list[str]:
        """What speaks against the result, in words."""
        """What to check before the transform is used, in words; empty if nothing."""
        if not self.fit.reflection:
            return [_POOR_FIT.format(self.fit.residual_mm, self.fit.spread_mm)] if self._fits_poorly else []
        gap = f" ({self.fit.mirrored_residual_mm:.3g} mm instead of {self.fit.residual_mm:.3g} mm remain)"
        gap = "" if math.isnan(self.fit.residual_mm) else gap
        return [
            f"A mirror image would fit better than any rotation{gap}. The transform is the best rotation."
            " Check left and right, and that both sides list the points in the same order."
        ]


def register_points(
    moving: PointSet | ArrayLike,
    peer: Peer | str,
    *,
    transform: str = "rigid",
    protocol: str = "fhe",
    home: Path | None = None,
    threads: int = 2,
    progress: Callable[[Progress], None] = lambda p: None,
    cancel: CancelToken | None = None,
    reconnect: float = RECONNECT,
) -> PointsResult:
    """Align corresponding points: mine, and those that a peer serves, in the same order.

    moving: a PointSet, or an array (n, 2) or (n, 3), LPS mm. peer: where the fixed points are; its `image` names the
    set. transform: rigid or similarity; the scale of a similarity takes the fixed points as those that have errors.
    reconnect: seconds to try to reach a lost peer again (0: never).
    Errors: InputError (counts differ, points that determine no rotation), TrustError, PeerError, PolicyError,
    BudgetError (small sets exceed the default budget; their owner can raise it), VersionError, Cancelled.

    >>> from PPIRLogic import read_points
    >>> result = register_points(read_points("moving.mrk.json"), "hospital-b.example:7443")  # doctest: +SKIP
    >>> result.fit.residual_mm  # root mean square distance that remains  # doctest: +SKIP
    """
    points, token = as_points(moving, "moving"), cancel or CancelToken()
    if transform not in POINT_TRANSFORMS or protocol not in PROTOCOLS.builtin:
        raise InputError(
            f"Points are registered with transform {' or '.join(POINT_TRANSFORMS)} and protocol"
            f" {', '.join(PROTOCOLS.builtin)}; not"
            f" with {transform}, {protocol}."
        )
    check_kinds("register_points", {"threads": threads}, {"threads": (int,)})
    home_folder, peer = check_call("register_points", peer, home, progress, cancel, reconnect)
    dealer = dealer_of(peer, protocol, home_folder)
    start = time.perf_counter()

    def tell(stage: str, detail: str) -> None:
        progress(Progress(stage, detail=detail))

    if points.note:
        tell("note", points.note)
    with call_peer(PointSession, home_folder, peer.address, token.check, threads, tell, reconnect) as session:
        try:
            _open(session, points, peer, transform, protocol, dealer)
            progress(Progress("opened", detail=_estimate(session)))
            result = _result(session, _fit(session, points), time.perf_counter() - start)
        except (PPIRError, KeyboardInterrupt) as problem:
            raise session.explain(problem) from None
    sent, received = result.bytes_sent, result.bytes_received
    progress(Progress("finished", numbers=result.numbers, bytes_sent=sent, bytes_received=received))
    return result


def _open(session: PointSession, points: PointSet, peer: Peer, transform: str, protocol: str, dealer: str) -> None:
    """Ask for what these points need; ProtocolError where the peer changed its set meanwhile."""
    offer = _choose(session.offers(), peer, points)
    request = Request(
        offer.name, protocol, transform, loss_name(points.dimension), LEVELS, evaluations=1,
        dealer=dealer, software=SOFTWARE,
    )  # fmt: skip
    session.open(request, peer.dealer)
    if session.geometry != offer.geometry:
        raise ProtocolError("The peer changed its points between the offer and the session.")


def _choose(offers: list[Offer], peer: Peer, points: PointSet) -> Offer:
    """The offer that is meant; PolicyError if there is none, InputError if it does not fit my points."""
    named = [o for o in offers if not peer.image or o.name == peer.image]
    if len(named) != 1:
        names = ", ".join(o.name for o in offers) or "none"
        raise PolicyError(
            f"{peer.address} offers {len(named) or 'no'} point sets of this name to this site; offered: {names}."
            " Name one with --image."
        )
    layout: PointLayout = named[0].geometry
    if (layout.count, layout.dimension) != (points.count, points.dimension):
        raise InputError(
            f"The fixed set '{named[0].name}' has {layout.describe()}, mine {points.count} points,"
            f" {points.dimension}D. Both need the same points in the same order; the last point of a closed contour,"
            " if it is exactly the first one, does not count."
        )
    return named[0]


def _estimate(session: PointSession) -> str:
    """What will be disclosed, in words, before it is."""
    if not PROTOCOLS[session.request.protocol].counted:
        return f"protocol {session.request.protocol}: the fixed points themselves are disclosed, unprotected"
    numbers, whole = session.grants[0].most, session.grants[0].samples
    return (
        f"{numbers} numbers of the fixed points are disclosed to this site ({100 * numbers / whole:.3g} % of their"
        f" {whole} coordinates)"
    )


def _fit(session: PointSession, points: PointSet) -> PointFit:
    level, layout = session.levels[0], session.geometry
    columns = PointColumns(points, layout)
    session.open_level(level, loss_of(session.request), None)
    opened = session.evaluate(level, columns, VALUE, terms_by_stage(session.request, level)[VALUE])
    found = fit(fit_sums(columns, points, layout, opened, session.request.transform), session.request.transform)
    if PROTOCOLS[session.request.protocol].exact:
        return found
    return replace(found, residual_mm=math.nan, mirrored_residual_mm=math.nan)  # a small difference of noisy sums


def _result(session: PointSession, found: PointFit, seconds: float) -> PointsResult:
    closing = session.finish()
    sent, received, dealer_sent, dealer_received = session.traffic()
    return PointsResult(
        transform=found.transform.to_sitk(),
        fit=found,
        layout=session.geometry,
        request=session.request,
        ledger=session.ledger.summary(),
        seconds=seconds,
        bytes_sent=sent,
        bytes_received=received,
        dealer_bytes_sent=dealer_sent,
        dealer_bytes_received=dealer_received,
        numbers=session.ledger.numbers,
        peer_numbers=closing["numbers"],
        peer={
            "address": session.channel.address,
            "fingerprint": session.channel.peer_fingerprint,
            "name": session.channel.peer_name,
            "software": session.peer_software,
        },
    )
