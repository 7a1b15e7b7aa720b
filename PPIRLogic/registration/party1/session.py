"""Party 1's end of a session: open it, open levels, evaluate, finish. One channel, one request at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.disclosure.failed_checks import FailedChecks
from PPIRLogic.disclosure.heads import Heads
from PPIRLogic.disclosure.ledger import VOXEL_BITS, Entry, Receipt, SessionLedger, frame_entry, geometry_entry
from PPIRLogic.errors import Cancelled, OutputError, PeerError, PolicyError, PPIRError, ProtocolError
from PPIRLogic.images.checks.dicom_file import is_uid
from PPIRLogic.network.channel import Channel, connect
from PPIRLogic.network.identity import Identity
from PPIRLogic.network.messages import PARTY_1, PARTY_2, Fields, check_version, error_from, wait_for_message
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.points.pointset import PointLayout
from PPIRLogic.registration.dealer.joining import join_dealer
from PPIRLogic.registration.levels import Level, make_levels
from PPIRLogic.registration.losses import Loss
from PPIRLogic.registration.protocols import protocol_of
from PPIRLogic.registration.request import LevelGrant, Offer, Request, offered_geometry
from PPIRLogic.registration.sampling import expand_blocks, unit_size
from PPIRLogic.registration.session import (
    NONCE_BYTES,
    POOL_SEED_BYTES,
    entries_for_party2,
    entries_of,
    level_info,
    numbers_for_party2,
    session_name,
)
from PPIRLogic.registration.symmetric.half_image import HalfImage
from PPIRLogic.secure.layout import CHUNK
from PPIRLogic.secure.prg import new_key
from PPIRLogic.secure.product import ColumnSource, LevelInfo, Link, Term, raise_if_error

ANSWER_TIMEOUT = 300.0
CALL_TIMEOUT = 10.0
_Self = TypeVar("_Self", bound="ClientSession")
Source = ColumnSource | HalfImage


def _frame_of(opened: Fields) -> str:
    """The UID of the fixed image's frame of reference; '' where its owner does not disclose it."""
    uid = opened.text("frame", 64) if "frame" in opened else ""
    if uid and not is_uid(uid):
        raise ProtocolError("Field 'frame' of 'opened' is not a UID.")
    return uid


class ClientSession:
    """A session with a peer that serves the fixed image. Close it in any case (context manager)."""

    def __init__(
        self,
        address: str,
        identity: Identity,
        trust: TrustStore,
        check: Callable[[], None],
        threads: int,
        ledger: SessionLedger,
        tell: Callable[[str, str], None] = lambda stage, detail: None,
        records: Chain | None = None,
    ) -> None:
        """`tell` hears of waiting: a stage of the progress and what a person should read. `records`: of this site."""
        self.ledger, self._records = ledger, records or Chain(trust.home)
        self._heads = Heads(self._records, identity)
        self._follows: bool | None = None  # whether this site's records have the head that the peer holds
        self._address, self._identity, self._trust, self._threads = address, identity, trust, threads
        self._user_check, self._tell = check, tell
        self._evaluation = 0
        self._failures = FailedChecks(trust.home, self._records)
        self._connect(CALL_TIMEOUT)

    def _connect(self, timeout: float) -> None:
        self.channel: Channel = connect(self._address, self._identity, self._trust, timeout=timeout)
        self._dealer: Channel | None = None
        self.link = self._link(b"")

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        for channel in (self.channel, self._dealer):
            if channel is not None:
                channel.close()
        with contextlib.suppress(OutputError):  # it is sealed when the records are opened next
            self.ledger.seal()

    def _check(self) -> None:
        self._user_check()
        self.link.check_channel()

    def explain(self, problem: BaseException) -> PPIRError:
        """The error a person should see: what the peer said last explains more than the broken connection."""
        if isinstance(problem, KeyboardInterrupt):
            return Cancelled("The registration was cancelled.")
        assert isinstance(problem, PPIRError)
        if isinstance(problem, PeerError) and self.channel.closing_message is not None:
            return error_from(self.channel.closing_message)
        return problem

    def traffic(self) -> tuple[int, int, int, int]:
        """Bytes sent to and received from the peer, sent to and received from the dealer."""
        dealer = (self._dealer.bytes_sent, self._dealer.bytes_received) if self._dealer is not None else (0, 0)
        return (self.channel.bytes_sent, self.channel.bytes_received, *dealer)

    kind = "images"  # what is asked for: with `_read_geometry` and `_make_levels` all that point sets change

    @staticmethod
    def _read_geometry(data: dict[str, Any]) -> Any:
        return offered_geometry(data)

    @staticmethod
    def _make_levels(geometry: Any, request: Request, seed: bytes) -> list[Level]:
        return make_levels(geometry, request, seed)

    def offers(self) -> list[Offer]:
        """What this peer offers to this site of this session's kind."""
        return [Offer.from_dict(v, self._read_geometry) for v in self._info().items(self.kind, 256)]

    def points(self) -> list[Offer]:
        """The point sets this peer offers to this site."""
        return [Offer.from_dict(v, PointLayout.from_dict, "point set") for v in self._info().items("points", 256)]

    def _info(self) -> Fields:
        self.channel.send("info", {})
        data = self._link(b"").receive("info").data
        check_version(data, "info", PARTY_1, PARTY_2)
        return Fields(data, "info")

    def _link(self, session: bytes) -> Link:
        return Link(self.channel, session, self._threads, self._check, ANSWER_TIMEOUT)

    def open(self, request: Request, dealer: str = "", resumes: bytes = b"") -> None:
        """Agree on the request, after waiting in the peer's queue if it has one.

        `resumes`: `first_name` of the session whose connection was lost. Sets geometry, levels, grants, `first_name`
        and `counted_there` (numbers on the peer's record); PolicyError, BudgetError, BusyError, VersionError if
        refused.
        """
        if protocol_of(request).dealer and not dealer:
            raise PolicyError(
                "The mpc protocol needs a dealer, a third process that neither hospital runs: give its address"
                " (--dealer HOST:PORT), or use the protocol fhe, which needs none."
            )
        nonce = new_key()
        wanted = {**request.to_dict(), "nonce": nonce}
        self.channel.send("open", {**wanted, "resumes": resumes} if resumes else wanted)
        reply = self._receive_opened()
        name = session_name(request, nonce, reply.raw("nonce", NONCE_BYTES))
        self.first_name = resumes or name
        self.counted_there = reply.integer("numbers", 0, 2**62)
        self._follows = self._read_heads(reply)
        self.request, self.link = request, self._link(name)
        self.geometry = self._read_geometry(reply.map("geometry"))
        self.ledger.record(geometry_entry(self.geometry.disclosed))
        self.frame = _frame_of(reply)
        if self.frame:
            self.ledger.record(frame_entry(self.frame))
        self.peer_software = reply.text("software", 64)
        self.has_mask = reply.flag("has_mask")
        self.levels = self._make_levels(self.geometry, request, reply.raw("pool_seed", POOL_SEED_BYTES))
        self.grants = [LevelGrant.from_dict(v) for v in reply.items("levels", 8)]
        if [g.samples for g in self.grants] != [v.numbers for v in self.levels]:
            raise ProtocolError(
                "The two sides derive different levels from the same geometry: install the same release."
            )
        if dealer:
            self._dealer, self.link.dealer_key = join_dealer(
                dealer, self._identity, self._trust, name, 1, self.channel.peer_fingerprint, request.dealer, self._check
            )
            self.link.dealer = self._dealer
        self.protocol = protocol_of(request)
        self._product = self.protocol.product(self.link)
        self._product.reveal_through(self._give)
        if self.protocol.test_bytes:
            peer = self.channel.peer_fingerprint
            self._failures.check(peer)
            self._product.test_through(lambda: self._failures.test(peer, name.hex()[:16], self._check))

    def _receive_opened(self) -> Fields:
        """The answer to 'open', after the news of the place in the queue."""
        while True:
            message = wait_for_message(self.channel, ANSWER_TIMEOUT, self._check)
            if message.kind == "opened":
                return Fields(message.data, "opened")
            raise_if_error(message)
            if message.kind != "waiting":
                raise ProtocolError(f"Expected 'opened' or 'waiting' from the peer, got '{message.kind}'.")
            before = Fields(message.data, "waiting").integer("before", 0, 10_000)
            self._tell("waiting", f"the peer is busy: waiting, {before} before you")

    def open_level(
        self, level: Level, loss: Loss, blocks: NDArray[np.int64] | None
    ) -> tuple[LevelInfo, NDArray[np.bool_], NDArray[np.int32]]:
        """Receive the protected operands of a level.

        `blocks`: gms blocks. Returns the level's info, which of its samples party 1 uses, and the samples (raster
        indices): under mpc the chosen blocks are sent and only their voxels take part; otherwise unchosen rows are
        zero and chunks without a chosen block are left out on this side alone.
        """
        samples, unit = level.samples, unit_size(len(level.samples), level.geometry.dimension)
        use, active, payload = np.ones(len(samples), bool), None, b""
        if blocks is not None:
            use = expand_blocks(blocks, unit, len(samples))
            if self.protocol.reveals_sampling:
                payload = blocks.astype("<u4").tobytes()
                samples, use = samples[use], np.ones(int(use.sum()), bool)
                self.ledger.record(Entry("sampling", "party 2", len(level.samples), 1, level.factor))
            else:
                active = np.unique(np.flatnonzero(use) // CHUNK)
        first = new_key()
        self.channel.send("level", {"index": level.index, "seed": first}, payload)
        reply = self.link.receive("level")
        known = level.control_points.digest() if level.control_points is not None else b""
        same_grid = not known or Fields(reply.data, "level").raw("knots", len(known)) == known
        if Fields(reply.data, "level").integer("samples", 1, 2**31) != len(samples) or not same_grid:
            raise ProtocolError("The two sides disagree about the samples of a level: install the same release.")
        if self.request.fixed_mask == "disclosed":
            use &= self._disclosed_mask(reply.payload, level, len(samples))
        info = level_info(level, loss, len(samples), active)
        self._product.open_level(info, first)
        if not self.protocol.counted:
            count = len(samples) * max(1, len(loss.operands))
            self.ledger.record(Entry("image", "party 1", count, VOXEL_BITS, level.factor))
        self._evaluation = 0
        return info, use, samples

    def _disclosed_mask(self, payload: Any, level: Level, count: int) -> NDArray[np.bool_]:
        if len(payload) != -(-count // 8):
            raise ProtocolError("The mask of the fixed image has a length that does not fit its level.")
        self.ledger.record(Entry("mask grid", "party 1", count, 1, level.factor))
        return np.unpackbits(np.frombuffer(payload, np.uint8), count=count).astype(bool)

    def evaluate(
        self, level: Level, source: Source, stage: str, terms: Sequence[Term], details: Mapping[str, Any] | None = None
    ) -> list[int]:
        """The opened sums of one stage of an evaluation, counted on this side too; `details` go with the request."""
        number = self._evaluation
        self._evaluation += 1
        self._factor = level.factor

        def announce() -> None:
            header = {"level": level.index, "evaluation": number, "stage": stage}
            self.channel.send("evaluate", {**header, **(details or {})})

        values = self._product.evaluate(source, terms, number, announce)  # type: ignore[arg-type]
        protocol = self.protocol
        if protocol.counted:
            for entry in entries_of(terms, protocol.bits_of(terms), level.factor, number):
                self.ledger.record(entry)
            if not self._product.records_what_it_reveals:
                for entry in entries_for_party2(terms, protocol, level.factor):
                    self.ledger.record(entry)
        return values

    def _give(self, terms: Sequence[Term]) -> Receipt:
        """Count what party 2 is about to learn of this side's image."""
        if not self.protocol.counted:
            return self.ledger.nothing_more(numbers_for_party2(terms, self.protocol))
        return self.ledger.give(entries_for_party2(terms, self.protocol, self._factor))

    def finish(self) -> dict[str, Any]:
        """End the session in order; returns party 2's own totals: {'numbers': …}. The two exchange signed heads."""
        self.ledger.seal()
        self.channel.send("finish", self._heads.letter(self.channel.peer_fingerprint, follows=self._follows))
        reply = Fields(self.link.receive("finished").data, "finished")
        numbers = reply.integer("numbers", 0, 2**62)
        self._read_heads(reply)
        return {"numbers": numbers}

    def _read_heads(self, said: Fields) -> bool | None:
        """What the peer says of heads; a person and the audit log hear of what does not fit."""
        peer = self.channel.peer_fingerprint
        follows, warnings = self._heads.read(peer, said)
        for text in warnings:
            self._records.log("ledger warning", peer=peer, text=text)
            self._tell("note", text)
        return follows
