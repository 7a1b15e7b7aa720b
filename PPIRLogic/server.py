"""Party 2: serves fixed images under their owners' policies. One thread per connection; few sessions at once."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from PPIRLogic.dealer import join_dealer
from PPIRLogic.errors import (
    BusyError,
    OutputError,
    PeerError,
    PolicyError,
    PPIRError,
    ProtocolError,
    RefusedError,
    TrustError,
    VerificationError,
)
from PPIRLogic.fixed import FixedImage
from PPIRLogic.levels import Level
from PPIRLogic.losses.points import POINT_LOSSES
from PPIRLogic.openings import loss_of, openings
from PPIRLogic.peer.channel import Channel, Listener, Message
from PPIRLogic.peer.failures import Failures
from PPIRLogic.peer.identity import Identity, make_private_directory, write_private_file
from PPIRLogic.peer.ledger import (
    VOXEL_BITS,
    Accounts,
    Entry,
    FolderLock,
    Receipt,
    SessionLedger,
    append_record,
    geometry_entry,
    recorded_numbers,
)
from PPIRLogic.peer.messages import PROTOCOL_VERSION, Fields, LevelGrant, Request, error_from, send_error
from PPIRLogic.peer.trust import TrustStore
from PPIRLogic.places import Places
from PPIRLogic.points.fixed import FixedPoints
from PPIRLogic.policy import Policy, check_budget, grants
from PPIRLogic.protocols import protocol_of
from PPIRLogic.sampling import expand_blocks, unit_size
from PPIRLogic.secure.base import Link, Term, numbers_of
from PPIRLogic.secure.cc import CcFixed
from PPIRLogic.secure.outlet import Outlet
from PPIRLogic.secure.prg import new_key
from PPIRLogic.session import NONCE_BYTES, POOL_SEED_BYTES, entries_of, entries_shown, level_info, session_name
from PPIRLogic.unfinished import Unfinished
from PPIRLogic.version import SOFTWARE

IDLE_TIMEOUT = 600.0
REQUEST_TIMEOUT = 3600.0  # for all parts of one request
TAKE_OVER = 20.0  # seconds for a former connection of the same session to end
FAREWELL = 10.0  # seconds for a peer to say goodbye once its session has finished
Event = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Shared:
    """An image or a point set, its owner's policy, and the dealer accepted for mpc ('' for none)."""

    image: FixedImage | FixedPoints
    policy: Policy
    dealer: str = ""
    dealer_fingerprint: str = ""


class Server:
    """Listens until `stop`. `on_event` gets one map per thing that happens, without any content."""

    def __init__(
        self,
        address: str,
        identity: Identity,
        home: Path,
        shared: list[Shared],
        *,
        max_sessions: int = 2,
        queue: int = 8,
        threads: int = 2,
        on_event: Event = lambda event: None,
        fixed_pools: bool = False,
    ) -> None:
        self._fixed_pools = fixed_pools
        self.identity, self.trust, self.home = identity, TrustStore(home), home
        self.shared = {s.image.name: s for s in shared}
        self._ledger_lock = FolderLock(home / "ledger")
        self.accounts = Accounts(home / "ledger" / "accounts")
        self.failures = Failures(home)
        self.threads = threads
        self._site_key = _site_key(home)
        self._places = Places(max_sessions, queue)
        self.unfinished = Unfinished(home / "ledger" / "unfinished")
        self._running: dict[str, tuple[Channel, threading.Event]] = {}  # by the first session's name
        self._stopping = threading.Event()
        self._on_event = on_event
        self._channels: set[Channel] = set()
        self._lock = threading.Lock()
        with contextlib.ExitStack() as undo:
            undo.callback(self._ledger_lock.release)
            self.listener = Listener(address, identity, self.trust, on_refused=self._refused)
            undo.callback(self.listener.close)
            self.log("listening", address=self.listener.address, images=sorted(self.shared))
            undo.pop_all()

    def log(self, event: str, **details: Any) -> None:
        """Append to the audit log, then tell the owner: what was told is on record."""
        record = {"time": round(time.time(), 3), "event": event, **details}
        append_record(self.home / "audit.jsonl", record)
        self._on_event(record)

    def tell(self, event: str, **details: Any) -> None:
        """Tell the owner only: single evaluations are in the ledger already."""
        self._on_event({"time": round(time.time(), 3), "event": event, **details})

    def _refused(self, address: str, reason: str) -> None:
        self.log("refused connection", address=address, reason=reason)

    def run(self) -> None:
        while not self._stopping.is_set():
            channel = self.listener.accept(0.5)
            if channel is not None:
                threading.Thread(target=self._serve, args=(channel,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening and end every session; the other sides are told."""
        self._stopping.set()
        self.listener.close()
        with self._lock:
            channels = list(self._channels)
        for channel in channels:
            send_error(channel, PeerError("The owner of the fixed image stopped sharing it."))
        try:
            self.log("stopped")
        finally:
            self._ledger_lock.release()

    def image_id(self, name: str) -> str:
        return self.shared[name].image.identifier(self._site_key)

    def pool_seed(self, name: str) -> bytes:
        """This site's part of the seed of random pools: the same for an image in every session."""
        if self._fixed_pools:
            return bytes(POOL_SEED_BYTES)
        return hmac.digest(self._site_key, b"pool" + self.image_id(name).encode(), "sha256")[:POOL_SEED_BYTES]

    def _serve(self, channel: Channel) -> None:
        peer = {"peer": channel.peer_fingerprint, "peer_name": channel.peer_name}
        with self._lock:
            self._channels.add(channel)
        try:
            while not self._stopping.is_set():
                message = channel.receive(IDLE_TIMEOUT)
                if message.kind == "info":
                    offers = self._offers(channel.peer_fingerprint)
                    channel.send("info", {"version": PROTOCOL_VERSION, **offers})
                elif message.kind == "open":
                    self._session(channel, message)
                    return
                elif message.kind == "bye":
                    return
                else:
                    raise ProtocolError(f"'{message.kind}' came before a session was opened.")
        except PPIRError as error:
            self._log_end("session ended", f"{type(error).__name__}: {error}", peer)
            send_error(channel, error)
        except Exception as error:  # a bug must not take other sessions down, nor tell the peer more than that
            self._log_end("session failed", type(error).__name__, peer)
            send_error(channel, PeerError("The other side failed on an internal error; its log has the time of it."))
            if not isinstance(error, (MemoryError, OSError)):
                raise
        finally:
            with self._lock:
                self._channels.discard(channel)
            channel.close()
            # the parts of a session refer to each other in rings: its keys and operands go now, not at some time
            gc.collect()

    def _log_end(self, event: str, reason: str, peer: dict[str, str]) -> None:
        """A full disk must not keep the end of a session from the people who look at the screen."""
        try:
            self.log(event, reason=reason, **peer)
        except OutputError as error:
            self.tell(event, reason=f"{reason} ({error})", **peer)

    def _offers(self, peer: str) -> dict[str, list[dict[str, Any]]]:
        offers: dict[str, list[dict[str, Any]]] = {"images": [], "points": []}
        for name, shared in self.shared.items():
            policy = shared.policy
            if policy.peers and peer not in policy.peers:
                continue
            account = self.accounts.account(peer, self.image_id(name), policy.budget, name)
            offers[shared.image.kind].append(
                {
                    "name": name,
                    "geometry": shared.image.geometry.to_dict(),
                    "has_mask": shared.image.mask is not None,
                    "protocols": sorted(policy.protocols),
                    "losses": sorted({*policy.losses, *POINT_LOSSES} & set(shared.image.losses)),
                    "transforms": sorted(policy.transforms),
                    "masks": sorted(policy.masks),
                    "budget": {
                        "percent_per_level": policy.budget.percent_per_level,
                        "numbers_per_session": policy.budget.numbers_per_session,
                        "numbers_per_image": policy.budget.numbers_per_image,
                    },
                    "numbers_opened": account.total,
                }
            )
        return offers

    def _session(self, channel: Channel, message: Message) -> None:
        request, f = Request.from_dict(message.data), Fields(message.data, "open")
        resumes = f.raw("resumes", NONCE_BYTES) if "resumes" in message.data else b""
        session = ServerSession(self, channel, request, f.raw("nonce", NONCE_BYTES), resumes)
        ended = threading.Event()
        try:
            self._replace(session, ended)
            self._places.take(session.peer, session.wait, session.link.check, session.resumed)
            try:
                session.begin()
                session.run()
            finally:
                session.close()
                self._places.give_back()
            session.end()
        finally:
            ended.set()
            with self._lock:
                if self._running.get(session.first, (None, ended))[1] is ended:
                    self._running.pop(session.first, None)

    def _replace(self, session: ServerSession, ended: threading.Event) -> None:
        """Note what runs; the former connection of a session that goes on is ended first, with all that it counts."""
        with self._lock:
            former = self._running.get(session.first)
            self._running[session.first] = (session.channel, ended)
        if former is not None:
            former[0].close()
            if not former[1].wait(TAKE_OVER):
                raise BusyError("The former connection of this session is still at work; try again soon.")
            session.check_resumable()  # that one may have ended in order just now


class ServerSession:
    """One session on party 2's side. Every number that leaves goes through `_evaluate`, which counts it first:

    the protocol gets no channel but an `Outlet`, which lets an answer pass against the ledger's receipt alone.
    """

    def __init__(self, server: Server, channel: Channel, request: Request, nonce: bytes, resumes: bytes) -> None:
        """Check what can be checked before there is a place. `resumes`: the first of the sessions it goes on for."""
        self.server, self.channel, self.request = server, channel, request
        if request.image not in server.shared:
            offered = ", ".join(sorted(server.shared)) or "none"
            raise PolicyError(f"No image '{request.image}' is offered here; offered: {offered}.")
        self.shared = server.shared[request.image]
        self.peer = channel.peer_fingerprint
        server.failures.check(self.peer)
        self.shared.policy.check(request, self.peer, self.shared.image.mask is not None)
        self._check_dealer()
        self.nonce = new_key()
        self.name = session_name(request, nonce, self.nonce)
        self.image_id = server.image_id(request.image)
        self.protocol = protocol_of(request)
        former = resumes.hex()[:16]
        if former and self.protocol.two_sided:
            raise RefusedError(f"A run with {request.loss} cannot go on after a lost connection: start a new one.")
        self.resumed = bool(former)
        self.first = former if self.resumed else self.name.hex()[:16]
        self.check_resumable()
        self.outlet = Outlet(channel)
        self.link = Link(cast(Channel, self.outlet), self.name, server.threads, self._check, IDLE_TIMEOUT)
        self._waits = False

    def check_resumable(self) -> None:
        """RefusedError if this session goes on for one that is not on record as unfinished."""
        if self.resumed and not self.server.unfinished.permits(self.first, self.peer, self.image_id, self.request):
            raise RefusedError(
                "There is no unfinished session of that name here for this peer, image and request: the image was"
                " changed, or the record of the session is gone. Start a new run."
            )

    def wait(self, before: int) -> None:
        """Tell both sides that this session waits for a place, and how many are before it."""
        if not self._waits:
            self._waits = True
            self.server.tell("waiting", peer=self.peer, before=before)
        self.channel.send("waiting", {"before": before})

    def begin(self) -> None:
        """Grant the session, now that there is a place."""
        server, request = self.server, self.request
        self.pool_seed = server.pool_seed(request.image)
        self.levels = self.shared.image.levels(request, self.pool_seed)
        self.touchable = [self.shared.image.touchable(level, request.fixed_mask) for level in self.levels]
        self.account = server.accounts.account(self.peer, self.image_id, self.shared.policy.budget, request.image)
        self.grants = grants(request, self.levels, self.touchable, self.account, self.protocol)
        self._grant()

    @property
    def geometry(self) -> Any:
        return self.shared.image.geometry

    def _check(self) -> None:
        self.link.check_channel()

    def _check_dealer(self) -> None:
        if not protocol_of(self.request).dealer:
            return
        if not self.shared.dealer:
            raise PolicyError("No dealer is set up here for mpc (ppir serve --dealer HOST:PORT). Use the protocol fhe.")
        known = self.shared.dealer_fingerprint
        if known and self.request.dealer and known != self.request.dealer:
            raise PolicyError(f"The two sides name different dealers: here {known}, there {self.request.dealer}.")

    def _grant(self) -> None:
        """Refuse what cannot fit, ask the person if there is one to ask, then say what is granted.

        A session that goes on for one whose connection was lost was granted already; every evaluation is still held
        to what is left, and to the first session's count.
        """
        own, first, request = self.name.hex()[:16], self.first, self.request
        if not self.resumed:
            if self.protocol.counted:
                check_budget(request, self.grants, self.account)
            ask = self.shared.policy.ask
            if ask is not None and not ask(self.channel.peer_name, self.request, self.grants):
                raise RefusedError("The owner of the fixed image declined this session.")
            self.server.unfinished.begin(first, self.peer, self.image_id, self.request)
        self.opened = self.account.opened_by(first)
        self._open_ledger(self.server.home / "ledger" / "sessions")
        more = {"resumes": first} if self.resumed else {}
        event = "session resumed" if self.resumed else "session"
        self.server.log(event, session=own, peer=self.peer, **more, **self.request.to_dict())
        self.channel.send(
            "opened",
            {
                "nonce": self.nonce,
                "pool_seed": self.pool_seed,
                "numbers": self.ledger.numbers,
                "geometry": self.geometry.to_dict(),
                "has_mask": self.shared.image.mask is not None,
                "levels": [g.to_dict() for g in self.grants],
                "software": SOFTWARE,
            },
        )

    def _open_ledger(self, folder: Path) -> None:
        """A file per connection; one that goes on says for which session, and counts on from its files."""
        stamp, own = time.strftime("%Y%m%d-%H%M%S"), self.name.hex()[:16]
        header = {"session": self.name.hex(), "peer": self.peer, **self.request.to_dict()}
        if not self.resumed:
            self.ledger = SessionLedger(folder / f"{stamp}_{own}.jsonl", header)
        else:
            former, evaluated = recorded_numbers(sorted(folder.glob(f"*_{self.first}*.jsonl")))
            path = folder / f"{stamp}_{self.first}_{own}.jsonl"
            self.ledger = SessionLedger(path, {**header, "resumes": self.first}, former)
            if self.protocol.counted and self.opened > evaluated:  # ended between the account and its own ledger
                missing = self.opened - evaluated  # of an evaluation, so that the next connection does not miss them
                self.ledger.record(Entry("lost", "party 1", missing, self.protocol.bits, 0, evaluation=0))
        self.ledger.record(geometry_entry(self.geometry.disclosed))

    def run(self) -> None:
        if self.protocol.dealer:
            fingerprint = self.shared.dealer_fingerprint or self.request.dealer
            dealer, self.link.dealer_key = join_dealer(
                self.shared.dealer, self.server.identity, self.server.trust, self.name, 2, self.peer, fingerprint,
                self._check,
            )  # fmt: skip
            self.link.dealer = cast(Channel, Outlet(dealer))
        self.side = self.protocol.fixed_side(self.link)
        level: Level | None = None
        while True:
            message = self.channel.receive(IDLE_TIMEOUT)
            if not self.channel.still_trusted():
                raise TrustError("This site no longer trusts the peer.")
            if message.kind == "level":
                level = self._open_level(message, level)
            elif message.kind == "evaluate" and level is not None:
                self._evaluate(message, level)
            elif message.kind == "finish":
                self.server.log("session finished", session=self.name.hex()[:16], numbers=self.ledger.numbers)
                self.channel.send("finished", {"numbers": self.ledger.numbers})
                return
            elif message.kind in ("bye", "error"):
                raise error_from(message)
            else:
                raise ProtocolError(f"'{message.kind}' does not belong here.")

    def end(self) -> None:
        """Strike the session off the unfinished ones once the peer has said goodbye, so that it knows of the end.

        A peer that lost the connection before it read 'finished' goes on with this session, to ask for the end again.
        """
        try:
            message = self.channel.receive(FAREWELL)
        except PeerError:
            return
        if message.kind not in ("bye", "error"):
            raise ProtocolError(f"'{message.kind}' came after the end of the session.")
        self.server.unfinished.end(self.first)

    def _open_level(self, message: Message, former: Level | None) -> Level:
        f = Fields(message.data, "level")
        index = f.integer("index", 0, len(self.levels) - 1)
        if former is not None and index <= former.index:
            raise ProtocolError("Levels are opened once each, coarse to fine.")
        level, first, second = self.levels[index], f.raw("seed", NONCE_BYTES), new_key()
        level = self._with_blocks(level, message.payload)
        loss = loss_of(self.request)
        operands = self.shared.image.operands(level, loss.operands, self.request) if loss.operands else {}
        mask = b""
        if self.request.fixed_mask == "disclosed":
            self.ledger.record(Entry("mask grid", "party 1", len(level.samples), 1, level.factor), sync=True)
            mask = np.packbits(self.shared.image.mask_at(level)).tobytes()
        if not self.protocol.counted:
            count = len(level.samples) * max(1, len(loss.operands))
            self.ledger.record(Entry("image", "party 1", count, VOXEL_BITS, level.factor), sync=True)
        grid = level.knots.digest() if level.knots is not None else b""
        self.channel.send("level", {"samples": len(level.samples), "knots": grid}, mask)
        with self.outlet.opening():
            self.side.open_level(level_info(level, loss, len(level.samples)), operands, first, second)
        if isinstance(self.side, CcFixed):
            assert isinstance(self.shared.image, FixedImage)  # point sets have no such loss
            self.side.hold(self.shared.image.half(level, self.request, self.side.field, self.link.threads))
        self.openings = openings(self.request, level)
        return level

    def _with_blocks(self, level: Level, payload: Any) -> Level:
        """Under mpc (and fhe_v1, fhe_v2) with disclosed gms sampling, only the blocks party 1 names take part."""
        if not len(payload):
            return level
        unit = unit_size(len(level.samples), level.geometry.dimension)
        units = -(-len(level.samples) // unit)
        blocks = np.frombuffer(payload[: len(payload) // 4 * 4], "<u4").astype(np.int64)
        if self.request.sampling != "gms" or not self.protocol.told_samples or not len(blocks):
            raise ProtocolError("Chosen blocks do not belong to this session.")
        if (np.diff(blocks) <= 0).any() or blocks[-1] >= units:
            raise ProtocolError("The chosen blocks are out of range or out of order.")
        self.ledger.record(Entry("sampling", "party 2", len(level.samples), 1, level.factor))
        chosen = level.samples[expand_blocks(blocks, unit, len(level.samples))]
        return Level(level.index, level.factor, level.sigma_mm, level.margin_mm, level.geometry, chosen)

    def _evaluate(self, message: Message, level: Level) -> None:
        """Take in one request whole, count it (synced to disk), then answer."""
        f = Fields(message.data, "evaluate")
        number = f.integer("evaluation", 0, 10**6)
        if f.integer("level", 0, 64) != level.index:
            raise ProtocolError("An evaluation for a level that is not open.")
        stage = f.text("stage", 16)
        terms = self.openings.get(stage)
        if terms is None:
            raise ProtocolError("An evaluation of a stage that this loss does not have.")
        self.link.until = time.monotonic() + REQUEST_TIMEOUT
        with self.outlet.opening(self.protocol.sent_protected(terms, len(level.samples))):
            digest = self.side.receive(message.data, terms)
        self.link.until = None
        place = bytes([level.index]) + number.to_bytes(4, "big") + stage.encode()
        name = hashlib.sha256(self.name + place + digest).hexdigest()
        receipt = self._count(terms, level, number, name) if self.protocol.counted else self._uncounted(terms)
        try:
            with self.outlet.releasing(receipt, self.protocol.answer_bytes):
                self.side.answer()
        except VerificationError:
            self.server.failures.record(self.peer, self.name.hex()[:16])
            raise
        self.server.tell("evaluation", session=self.name.hex()[:16], level=level.factor, numbers=self.ledger.numbers)

    def _count(self, terms: Sequence[Term], level: Level, number: int, name: str) -> Receipt:
        """Put the numbers of a request on record, here and in the account that outlives the session."""
        entries = entries_of(terms, self.protocol.bits_of(terms), level.factor, number, name)
        receipt = self.account.spend(entries, self.first, self.touchable[level.index], self.opened)
        if receipt:
            self.opened += receipt.numbers
            for entry in [*entries, *entries_shown(terms, self.protocol, level.factor)]:
                self.ledger.record(entry)
        return receipt

    def _uncounted(self, terms: Sequence[Term]) -> Receipt:
        """For an answer under the unprotected protocol; of two halves that move, it still has numbers."""
        return self.ledger.nothing_more(numbers_of(terms) if self.protocol.two_sided else 0)

    def close(self) -> None:
        if self.link.dealer is not None:
            self.link.dealer.close()


def _site_key(home: Path) -> bytes:
    """The key under which budgets recognise images; of its own, so that renewing the identity resets nothing."""
    path = home / "ledger" / "key"
    if not path.exists():
        make_private_directory(path.parent)
        write_private_file(path, new_key())
    return path.read_bytes()


def grant_rows(levels: list[LevelGrant]) -> list[str]:
    """The estimate, level by level, in words."""
    return [
        f"shrink factor {g.factor}: {g.samples} voxels,"
        f" {g.numbers_per_evaluation + g.numbers_per_gradient} numbers per evaluation, at most {g.evaluations}"
        f" evaluations ({100 * g.most / g.samples:.3g} % of the level)"
        + (f"; this site learns at most {g.shown} numbers of the moving image" if g.shown else "")
        for g in levels
    ]
