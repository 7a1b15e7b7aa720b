"""One session at party 2: grant, open levels, count, answer."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from PPIRLogic.disclosure.counted_channel import CountedChannel
from PPIRLogic.disclosure.ledger import (
    VOXEL_BITS,
    Entry,
    Receipt,
    SessionLedger,
    frame_entry,
    geometry_entry,
    recorded_numbers,
)
from PPIRLogic.errors import OutputError, PeerError, PolicyError, ProtocolError, RefusedError, TrustError
from PPIRLogic.network.channel import Channel, Message
from PPIRLogic.network.messages import Fields, error_from
from PPIRLogic.registration.dealer.joining import join_dealer, pinned_dealer
from PPIRLogic.registration.disclosure_estimate import check_budget, grants
from PPIRLogic.registration.levels import Level
from PPIRLogic.registration.party2.site import ServingSite
from PPIRLogic.registration.party2.unfinished_sessions import SessionGrant
from PPIRLogic.registration.protocols import protocol_of
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.sampling import expand_blocks, unit_size
from PPIRLogic.registration.session import NONCE_BYTES, entries_for_party2, entries_of, level_info, session_name
from PPIRLogic.registration.terms import loss_at, terms_by_stage
from PPIRLogic.secure.prg import new_key
from PPIRLogic.secure.product import Link, Term, numbers_of
from PPIRLogic.version import SOFTWARE

_now = time.monotonic  # of grants: a clock that is set meanwhile ends none
IDLE_TIMEOUT = 600.0
REQUEST_TIMEOUT = 3600.0  # for all parts of one request
CLOSING_TIMEOUT = 10.0  # seconds for a peer to say goodbye once its session has finished


class ServerSession:
    """One session on party 2's side. Every number that leaves goes through `_evaluate`, which counts it first:

    the protocol gets no channel but a `CountedChannel`, which lets an answer pass against the ledger's receipt alone.
    """

    def __init__(self, site: ServingSite, channel: Channel, request: Request, nonce: bytes, resumes: bytes) -> None:
        """Check what can be checked before there is a place. `resumes`: the first of the sessions it goes on for."""
        self.site, self.channel, self.request = site, channel, request
        if request.image not in site.shared:
            offered = ", ".join(sorted(site.shared)) or "none"
            raise PolicyError(f"No image '{request.image}' is offered here; offered: {offered}.")
        self.shared = site.shared[request.image]
        self.peer = channel.peer_fingerprint
        self.image_id = site.image_id(request.image)
        self.subject = site.subject(request.image)[0]
        site.failures.check(self.peer, self.subject)
        self.shared.policy.check(request, self.peer, self.shared.image.mask is not None)
        self._check_dealer()
        self.nonce = new_key()
        self.name = session_name(request, nonce, self.nonce)
        self.protocol = protocol_of(request)
        former = resumes.hex()[:16]
        if former and self.protocol.two_sided:
            raise RefusedError(f"A run with {request.loss} cannot go on after a lost connection: start a new one.")
        self.resumed = self.returns = bool(former)
        self.grant: SessionGrant | None = None
        self.first = self.key = former if self.resumed else self.name.hex()[:16]
        self.check_again()
        self.counted_channel = CountedChannel(channel)
        self.link = Link(cast(Channel, self.counted_channel), self.name, site.threads, self.check, IDLE_TIMEOUT)
        self._waits = False
        self.ledger = SessionLedger(None, {})  # until it is granted

    def check_again(self) -> None:
        """RefusedError if this session goes on for one that is not on record as unfinished."""
        if not self.resumed:
            return
        self.grant = self.site.unfinished.granted(self.first, self.peer, self.image_id, self.request)
        if self.grant is None:
            raise RefusedError(
                "There is no unfinished session of that name here for this peer, image and request: the image was"
                " changed, the grant has expired, or the record of the session is gone. Start a new run."
            )

    def wait(self, before: int) -> None:
        """Tell both sides that this session waits for a place, and how many are before it."""
        if not self._waits:
            self._waits = True
            self.site.tell("waiting", peer=self.peer, before=before)
        self.channel.send("waiting", {"before": before})

    def begin(self) -> None:
        """Grant the session, now that there is a place."""
        site, request = self.site, self.request
        self.pool_seed = site.pool_seed(request.image)
        self.levels = self.shared.image.levels(request, self.pool_seed)
        self.measurable_voxels = [
            self.shared.image.measurable_voxels(level, request.fixed_mask) for level in self.levels
        ]
        self.account = site.account(self.peer, request.image, self.channel.authority)
        self.grants = grants(request, self.levels, self.measurable_voxels, self.account, self.protocol)
        self._grant()

    @property
    def geometry(self) -> Any:
        return self.shared.image.geometry

    @property
    def frame(self) -> str:
        """The UID of the frame of reference, if the image has one and its owner discloses it."""
        return self.shared.image.frame if self.shared.policy.disclose_frame else ""

    def check(self) -> None:
        self.link.check_channel()

    def _check_dealer(self) -> None:
        if not protocol_of(self.request).dealer:
            return
        if not self.shared.dealer:
            raise PolicyError("No dealer is set up here for mpc (ppir serve --dealer HOST:PORT). Use the protocol fhe.")
        self.dealer = pinned_dealer(self.site.trust, self.shared.dealer_fingerprint)
        if self.dealer != self.request.dealer:
            there = self.request.dealer or "none (register --dealer-fingerprint)"
            raise PolicyError(f"The two sides must name the same dealer: here {self.dealer}, there {there}.")

    def _grant(self) -> None:
        """Refuse what cannot fit, ask the person if there is one to ask, then say what is granted.

        What is granted is kept, and every evaluation is held to it. A session that goes on for one whose connection
        was lost lives on what is left of that one's grant.
        """
        own, first, request = self.name.hex()[:16], self.first, self.request
        if not self.resumed:
            if self.protocol.counted:
                check_budget(request, self.grants, self.account)
            ask = self.shared.policy.ask
            # by this site's own name for it: what a peer calls itself says nothing of who it is
            who = f"{self.channel.known_as} (fingerprint {self.peer})"
            if ask is not None and not ask(who, self.request, self.grants):
                raise RefusedError("The owner of the fixed image declined this session.")
            self.grant = self.site.unfinished.begin(first, self.peer, self.image_id, self.request, self.grants)
        elif self.grant is not None:
            self.grant = self.site.unfinished.go_on(first, self.peer, self.image_id, self.request, self.grant)
        assert self.grant is not None
        self._granted_until = _now() + self.grant.seconds_left
        self.opened = self.account.opened_by(first)
        self._open_ledger(self.site.home / "ledger" / "sessions")
        more = {"resumes": first} if self.resumed else {}
        event = "session resumed" if self.resumed else "session"
        self.site.log(event, session=own, peer=self.peer, **more, **self.request.to_dict())
        self.channel.send(
            "opened",
            {
                "nonce": self.nonce,
                "pool_seed": self.pool_seed,
                "numbers": self.ledger.numbers,
                "geometry": self.geometry.to_dict(),
                **({"frame": self.frame} if self.frame else {}),
                "has_mask": self.shared.image.mask is not None,
                "levels": [g.to_dict() for g in self.grants],
                **self.site.heads.letter(self.peer, own=False),
                "software": SOFTWARE,
            },
        )

    def _open_ledger(self, folder: Path) -> None:
        """A file per connection; one that goes on says for which session, and counts on from its files."""
        stamp, own = time.strftime("%Y%m%d-%H%M%S"), self.name.hex()[:16]
        header = {"session": self.name.hex(), "peer": self.peer, **self.request.to_dict()}
        if not self.resumed:
            self.ledger = SessionLedger(folder / f"{stamp}_{own}.jsonl", header, files=self.site.records)
        else:
            former, evaluated = recorded_numbers(sorted(folder.glob(f"*_{self.first}*.jsonl")))
            path = folder / f"{stamp}_{self.first}_{own}.jsonl"
            self.ledger = SessionLedger(path, {**header, "resumes": self.first}, former, self.site.records)
            if self.protocol.counted and self.opened > evaluated:  # ended between the account and its own ledger
                missing = self.opened - evaluated  # of an evaluation, so that the next connection does not miss them
                self.ledger.record(Entry("lost", "party 1", missing, self.protocol.bits, 0, evaluation=0))
        self.ledger.record(geometry_entry(self.geometry.disclosed))
        if self.frame:
            self.ledger.record(frame_entry(self.frame))
            self.ledger.begin()  # it leaves now, whether a number follows or not
        self._numbers_before = self.ledger.numbers

    def run(self) -> None:
        if self.protocol.dealer:
            dealer, self.link.dealer_key = join_dealer(
                self.shared.dealer, self.site.identity, self.site.trust, self.name, 2, self.peer, self.dealer,
                self.check,
            )  # fmt: skip
            self.link.dealer = cast(Channel, CountedChannel(dealer))
        self.side = self.protocol.fixed_side(self.link)
        self.side.test_through(
            lambda: self.site.failures.test(self.peer, self.name.hex()[:16], self.check, self.subject)
        )
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
                self._finish(Fields(message.data, "finish"))
                return
            elif message.kind in ("bye", "error"):
                raise error_from(message)
            else:
                raise ProtocolError(f"'{message.kind}' does not belong here.")

    def _finish(self, said: Fields) -> None:
        """Take in the head of the peer's ledger, and tell the one of this site's to a peer that knows of heads."""
        follows, warnings = self.site.heads.read(self.peer, said)
        for text in warnings:
            self.site.log("ledger warning", peer=self.peer, text=text)
        with contextlib.suppress(OutputError):
            self.ledger.seal()
        numbers, own = self.ledger.numbers, self.name.hex()[:16]
        new = numbers - self._numbers_before
        self.site.log("session finished", session=own, peer=self.peer, numbers=numbers, new=new)
        letter = self.site.heads.letter(self.peer, held=False, follows=follows) if "head" in said else {}
        self.channel.send("finished", {"numbers": self.ledger.numbers, **letter})

    def end(self) -> None:
        """Strike the session off the unfinished ones once the peer has said goodbye, so that it knows of the end.

        A peer that lost the connection before it read 'finished' goes on with this session, to ask for the end again.
        """
        try:
            message = self.channel.receive(CLOSING_TIMEOUT)
        except PeerError:
            return
        if message.kind not in ("bye", "error"):
            raise ProtocolError(f"'{message.kind}' came after the end of the session.")
        self.site.unfinished.end(self.first)

    def _open_level(self, message: Message, former: Level | None) -> Level:
        f = Fields(message.data, "level")
        order = [known.index for known in self.levels]
        index = f.integer("index", 0, 64)
        if index not in order or (former is not None and order.index(index) <= order.index(former.index)):
            raise ProtocolError("Levels are opened once each, in their order.")
        level, first, second = self.levels[order.index(index)], f.raw("seed", NONCE_BYTES), new_key()
        level = self._with_blocks(level, message.payload)
        loss = loss_at(self.request, level)
        operands = self.shared.image.operands(level, loss.operands, self.request) if loss.operands else {}
        mask = b""
        if self.request.fixed_mask == "disclosed":
            self.ledger.record(Entry("mask grid", "party 1", len(level.samples), 1, level.factor), sync=True)
            mask = np.packbits(self.shared.image.mask_at(level)).tobytes()
        if not self.protocol.counted:
            count = len(level.samples) * max(1, len(loss.operands))
            self.ledger.record(Entry("image", "party 1", count, VOXEL_BITS, level.factor), sync=True)
        grid = level.control_points.digest() if level.control_points is not None else b""
        self.channel.send("level", {"samples": len(level.samples), "knots": grid}, mask)
        with self.counted_channel.opening():
            self.side.open_level(level_info(level, loss, len(level.samples)), operands, first, second)
        image: Any = self.shared.image  # of point sets no such loss exists
        request, threads = self.request, self.link.threads
        self.side.move_image(lambda former: image.half(level, request, former, threads))
        self.terms_by_stage = terms_by_stage(self.request, level)
        return level

    def _with_blocks(self, level: Level, payload: Any) -> Level:
        """Under mpc (and fhe_v1, fhe_v2) with disclosed gms sampling, only the blocks party 1 names take part."""
        if not len(payload):
            return level
        unit = unit_size(len(level.samples), level.geometry.dimension)
        units = -(-len(level.samples) // unit)
        blocks = np.frombuffer(payload[: len(payload) // 4 * 4], "<u4").astype(np.int64)
        if self.request.sampling != "gms" or not self.protocol.reveals_sampling or not len(blocks):
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
        terms = self.terms_by_stage.get(stage)
        if terms is None:
            raise ProtocolError("An evaluation of a stage that this loss does not have.")
        self._check_time()
        self.link.until = time.monotonic() + REQUEST_TIMEOUT
        with self.counted_channel.opening(self.protocol.sent_protected(terms, len(level.samples))):
            digest = self.side.receive(message.data, terms)
        self.link.until = None
        place = bytes([level.index]) + number.to_bytes(4, "big") + stage.encode()
        name = hashlib.sha256(self.name + place + digest).hexdigest()
        receipt = self._count(terms, level, number, name) if self.protocol.counted else self._uncounted(terms)
        with self.counted_channel.releasing(receipt, self.protocol.answer_bytes, self.protocol.test_bytes):
            self.side.answer()
        self.site.tell("evaluation", session=self.name.hex()[:16], level=level.factor, numbers=self.ledger.numbers)

    def _count(self, terms: Sequence[Term], level: Level, number: int, name: str) -> Receipt:
        """Put the numbers of a request on record, here and in the account that outlives the session."""
        assert self.grant is not None
        self._check_time()
        entries = entries_of(terms, self.protocol.bits_of(terms), level.factor, number, name)
        voxels, granted = self._voxels_of(level), self.grant.most(level.factor)
        receipt = self.account.spend(entries, self.first, voxels, self.opened, granted)
        if receipt:
            self.opened += receipt.numbers
            for entry in [*entries, *entries_for_party2(terms, self.protocol, level.factor)]:
                self.ledger.record(entry)
        return receipt

    def _check_time(self) -> None:
        """RefusedError once the grant has expired, which nothing prolongs."""
        if self.grant is None or _now() > self._granted_until:
            raise RefusedError("What the owner of the fixed image granted has expired. Start a new run.")

    def _voxels_of(self, level: Level) -> int:
        """The voxels of a level that can be measured."""
        order = [known.index for known in self.levels]
        return self.measurable_voxels[order.index(level.index)]

    def _uncounted(self, terms: Sequence[Term]) -> Receipt:
        """For an answer under the unprotected protocol; of two halves that move, it still has numbers."""
        return self.ledger.nothing_more(numbers_of(terms) if self.protocol.two_sided else 0)

    def close(self) -> None:
        if self.link.dealer is not None:
            self.link.dealer.close()
        with contextlib.suppress(OutputError):  # it is sealed when the site is opened next
            self.ledger.seal()
