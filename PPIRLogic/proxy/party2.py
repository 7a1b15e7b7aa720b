"""Party 2: segments proxies that trusted sites send. It keeps nothing of them, and no log has content.

A proxy is refused before the model sees it where it is malformed, too large, comes too slowly, or is empty.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.disclosure.audit_log import AuditLog
from PPIRLogic.errors import BusyError, InputError, PeerError, PolicyError, ProtocolError
from PPIRLogic.network.channel import Channel, Message, Quotas
from PPIRLogic.network.identity import Identity, default_home, load_or_create_identity, normalise_fingerprint
from PPIRLogic.network.quota import RateLimit, in_seconds
from PPIRLogic.network.served import ServedSession, SiteMethod
from PPIRLogic.network.service import Event, Service, run_until
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.progress import CancelToken
from PPIRLogic.proxy import messages as m

IDLE = 60.0  # seconds between two messages of a session
UPLOAD = 180.0  # seconds for all parts of a proxy
SEGMENTATIONS, SEGMENTATION_SECONDS = 20, 15.0  # of a peer at once, and then one every so many seconds
_MIN_INSIDE, _MIN_VALUES = 0.002, 8  # of a proxy: voxels that are not 0, and different values among them


class Segments(Protocol):
    """What segments: `segmentation.Segmenter`, or another of the same form."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes, the background first."""

    @property
    def digest(self) -> str:
        """SHA-256 of the model, hex."""

    def probabilities(self, volume: NDArray[np.uint8], spacing: tuple[float, ...]) -> NDArray[np.uint8]:
        """uint8 (classes, z, y, x) of a volume (z, y, x) with its spacing x, y, z in mm."""


class Segmenting(SiteMethod):
    """The segmentation of proxies as one method of a service."""

    opens = m.OPENS
    stopped = "This site stopped segmenting."
    max_payload = m.PART
    patience = IDLE

    def __init__(self, segmenter: Segments, site: AuditLog, peers: frozenset[str] = frozenset()) -> None:
        """peers: fingerprints of those that may ask; empty: every trusted peer."""
        super().__init__(site)
        self.segmenter, self.site, self._peers = segmenter, site, peers
        self.model = m.ServedModel(segmenter.digest, tuple(segmenter.names))
        self.rate = RateLimit(SEGMENTATIONS, SEGMENTATION_SECONDS)
        self._turn, self._waiting = threading.Lock(), 0
        self._count = threading.Lock()

    def offers(self, peer: str) -> dict[str, Any] | None:
        return {"proxy": self.model.to_dict()} if self.permits(peer) else None

    def permits(self, peer: str) -> bool:
        """Whether a peer may ask at all."""
        return not self._peers or peer in self._peers

    def open_session(self, channel: Channel, message: Message) -> SegmentingSession:
        m.check_opening(message.data, m.SEGMENTS, m.ASKS)
        if not self.permits(channel.peer_fingerprint):
            raise PolicyError("This site does not segment for that one.")
        return SegmentingSession(self, channel)

    def segment(self, session: SegmentingSession, proxy: NDArray[np.uint8], spacing: tuple[float, ...]) -> Any:
        """The probabilities of a proxy, one proxy at a time; those before it are told of while it waits."""
        with self._count:
            before, self._waiting = self._waiting, self._waiting + 1
        try:
            if before:
                session.wait(before)
            while not self._turn.acquire(timeout=0.5):
                session.check()
            try:
                session.check()
                return self.segmenter.probabilities(proxy, spacing)
            finally:
                self._turn.release()
        finally:
            with self._count:
                self._waiting -= 1


class SegmentingSession(ServedSession):
    """One connection of a peer that sends proxies."""

    def __init__(self, method: Segmenting, channel: Channel) -> None:
        super().__init__(channel, m.OPENS, method.stopping, method.stopped)
        self._method, self._site = method, method.site

    def begin(self) -> None:
        self.channel.send(m.OPENS, self._method.model.to_dict())

    def run(self) -> None:
        while True:
            message = self.channel.receive(IDLE)
            if message.kind == "bye":
                return
            if message.kind != "segment" or message.payload:
                raise ProtocolError(f"'{message.kind}' is no question about proxies, or carries what it should not.")
            self.check()
            self._segment(m.Segment.from_dict(message.data))

    def _segment(self, question: m.Segment) -> None:
        if wait := self._method.rate.take(self.peer):
            raise BusyError(f"This site has sent too many proxies; send the next one {in_seconds(wait)}.")
        began = time.monotonic()
        proxy = self._received(question)
        arrived = time.monotonic()
        spacing = tuple(um / 1000 for um in question.spacing)
        found = self._method.segment(self, proxy, spacing)
        del proxy
        due = (len(self._method.model.classes), *question.shape)
        if found.shape != due or found.dtype != np.uint8:
            raise RuntimeError("the model gives another shape than it says")
        self._answer(question, found)
        self._site.log(
            "proxy segmented", peer=self.peer, peer_name=self.channel.known_as, shape=list(question.shape),
            spacing_um=list(question.spacing), upload_s=round(arrived - began, 3),
            seconds=round(time.monotonic() - arrived, 3),
        )  # fmt: skip

    def _received(self, question: m.Segment) -> NDArray[np.uint8]:
        """The proxy, once all its parts are here; ProtocolError or PeerError if they are not as announced."""
        data, until = bytearray(), time.monotonic() + UPLOAD
        while len(data) < question.size:
            left = until - time.monotonic()
            if left <= 0:
                raise PeerError(f"The proxy did not come within {UPLOAD:g} seconds.")
            message = self.channel.receive(min(IDLE, left))
            if message.kind != "part" or not message.payload:
                raise ProtocolError(f"Expected a part of the proxy, got '{message.kind}'.")
            data += message.payload
            self.check()
        if len(data) != question.size:
            raise ProtocolError(f"The proxy has {len(data)} bytes and not the {question.size} that were announced.")
        proxy = m.unpacked(data, question.shape, question.digest, "The proxy")
        inside = proxy[proxy > 0]
        if inside.size < _MIN_INSIDE * proxy.size or np.unique(inside[:: 1 + inside.size // 10**5]).size < _MIN_VALUES:
            raise ProtocolError("The proxy is empty, or nearly of one value: nothing in it can be segmented.")
        return proxy

    def _answer(self, question: m.Segment, found: NDArray[np.uint8]) -> None:
        data, digest = m.packed(found), m.digest_of(found)
        first = question.have if question.of == digest and question.have <= len(data) else 0
        self.check()
        self.channel.send("segmented", m.Segmented(len(data), digest, first).to_dict())
        for start in range(first, len(data), m.PART):
            self.channel.send("part", {}, data[start : start + m.PART])
            self.check()


class SegmentationService(Service):
    """A service that segments proxies. Listens until `stop`.

    `on_event` gets one map per thing that happens, without any content. Errors: those of `AuditLog`, and PeerError
    (port in use). `serve` makes one with the model that comes with the program:

    >>> serve(address="0.0.0.0:7443", on_event=print)  # doctest: +SKIP
    """

    def __init__(
        self,
        address: str,
        identity: Identity,
        home: Path,
        segmenter: Segments,
        *,
        peers: frozenset[str] = frozenset(),
        max_sessions: int = 10,
        queue: int = 16,
        on_event: Event = lambda event: None,
        quotas: Quotas | None = None,
    ) -> None:
        self.site = AuditLog(home, on_event)
        method = Segmenting(segmenter, self.site, peers)
        super().__init__(
            address, identity, TrustStore(home), [method], self.site, max_sessions=max_sessions, queue=queue,
            sessions_of_peer=max_sessions, details={"model": method.model.digest}, quotas=quotas,
        )  # fmt: skip


def serve(
    model: Path | None = None,
    address: str = "0.0.0.0:7443",
    *,
    peers: tuple[str, ...] = (),
    home: Path | None = None,
    max_sessions: int = 10,
    queue: int = 16,
    on_event: Event = lambda event: None,
    cancel: CancelToken | None = None,
) -> None:
    """Segment proxies for trusted peers until `cancel` is set; blocks.

    model: an ONNX file (default: the one that comes with the program). address: 'host:port' to listen on (port 0: any
    free one; the first event, 'listening', has it). peers: fingerprints of those that may ask (default: every trusted
    one). Errors: InputError (the model), MissingDependencyError (onnxruntime), as of `SegmentationService`.

    >>> serve(None, "0.0.0.0:7443", on_event=print)  # doctest: +SKIP
    """
    from PPIRLogic.proxy.segmentation import Segmenter

    if not isinstance(max_sessions, int) or max_sessions < 1:
        raise InputError(f"max_sessions must be at least 1, not {max_sessions!r:.20}.")
    place = default_home() if home is None else home
    segmenter = Segmenter.shipped() if model is None else Segmenter.from_file(model)
    service = SegmentationService(
        address, load_or_create_identity(place), place, segmenter, peers=frozenset(map(normalise_fingerprint, peers)),
        max_sessions=max_sessions, queue=queue, on_event=on_event,
    )  # fmt: skip
    run_until(service, cancel or CancelToken())
