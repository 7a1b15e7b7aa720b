"""What is fuzzed of the deformation proxy: its checked values, and both sides of its messages."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
from fuzz_mutation import changed_bytes, changed_conversation, changed_map
from fuzz_subjects import Conversations, forget_records, heard, kept_apart, of_others
from fuzz_targets import SWEEP, Scripted, Target
from numpy.typing import NDArray

from PPIRLogic.local_processes import Site
from PPIRLogic.network import caller
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.quota import RateLimit
from PPIRLogic.network.service import Event
from PPIRLogic.proxy import messages as m
from PPIRLogic.proxy.party1 import SegmentingClient
from PPIRLogic.proxy.party2 import SegmentationService

PROXIES = "proxies"  # the subject's name among the recorded conversations
SHAPE, SPACING = (9, 10, 11), (5.0, 5.0, 5.0)
UNLIMITED = 10**9


class Bands:
    """Segments by grey alone."""

    names, digest = ("background", "dark", "bright"), "5e" * 32

    def probabilities(self, volume: NDArray[np.uint8], spacing: tuple[float, ...]) -> NDArray[np.uint8]:
        shares = np.stack([volume == 0, (volume > 0) & (volume < 128), volume >= 128])
        return (255 * shares).astype(np.uint8)


def proxies() -> tuple[NDArray[np.uint8], ...]:
    """Two small ones, the second of a single part that hardly compresses."""
    smooth = np.rint(127 + 100 * np.sin(np.indices(SHAPE).sum(0) / 4)).astype(np.uint8)
    return smooth, np.random.default_rng(7).integers(0, 256, SHAPE).astype(np.uint8)


@contextlib.contextmanager
def segmenting(site: Site, on_event: Event = lambda event: None) -> Iterator[SegmentationService]:
    """A service that limits nothing: rates have tests of their own."""
    identity = load_or_create_identity(site.home)
    service = SegmentationService("127.0.0.1:0", identity, site.home, Bands(), on_event=on_event)
    service.methods[m.OPENS].rate = RateLimit(UNLIMITED, 1e-6)  # type: ignore[attr-defined]
    try:
        yield service
    finally:
        service.stop()


def record_proxies(sites: dict[str, Site], recorded: Conversations) -> None:
    """Add valid sessions about proxies, over real sockets, as said by each to each."""
    with segmenting(sites["B"]) as service:
        threading.Thread(target=service.run, daemon=True).start()
        for proxy in proxies():
            with heard() as log, SegmentingClient(service.listener.address, home=sites["A"].home) as client:
                client.probabilities(proxy, SPACING)
            kept_apart(log, recorded, PROXIES, "classes")


class ProxyWords(Target):
    """The checked values made of a message's map, and the voxels that follow it."""

    name = "proxies: messages (proxy, segment, segmented), voxels"
    share = 0.05

    def __init__(self, recorded: Conversations) -> None:
        (model, said, *_), (_, asked, *_) = recorded[PROXIES, "2 to 1"][0], recorded[PROXIES, "1 to 2"][0]
        values = len(Bands.names) * int(np.prod(SHAPE))
        self._makers: tuple[tuple[Any, dict[str, Any]], ...] = (
            (m.ServedModel.from_dict, model.data),
            (m.Segment.from_dict, asked.data),
            (lambda data: m.Segmented.from_dict(data, values), said.data),
            (lambda data: m.check_opening(data, m.SEGMENTS, m.ASKS), m.opening()),
        )
        self._voxels = [(m.packed(p), m.digest_of(p)) for p in proxies()]

    def case(self, draw: random.Random) -> str:
        if draw.random() < 0.3:
            data, digest = draw.choice(self._voxels)
            changed = changed_bytes(draw, data)
            assert m.digest_of(m.unpacked(changed, SHAPE, digest, "The proxy")) == digest
            return "accepted"
        make, valid = draw.choice(self._makers)
        made = make(changed_map(draw, valid))
        if isinstance(made, m.Segment):
            assert made.voxels <= m.MAX_VOXELS and made.size <= m.most_compressed(m.MAX_VOXELS)
        return "accepted"


class Segmenting(Target):
    """`SegmentationService` with whole sessions of a site that asks, damaged. An answer is of the proxy that came."""

    name = "proxies, party 2: sessions of a site that asks"
    share = 0.01

    def __init__(self, recorded: Conversations, site: Site, peer: str) -> None:
        self._said, self._foreign = recorded[PROXIES, "1 to 2"], of_others(recorded)
        self._site, self._peer, self._cases = site, peer, 0
        self._stack = contextlib.ExitStack()
        self._start()

    def _start(self) -> None:
        self._stack.close()
        forget_records(self._site)
        self._events: list[dict[str, Any]] = []
        self._service = self._stack.enter_context(segmenting(self._site, self._events.append))

    def case(self, draw: random.Random) -> str:
        self._cases += 1
        if self._cases % SWEEP == 0:
            self._start()
        channel = Scripted(changed_conversation(draw, draw.choice(self._said), self._foreign), self._peer)
        told = len(self._events)
        with mock.patch("PPIRLogic.network.service.INFOS", UNLIMITED):
            self._service.serve_connection(channel)  # type: ignore[arg-type]
        answers = {bytes(data["digest"]) for kind, data in channel.said if kind == "segmented"}
        assert answers <= {m.digest_of(Bands().probabilities(p, SPACING)) for p in proxies()}, "an answer to no proxy"
        ended = [e for e in self._events[told:] if e["event"] == "session ended"]
        return str(ended[-1]["reason"]).split(":")[0] if ended else "accepted"

    def close(self) -> None:
        self._stack.close()


class Proxying(Target):
    """A client against a site that says what it should not: it gets voxels of the digest that was said, or an error."""

    name = "proxies, party 1: answers of a site that segments"
    share = 0.01

    def __init__(self, recorded: Conversations, site: Site, peer: str) -> None:
        self._said, self._foreign = recorded[PROXIES, "2 to 1"], of_others(recorded)
        self._site, self._peer = site, peer

    def case(self, draw: random.Random) -> str:
        number = draw.randrange(len(self._said))
        said = changed_conversation(draw, self._said[number], self._foreign)
        with (
            mock.patch.object(caller, "connect", lambda *_, **__: Scripted(list(said), self._peer)),
            mock.patch.object(caller, "AGAIN", (0.0,) if draw.random() < 0.2 else ()),
            SegmentingClient("scripted:1", home=self._site.home) as client,
        ):
            found = client.probabilities(proxies()[number], SPACING)
            assert found.dtype == np.uint8 and found.shape == (len(client.model.classes), *SHAPE)
        return "accepted"
