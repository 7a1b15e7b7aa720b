"""The multiresolution registration at party 1: the moving image, a session with a peer, a transform at the end.

The result maps fixed points to moving points (ITK's resampling direction) in LPS millimetres.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from PPIRLogic.errors import Cancelled, InputError, PolicyError, PPIRError, ProtocolError
from PPIRLogic.images import Geometry, Volume, fill_outside, normalise, robust_range
from PPIRLogic.lasting import LastingSession
from PPIRLogic.levels import Level, grid_problem, request_problem
from PPIRLogic.losses.cc import PUBLISHED
from PPIRLogic.openings import loss_of
from PPIRLogic.parameters import CancelToken, LevelRecord, Parameters, Progress, RegistrationResult
from PPIRLogic.peer.identity import default_home, load_or_create_identity
from PPIRLogic.peer.ledger import SessionLedger
from PPIRLogic.peer.messages import Request
from PPIRLogic.peer.trust import TrustStore
from PPIRLogic.policy import check_offered
from PPIRLogic.pyramid import margin_voxels, smooth
from PPIRLogic.runs.diffeo import DiffeoRun
from PPIRLogic.runs.linear import LinearRun
from PPIRLogic.runs.mattes import MattesRun
from PPIRLogic.runs.mattes_spline import MattesDiffeoRun, MattesSplineRun
from PPIRLogic.runs.spline import SplineRun
from PPIRLogic.runs.symmetric import Halves, SymmetricRun
from PPIRLogic.secure.prg import new_key
from PPIRLogic.session import ClientSession, Offer
from PPIRLogic.transforms import BSPLINE, DEFORMABLE, DIFFEO, DiffeoTransform, LinearTransform, SplineTransform
from PPIRLogic.transforms.spline import cells_of
from PPIRLogic.version import SOFTWARE
from PPIRLogic.warp import MovingImage

__all__ = ["CancelToken", "LevelRecord", "Parameters", "Peer", "Progress", "RegistrationResult", "register"]

RECONNECT = 120.0  # seconds
_DEFORMABLE_RUNS = {  # by transform, and whether the loss has a random pool
    (BSPLINE, False): SplineRun,
    (BSPLINE, True): MattesSplineRun,
    (DIFFEO, False): DiffeoRun,
    (DIFFEO, True): MattesDiffeoRun,
}


class Registration:
    """One run: holds the moving image and the best transform so far."""

    def __init__(
        self,
        moving: Volume,
        mask: NDArray[np.bool_] | None,
        parameters: Parameters,
        progress: Callable[[Progress], None],
        cancel: CancelToken,
    ) -> None:
        self.moving, self.mask, self.parameters = moving, mask, parameters
        self.progress, self.cancel = progress, cancel
        self.normalisation = robust_range(moving, mask)
        scaled = normalise(moving, self.normalisation)
        self._scaled = fill_outside(scaled, mask) if mask is not None and parameters.mask == "fill" else scaled
        self.records: list[LevelRecord] = []
        self.first: LinearTransform | None = None
        self.best: LinearTransform | SplineTransform | DiffeoTransform | None = None
        self.start = time.perf_counter()

    # ------------------------------------------------------------------------------------- before the run

    def first_transform(self, fixed: Geometry) -> LinearTransform:
        """The initial transform, centred on the fixed grid."""
        if fixed.dimension != self.moving.geometry.dimension:
            raise InputError(
                f"The fixed image is {fixed.dimension}D ({fixed.describe()}), the moving image"
                f" {self.moving.geometry.dimension}D ({self.moving.geometry.describe()}). Both must have the same"
                " dimension."
            )
        kind, initial = self.parameters.transform, self.parameters.initial
        kind = "affine" if kind in DEFORMABLE else kind
        if isinstance(initial, sitk.Transform):
            return LinearTransform.from_sitk(initial, kind, fixed.centre(), fixed.dimension)
        start = LinearTransform.identity(kind, fixed.centre())
        if initial == "centres":
            shift = self.moving.geometry.centre() - fixed.centre()
            start = LinearTransform(start.kind, start.matrix, shift, start.centre)
        return start

    # ---------------------------------------------------------------------------------------------- levels

    def run_levels(self, session: ClientSession, transform: LinearTransform) -> None:
        self.first = self.best = transform
        kind = session.request.transform
        if kind == BSPLINE:
            request = session.request
            cells = cells_of(session.geometry, request.grid_spacing, len(request.levels) - 1)
            coarsest = tuple(m >> (len(request.levels) - 1) for m in cells)
            self.best = SplineTransform.zero(transform, session.geometry, coarsest)
        elif kind == DIFFEO:
            self.best = DiffeoTransform.identity(transform, session.levels[0].geometry)
        loss = loss_of(session.request)
        smoothed: tuple[float, Volume] | None = None
        halves: Halves | None = None
        for level, grant in zip(session.levels, session.grants, strict=True):
            self.cancel.check()
            sigma = moving_sigma_mm(self.moving.geometry, session.geometry, level)
            if smoothed is None or smoothed[0] != sigma:
                smoothed = (sigma, smooth(self._scaled, sigma))
            rows = self.mask if self.parameters.mask == "rows" else None
            image = loss.prepared(smoothed[1], level.factor)
            moving = MovingImage(image, margin_voxels(self.moving.geometry, level.margin_mm), rows, loss.cubic)
            evaluations = min(grant.evaluations, self.parameters.evaluations)
            pooled = loss.pooled
            if loss.two_sided:
                halves = SymmetricRun(self, session, level, moving, halves).run(evaluations, grant.gradients)
            elif kind in DEFORMABLE:
                run = _DEFORMABLE_RUNS[kind, pooled]
                run(self, session, level, moving).run(evaluations, grant.gradients)
            else:
                simple = MattesRun if pooled else LinearRun
                simple(self, session, level, moving).run(evaluations)
            self.records[-1].kind = kind

    def report_progress(self, session: ClientSession | None, stage: str, **details: Any) -> None:
        numbers = session.ledger.numbers if session else 0
        sent, received, _, _ = session.traffic() if session else (0, 0, 0, 0)
        seconds = time.perf_counter() - self.start
        self.progress(
            Progress(stage, seconds=seconds, bytes_sent=sent, bytes_received=received, numbers=numbers, **details)
        )


def moving_sigma_mm(moving: Geometry, fixed: Geometry, level: Level) -> float:
    """Smoothing of the moving image at a level: the fixed image's, or more where the moving grid is much finer."""
    fixed_spacing, moving_spacing = min(fixed.spacing), min(moving.spacing)
    if level.sigma_mm == 0.0 and moving_spacing < fixed_spacing / 1.5:
        return 0.5 * float(np.sqrt(fixed_spacing**2 - moving_spacing**2))
    return level.sigma_mm


@dataclass(frozen=True)
class Peer:
    """Where the fixed image is: address 'host:port', the image's name there ('' if it offers one), the dealer."""

    address: str
    image: str = ""
    dealer: str = ""
    dealer_fingerprint: str = ""


def register(
    moving: Volume,
    peer: Peer | str,
    *,
    mask: NDArray[np.bool_] | None = None,
    parameters: Parameters | None = None,
    home: Path | None = None,
    progress: Callable[[Progress], None] = lambda p: None,
    cancel: CancelToken | None = None,
    reconnect: float = RECONNECT,
) -> RegistrationResult:
    """Align `moving` with a fixed image that a peer serves. Returns when the run is over.

    moving: 2D or 3D volume of this site. mask: bool, same array shape (z, y, x). home: where this site's identity,
    trust and ledger live (default: the user's). progress is called from this thread. reconnect: seconds to try to reach
    a peer or dealer again that was lost during the run, which then goes on where it was (0: never). The result maps
    fixed to moving points (LPS, mm). If the run ends early after its first evaluation (peer lost, budget spent,
    cancelled), the best transform so far is returned with `complete` False and the error in `error`; before that, the
    error is raised: InputError, OverlapError, TrustError, PeerError, PolicyError, BudgetError, BusyError, VersionError,
    FixedPointError, Cancelled.
    """
    place = home if home is not None else default_home()
    peer = Peer(peer) if isinstance(peer, str) else peer
    p, token = parameters or Parameters(), cancel or CancelToken()
    caller = _Caller(moving, peer, mask, place, progress, token, reconnect)
    return caller.after_affine(*sessions) if len(sessions := sessions_of(p)) == 2 else caller.register(p)


def sessions_of(p: Parameters) -> list[Parameters]:
    """The parameters of the sessions that a call of `register` makes, one after the other.

    A deformable transform without an initial one comes after an affine session.
    """
    if p.transform not in DEFORMABLE or isinstance(p.initial, sitk.Transform):
        return [p]
    loss = "ncc" if p.loss in ("lncc", "cc") else p.loss  # a window's statistics lead nowhere from afar
    protocol = "mpc" if p.protocol == PUBLISHED else p.protocol
    return [replace(p, transform="affine", loss=loss, protocol=protocol, iterations=None), p]


def joined(first: RegistrationResult, second: RegistrationResult) -> RegistrationResult:
    """The second result with the levels, ledger and totals of both."""
    numbers = None if None in (a := (first.peer_numbers, second.peer_numbers)) else sum(v or 0 for v in a)
    totals = {
        name: getattr(first, name) + getattr(second, name)
        for name in (
            "levels", "reconnections", "seconds", "bytes_sent", "bytes_received", "dealer_bytes_sent",
            "dealer_bytes_received", "numbers",
        )
    }  # fmt: skip
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in (*first.ledger, *second.ledger):
        key = row["kind"], row["to"], row["level"]
        known = rows.get(key, {**row, "numbers": 0, "bits": 0})
        rows[key] = {**known, **{n: known[n] + row[n] for n in ("numbers", "bits")}}
    return replace(second, first=first.first, peer_numbers=numbers, ledger=list(rows.values()), **totals)


@dataclass(frozen=True)
class _Caller:
    """What all sessions of one call of `register` share."""

    moving: Volume
    peer: Peer
    mask: NDArray[np.bool_] | None
    place: Path
    progress: Callable[[Progress], None]
    token: CancelToken
    reconnect: float

    def after_affine(self, affine: Parameters, p: Parameters) -> RegistrationResult:
        """An affine session, then a deformable session that starts from its result; the totals are of both."""
        first = self.register(affine, follow=p)
        if not first.complete:
            return first
        try:
            second = self.register(replace(p, initial=first.transform))
        except (PPIRError, KeyboardInterrupt) as problem:
            error = problem if isinstance(problem, PPIRError) else Cancelled("The registration was cancelled.")
            return replace(first, complete=False, stop_reason=type(error).__name__, error=error)
        return joined(first, second)

    def register(self, p: Parameters, follow: Parameters | None = None) -> RegistrationResult:
        """One session. `follow`: what is to come after it, refused beforehand where it cannot fit."""
        run = Registration(self.moving, self.mask, p, self.progress, self.token)
        identity, trust = load_or_create_identity(self.place), TrustStore(self.place)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        path = self.place / "ledger" / "sessions" / f"{stamp}_party1_{new_key().hex()[:8]}.jsonl"
        ledger = SessionLedger(path, {"peer": self.peer.address})
        run.report_progress(None, "connecting", detail=self.peer.address)

        def tell(stage: str, detail: str) -> None:
            run.report_progress(session, stage, detail=detail)

        with LastingSession(
            self.peer.address, identity, trust, self.token.check, p.threads, ledger, tell, patience=self.reconnect
        ) as session:
            try:
                offer = choose_offer(session.offers(), self.peer)
                first = run.first_transform(offer.geometry)
                request = p.request(offer.name, offer.geometry, self.peer.dealer_fingerprint, SOFTWARE)
                check_request(request, offer)
                if follow is not None:
                    check_request(follow.request(offer.name, offer.geometry, "", SOFTWARE), offer)
                session.open(request, self.peer.dealer)
                run.report_progress(session, "opened", detail=_estimate(session, p))
                if session.geometry != offer.geometry:
                    raise ProtocolError("The peer changed the geometry of its image between the offer and the session.")
                run.run_levels(session, first)
                closing = session.finish()
                return _result(run, session, closing["numbers"], None)
            except (PPIRError, KeyboardInterrupt) as problem:
                error = session.explain(problem)
                if not any(record.values for record in run.records):
                    raise error from None
                return _result(run, session, None, error)


def _estimate(session: ClientSession, parameters: Parameters) -> str:
    """What the run may disclose at most, in words, before it discloses anything."""
    if parameters.protocol == "clear":
        return "protocol clear: the fixed image itself is disclosed to this site, unprotected"
    shares = [f"{100 * g.most / g.samples:.3g} % at 1/{g.factor}" for g in session.grants]
    most, shown = sum(g.most for g in session.grants), sum(g.shown for g in session.grants)
    return (
        f"at most {most} numbers of the fixed image are disclosed to this site ({', '.join(shares)} of the voxels)"
        + ("; the other side sees the results too" if session.protocol.shown and not shown else "")
        + (f"; the other side learns at most {shown} numbers of the moving image" if shown else "")
    )


def check_request(request: Request, offer: Offer) -> None:
    """InputError or BudgetError for a deformation or a window that the offered image or its budget cannot hold."""
    if problem := request_problem(request) or grid_problem(request, offer.geometry):
        raise InputError(problem)
    if request.iterations and request.protocol != "clear":
        check_offered(request, offer.geometry, offer.budget, offer.numbers_opened)


def choose_offer(offers: list[Offer], peer: Peer) -> Offer:
    """The offer that is named, or the only one; PolicyError otherwise."""
    named = [o for o in offers if not peer.image or o.name == peer.image]
    if len(named) == 1:
        return named[0]
    names = ", ".join(o.name for o in offers) or "none"
    what = f"no image '{peer.image}'" if peer.image else ("several images" if offers else "no image")
    raise PolicyError(f"{peer.address} offers {what} to this site; offered: {names}. Name one with --image.")


def _result(
    run: Registration, session: LastingSession, peer_numbers: int | None, error: PPIRError | None
) -> RegistrationResult:
    assert run.best is not None and run.first is not None
    sent, received, dealer_sent, dealer_received = session.traffic()
    best = run.best.finished(session.geometry) if isinstance(run.best, DiffeoTransform) else run.best
    result = RegistrationResult(
        transform=best.to_sitk(),
        linear=best if isinstance(best, LinearTransform) else best.affine,
        spline=best if isinstance(best, SplineTransform) else None,
        diffeo=best if isinstance(best, DiffeoTransform) else None,
        first=run.first,
        fixed_geometry=session.geometry,
        levels=run.records,
        ledger=session.ledger.summary(),
        parameters=run.parameters.to_dict(),
        request=session.request,
        normalisation=asdict(run.normalisation),
        seconds=time.perf_counter() - run.start,
        bytes_sent=sent,
        bytes_received=received,
        dealer_bytes_sent=dealer_sent,
        dealer_bytes_received=dealer_received,
        numbers=session.ledger.numbers,
        peer_numbers=peer_numbers,
        complete=error is None,
        stop_reason="finished" if error is None else type(error).__name__,
        error=error,
        reconnections=session.reconnections,
        peer={
            "address": session.channel.address,
            "fingerprint": session.channel.peer_fingerprint,
            "name": session.channel.peer_name,
            "software": session.peer_software,
        },
    )
    run.report_progress(session, "finished")
    return result
