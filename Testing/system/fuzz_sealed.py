"""What is fuzzed of sealed images: files, what a dishonest owner puts inside, and both sides of their messages."""

from __future__ import annotations

import contextlib
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from fuzz_mutation import changed_bytes, changed_conversation, changed_map
from fuzz_subjects import Conversations, forget_records, heard, kept_apart, of_others
from fuzz_targets import SWEEP, Scripted, Target

from PPIRLogic.local_processes import Site
from PPIRLogic.network import caller
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.quota import RateLimit
from PPIRLogic.network.service import Event
from PPIRLogic.primis import messages as m
from PPIRLogic.primis import party1
from PPIRLogic.primis.cards import own_card, read_card
from PPIRLogic.primis.codec import Coded, decode, encode
from PPIRLogic.primis.escrow import restore_escrow, write_escrow
from PPIRLogic.primis.extras import Extras, plain_grid, split_extras
from PPIRLogic.primis.grant_records import GrantRecords
from PPIRLogic.primis.grants import open_grant, read_grant
from PPIRLogic.primis.keys import load_keys, top_key
from PPIRLogic.primis.levels import LEVELS
from PPIRLogic.primis.party2 import SharingService
from PPIRLogic.primis.policy import SharingPolicy
from PPIRLogic.primis.sealed_file import DTYPES, open_codes, parse_file
from PPIRLogic.primis.sealing import grant, seal, unseal
from PPIRLogic.primis.shared_files import SharedFile

SEALED = "sealed images"  # the subject's name among the recorded conversations
QUESTIONS = (("x-ray", "classification"), ("asked", "overview"), ("x-ray", "exact"))
UNLIMITED = 10**9


def picture(shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    """A smooth picture with noise."""
    places = np.indices(shape)
    values = 90 + 50 * np.sin(places[-2] / 5) + 40 * np.cos(places[-1] / 4)
    return np.rint(values + np.random.default_rng(4).normal(0, 3, shape)).astype(dtype)


def place(site: Site) -> Path:
    """The sealed file of a site."""
    return site.home.parent / "x-ray.ppis"


def shared(site: Site) -> list[SharedFile]:
    """What the site offers. The person who is asked says yes to every second purpose."""
    person = SharingPolicy("exact", grants=UNLIMITED // 1000, ask=lambda who, question: len(question.purpose) % 2 == 0)
    return [
        SharedFile("x-ray", place(site), SharingPolicy("exact", grants=UNLIMITED // 1000)),
        SharedFile("asked", place(site), person),
        SharedFile("kept", place(site), SharingPolicy(m.NOBODY)),
    ]


@contextlib.contextmanager
def sharing(site: Site, on_event: Event = lambda event: None) -> Iterator[SharingService]:
    """A service that limits nothing: rates have tests of their own."""
    identity = load_or_create_identity(site.home)
    service = SharingService("127.0.0.1:0", identity, site.home, shared(site), on_event=on_event)
    method = service.methods[m.OPENS]
    method.pages = method.chunks = method.questions = RateLimit(UNLIMITED, 1e-6)  # type: ignore[attr-defined]
    try:
        yield service
    finally:
        service.stop()


def record_sealed(sites: dict[str, Site], recorded: Conversations) -> None:
    """Add valid sessions about sealed images, over real sockets, as said by each to each."""
    a, b = sites["A"], sites["B"]
    seal(picture((26, 30), "uint8"), place(b), home=b.home)
    with sharing(b) as service:
        threading.Thread(target=service.run, daemon=True).start()
        for number, (name, level) in enumerate(QUESTIONS):
            with heard() as log:
                folder = a.home.parent / f"received-{number}"
                party1.ask(name, service.listener.address, level, "a study!", folder, home=a.home)
            kept_apart(log, recorded, SEALED, "images")


# --------------------------------------------------------------------------------------------------- bytes and maps


class SealedWords(Target):
    """The checked values made of a message's map."""

    name = "sealed images: messages (catalogue, fetch, ask)"
    share = 0.05

    def __init__(self, recorded: Conversations) -> None:
        def first(way: str, kind: str) -> dict[str, Any]:
            return next(message.data for message in recorded[SEALED, way][0] if message.kind == kind)

        self._makers: tuple[tuple[Callable[[Any], Any], dict[str, Any]], ...] = (
            (m.SealedOffer.from_dict, first("2 to 1", "catalogue")["images"][0]),
            (m.Page.from_dict, first("1 to 2", "catalogue")),
            (m.Fetch.from_dict, first("1 to 2", "fetch")),
            (m.Ask.from_dict, first("1 to 2", "ask")),
            (lambda data: m.check_opening(data, m.SHARES, m.ASKS), first("1 to 2", m.OPENS)),
        )

    def case(self, draw: random.Random) -> str:
        make, valid = draw.choice(self._makers)
        make(changed_map(draw, valid))
        return "accepted"


class SealedFiles(Target):
    """Damaged sealed files, grants, cards and escrow files, with the right keys at hand: none opens."""

    name = "sealed images: files, grants, cards, escrow files"
    share = 0.06

    def __init__(self, a: Site, b: Site) -> None:
        self._home, data = a.home, place(b).read_bytes()
        sealed = parse_file(data)
        image = sealed.header.image_id
        self._key = top_key(load_keys(b.home).image_keys(image)[0], image)
        self._payloads = open_codes(sealed, self._key)
        card = own_card(a.home)
        given = grant(sealed, card, "exact", home=b.home, purpose="a study")
        self._readers: tuple[tuple[Callable[[bytes], Any], bytes], ...] = (
            (self._open, data), (self._open, data[: len(data) // 2] + data[len(data) // 2 :]),
            (read_grant, given), (lambda text: open_grant(text, image, a.home), given), (read_card, card),
            (lambda text: restore_escrow(text, a.home), write_escrow(b.home, card=read_card(card))),
        )  # fmt: skip

    def _open(self, data: bytes) -> None:
        sealed = parse_file(data)
        assert sealed.to_bytes() == data and sealed.header.pack() == sealed.header.raw
        assert open_codes(sealed, self._key) == self._payloads, "a changed file opens"

    def case(self, draw: random.Random) -> str:
        read, intact = draw.choice(self._readers)
        data = changed_bytes(draw, intact) if draw.random() < 0.97 else intact  # which is accepted
        read(data)
        assert data == intact, "a changed file is accepted"
        return "accepted"


class SealedContents(Target):
    """Authentic codes of a dishonest owner, which hold what no encoder wrote: they decode, or are refused."""

    name = "sealed images: what an owner put into the codes"
    share = 0.008

    def __init__(self) -> None:
        images = (picture((26, 30), "uint8"), picture((2, 17, 20), "int16"), picture((9, 40), "uint16"))
        self._coded = [encode(image) for image in images]

    def case(self, draw: random.Random) -> str:
        coded = draw.choice(self._coded)
        if draw.random() < 0.3:
            coded = self._of_another_kind(draw, coded)
        extras = Extras(plain_grid(coded.shape), {"Modality": "CR"}, draw.random() < 0.5).pack()
        codes = [extras + coded.codes[0], *coded.codes[1:]][: draw.randint(1, len(LEVELS))]
        for _ in range(draw.choice((1, 1, 2))):
            at = draw.randrange(len(codes))
            codes[at] = changed_bytes(draw, codes[at]) if draw.random() < 0.9 else draw.randbytes(draw.randrange(200))
        _, codes[0] = split_extras(codes[0], coded.shape, "The sealed file")
        found = decode(codes, coded.shape, coded.dtype, coded.model)
        assert found.shape == coded.shape and found.dtype.name == coded.dtype
        return "accepted"

    @staticmethod
    def _of_another_kind(draw: random.Random, coded: Coded) -> Coded:
        shape = tuple(draw.randint(2, 40) for _ in coded.shape)
        return replace(coded, shape=shape, dtype=draw.choice(DTYPES))


# --------------------------------------------------------------------------------------------------------- handlers


class Sharer(Target):
    """`SharingService` with whole sessions of a peer that asks, damaged. No grant leaves that is not on record."""

    name = "sealed images, party 2: sessions of a site that asks"
    share = 0.008

    def __init__(self, recorded: Conversations, site: Site, peer: str) -> None:
        self._said = recorded[SEALED, "1 to 2"]
        self._foreign = of_others(recorded)
        self._site, self._peer, self._cases = site, peer, 0
        self._stack = contextlib.ExitStack()
        self._start()

    def _start(self) -> None:
        self._stack.close()
        forget_records(self._site)
        self._events: list[dict[str, Any]] = []
        self._service = self._stack.enter_context(sharing(self._site, self._events.append))
        self._records = GrantRecords(self._site.home, self._service.site.records)
        self._given: set[bytes] = set()

    def case(self, draw: random.Random) -> str:
        self._cases += 1
        if self._cases % SWEEP == 0:
            self._start()
        channel = Scripted(changed_conversation(draw, draw.choice(self._said), self._foreign), self._peer)
        told = len(self._events)
        with mock.patch("PPIRLogic.network.service.INFOS", UNLIMITED):
            self._service.serve_connection(channel)  # type: ignore[arg-type]
        made = {payload for kind, payload in channel.sent if kind == "grant"}
        assert all(read_grant(one).recipient.replace("-", "") == self._peer.replace("-", "") for one in made)
        self._given |= made
        assert len(self._given) <= len(self._records.all(peer=self._peer)), "granted, not on record"
        ended = [e for e in self._events[told:] if e["event"] == "session ended"]
        return str(ended[-1]["reason"]).split(":")[0] if ended else "accepted"

    def close(self) -> None:
        self._stack.close()


class Asker(Target):
    """`ask` against a site that says what it should not: what is written opens, or nothing is written as a grant."""

    name = "sealed images, party 1: answers of a site that shares"
    share = 0.008

    def __init__(self, recorded: Conversations, site: Site, peer: str) -> None:
        self._said = recorded[SEALED, "2 to 1"]
        self._foreign = of_others(recorded)
        self._site, self._peer = site, peer

    def case(self, draw: random.Random) -> str:
        number = draw.randrange(len(QUESTIONS))
        said = changed_conversation(draw, self._said[number], self._foreign)
        folder = self._site.home.parent / "asked"
        name, level = QUESTIONS[number]
        with (
            mock.patch.object(caller, "connect", lambda *_, **__: Scripted(list(said), self._peer)),
            mock.patch.object(caller, "AGAIN", (0.0,) if draw.random() < 0.2 else ()),
        ):
            try:
                got = party1.ask(name, "scripted:1", level, "a study!", folder, home=self._site.home)
                assert unseal(got.file, grant=got.grant, home=self._site.home).level == got.level == level
                return "accepted"
            finally:
                kept = len(list(folder.glob("*.ppig")))
                shutil.rmtree(folder, ignore_errors=True)
                assert kept <= 1
