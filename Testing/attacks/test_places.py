"""One caller cannot keep others out, take room by announcing it, fill the disk, or read names of files."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from OpenSSL import SSL
from recording import Record
from system_support import SOON, Phantom, answer, call, last_words, owner, plain_grid, save, shared, wait_until

from PPIRLogic.cli import serve as serve_command
from PPIRLogic.cli.main import parse
from PPIRLogic.errors import BusyError, DealerError, PPIRError, ProtocolError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.local_processes import Site, make_sites
from PPIRLogic.network.channel import MAX_PAYLOAD, Channel, FrameReader, Listener, Message, Quotas, connecting
from PPIRLogic.network.channel.frames import _PREFIX
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.messages import PROTOCOL_VERSION
from PPIRLogic.network.quota import RateLimit
from PPIRLogic.network.service import INFOS, LINES, Refusals, UnrecordedAudit
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.registration.dealer.dealer import JOINS_OF_A_PEER, MAX_SESSIONS, DealerSession, Dealing, Joined
from PPIRLogic.registration.dealer.orders import read_order
from PPIRLogic.registration.party2 import site as serving_site
from PPIRLogic.registration.party2 import unfinished_sessions
from PPIRLogic.registration.party2.fixed_image import FixedImage
from PPIRLogic.registration.party2.site import ServingSite
from PPIRLogic.registration.request import LevelGrant, Request

MANY = 10**6
NO_QUOTAS = Quotas(handshakes=MANY, greetings=MANY, greeting_seconds=0.0, connections=MANY, key=lambda host: "")
GRID = plain_grid(2)
PHANTOM = Phantom.make(GRID)
ASKED = Request("fixed", "fhe", "translation", "ssd", (4,))
ORDER = {"level": 0, "evaluation": 0, "samples": 5, "columns": 3, "terms": [[0, "J"]], "outputs": 1}
LEVELS = [LevelGrant(4, 900, 5, 3, 45)]


# ------------------------------------------------------------------------------------------------ handshakes


def client_hello() -> bytes:
    engine = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    engine.set_connect_state()
    with contextlib.suppress(SSL.WantReadError):
        engine.do_handshake()
    return engine.bio_read(4096)


@contextlib.contextmanager
def flood(port: int, each_second: int) -> Iterator[list[int]]:
    """So many callers a second from 127.0.0.1 that greet and then say no more; the list has one item for each."""
    stop, hello, sent = threading.Event(), client_hello(), list[int]()

    def run() -> None:
        held, due = list[socket.socket](), time.monotonic()
        while not stop.is_set():
            due += 1 / each_second
            with contextlib.suppress(OSError):
                held.append(socket.create_connection(("127.0.0.1", port), timeout=1))
                held[-1].sendall(hello)
                sent.append(1)
            if len(held) > 400:
                held.pop(0).close()
            time.sleep(max(0.0, due - time.monotonic()))
        for sock in held:
            sock.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield sent
    finally:
        stop.set()
        thread.join()


def gets_in(site: Site, listener: Listener) -> bool:
    """Whether an honest peer is let in within 5 seconds."""
    end = time.monotonic() + 5.0
    with contextlib.suppress(PPIRError):
        channel = connecting.connect(
            listener.address, load_or_create_identity(site.home), TrustStore(site.home), timeout=5.0
        )
        with channel:
            accepted = listener.accept(max(0.0, end - time.monotonic()))
            if accepted is not None:
                accepted.close()
                return True
    return False


@pytest.fixture
def from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The honest peer calls from another address than the flood."""
    try:
        socket.create_server(("127.0.0.2", 0)).close()
    except OSError:
        pytest.skip("this system has one loopback address")

    def dial(host: str, port: int, deadline: float, timeout: float, *_: object) -> socket.socket:
        left = max(0.1, deadline - time.monotonic())
        return socket.create_connection((host, port), left, source_address=("127.0.0.2", 0))

    monkeypatch.setattr(connecting, "dial", dial)


@pytest.mark.alone
@pytest.mark.usefixtures("from_elsewhere")
@pytest.mark.parametrize("tries", [5, pytest.param(20, marks=pytest.mark.long)])
def test_a_flood_of_greetings_keeps_out_nobody_else(tries: int, tmp_path: Path, record: Record) -> None:
    sites = make_sites(tmp_path, ("A", "B"))
    identity, trust = load_or_create_identity(sites["B"].home), TrustStore(sites["B"].home)
    found = []
    for quotas in (NO_QUOTAS, Quotas()):
        with Listener("127.0.0.1:0", identity, trust, quotas=quotas) as listener:
            assert gets_in(sites["A"], listener)
            with flood(listener.port, 200) as sent:
                assert wait_until(lambda: len(sent) > 100)
                found.append(sum(gets_in(sites["A"], listener) for _ in range(tries)))
    assert found[0] < tries, "without quotas the flood keeps it out at least once"
    assert found[1] == tries
    record(
        "200 TLS greetings a second from one address; another peer calls from another address",
        f"gets in within 5 s in {found[0]} of {tries} tries",
        f"in {found[1]} of {tries}",
    )


# ------------------------------------------------------------------------------- a trusted peer that takes all


def opens(channel: Channel) -> str:
    """What comes of an opening: 'opened', 'waiting' or the kind of the error."""
    channel.send("open", {**ASKED.to_dict(), "nonce": bytes(32)})
    message = channel.receive(SOON)
    return str(message.data["error"]) if message.kind == "error" else message.kind


def test_a_trusted_peer_has_its_sessions_and_places_and_no_more(tmp_path: Path, record: Record) -> None:
    sites = make_sites(tmp_path, ("A", "B", "C"))
    found = {}
    for name, options in (("unprotected", {"sessions_of_peer": 3}), ("ours", {})):
        with owner(sites["B"], shared(PHANTOM.on(GRID)), **options) as one, contextlib.ExitStack() as stack:
            held = [stack.enter_context(call(sites["A"], one.address)) for _ in range(6)]
            theirs = [opens(channel) for channel in held]
            found[name] = theirs, opens(stack.enter_context(call(sites["C"], one.address)))
    assert found["unprotected"] == (["opened"] * 3 + ["waiting"] * 2 + ["BusyError"], "waiting")
    assert found["ours"] == (["opened"] * 2 + ["waiting"] * 2 + ["BusyError"] * 2, "opened")
    record(
        "a trusted peer opens sessions and holds them", "all; the next peer waits", "all but one; the next is served"
    )


def test_a_trusted_peer_has_its_connections_and_no_more(tmp_path: Path, record: Record) -> None:
    sites = make_sites(tmp_path, ("A", "B", "C"))
    identity, trust = load_or_create_identity(sites["B"].home), TrustStore(sites["B"].home)
    most, found = 6, {}
    for name, quotas in (("unprotected", NO_QUOTAS), ("ours", Quotas(connections=3))):
        with Listener("127.0.0.1:0", identity, trust, quotas=quotas, max_connections=most) as listener:
            with contextlib.ExitStack() as stack:
                held = [stack.enter_context(call(sites["A"], listener.address)) for _ in range(most)]
                if name == "ours":
                    said = last_words(held[-1])
                    assert isinstance(said, BusyError) and "3 connections" in str(said) and "try again in" in str(said)
                    assert wait_until(lambda: listener._open == 3)
                found[name] = gets_in(sites["C"], listener)
            assert wait_until(lambda: listener._open == 0)
            assert gets_in(sites["A"], listener), "what was closed is free again"
    assert found == {"unprotected": False, "ours": True}
    assert Quotas().connections < 128, "of all"
    record("a trusted peer holds every connection", "the next peer is hung up on", "its quota; the next gets in")


class Caller:
    """A connection of a peer, as the dealer sees it."""

    def __init__(self, peer: str) -> None:
        self.peer_fingerprint, self.interrupted = peer, False

    def close(self, *_: Any) -> None: ...


def joins(dealing: Dealing, peer: str, other: str, session: int, role: int) -> Caller:
    caller = Caller(peer)
    data = {"session": bytes([session] * 32), "role": role, "other": other, "version": PROTOCOL_VERSION}
    dealing.open_session(caller, Message("join", data))  # type: ignore[arg-type]
    return caller


def test_a_peer_has_its_joins_at_the_dealer_and_no_more(record: Record) -> None:
    found = []
    for quota in (MAX_SESSIONS, JOINS_OF_A_PEER):
        dealing, held = Dealing(UnrecordedAudit(lambda event: None), quota), []
        for session in range(MAX_SESSIONS):
            with contextlib.suppress(DealerError):
                held.append(joins(dealing, "A", "nobody", session, 1))
        try:
            pair = [joins(dealing, *who, 99, role) for role, who in ((1, ("C", "D")), (2, ("D", "C")))]
        except DealerError as error:
            assert "try again in 60 seconds" in str(error)
            pair = []
        found.append((len(held), len(pair)))
        for caller in held:
            dealing.left(caller)  # type: ignore[arg-type]
        assert joins(dealing, "A", "nobody", 50, 1), "what was left is free again"
    assert found == [(MAX_SESSIONS, 0), (JOINS_OF_A_PEER, 2)]
    record("a site joins sessions at the dealer and waits", "all places; others are refused", "half; others are served")


# --------------------------------------------------------------------------------------------------- memory


def peak(work: Callable[[], Any]) -> int:
    """Bytes taken at most while it ran."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def announced(payload: int) -> bytes:
    head = msgpack.packb({"kind": "data", "seq": 0, "data": {}})
    return _PREFIX.pack(b"PPIR", 1, len(head), payload) + head


def read(content: bytes) -> None:
    at = memoryview(content)

    def read_into(view: memoryview) -> int:
        nonlocal at
        count = min(len(view), len(at))
        view[:count], at = at[:count], at[count:]
        return count

    with pytest.raises(PPIRError):
        FrameReader(read_into).next()


def test_what_is_announced_takes_no_room(record: Record) -> None:
    """The payload of a frame, and the lists within its header, 32 of them one in the other."""
    assert peak(lambda: read(announced(MAX_PAYLOAD))) < 300_000
    assert peak(lambda: read(announced(2**30))) < 300_000  # refused as too large
    nested = b"\xdc\x1f\xff" * 500
    header = b"\x83\xa4kind\xa1x\xa3seq\x00\xa4data\x81\xa1x" + nested
    unprotected = peak(lambda: _decoded(header)), peak(lambda: bytearray(MAX_PAYLOAD))
    ours = peak(lambda: read(_PREFIX.pack(b"PPIR", 1, len(header), 0) + header))
    assert min(unprotected) > 10e6 and ours < 1e6
    record(
        "a frame of 1.5 kB announces lists, or a payload, and nothing follows",
        f"{min(unprotected) / 1e6:.0f} MB taken",
        f"{ours / 1e6:.1f} MB",
    )


def _decoded(header: bytes) -> None:
    with pytest.raises(ValueError):
        msgpack.unpackb(header, max_array_len=8192)


def test_before_a_session_nothing_large_is_taken(tmp_path: Path) -> None:
    sites = make_sites(tmp_path, ("A", "B"))
    with owner(sites["B"], shared(PHANTOM.on(GRID))) as one, call(sites["A"], one.address) as channel:
        with contextlib.suppress(PPIRError):
            channel.send("info", {}, bytes(MAX_PAYLOAD))
        assert wait_until(lambda: one.told("session ended"))
        assert "payload has 16777216 bytes instead of at most 65536" in one.told("session ended")[0]["reason"]


def test_an_order_takes_no_room_before_it_fits() -> None:
    """A grid of 2^28 voxels in a hundred bytes, which the number of samples contradicts."""
    rows = [[size, 4, 0, 1, size, 0] for size in (1024, 512, 512)]

    def work() -> None:
        with pytest.raises(ProtocolError, match="does not fit the samples"):
            read_order({**ORDER, "knots": rows})

    assert peak(work) < 1e6
    by_sample = {"level": 0, "evaluation": 0, "samples": 2**28, "vectors": 2, "columns": 64, "operand": "B"}
    with pytest.raises(ProtocolError, match="not dealt"):
        read_order({**by_sample, "by_sample": True})


def test_large_orders_are_worked_on_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what a dealer takes does not grow with its sessions; a small one does not wait for them."""
    monkeypatch.setattr("PPIRLogic.registration.dealer.dealer.LARGE", 100)
    dealing = Dealing(UnrecordedAudit(lambda event: None))
    session = DealerSession(dealing, Caller("A"), Joined((bytes(32), bytes(32))), 1, b"")  # type: ignore[arg-type]
    small, large = (read_order({**ORDER, "samples": samples}) for samples in (99, 100))
    with session._place_for(large):
        with session._place_for(small):
            dealing.stopping.set()
        with pytest.raises(DealerError, match="stopped"), session._place_for(large):
            pass
    with session._place_for(large):
        pass


def test_twelve_questions_at_once_read_an_image_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    """What recognises an image is computed once, over a slice at a time."""
    calls, former = [], FixedImage.identifier

    def counted(self: FixedImage, key: bytes) -> str:
        calls.append(1)
        return former(self, key)

    monkeypatch.setattr(FixedImage, "identifier", counted)
    sites = make_sites(tmp_path, ("A", "B"))
    volume = Volume(np.random.default_rng(1).random((64, 128, 128), np.float32), Geometry(
        (128, 128, 64), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel().tolist())))  # fmt: skip
    image = shared(volume)
    with owner(sites["B"], image) as one, contextlib.ExitStack() as stack:
        channels = [stack.enter_context(call(sites["A"], one.address)) for _ in range(12)]

        def ask(channel: Channel) -> None:
            channel.send("info", {})
            assert answer(channel, "info").data["images"][0]["name"] == "fixed"

        def all_at_once() -> None:
            threads = [threading.Thread(target=ask, args=(c,)) for c in channels]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        taken = peak(all_at_once)
        assert len(one.told("info")) == 12
    size = volume.array.nbytes
    unprotected = peak(lambda: [volume.array.tobytes() for _ in range(12)])  # 12 connections, a copy each
    assert calls == [1] and taken < size / 4
    assert peak(lambda: former(image.image, bytes(32))) < size / 4  # type: ignore[arg-type]
    assert unprotected > 11 * size
    record("12 connections ask for the offers at once", "12 copies of the image", f"{taken / size:.1f} copies")


# ----------------------------------------------------------------------------------------------------- disk


@contextlib.contextmanager
def serving(home: Path) -> Iterator[ServingSite]:
    identity = load_or_create_identity(home)
    site = ServingSite(identity, home, [shared(PHANTOM.on(GRID))], 1, lambda event: None, None)
    try:
        yield site
    finally:
        site.close()


def bytes_on_disk(folder: Path) -> int:
    """As the file system counts, in whole blocks of 4096."""
    return sum(-(-f.stat().st_size // 4096) * 4096 for f in folder.rglob("*") if f.is_file())


def abandon(site: ServingSite, count: int) -> int:
    """Sessions of ten peers, opened and left; bytes more on disk."""
    before = bytes_on_disk(site.home)
    for number in range(count):
        peer = f"PEER{number % 10}"
        name = f"{number:016x}"
        site.log("info", peer=peer)
        site.unfinished.begin(name, peer, site.image_id("fixed"), ASKED, LEVELS)
        site.log("session", session=name, peer=peer, **ASKED.to_dict())
        site.log("session ended", reason="PeerError: A was lost", peer=peer)
    return bytes_on_disk(site.home) - before


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.long)])
def test_abandoned_sessions_do_not_fill_the_disk(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    """10 000 leave less than 1 MB, whatever their number; what a hostile peer leaves costs others nothing of theirs."""
    monkeypatch.setattr("os.fsync", lambda file: None)  # the size is the point, not the seconds
    with serving(tmp_path / "ours") as site:
        ours = abandon(site, count)
        site.unfinished.begin("f" * 16, "HONEST", site.image_id("fixed"), ASKED, LEVELS)
        for number in range(unfinished_sessions.MAX_UNFINISHED + 10):
            site.unfinished.begin(f"{number:08x}" * 2, f"PEER{number % 10}", "image", ASKED, LEVELS)
        assert site.unfinished.granted("f" * 16, "HONEST", site.image_id("fixed"), ASKED) is not None
    assert ours < 1_000_000 if count > 200 else ours < 800_000
    monkeypatch.setattr(serving_site, "ENTRIES", MANY)
    monkeypatch.setattr(unfinished_sessions, "MAX_UNFINISHED", MANY)
    monkeypatch.setattr(unfinished_sessions, "MAX_UNFINISHED_OF_PEER", MANY)
    with serving(tmp_path / "unprotected") as site:
        unprotected = abandon(site, 100) / 100 * count
    assert unprotected > 4096 * count
    record(f"{count} sessions are opened and left", f"{unprotected / 1e6:.0f} MB on disk", f"{ours / 1e6:.2f} MB")


def test_a_session_that_opened_nothing_leaves_no_ledger(tmp_path: Path) -> None:
    sites = make_sites(tmp_path, ("A", "B"))
    with owner(sites["B"], shared(PHANTOM.on(GRID))) as one:
        for _ in range(5):
            with call(sites["A"], one.address) as channel:
                assert opens(channel) == "opened"
        assert wait_until(lambda: len(one.told("session ended")) == 5)
        assert not list((one.home / "ledger").glob("sessions/*"))
        assert len(list((one.home / "ledger" / "unfinished").iterdir())) == 5


def test_unfinished_sessions_expire_by_the_first_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that calls again and again prolongs nothing, and the file goes even if nobody opens another session."""
    with serving(tmp_path) as site:
        grant = site.unfinished.begin("a" * 16, "A", "image", ASKED, LEVELS)
        for _ in range(20):
            grant = site.unfinished.go_on("a" * 16, "A", "image", ASKED, grant)
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + unfinished_sessions.GRANT_SECONDS + 1)
        assert site.unfinished.granted("a" * 16, "A", "image", ASKED) is None
        site.tidy()
        assert not list(site.unfinished.folder.iterdir())


def lines_of(site_home: Path, event: str) -> list[str]:
    return [line for line in (site_home / "audit.jsonl").read_text().splitlines() if f'"{event}"' in line]


def test_questions_and_refusals_do_not_fill_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    """Every question is on record, by the peer that asked: a line, or a count in a later one."""
    monkeypatch.setattr("os.fsync", lambda file: None)
    found = []
    for name, entries in (("unprotected", MANY), ("ours", serving_site.ENTRIES)):
        monkeypatch.setattr(serving_site, "ENTRIES", entries)
        with serving(tmp_path / name) as site:
            for _ in range(2000):
                site.log("info", peer="A", peer_name="A")
        rows = [_row(line) for line in lines_of(tmp_path / name, "info")]
        assert sum(1 + row.get("repeated", 0) for row in rows) in (2000, 2001)  # the last counts those before it
        assert all(row["peer"] == "A" and row["time"] > 0 for row in rows)
        found.append(len(rows))
    assert found[0] == 2000 and found[1] <= serving_site.ENTRIES + 1
    refused: list[dict[str, Any]] = []
    refusals = Refusals(UnrecordedAudit(refused.append))
    for number in range(2000):
        refusals.log(f"[2001:db8:0:{number % 500:x}::{number:x}]:99", "nobody")
    assert len(refused) == LINES[0]
    monkeypatch.setattr(refusals, "_of_all", RateLimit(*LINES))  # some time later
    refusals.tidy()
    assert refused[-1]["reason"] == f"{2000 - LINES[0]} more callers"
    record("2000 questions of a trusted peer", f"{found[0]} lines in the log", f"{found[1]} lines, with the count")


def _row(line: str) -> dict[str, Any]:
    return dict(json.loads(line))


def test_a_peer_that_asks_too_often_is_told_when_to_ask_again(tmp_path: Path) -> None:
    sites = make_sites(tmp_path, ("A", "B", "C"))
    with owner(sites["B"], shared(PHANTOM.on(GRID))) as one:
        with call(sites["A"], one.address) as channel:
            for _ in range(INFOS + 20):
                with contextlib.suppress(PPIRError):
                    channel.send("info", {})
                    channel.receive(SOON)
            said = last_words(channel)
        assert isinstance(said, BusyError) and "ask again in 1 second" in str(said)
        with call(sites["C"], one.address) as channel:
            channel.send("info", {})
            answer(channel, "info")


# ---------------------------------------------------------------------------------------------------- names


def test_peers_never_see_the_name_of_a_file(tmp_path: Path, record: Record) -> None:
    """Not as what is offered, and not in what is said of the image."""
    file = save(PHANTOM.on(GRID), tmp_path / "Mustermann_Erika_1960.nrrd")
    options = {"fixed": [file], "points": [], "name": [], "mask": [], "subject": [], "allow": [], "dealer": ""}
    arguments = parse(["serve", str(file), "--home", str(tmp_path / "home"), "--json"])
    assert vars(arguments).items() >= {k: v for k, v in options.items() if k != "fixed"}.items()
    (one,) = serve_command._shared_images(arguments)
    former = file.resolve().name.strip(".").split(".")[0]
    assert one.image.name == "image-1" and one.image.volume.name == "image-1"
    assert former == "Mustermann_Erika_1960"
    record("the name under which an image is offered, if its owner gave none", f"'{former}'", "'image-1'")
