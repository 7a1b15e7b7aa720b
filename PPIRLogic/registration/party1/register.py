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

from PPIRLogic.arguments import as_path, check_callable, check_kinds
from PPIRLogic.errors import Cancelled, InputError, PolicyError, PPIRError, ProtocolError
from PPIRLogic.images.door import as_mask, check_volume
from PPIRLogic.images.volume import Volume
from PPIRLogic.network.identity import default_home
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.progress import CancelToken, Progress
from PPIRLogic.registration.catalogue import shown_name
from PPIRLogic.registration.dealer.joining import pinned_dealer
from PPIRLogic.registration.disclosure_estimate import check_offered
from PPIRLogic.registration.doubts import share_covered, share_inside
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.names import PURPOSES, RECONNECT
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.level_loop import run_levels
from PPIRLogic.registration.party1.reconnecting import ReconnectingSession, call_peer
from PPIRLogic.registration.party1.session import ClientSession
from PPIRLogic.registration.party1.state import RunState
from PPIRLogic.registration.protocols import protocol_named, protocol_of
from PPIRLogic.registration.request import Offer, Peer, Request
from PPIRLogic.registration.result import LevelRecord, RegistrationResult
from PPIRLogic.registration.rules import grid_problem, request_problem
from PPIRLogic.registration.transform_kinds import TRANSFORMS
from PPIRLogic.transforms import BSplineTransform, DiffeoTransform, LinearTransform
from PPIRLogic.version import SOFTWARE

__all__ = ["CancelToken", "LevelRecord", "Parameters", "Peer", "Progress", "RegistrationResult", "register"]


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

    moving: 2D or 3D volume of this site. mask: same array shape (z, y, x), inside where it is not 0. home: where this
    site's identity, trust and ledger live (default: the user's). progress is called from this thread. reconnect:
    seconds to try to reach a peer or dealer again that was lost during the run, which then goes on where it was (0:
    never). The result maps fixed to moving points (LPS, mm). If the run ends early after its first evaluation (peer
    lost, budget spent, cancelled), the best transform so far is returned with `complete` False and the error in
    `error`; before that, the error is raised: InputError, OverlapError, TrustError, PeerError, PolicyError,
    BudgetError, BusyError, VersionError, FixedPointError, Cancelled.

    >>> from PPIRLogic import read_volume, write_transform
    >>> result = register(read_volume("moving.nrrd"), "hospital-b.example:7443")  # doctest: +SKIP
    >>> write_transform(result.transform, "T.h5")  # doctest: +SKIP
    """
    check_volume(moving, f"The moving image '{getattr(moving, 'name', '')}'")
    mask = None if mask is None else as_mask(mask, moving, "The mask of the moving image")
    home_folder, peer = check_call("register", peer, home, progress, cancel, reconnect)
    check_kinds("register", {"parameters": parameters}, {"parameters": (Parameters, type(None))})
    p, token = parameters or Parameters(), cancel or CancelToken()
    caller = _Caller(moving, peer, mask, home_folder, progress, token, reconnect)
    return caller.after_affine(*sessions) if len(sessions := sessions_of(p)) == 2 else caller.register(p)


def check_call(
    function: str, peer: Any, home: Any, progress: Any, cancel: Any, reconnect: Any
) -> tuple[Path, Peer]:  # fmt: skip
    """What every call of a peer is given, as it is used: the home, and whom to call. InputError for other kinds."""
    check_callable(function, progress=progress)
    if not isinstance(peer, (str, Peer)):
        raise InputError(
            f"{function} cannot be called with peer {peer!r:.60}. Give its address, 'host:port', or a Peer."
        )
    values = {"cancel": cancel, "reconnect": reconnect}
    check_kinds(function, values, {"cancel": (CancelToken, type(None)), "reconnect": (int, float)})
    home_folder = default_home() if home is None else as_path(home, "The home of this site")
    return home_folder, Peer(peer) if isinstance(peer, str) else peer


def sessions_of(p: Parameters) -> list[Parameters]:
    """The parameters of the sessions that a call of `register` makes, one after the other.

    A deformable transform without an initial one comes after an affine session.
    """
    kind = TRANSFORMS[p.transform]
    if not kind.deformable or isinstance(p.initial, sitk.Transform):
        return [p]
    loss = LOSSES[p.loss].affine_loss or p.loss
    protocol = protocol_named(p.protocol).affine_protocol or p.protocol
    return [replace(p, transform=kind.linear, loss=loss, protocol=protocol, iterations=None), p]


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
    return replace(
        second,
        first=first.first,
        starts=first.starts,
        check=first.check,
        peer_numbers=numbers,
        ledger=list(rows.values()),
        **totals,
    )


@dataclass(frozen=True)
class _Caller:
    """What all sessions of one call of `register` share."""

    moving: Volume
    peer: Peer
    mask: NDArray[np.bool_] | None
    home_folder: Path
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
        run = RunState(self.moving, self.mask, p, self.progress, self.token)
        run.check_initial()
        dealer = dealer_of(self.peer, p.protocol, self.home_folder)
        begun: list[ReconnectingSession] = []

        def tell(stage: str, detail: str) -> None:
            run.report_progress(begun[0] if begun else None, stage, detail=detail)

        with call_peer(
            ReconnectingSession, self.home_folder, self.peer.address, self.token.check, p.threads, tell, self.reconnect
        ) as session:
            begun.append(session)
            try:
                offer = choose_offer(session.offers(), self.peer)
                first = run.first_transform(offer.geometry)
                request = p.request(offer.name, offer.geometry, dealer, SOFTWARE, offer.usual_mask)
                check_request(request, offer)
                if follow is not None:
                    later = follow.request(offer.name, offer.geometry, "", SOFTWARE, offer.usual_mask)
                    check_request(later, offer)
                session.open(request, self.peer.dealer)
                run.report_progress(session, "opened", detail=_estimate(session, p))
                if session.geometry != offer.geometry:
                    raise ProtocolError("The peer changed the geometry of its image between the offer and the session.")
                run_levels(run, session, first)
                closing = session.finish()
                return _result(run, session, closing["numbers"], None)
            except (PPIRError, KeyboardInterrupt) as problem:
                error = session.explain(problem)
                if not any(record.values for record in run.records):
                    raise error from None
                return _result(run, session, None, error)


def dealer_of(peer: Peer, protocol: str, home: Path) -> str:
    """The fingerprint of the dealer that a run under this protocol takes randomness from; '' for a run without one.

    PolicyError where the protocol needs a dealer and none is named or trusted, before anything is sent.
    """
    if not protocol_named(protocol).dealer:
        return ""
    if not peer.dealer:
        raise PolicyError(
            "The mpc protocol needs a dealer, a third process that neither hospital runs: give its address"
            " (--dealer HOST:PORT), or use the protocol fhe, which needs none."
        )
    return pinned_dealer(TrustStore(home), peer.dealer_fingerprint)


def _estimate(session: ClientSession, parameters: Parameters) -> str:
    """What the run may disclose at most, in words, before it discloses anything."""
    if not session.protocol.counted:
        return (
            f"protocol {shown_name(parameters.protocol)}: the fixed image itself is disclosed to this site, unprotected"
        )
    shares = [
        f"{100 * g.most / g.samples:.3g} % at 1/{g.factor}" + (f" {PURPOSES[g.purpose]}" if g.purpose else "")
        for g in session.grants
        if g.most or not g.purpose
    ]
    most, learned = sum(g.most for g in session.grants), sum(g.party2_learns for g in session.grants)
    return (
        f"at most {most} numbers of the fixed image are disclosed to this site ({', '.join(shares)} of the voxels)"
        + ("; the other side sees the results too" if session.protocol.party2_learns and not learned else "")
        + (f"; the other side learns at most {learned} numbers of the moving image" if learned else "")
    )


def check_request(request: Request, offer: Offer) -> None:
    """InputError or BudgetError for a deformation or a window that the offered image or its budget cannot hold."""
    if problem := request_problem(request) or grid_problem(request, offer.geometry):
        raise InputError(problem)
    if request.iterations and protocol_of(request).counted:
        check_offered(request, offer.geometry, offer.record())


def choose_offer(offers: list[Offer], peer: Peer) -> Offer:
    """The offer that is named, or the only one; PolicyError otherwise."""
    named = [o for o in offers if not peer.image or o.name == peer.image]
    if len(named) == 1:
        return named[0]
    names = ", ".join(o.name for o in offers) or "none"
    what = f"no image '{peer.image}'" if peer.image else ("several images" if offers else "no image")
    advice = " Name one with --image." if offers else " Ask its owner to serve one to this site."
    raise PolicyError(f"{peer.address} offers {what} to this site; offered: {names}.{advice}")


def _result(
    run: RunState, session: ReconnectingSession, peer_numbers: int | None, error: PPIRError | None
) -> RegistrationResult:
    assert run.best is not None and run.first is not None
    sent, received, dealer_sent, dealer_received = session.traffic()
    best = run.best.finished(session.geometry) if isinstance(run.best, DiffeoTransform) else run.best
    linear = best if isinstance(best, LinearTransform) else best.affine
    result = RegistrationResult(
        transform=best.to_sitk(),
        linear=linear,
        spline=best if isinstance(best, BSplineTransform) else None,
        diffeo=best if isinstance(best, DiffeoTransform) else None,
        first=run.first,
        fixed_geometry=session.geometry,
        fixed_frame=session.frame,
        covered=share_covered(session.geometry, run.moving.geometry, linear),
        inside=share_inside(run.scaled, session.geometry, linear),
        levels=run.records,
        starts=run.starts,
        check=run.check,
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
