"""Proxies over the network: a scan is segmented and comes back; a peer, or a service, that does not behave."""

from __future__ import annotations

import contextlib
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heads_support import NAMES, Thresholds, brain_of, head
from system_support import SOON, answer, call, last_words, rows_of, try_to_send, wait_until

from PPIRLogic.errors import (
    BusyError,
    InputError,
    OutputError,
    PeerError,
    PolicyError,
    PPIRError,
    ProtocolError,
    RefusedError,
    VersionError,
)
from PPIRLogic.local_processes import Site, make_sites
from PPIRLogic.network import caller
from PPIRLogic.network.channel import Channel
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.proxy import messages as m
from PPIRLogic.proxy import party2
from PPIRLogic.proxy.party1 import Consent, SegmentingClient, make, segment
from PPIRLogic.proxy.sent_records import SentRecords
from PPIRLogic.proxy.spectrum import Spectrum

SCAN, LABELS = head(1)
BRAIN = brain_of(LABELS)
OPTIONS: dict[str, Any] = {"mask": BRAIN, "model": "any", "spectrum": Spectrum.plain()}
SMALL = np.random.default_rng(0).integers(0, 256, (20, 24, 22)).astype(np.uint8)
BIG = np.random.default_rng(1).integers(0, 256, (60, 64, 56)).astype(np.uint8)  # an answer of many parts
SPACING = (4.0, 4.0, 4.0)


def yes(consent: Consent) -> bool:
    return True


@dataclass
class Server:
    """The site that segments, in this process, over real sockets; `events` are what its owner was told."""

    service: party2.SegmentationService
    events: list[dict[str, Any]]
    site: Site

    @property
    def address(self) -> str:
        return str(self.service.listener.address)

    def told(self, event: str) -> list[dict[str, Any]]:
        return [e for e in list(self.events) if e["event"] == event]


@contextlib.contextmanager
def server(site: Site, segmenter: Any = None, **options: Any) -> Iterator[Server]:
    events: list[dict[str, Any]] = []
    service = party2.SegmentationService(
        "127.0.0.1:0", load_or_create_identity(site.home), site.home, segmenter or Thresholds(),
        on_event=events.append, **options,
    )  # fmt: skip
    thread = threading.Thread(target=service.run, daemon=True)
    thread.start()
    try:
        yield Server(service, events, site)
    finally:
        service.stop()
        thread.join(SOON)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Site]:
    return make_sites(tmp_path_factory.mktemp("proxy"), ("A", "B", "C", "D"))


@pytest.fixture(scope="module")
def served(sites: dict[str, Site]) -> Iterator[Server]:
    """After all tests an honest proxy is still segmented."""
    with server(sites["B"]) as one:
        one.service.methods[m.OPENS].rate = party2.RateLimit(10**6, 0.001)  # type: ignore[attr-defined]
        yield one
        assert one.told("session failed") == []
        with SegmentingClient(one.address, home=sites["C"].home) as client:
            assert client.probabilities(SMALL, SPACING).shape == (5, *SMALL.shape)


# --------------------------------------------------------------------------------------------------- in good order


def test_a_scan_is_segmented_and_comes_back_onto_its_own_grid(served: Server, sites: dict[str, Site]) -> None:
    stages: list[str] = []
    found = segment(
        SCAN, served.address, consent=yes, strength="low", home=sites["A"].home,
        tell=lambda stage, done, total: stages.append(stage), **OPTIONS,
    )  # fmt: skip
    assert found.labels.shape == SCAN.array.shape and found.names == NAMES and found.grid == SCAN.geometry
    for label, least in ((1, 0.85), (2, 0.85)):
        a, b = found.labels == label, label == LABELS
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > least, label
    assert found.volumes_ml()["white matter"] == pytest.approx((LABELS == 2).sum() * 0.027, rel=0.15)
    assert list(dict.fromkeys(stages)) == ["preparing", "sending", "segmenting", "receiving"]
    facts = found.to_dict()
    assert (
        facts["model"] == Thresholds.digest and facts["strength_mm"] == 4.0 and facts["inverse_error_mm"]["mean"] < 0.1
    )


def test_what_was_disclosed_is_in_the_ledger_before_it_leaves(
    served: Server, sites: dict[str, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = sites["D"].home
    for _ in range(2):
        segment(SCAN, served.address, consent=yes, home=home, **OPTIONS)
    (row,) = SentRecords(home).rows()
    proxy = make(SCAN, mask=BRAIN, home=home, spectrum=Spectrum.plain())
    assert row["proxies"] == 1 and row["times"] == 2 and row["bits"] == 8 * proxy.voxels
    assert SentRecords(home).all()[0]["disclosed"] == "whole image"

    def full(*_: Any, **__: Any) -> None:
        raise OutputError("The ledger could not be written (the disk is full).")

    count = len(served.told("proxy segmented"))
    monkeypatch.setattr(SentRecords, "sent", full)
    with pytest.raises(OutputError):
        segment(SCAN, served.address, consent=yes, home=home, **OPTIONS)
    assert len(served.told("proxy segmented")) == count


def test_nothing_is_sent_without_consent_and_what_is_shown_is_what_is_sent(
    served: Server, sites: dict[str, Site]
) -> None:
    asked: list[Consent] = []
    count = len(served.told("proxy segmented"))
    with pytest.raises(RefusedError, match="did not consent"):
        segment(SCAN, served.address, consent=lambda c: bool(asked.append(c)), home=sites["A"].home, **OPTIONS)
    assert len(served.told("proxy segmented")) == count
    (one,) = asked
    proxy = make(SCAN, mask=BRAIN, home=sites["A"].home, spectrum=Spectrum.plain())
    assert (one.proxy == proxy.array).all() and (one.original == proxy.prepared.array).all()
    assert one.peer == f"'B' (fingerprint {sites['B'].fingerprint})" and one.bits == 8 * proxy.voxels
    assert "not encrypted" in one.warning


def test_the_server_sees_no_header_no_name_no_place_and_no_key(served: Server, sites: dict[str, Site]) -> None:
    """All that crosses the line is the grid's shape and spacing and the proxy's voxels."""
    seen: list[tuple[str, dict[str, Any], bytes]] = []
    real = Channel.send

    def spy(self: Channel, kind: str, data: dict[str, Any] | None = None, payload: Any = b"") -> None:
        if self.peer_fingerprint == sites["B"].fingerprint:
            seen.append((kind, dict(data or {}), bytes(payload)))
        real(self, kind, data, payload)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Channel, "send", spy)
        segment(SCAN, served.address, consent=yes, home=sites["A"].home, **OPTIONS)
    said = {name for kind, data, _ in seen for name in data}
    assert said == {"version", "shape", "spacing", "size", "digest", "have", "of"}
    proxy = make(SCAN, mask=BRAIN, home=sites["A"].home, spectrum=Spectrum.plain())
    sent = b"".join(payload for kind, _, payload in seen if kind == "part")
    assert zlib.decompress(sent) == proxy.array.tobytes()


def test_nothing_of_a_proxy_stays_at_the_server(served: Server, sites: dict[str, Site]) -> None:
    before = {p for p in sites["B"].home.rglob("*") if p.is_file()}
    segment(SCAN, served.address, consent=yes, home=sites["C"].home, **OPTIONS)
    after = {p for p in sites["B"].home.rglob("*") if p.is_file()}
    assert after == before
    (audit,) = sites["B"].home.rglob("audit.jsonl")
    row = [r for r in rows_of(audit) if r["event"] == "proxy segmented"][-1]
    assert set(row) <= {
        "time", "event", "peer", "peer_name", "shape", "spacing_um", "upload_s", "seconds", "repeated", "number", "mac",
        "chain",
    }, row  # fmt: skip


def test_the_same_scan_always_gives_the_same_proxy_and_another_site_another(sites: dict[str, Site]) -> None:
    a, again, other = (
        make(SCAN, mask=BRAIN, home=sites[n].home, spectrum=Spectrum.plain()).array for n in ("A", "A", "C")
    )
    assert (a == again).all() and (a != other[: len(a)]).any()


def test_ten_sites_at_once(tmp_path: Path) -> None:
    sites = make_sites(tmp_path, ("B", *(f"H{n}" for n in range(10))))
    with server(sites["B"]) as one:
        got: dict[str, np.ndarray] = {}
        together = threading.Barrier(10)

        def run(name: str) -> None:
            with SegmentingClient(one.address, home=sites[name].home) as client:
                together.wait(SOON)
                got[name] = client.probabilities(np.roll(SMALL, int(name[1:]), 0), SPACING)

        threads = [threading.Thread(target=run, args=(f"H{n}",)) for n in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * SOON)
        assert len(got) == 10
        for name, found in got.items():
            expected = Thresholds().probabilities(np.roll(SMALL, int(name[1:]), 0), SPACING)
            assert (found == expected).all(), "each got its own"


@pytest.mark.parametrize("when", ["sending", "receiving"])
def test_a_lost_line_is_taken_up(
    when: str, served: Server, sites: dict[str, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller, "AGAIN", (0.1, 0.1, 0.1))
    monkeypatch.setattr(m, "PART", 4096)
    stages: list[tuple[str, int]] = []
    with SegmentingClient(served.address, home=sites["A"].home) as client:

        def cut(stage: str, done: int, total: int) -> None:
            stages.append((stage, done))
            if stage == when and done == 4096 and stages.count((stage, done)) == 1:
                client.connected._link.stop()

        client._tell = cut
        found = client.probabilities(BIG, (2.0, 2.0, 2.0))
    assert (found == Thresholds().probabilities(BIG, SPACING)).all() and ("reconnecting", 0) in stages
    received = [done for stage, done in stages if stage == "receiving"]
    assert sorted(received) == received, "what had come was not sent again"


# ------------------------------------------------------------------------------------------ what the client refuses


def test_another_model_than_the_measured_one(
    served: Server, sites: dict[str, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Consent] = []
    with pytest.raises(InputError, match=r"segments with the model.*Nothing was sent"):
        segment(
            SCAN, served.address, consent=lambda c: bool(asked.append(c)), home=sites["A"].home,
            **{**OPTIONS, "model": "ab" * 32},
        )  # fmt: skip
    assert not asked


def test_a_ct_is_refused_before_a_call(sites: dict[str, Site]) -> None:
    with pytest.raises(InputError, match="is a CT"):
        segment(replace(SCAN, modality="CT"), "127.0.0.1:1", consent=yes, home=sites["A"].home, **OPTIONS)


class Wrong(Thresholds):
    """A service that answers something else."""

    def __init__(self, how: str) -> None:
        self.how = how

    def probabilities(self, volume: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
        if self.how == "raises":
            raise ValueError("a secret of the server")
        return super().probabilities(volume, spacing)[:, 1:]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("how", ["raises", "shape"])
def test_a_service_that_fails_says_no_more_than_that(how: str, sites: dict[str, Site]) -> None:
    with server(sites["D"], Wrong(how)) as one, SegmentingClient(one.address, home=sites["A"].home) as client:
        with pytest.raises(PeerError, match="internal error") as failed:
            client.probabilities(SMALL, SPACING)
        assert "secret" not in str(failed.value)


@pytest.mark.parametrize("how", ["shape", "bytes", "digest", "long", "bomb", "begin"])
def test_an_answer_that_does_not_fit_is_refused(
    how: str, sites: dict[str, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service of another kind: it answers what it likes."""
    found = Thresholds().probabilities(SMALL, SPACING)
    wrong = {"shape": found[:, :10], "bytes": found[:3]}.get(how, found)
    data = m.packed(wrong)
    if how == "bomb":
        data = zlib.compress(bytes(4 * found.size), 9)
    digest = bytes(32) if how == "digest" else m.digest_of(found)
    first = 7 if how == "begin" else 0

    def answered(self: Any, question: m.Segment, result: Any) -> None:
        self.channel.send("segmented", {"size": len(data), "digest": digest, "first": first})
        self.channel.send("part", {}, data + (b"x" if how == "long" else b""))

    monkeypatch.setattr(party2.SegmentingSession, "_answer", answered)
    with (
        server(sites["D"]) as one,
        SegmentingClient(one.address, home=sites["A"].home) as client,
        pytest.raises(ProtocolError),
    ):
        client.probabilities(SMALL, SPACING)


# ------------------------------------------------------------------------------------- a peer that does not behave


@contextlib.contextmanager
def client(served: Server, site: Site, *, opens: bool = True) -> Iterator[Channel]:
    """A raw client that may say whatever it likes."""
    with call(site, served.address) as channel:
        if opens:
            channel.send(m.OPENS, m.opening())
            answer(channel, m.OPENS)
        yield channel


def said(channel: Channel, kind: type[PPIRError], *words: str) -> None:
    error = last_words(channel)
    assert type(error) is kind and all(w in str(error) for w in words), repr(error)


def question(data: bytes = b"", **fields: Any) -> dict[str, Any]:
    packed = data or m.packed(SMALL)
    um = (4000, 4000, 4000)
    return {**m.Segment(SMALL.shape, um, len(packed), m.digest_of(SMALL)).to_dict(), **fields}  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["segment", "part", "segmented", "open", "nonsense"])
def test_before_a_session_is_open(kind: str, served: Server, sites: dict[str, Site]) -> None:
    with client(served, sites["A"], opens=False) as channel:
        try_to_send(channel, kind, {})
        said(channel, ProtocolError, "before a session")


def test_another_version(served: Server, sites: dict[str, Site]) -> None:
    with client(served, sites["A"], opens=False) as channel:
        channel.send(m.OPENS, {"version": 99})
        said(channel, VersionError, "version 99 of the messages about proxies")


@pytest.mark.parametrize(
    "fields",
    [
        {"shape": [20, 24]}, {"shape": [20, 24, 22, 1]}, {"shape": [0, 24, 22]}, {"shape": [-20, 24, 22]},
        {"shape": [2**40, 24, 22]}, {"shape": [1024, 1024, 1024]}, {"shape": [20.0, 24, 22]}, {"shape": "abc"},
        {"spacing": [4000, 4000]}, {"spacing": [0, 4000, 4000]}, {"spacing": [4000, 4000, 10**9]},
        {"spacing": [200, 200, 200]}, {"size": 0}, {"size": 2**40}, {"size": "x"}, {"digest": b"short"},
        {"digest": None},
        {"have": -1}, {"have": 2**60}, {"of": b""}, {"spacing": [float("nan")] * 3},
    ],
    ids=lambda fields: "-".join(f"{k}{v}"[:24] for k, v in fields.items()),
)  # fmt: skip
def test_fields_that_cannot_be(fields: dict[str, Any], served: Server, sites: dict[str, Site]) -> None:
    with client(served, sites["A"]) as channel:
        channel.send("segment", question(**fields))
        said(channel, ProtocolError)


@pytest.mark.parametrize("how", ["garbage", "bomb", "short", "long", "digest", "empty", "flat", "kind", "nothing"])
def test_a_malformed_proxy_never_reaches_the_model(
    how: str, served: Server, sites: dict[str, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("the model saw it")

    monkeypatch.setattr(served.service.methods[m.OPENS], "segment", never)
    flat = np.zeros_like(SMALL)
    if how == "flat":
        flat[5:9] = 200
    data = {
        "garbage": bytes(range(256)) * 8, "bomb": zlib.compress(bytes(10**7), 9), "short": m.packed(SMALL[:-1]),
        "long": m.packed(np.concatenate([SMALL, SMALL[:1]])), "empty": m.packed(flat), "flat": m.packed(flat),
    }.get(how, m.packed(SMALL))  # fmt: skip
    digest = {"digest": bytes(32), "empty": m.digest_of(flat), "flat": m.digest_of(flat)}.get(how, m.digest_of(SMALL))
    with client(served, sites["A"]) as channel:
        channel.send("segment", question(size=len(data), digest=digest))
        if how == "kind":
            try_to_send(channel, "segment", question(), b"")
        elif how == "nothing":
            try_to_send(channel, "part", {}, b"")
        else:
            try_to_send(channel, "part", {}, data)
        said(channel, ProtocolError)


def test_more_than_was_announced(served: Server, sites: dict[str, Site]) -> None:
    with client(served, sites["A"]) as channel:
        channel.send("segment", question(size=100))
        try_to_send(channel, "part", {}, bytes(101))
        said(channel, ProtocolError, "not the 100 that were announced")


def test_parts_larger_than_parts_are(served: Server, sites: dict[str, Site]) -> None:
    with client(served, sites["A"]) as channel:
        channel.send("segment", question())
        try_to_send(channel, "part", {}, bytes(m.PART + 1))
        assert wait_until(lambda: channel.interrupted), "more than a part is not even read"


def test_a_proxy_that_comes_too_slowly(sites: dict[str, Site], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(party2, "UPLOAD", 0.5)
    with server(sites["D"]) as one, client(one, sites["A"]) as channel:
        channel.send("segment", question())
        channel.send("part", {}, m.packed(SMALL)[:10])
        said(channel, PeerError, "sent nothing")


def test_so_many_proxies_of_one_site(sites: dict[str, Site], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(party2, "SEGMENTATIONS", 2)
    with server(sites["D"]) as one, SegmentingClient(one.address, home=sites["A"].home) as asks:
        for _ in range(2):
            asks.probabilities(SMALL, SPACING)
        with pytest.raises(BusyError, match="too many proxies"):
            asks.probabilities(SMALL, SPACING)


def test_only_those_who_may(sites: dict[str, Site]) -> None:
    with server(sites["D"], peers=frozenset({sites["A"].fingerprint})) as one:
        with SegmentingClient(one.address, home=sites["A"].home) as asks:
            asks.probabilities(SMALL, SPACING)
        with pytest.raises(PolicyError, match="does not segment for that one"):
            SegmentingClient(one.address, home=sites["C"].home)


def test_who_is_not_trusted_gets_nothing(sites: dict[str, Site], tmp_path: Path) -> None:
    stranger = make_sites(tmp_path, ("X", "Y"))["X"]
    with server(sites["D"]) as one, pytest.raises(PPIRError):
        SegmentingClient(one.address, home=stranger.home)


def test_a_site_that_leaves_frees_its_place(sites: dict[str, Site]) -> None:
    with server(sites["D"], max_sessions=1, queue=0) as one:
        with client(one, sites["A"]) as channel:
            channel.send("segment", question())
        with SegmentingClient(one.address, home=sites["C"].home) as asks:
            assert asks.probabilities(SMALL, SPACING).shape == (5, *SMALL.shape)
