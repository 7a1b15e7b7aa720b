"""What is fuzzed: every place where a message of another site is taken in, each as a target with seeded cases.

A case ends with a word for its outcome ('accepted' or the name of a PPIRError); every other exception is a finding.
The handlers are the real ones, fed by a scripted channel in place of a socket; `Sockets` uses real ones.
"""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import socket
from collections import deque
from collections.abc import Callable
from typing import Any
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fuzz_mutation import bomb, changed_bytes, changed_conversation, changed_map
from fuzz_subjects import ENDLESS, SUBJECTS, Conversations, Subject, more_of, offered
from system_support import call, owner, rows_of

from PPIRLogic.cli.main import build_parser, work_of
from PPIRLogic.disclosure.chain_check import GRANTS
from PPIRLogic.disclosure.counted_channel import NUMBER_BYTES
from PPIRLogic.errors import InputError, PeerError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.local_processes import Site
from PPIRLogic.network.channel import FrameReader, Message, Quotas, encode_head
from PPIRLogic.network.channel.handshake import make_engine
from PPIRLogic.network.channel.peer_certificate import CertificateCheck
from PPIRLogic.network.channel.timed_socket import ConnectionEnded
from PPIRLogic.network.channel.tls import Tls
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.messages import error_from
from PPIRLogic.network.service import UnrecordedAudit
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.points.pointset import PointLayout
from PPIRLogic.registration.control_points import ControlPointMap
from PPIRLogic.registration.dealer.dealer import DealerSession, Joined
from PPIRLogic.registration.dealer.dealer import Dealing as DealingMethod
from PPIRLogic.registration.dealer.orders import Order, read_order
from PPIRLogic.registration.names import FACTORS
from PPIRLogic.registration.party1.session import ClientSession
from PPIRLogic.registration.party2.server import Server
from PPIRLogic.registration.request import LevelGrant, Offer, Peer, Request
from PPIRLogic.secure.layout import CHUNK
from PPIRLogic.secure.mpc.triple_products import Factored

SWEEP = 200  # cases after which a target's files are thrown away


ANYTHING = [LevelGrant(f, 1, 10**6, 10**4, 0) for f in FACTORS]


class Scripted:
    """A channel whose other side says what is written down, whatever it hears, and is gone after that."""

    authority = known_as = ""
    peer_name, address, claimed_name, bytes_sent, bytes_received = "peer", "scripted:1", "peer", 0, 0

    def __init__(self, messages: list[Message], fingerprint: str) -> None:
        self._waiting, self.peer_fingerprint = deque(messages), fingerprint
        self.sent: list[tuple[str, bytes]] = []
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.closing_message: Message | None = None
        self._over = False

    @property
    def interrupted(self) -> bool:
        return self._over or self.closing_message is not None

    def still_trusted(self) -> bool:
        return True

    def accept_payloads(self, largest: int) -> None: ...

    def check(self) -> None:
        if self.interrupted:
            raise PeerError("the script is over")

    def send(self, kind: str, data: dict[str, Any] | None = None, payload: Any = b"") -> None:
        encode_head(kind, len(self.sent), data or {}, memoryview(payload).nbytes)
        self.sent.append((kind, bytes(payload)))
        self.said.append((kind, data or {}))

    def receive(self, timeout: float) -> Message:
        if not self._waiting or self._over:
            self._over = True
            raise PeerError("the script is over")
        message = self._waiting.popleft()
        if message.kind in ("bye", "error"):
            self.closing_message, self._over = message, True
        return message

    def close(self, kind: str = "bye", data: dict[str, Any] | None = None) -> None:
        encode_head(kind, len(self.sent), data or {}, 0)
        self._over = True


class Target:
    """`case` runs one case and says how it ended; `close` gives everything back. `share`: of all cases."""

    name = ""
    share = 0.0

    def case(self, draw: random.Random) -> str:
        raise NotImplementedError

    def close(self) -> None:
        pass


# ---------------------------------------------------------------------------------------------- bytes and maps


class Frames(Target):
    """Bytes on an open connection: valid streams of frames, damaged; bombs; noise."""

    name = "frames (prefix, msgpack header, payload)"
    share = 0.52

    def __init__(self, recorded: Conversations) -> None:
        self._streams = []
        for conversations in recorded.values():
            small = [Message(m.kind, m.data, bytes(m.payload[:64])) for m in conversations[0]]
            encoded = [encode_head(m.kind, i, m.data, len(m.payload)) + bytes(m.payload) for i, m in enumerate(small)]
            self._streams += [encoded[i : i + 3] for i in range(0, len(encoded), 3)]

    def case(self, draw: random.Random) -> str:
        if draw.random() < 0.3:
            header = bomb(draw)
            stream = b"PPIR\x01" + len(header).to_bytes(4, "big") + bytes(4) + header
            stream = changed_bytes(draw, stream) if draw.random() < 0.2 else stream
        else:
            parts = list(draw.choice(self._streams))
            if draw.random() < 0.2:
                draw.shuffle(parts)
            stream = changed_bytes(draw, b"".join(parts))
        at = 0

        def read_into(view: memoryview) -> int:
            nonlocal at
            part = stream[at : at + min(len(view), 4096)]
            view[: len(part)] = part
            at += len(part)
            return len(part)

        reader = FrameReader(read_into)
        while reader.next() is not None:
            pass
        return "accepted"


class Maps(Target):
    """The checked values made of a message's map."""

    name = "messages (Request, LevelGrant, Offer, Geometry, Order, ControlPointMap, error)"
    share = 0.4

    def __init__(self, recorded: Conversations) -> None:
        to_1 = [m for c in recorded["fhe", "2 to 1"] for m in c]
        order = next(m.data for m in recorded["mpc", "1 to dealer"][0] if m.kind == "order")
        images = next(m.data["images"] for m in to_1 if m.kind == "info")
        grants = next(m.data["levels"] for m in to_1 if m.kind == "opened")
        opening = next(m.data for m in recorded["fhe", "1 to 2"][0] if m.kind == "open")
        points = next(m.data["points"] for m in to_1 if m.kind == "info")
        rounds = [m.data for m in recorded["cc, mpc", "1 to dealer"][0] if m.kind == "order"]
        force = next(r for r in rounds if r["cc"] == "force")

        def geometry(data: Any) -> None:
            with contextlib.suppress(InputError):
                Geometry.from_dict(data)

        self._makers: tuple[tuple[Callable[[Any], Any], Any], ...] = (
            (Request.from_dict, opening), (LevelGrant.from_dict, grants[0]),
            (lambda d: Offer.from_dict(d, ClientSession._read_geometry), images[0]),
            (lambda d: Offer.from_dict(d, PointLayout.from_dict, "point set"), points[0]),
            (geometry, images[0]["geometry"]), (Order.from_dict, order), (read_order, rounds[0]), (read_order, force),
            (lambda d: ControlPointMap.from_wire(d.get("knots")), {"knots": force["knots"]}),
            (Factored.from_dict, Factored(0, 0, CHUNK, 8, 2, "B").to_dict()),
            (lambda d: error_from(Message("error", d)), {"error": "PeerError", "text": "why"}),
        )  # fmt: skip

    def case(self, draw: random.Random) -> str:
        make, valid = draw.choice(self._makers)
        make(changed_map(draw, valid))
        return "accepted"


# --------------------------------------------------------------------------------------------------- handlers


class Party2(Target):
    """`Server` with whole sessions of party 1 (and of the dealer), damaged. No number may leave uncounted."""

    def __init__(self, subject: Subject, recorded: Conversations, site: Site, peer: str) -> None:
        self._protocol = subject.engine
        self.name = f"party 2, {subject.name}: sessions of party 1" + (" and the dealer" * self._protocol.dealer)
        self.share = subject.shares[0]
        self._said = more_of(subject.name, "1 to 2", recorded)
        self._foreign = [c for (_, way), cs in recorded.items() for c in cs if way in ("1 to 2", "2 to 1")]
        self._dealt = recorded.get((subject.name, "dealer to 2"), [])
        self._site, self._peer, self._image, self._cases = site, peer, subject.image, 0
        self._server = self._start()

    def _start(self) -> Server:
        shutil.rmtree(self._site.home / "ledger", ignore_errors=True)
        (self._site.home / "audit.jsonl").unlink(missing_ok=True)
        self.events: list[dict[str, Any]] = []
        identity = load_or_create_identity(self._site.home)
        images = offered("dealer:1", "")
        with mock.patch("PPIRLogic.network.service.INFOS", 10**9):  # quotas have tests of their own
            return Server("127.0.0.1:0", identity, self._site.home, images, threads=1, on_event=self.events.append)

    def _permitted(self, draw: random.Random, said: list[Message]) -> list[Message]:
        """Half of the sessions that go on for another one may: that one was granted and has not ended."""
        opening = next(m.data for m in said if m.kind == "open")
        if "resumes" in opening and draw.random() < 0.5:
            request = Request.from_dict(opening)
            name = opening["resumes"].hex()[:16]
            self._server.site.unfinished.begin(
                name, self._peer, self._server.site.image_id(self._image), request, ANYTHING
            )
            anew = {"time": 0, "session": name, "losses": 0}  # outside of a test no two sessions have one name
            self._server.site.records.append(self._site.home / GRANTS, anew)
        return said

    def _spent(self) -> int:
        """Over all that is shared: a damaged request may ask for another image."""
        accounts, ids = self._server.site.accounts, map(self._server.site.image_id, self._server.site.shared)
        return sum(accounts.account(self._peer, image, ENDLESS).total for image in ids)

    def case(self, draw: random.Random) -> str:
        self._cases += 1
        if self._cases % SWEEP == 0:
            self._server.stop()
            self._server = self._start()
        said = self._permitted(draw, draw.choice(self._said))
        channel = Scripted(changed_conversation(draw, said, self._foreign), self._peer)
        dealt = draw.choice(self._dealt) if self._dealt else []
        if dealt and draw.random() < 0.5:
            dealt = changed_conversation(draw, dealt, self._dealt)
        self._server.site.failures.lift(self._peer)  # by a person; blocked peers have tests of their own
        before, told = self._spent(), len(self.events)
        with mock.patch("PPIRLogic.registration.dealer.joining.connect", lambda *_, **__: Scripted(list(dealt), "D")):
            self._server.serve_connection(channel)  # type: ignore[arg-type]
        answers = {payload for kind, payload in channel.sent if kind == "answer"}
        left = sum(map(len, answers)) // self._protocol.answer_bytes
        assert not self._protocol.counted or self._spent() - before >= left, "answered, not counted"
        ended = [e for e in self.events[told:] if e["event"] == "session ended"]
        return str(ended[-1]["reason"]).split(":")[0] if ended else "accepted"

    def close(self) -> None:
        self._server.stop()


class Party1(Target):
    """`register` against a party 2 (and a dealer) that says what it should not."""

    def __init__(self, subject: Subject, recorded: Conversations, site: Site) -> None:
        self._subject, dealer = subject, subject.engine.dealer
        self.name = f"party 1, {subject.name}: answers of party 2" + (" and the dealer" * dealer)
        self.share = subject.shares[1]
        self._said = more_of(subject.name, "2 to 1", recorded)
        self._foreign = [c for (_, way), cs in recorded.items() for c in cs if way in ("1 to 2", "2 to 1")]
        self._dealt = recorded.get((subject.name, "dealer to 1"), [])
        self._site, self._cases = site, 0
        self._peer = Peer("scripted:1", "", "dealer:1" if self._dealt else "", "")
        heads = [m.data["head"] for c in self._said for m in c if m.kind == "finished" and "head" in m.data]
        self._signer = heads[0]["site"] if heads else "B"  # who signed what was recorded

    @staticmethod
    def _reconnect(draw: random.Random) -> float:
        """Mostly none; sometimes so little that one more call is made, to hear the same story again."""
        return 1e-9 if draw.random() < 0.2 else 0.0

    def case(self, draw: random.Random) -> str:
        self._cases += 1
        if self._cases % SWEEP == 0:
            shutil.rmtree(self._site.home / "ledger", ignore_errors=True)
            (self._site.home / "audit.jsonl").unlink(missing_ok=True)  # lines of one chain
        said = changed_conversation(draw, draw.choice(self._said), self._foreign)
        dealt = draw.choice(self._dealt) if self._dealt else []
        if dealt and draw.random() < 0.3:
            dealt = changed_conversation(draw, dealt, self._dealt)
        channels: list[Scripted] = []

        def connect(*_: Any, **__: Any) -> Scripted:
            channels.append(Scripted(list(said), self._signer))
            return channels[-1]

        try:
            with (
                mock.patch("PPIRLogic.registration.party1.session.connect", connect),
                mock.patch(
                    "PPIRLogic.registration.dealer.joining.connect", lambda *_, **__: Scripted(list(dealt), "D")
                ),
            ):
                return self._subject.call(self._peer, self._site, reconnect=self._reconnect(draw))
        finally:
            self._check_given([payload for c in channels for kind, payload in c.sent if kind == "answer"])

    def _check_given(self, answers: list[bytes]) -> None:
        """Where the other image moves, too, party 1 tells numbers as well: only such as are on its record."""
        if not answers or not self._subject.engine.counted:
            return
        newest = max((self._site.home / "ledger" / "sessions").glob("*.jsonl"), key=lambda p: p.stat().st_mtime_ns)
        given = sum(row["numbers"] for row in rows_of(newest)[1:] if row["to"] == "party 2")
        assert given * NUMBER_BYTES >= sum(map(len, answers)), "given, not counted"


ESTIMATES = (
    "--loss ncc", "--loss mi", "--transform bspline --grid-spacing 20", "--transform diffeo --loss lncc --stride 2",
    "--transform diffeo --loss cc --protocol mpc --stride 2", "--points",
)  # fmt: skip


class Offers(Target):
    """`ppir estimate` with a damaged list of what a peer offers; nothing but plain text may reach the terminal."""

    name = "ppir estimate: what a peer offers"
    share = 0.005

    def __init__(self, recorded: Conversations, site: Site) -> None:
        self._offered = next(m for m in recorded["fhe", "2 to 1"][0] if m.kind == "info")
        self._others, self._site = [[m] for m in recorded["fhe", "2 to 1"][0]], site

    def case(self, draw: random.Random) -> str:
        words = ["estimate", "peer:1", "--home", str(self._site.home), *draw.choice(ESTIMATES).split()]
        words += ["--image", "points" if "--points" in words else draw.choice(("fixed", "wide"))]
        a = build_parser().parse_args(words + ["--json"] * (draw.random() < 0.3))
        said = [self._damaged(draw)] * 4  # it asks for images and points, to list them and to choose
        said = changed_conversation(draw, said, self._others) if draw.random() < 0.2 else said
        shown = io.StringIO()
        with (
            mock.patch("PPIRLogic.registration.party1.session.connect", lambda *_, **__: Scripted(said, "B")),
            contextlib.redirect_stdout(shown),
        ):
            work_of(a)(a)
        assert all(line.isprintable() for line in shown.getvalue().splitlines()), "control characters of a peer's"
        return "accepted"

    def _damaged(self, draw: random.Random) -> Message:
        """Mostly one offer of them all: what it is asked for is among them."""
        lists = {**self._offered.data, **{kind: list(self._offered.data[kind]) for kind in ("images", "points")}}
        if draw.random() < 0.1:
            return Message("info", changed_map(draw, lists))
        offers = lists[draw.choice(("images", "images", "points"))]
        at = draw.randrange(len(offers))
        offers[at] = changed_map(draw, offers[at])
        if draw.random() < 0.5 and isinstance(offers[at].get("geometry"), dict):
            offers[at]["geometry"] = changed_map(draw, offers[at]["geometry"])
        return Message("info", lists)


class Dealing(Target):
    """The dealer with damaged orders of party 1, and damaged joins of either party."""

    name = "dealer: joins and orders"
    share = 0.03

    def __init__(self, recorded: Conversations, site: Site) -> None:
        under = [s.name for s in SUBJECTS if s.engine.dealer]
        self._orders = [c[1:] for name in under for c in recorded[name, "1 to dealer"]]
        self._joins = [c[0] for n in under for way in ("1 to dealer", "2 to dealer") for c in recorded[n, way]]
        self._foreign = [*self._orders, *recorded["fhe", "1 to 2"]]
        self._dealing = DealingMethod(UnrecordedAudit(lambda event: None))

    def case(self, draw: random.Random) -> str:
        if draw.random() < 0.3:
            join = draw.choice(self._joins)
            channel = Scripted([Message(join.kind, changed_map(draw, join.data)), Message("bye")], "A")
            self._dealing.open_session(channel, channel.receive(1))  # type: ignore[arg-type]
            self._dealing.left(channel)  # type: ignore[arg-type]
            return "accepted"
        session = Joined((bytes(32), bytes(32)))
        channel = Scripted(changed_conversation(draw, draw.choice(self._orders), self._foreign), "A")
        session.channels = {1: channel, 2: Scripted([], "B")}  # type: ignore[dict-item]
        with mock.patch("PPIRLogic.registration.dealer.dealer.ORDER_TIMEOUT", 0.5):
            DealerSession(self._dealing, channel, session, 1, b"").deal()  # type: ignore[arg-type]
        return "accepted"


# -------------------------------------------------------------------------------------------------------- TLS


class _Tape:
    """A wire that plays bytes and keeps what is written."""

    deadline: float | None = None
    sent = 0

    def __init__(self, content: bytes) -> None:
        self._content, self.received, self.written = content, 0, b""

    def read_into(self, view: memoryview) -> int:
        part = self._content[: len(view)]
        view[: len(part)] = part
        self._content = self._content[len(part) :]
        self.received += len(part)
        return len(part)

    def write(self, *parts: memoryview) -> None:
        self.written += b"".join(parts)

    def finish(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


class Handshake(Target):
    """The TLS port: damaged greetings of a TLS client, and noise."""

    name = "TLS handshake of the listener"
    share = 0.01

    def __init__(self, site: Site, other: Site) -> None:
        self._identity, self._trust = load_or_create_identity(site.home), TrustStore(site.home)
        client = make_engine(load_or_create_identity(other.home), TrustStore(other.home), CertificateCheck(
            TrustStore(other.home), None, None))  # fmt: skip
        client.set_connect_state()
        tape = _Tape(b"")
        with contextlib.suppress(ConnectionEnded):
            Tls(tape, client).handshake()  # type: ignore[arg-type]
        self.greeting = tape.written

    def case(self, draw: random.Random) -> str:
        noise = draw.random() < 0.2
        content = draw.randbytes(draw.randrange(400)) if noise else changed_bytes(draw, self.greeting)
        check = CertificateCheck(self._trust, None, None)
        engine = make_engine(self._identity, self._trust, check)
        engine.set_accept_state()
        link = Tls(_Tape(content), engine)  # type: ignore[arg-type]
        try:
            link.handshake()
        except ConnectionEnded as ended:
            assert not check.accepted
            return f"hung up on ({ended.why})"
        raise AssertionError("a handshake without a key")


class Certificates(Target):
    """The check of certificates with damaged certificates of a trusted and of an unknown peer."""

    name = "certificates"
    share = 0.03

    def __init__(self, site: Site, other: Site, stranger: Site) -> None:
        self._trust, self._good = TrustStore(site.home), other.fingerprint
        homes = (other.home, stranger.home)
        pems = [x509.load_pem_x509_certificate((h / "identity" / "certificate.pem").read_bytes()) for h in homes]
        self._shown = [p.public_bytes(Encoding.DER) for p in pems]

    def case(self, draw: random.Random) -> str:
        shown = changed_bytes(draw, draw.choice(self._shown))

        class Shown:
            def to_cryptography(self) -> x509.Certificate:
                return x509.load_der_x509_certificate(shown)

        check = CertificateCheck(self._trust, None, None)
        accepted = check.judge(None, Shown(), draw.choice((0, 9, 10, 18, 20)), 0, int(draw.random() < 0.5))
        assert not accepted or check.fingerprint == self._good, "a stranger is accepted"
        assert check.refusal.isprintable()
        return "accepted" if accepted else "refused"


class Sockets(Target):
    """A real server over real sockets: noise and damaged TLS from strangers, damaged frames from a trusted peer."""

    name = "real sockets: noise at the TLS port, damaged frames of a trusted peer"
    share = 0.002

    def __init__(self, recorded: Conversations, site: Site, other: Site, greeting: bytes) -> None:
        self._stack = contextlib.ExitStack()
        self._served = self._stack.enter_context(
            owner(site, *offered("", ""), threads=1, quotas=Quotas(greetings=10**9))
        )
        self._other, self._greeting = other, greeting
        self._said = [c for (_, way), cs in recorded.items() for c in cs if way == "1 to 2"]

    def case(self, draw: random.Random) -> str:
        if draw.random() < 0.5:
            host, port = self._served.address.split(":")
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=20) as sock:
                noise = draw.random() < 0.5
                sock.sendall(draw.randbytes(draw.randrange(1, 300)) if noise else changed_bytes(draw, self._greeting))
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(4096):
                    pass
            return "hung up on"
        said = changed_conversation(draw, draw.choice(self._said), self._said)
        with call(self._other, self._served.address) as channel:
            for message in said[: draw.randint(1, max(1, len(said)))]:
                if draw.random() < 0.2:
                    content = encode_head(message.kind, channel._next_number, message.data, len(message.payload))
                    channel._link.write(memoryview(changed_bytes(draw, content + bytes(message.payload[:100]))))
                    break
                channel.send(message.kind, message.data, message.payload)
                channel.receive(0.01) if draw.random() < 0.3 else None
        assert not self._served.told("session failed")
        return "accepted"

    def close(self) -> None:
        self._stack.close()
