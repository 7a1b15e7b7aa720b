"""The multiresolution loop at party 1: the moving image, a session with a peer, and a transform at the end.

The result maps fixed points to moving points (ITK's resampling direction) in LPS millimetres.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from PPIRLogic.errors import Cancelled, InputError, OverlapError, PolicyError, PPIRError, ProtocolError
from PPIRLogic.images import Geometry, Volume, fill_outside, normalise, robust_range
from PPIRLogic.levels import Level, default_factors, factors_problem, square_shift
from PPIRLogic.losses import LOSSES, Evaluation, Loss, Sums
from PPIRLogic.losses.base import FIXED_SCALE
from PPIRLogic.losses.masked import with_private_mask
from PPIRLogic.optimise import Stopping, minimise
from PPIRLogic.peer.identity import default_home, load_or_create_identity
from PPIRLogic.peer.ledger import SessionLedger
from PPIRLogic.peer.messages import Request
from PPIRLogic.peer.trust import TrustStore
from PPIRLogic.protocols import PROTOCOLS
from PPIRLogic.pyramid import margin_voxels, smooth
from PPIRLogic.sampling import Indices, Sampling, choose_blocks, unit_size
from PPIRLogic.secure.base import GROUP, Columns, ColumnSource
from PPIRLogic.secure.bfv import PLAIN_MODULUS
from PPIRLogic.secure.prg import derive_key, new_key
from PPIRLogic.session import ClientSession, Offer
from PPIRLogic.transforms import KINDS, LinearTransform
from PPIRLogic.version import SOFTWARE
from PPIRLogic.warp import (
    LinearColumns,
    MovingImage,
    ProductColumns,
    Scales,
    choose_scales,
    scan_columns,
    widest_scales,
)

SMALLEST_OVERLAP = 0.05  # of the fixed samples, at the start
_STEP_TOLERANCE = {2: 0.0005, 3: 0.002}
SHRINKING_LIMIT = 0.6  # a step may not leave less than this share of the level's first overlap


@dataclass(frozen=True)
class Parameters:
    """How to register. Lengths in mm.

    transform: translation, rigid, similarity, affine. loss: ssd, ncc. protocol: fhe, mpc, clear.
    levels: shrink factors coarse to fine; None chooses by size. step_tolerance: a level ends when a step moves no
    corner of the fixed grid further than this times shrink factor times the smallest spacing (None: 0.0005 in 2D, 0.002
    in 3D). loss_tolerance: … when
    an accepted step lowers the loss by a smaller fraction. initial: identity, centres, or an sitk.Transform
    fixed → moving. mask: 'fill' puts the in-mask mean outside of my mask, 'rows' leaves those voxels out.
    fixed_mask: none, fill, private, disclosed: how the peer's mask is used, if its owner permits.
    """

    transform: str = "affine"
    loss: str = "ncc"
    protocol: str = "fhe"
    sampling: str = "full"
    percent: float = 100.0
    disclose_sampling: bool = False
    levels: tuple[int, ...] | None = None
    evaluations: int = 40
    step_tolerance: float | None = None
    loss_tolerance: float = 1e-6
    initial: str | sitk.Transform = "centres"
    mask: str = "fill"
    fixed_mask: str = "none"
    seed: int = 1
    threads: int = 2

    def __post_init__(self) -> None:
        for what, value, known in (
            ("transform", self.transform, tuple(KINDS)),
            ("loss", self.loss, tuple(LOSSES)),
            ("protocol", self.protocol, tuple(PROTOCOLS)),
            ("use of the moving mask", self.mask, ("fill", "rows")),
            ("use of the fixed mask", self.fixed_mask, ("none", "fill", "private", "disclosed")),
        ):
            if value not in known:
                raise InputError(f"Unknown {what} '{value}'. Choose one of {', '.join(known)}.")
        Sampling(self.sampling, self.percent)
        self._check_numbers()
        if self.levels is not None and (problem := factors_problem(self.levels)):
            raise InputError(problem)
        if isinstance(self.initial, str) and self.initial not in ("identity", "centres"):
            raise InputError(f"Unknown initial transform '{self.initial}': identity, centres, or a transform file.")

    def _check_numbers(self) -> None:
        step = 1.0 if self.step_tolerance is None else self.step_tolerance
        for what, good in (
            ("evaluations must be at least 1 and at most 10000", 1 <= self.evaluations <= 10_000),
            ("threads must be at least 1", self.threads >= 1),
            ("the step tolerance must be a number above 0", 0 < step < float("inf")),
            ("the loss tolerance must be a number of at least 0", 0 <= self.loss_tolerance < float("inf")),
            ("the seed must lie between 0 and 2^62", 0 <= self.seed <= 2**62),
        ):
            if not good:
                raise InputError(f"Unusable parameter: {what}.")

    def request(self, image: str, geometry: Geometry, dealer_fingerprint: str, software: str) -> Request:
        return Request(
            image=image,
            protocol=self.protocol,
            transform=self.transform,
            loss=self.loss,
            levels=self.levels or default_factors(geometry),
            sampling=self.sampling,
            percent=float(self.percent),
            disclose_sampling=self.disclose_sampling,
            fixed_mask=self.fixed_mask,
            evaluations=self.evaluations,
            seed=self.seed,
            dealer=dealer_fingerprint,
            software=software,
        )

    def step_mm(self, fixed: Geometry, factor: int) -> float:
        """The step in mm below which a level with this shrink factor ends."""
        per_voxel = self.step_tolerance or _STEP_TOLERANCE[fixed.dimension]
        return per_voxel * factor * min(fixed.spacing)

    def to_dict(self) -> dict[str, Any]:
        """For the report; a given initial transform is named, not copied."""
        out = {k: v for k, v in self.__dict__.items() if k != "initial"}
        out["initial"] = self.initial if isinstance(self.initial, str) else self.initial.GetName()
        return out


class CancelToken:
    """Set `cancel()` from any thread: the run stops at the next block of work and both sides are told."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait up to so many seconds; True once cancelled."""
        return self._event.wait(seconds)

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        if self._event.is_set():
            raise Cancelled("The registration was cancelled.")


@dataclass(frozen=True)
class Progress:
    """What a progress callback gets. Times in seconds, bytes on the wire, numbers opened so far."""

    stage: str  # connecting | opened | level | evaluation | finished
    level: int = 0
    levels: int = 0
    factor: int = 0
    evaluation: int = 0
    value: float = float("nan")
    seconds: float = 0.0
    bytes_sent: int = 0
    bytes_received: int = 0
    numbers: int = 0
    detail: str = ""


@dataclass
class LevelRecord:
    """One level in the report. `values`: the loss at the start and at every accepted step; `parameters` likewise."""

    factor: int
    shape: list[int]
    spacing: list[float]
    samples: int
    evaluations: int = 0
    iterations: int = 0
    reason: str = ""
    seconds: float = 0.0
    values: list[float] = field(default_factory=list)
    steps_mm: list[float] = field(default_factory=list)
    overlap: float = 0.0
    transforms: list[list[float]] = field(default_factory=list)


@dataclass
class RegistrationResult:
    """The outcome. `transform` maps fixed to moving points (LPS, mm). `complete` is False if the run ended early."""

    transform: sitk.Transform
    linear: LinearTransform
    first: LinearTransform
    fixed_geometry: Geometry
    levels: list[LevelRecord]
    ledger: list[dict[str, Any]]
    parameters: dict[str, Any]
    request: Request
    normalisation: dict[str, Any]
    seconds: float
    bytes_sent: int
    bytes_received: int
    dealer_bytes_sent: int
    dealer_bytes_received: int
    numbers: int
    peer_numbers: int | None
    complete: bool
    stop_reason: str
    error: PPIRError | None = None
    peer: dict[str, str] = field(default_factory=dict)

    def warp(self, moving: Volume) -> Volume:
        """The moving image resampled (linear, 0 outside) on the fixed grid; of that party 1 knows the geometry."""
        reference = self.fixed_geometry.to_sitk_reference()
        image = sitk.Resample(moving.to_sitk(), reference, self.transform, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
        return Volume.from_sitk(image, moving.name)


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
        loss: Loss = LOSSES[parameters.loss]
        self.loss = with_private_mask(loss) if parameters.fixed_mask == "private" else loss
        self.records: list[LevelRecord] = []
        self.first: LinearTransform | None = None
        self.best: LinearTransform | None = None
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
        smoothed: tuple[float, Volume] | None = None
        for level, grant in zip(session.levels, session.grants, strict=True):
            self.cancel.check()
            sigma = moving_sigma_mm(self.moving.geometry, session.geometry, level)
            if smoothed is None or smoothed[0] != sigma:
                smoothed = (sigma, smooth(self._scaled, sigma))
            rows = self.mask if self.parameters.mask == "rows" else None
            moving = MovingImage(smoothed[1], margin_voxels(self.moving.geometry, level.margin_mm), rows)
            _LevelRun(self, session, level, moving).run(min(grant.evaluations, self.parameters.evaluations))

    def report_progress(self, session: ClientSession | None, stage: str, **details: Any) -> None:
        numbers = session.ledger.numbers if session else 0
        sent, received = (session.channel.bytes_sent, session.channel.bytes_received) if session else (0, 0)
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


class _LevelRun:
    """One level: opens it, chooses samples and scales, minimises."""

    def __init__(self, run: Registration, session: ClientSession, level: Level, moving: MovingImage) -> None:
        self.run_, self.session, self.level, self.moving = run, session, level, moving
        assert run.best is not None
        self.start = run.best
        geometry = session.geometry
        self.scale_mm = float(np.linalg.norm(geometry.extent_mm())) / 4
        self.corners = geometry.corners()
        self.began = time.perf_counter()

    def run(self, evaluations: int) -> None:
        run, level, session = self.run_, self.level, self.session
        run.report_progress(
            session, "level", level=level.index + 1, levels=len(session.levels), factor=level.factor,
            detail=level.describe(),
        )  # fmt: skip
        widest = widest_scales(self.moving, level.geometry, self.start, self.scale_mm)
        scan = self._scan(level.samples, widest)
        self._check_overlap(scan)
        blocks = self._choose_blocks(widest)
        self.info, self.use, self.samples = session.open_level(level, run.loss.operands, blocks)
        limit = PLAIN_MODULUS / 2 / run_bound(run.loss, self.info)
        self.scales = choose_scales(scan, len(level.samples), limit)
        self.shift = 2.0 ** square_shift(len(self.samples))
        self.first_overlap = 0.0
        self.record = LevelRecord(
            level.factor, list(level.geometry.size), list(level.geometry.spacing), int(np.count_nonzero(self.use))
        )
        run.records.append(self.record)
        tolerance = run.parameters.step_mm(session.geometry, level.factor)
        stopping = Stopping(tolerance, run.parameters.loss_tolerance, evaluations)
        outcome = minimise(self.start, self._evaluate, stopping, self.scale_mm, self.corners, self._accepted)
        run.best = outcome.transform
        self.record.evaluations, self.record.iterations = outcome.evaluations, outcome.iterations
        self.record.reason = outcome.reason
        self.record.seconds = time.perf_counter() - self.began

    def _columns(
        self, transform: LinearTransform, scales: Scales, samples: Indices, use: Any, active: Any, watch: bool = False
    ) -> LinearColumns:
        return LinearColumns(
            self.moving, self.level.geometry, samples, use, active, transform, self.scale_mm, scales, watch
        )

    def _scan(self, samples: Indices, scales: Scales) -> LinearColumns:
        """A look at party 1's own columns over all samples of the level, at the start."""
        use, active = np.ones(len(samples), bool), np.arange(-(-len(samples) // (GROUP // 8)))
        scan = self._columns(self.start, scales, samples, use, active, watch=True)
        scan_columns(scan, self.session.link)
        return scan

    def _check_overlap(self, scan: LinearColumns) -> None:
        share = int(scan.gram[-1, -1]) / len(self.level.samples)
        if share < SMALLEST_OVERLAP:
            raise OverlapError(
                f"Only {100 * share:.1f} % of the fixed image's voxels ({self.level.describe()}) fall inside the moving"
                f" image under the initial transform; at least {100 * SMALLEST_OVERLAP:g} % are needed. Start from the"
                " geometric centres (--initial centres) or give an initial transform."
            )

    def _choose_blocks(self, widest: Scales) -> NDArray[np.int64] | None:
        """gms: blocks ∝ mean gradient magnitude of the warped moving image at the start of the level."""
        p = self.run_.parameters
        if p.sampling != "gms":
            return None
        samples = self.level.samples
        unit = unit_size(len(samples), self.level.geometry.dimension)
        shift = LinearTransform("translation", self.start.matrix, self.start.translation, self.start.centre)
        scales = Scales(np.full(shift.parameters, widest.steepest[-1]), widest.intensity)
        active = np.arange(-(-len(samples) // (GROUP // 8)))
        source = self._columns(shift, scales, samples, np.ones(len(samples), bool), active)
        magnitude = np.zeros(-(-len(samples) // unit) * unit)

        def measure(group: int, worker: int, block: Columns) -> None:
            part = np.linalg.norm(block[: shift.parameters], axis=0)[: max(0, len(samples) - group * GROUP)]
            magnitude[group * GROUP : group * GROUP + len(part)] = part

        scan_columns(source, self.session.link, measure)
        weights = magnitude.reshape(-1, unit).mean(axis=1)
        return choose_blocks(weights, p.percent, derive_key(p.seed.to_bytes(8, "big"), "gms"), self.level.index)

    def _evaluate(self, transform: LinearTransform) -> Evaluation | None:
        run = self.run_
        run.cancel.check()
        columns = self._columns(transform, self.scales, self.samples, self.use, self.info.active)
        private = run.parameters.fixed_mask == "private"
        source: ColumnSource = ProductColumns(columns) if private else columns
        terms = run.loss.terms(transform.parameters)
        opened = self.session.evaluate(self.level, source, terms)
        scales = source.column_scales()
        joint = {
            (t.column, t.operand): value / scales[t.column] / self._operand_scale(t.operand)
            for t, value in zip(terms, opened, strict=True)
        }
        gram = columns.gram / np.outer(columns.column_scales(), columns.column_scales())
        try:
            evaluation = run.loss.evaluate(Sums(gram, joint))
        except OverlapError:
            if not self.first_overlap:
                raise
            return None
        self.first_overlap = self.first_overlap or evaluation.overlap
        return evaluation if evaluation.overlap >= SHRINKING_LIMIT * self.first_overlap else None

    def _operand_scale(self, operand: str) -> float:
        if operand == "M":
            return 1.0
        return FIXED_SCALE**2 / self.shift if operand.endswith("2") else float(FIXED_SCALE)

    def _accepted(self, transform: LinearTransform, found: Evaluation, evaluations: int, step: float) -> None:
        run, record = self.run_, self.record
        run.best = transform
        record.values.append(found.value)
        record.evaluations, record.iterations = evaluations, len(record.values) - 1
        record.overlap = found.overlap / max(1, record.samples)
        record.transforms.append([*transform.matrix.ravel().tolist(), *transform.translation.tolist()])
        if len(record.values) > 1:
            record.steps_mm.append(step)
        run.report_progress(
            self.session, "evaluation", level=self.level.index + 1, levels=len(self.session.levels),
            factor=self.level.factor, evaluation=evaluations, value=found.value,
        )  # fmt: skip


def run_bound(loss: Loss, info: Any) -> int:
    """The largest bound among the operands that S and I columns meet (J or M·J)."""
    return max(info.bound(o) for o in loss.operands if o in ("J", "MJ"))


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
) -> RegistrationResult:
    """Align `moving` with a fixed image that a peer serves. Returns when the run is over.

    moving: 2D or 3D volume of this site. mask: bool, same array shape (z, y, x). home: where this site's identity,
    trust and ledger live (default: the user's). progress is called from this thread. The result maps fixed to moving
    points (LPS, mm). If the run ends early after its first evaluation (peer lost, budget spent, cancelled), the best
    transform so far is returned with `complete` False and the error in `error`; before that, the error is raised:
    InputError, OverlapError, TrustError, PeerError, PolicyError, BudgetError, VersionError, FixedPointError, Cancelled.
    """
    place = home if home is not None else default_home()
    peer = Peer(peer) if isinstance(peer, str) else peer
    p, token = parameters or Parameters(), cancel or CancelToken()
    run = Registration(moving, mask, p, progress, token)
    identity, trust = load_or_create_identity(place), TrustStore(place)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = place / "ledger" / "sessions" / f"{stamp}_party1_{new_key().hex()[:8]}.jsonl"
    ledger = SessionLedger(path, {"peer": peer.address})
    run.report_progress(None, "connecting", detail=peer.address)
    with ClientSession(peer.address, identity, trust, token.check, p.threads, ledger) as session:
        try:
            offer = _choose_offer(session.offers(), peer)
            first = run.first_transform(offer.geometry)
            request = p.request(offer.name, offer.geometry, peer.dealer_fingerprint, SOFTWARE)
            session.open(request, peer.dealer)
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
    most = [min(g.evaluations, parameters.evaluations) * g.numbers_per_evaluation for g in session.grants]
    shares = [f"{100 * n / g.samples:.3g} % at 1/{g.factor}" for n, g in zip(most, session.grants, strict=True)]
    return (
        f"at most {sum(most)} numbers of the fixed image are disclosed to this site ({', '.join(shares)} of the voxels)"
    )


def _choose_offer(offers: list[Offer], peer: Peer) -> Offer:
    named = [o for o in offers if not peer.image or o.name == peer.image]
    if len(named) == 1:
        return named[0]
    names = ", ".join(o.name for o in offers) or "none"
    what = f"no image '{peer.image}'" if peer.image else ("several images" if offers else "no image")
    raise PolicyError(f"{peer.address} offers {what} to this site; offered: {names}. Name one with --image.")


def _result(
    run: Registration, session: ClientSession, peer_numbers: int | None, error: PPIRError | None
) -> RegistrationResult:
    assert run.best is not None and run.first is not None
    dealer_sent, dealer_received = session.dealer_bytes()
    result = RegistrationResult(
        transform=run.best.to_sitk(),
        linear=run.best,
        first=run.first,
        fixed_geometry=session.geometry,
        levels=run.records,
        ledger=session.ledger.summary(),
        parameters=run.parameters.to_dict(),
        request=session.request,
        normalisation=asdict(run.normalisation),
        seconds=time.perf_counter() - run.start,
        bytes_sent=session.channel.bytes_sent,
        bytes_received=session.channel.bytes_received,
        dealer_bytes_sent=dealer_sent,
        dealer_bytes_received=dealer_received,
        numbers=session.ledger.numbers,
        peer_numbers=peer_numbers,
        complete=error is None,
        stop_reason="finished" if error is None else type(error).__name__,
        error=error,
        peer={
            "address": session.channel.address,
            "fingerprint": session.channel.peer_fingerprint,
            "name": session.channel.peer_name,
            "software": session.peer_software,
        },
    )
    run.report_progress(session, "finished")
    return result
