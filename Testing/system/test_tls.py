"""Two sites and their enemies over real sockets: who gets in, who does not, and what everybody is told."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from PPIRLogic.errors import IdentityError, InputError, PeerError, ProtocolError, TrustError
from PPIRLogic.network.channel import MAX_PAYLOAD, Channel, Listener, connect, encode_head
from PPIRLogic.network.identity import Identity, load_or_create_identity, load_private_key
from PPIRLogic.network.trust import TrustStore


class Site:
    def __init__(self, home: Path, name: str) -> None:
        self.home = home
        self.identity: Identity = load_or_create_identity(home, name)
        self.trust = TrustStore(home)
        self.refused: list[str] = []

    def trusts(self, *others: Site) -> None:
        for other in others:
            self.trust.add(other.identity.fingerprint, other.identity.name)

    def listen(self, **options: Any) -> Listener:
        options = {"on_refused": lambda _where, reason: self.refused.append(reason)} | options
        return Listener("127.0.0.1:0", self.identity, self.trust, **options)

    def call(self, address: str, **options: Any) -> Channel:
        return connect(address, self.identity, self.trust, **({"timeout": 5.0} | options))


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert wait_for(lambda: set(threading.enumerate()) <= before), threading.enumerate()


@pytest.fixture
def sites(tmp_path: Path) -> tuple[Site, Site, Site]:
    """A and B trust each other; nobody knows the stranger, who trusts everybody."""
    a, b, stranger = (Site(tmp_path / name, name) for name in ("A", "B", "stranger"))
    a.trusts(b)
    b.trusts(a)
    stranger.trusts(a, b)
    return a, b, stranger


def wait_for(condition: Callable[[], Any], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(condition())


@contextlib.contextmanager
def joined(caller: Site, server: Site, **options: Any) -> Iterator[tuple[Channel, Channel]]:
    """A channel between two sites, the caller's end first."""
    with server.listen(**options) as listener, caller.call(listener.address, **options) as one:
        two = listener.accept(5)
        assert two is not None
        with two:
            yield one, two


@contextlib.contextmanager
def plain_server(behaviour: Callable[[socket.socket], None]) -> Iterator[str]:
    """A TCP server without TLS that treats one caller by `behaviour`."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                caller, _ = server.accept()
                with caller:
                    behaviour(caller)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)


def reissue(site: Site, *, start: int, end: int, issuer: tuple[x509.Name, Any] | None = None, dns: str = "x") -> None:
    """Give the site a certificate for its own key, valid from `start` to `end` days from now."""
    key = load_private_key(site.identity.key_file)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site.identity.name)])
    issuer_name, issuer_key = issuer or (subject, key)
    certificate = certificate_for(key.public_key(), subject, issuer_name, issuer_key, start, end, False, dns)
    site.identity.certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))


def certificate_for(
    public: Any, subject: x509.Name, issuer: x509.Name, key: Any, start: int, end: int, ca: bool, dns: str
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number())
    builder = builder.not_valid_before(now + timedelta(days=start)).not_valid_after(now + timedelta(days=end))
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(dns)]), critical=False)
    return builder.sign(key, hashes.SHA256())


def authority(path: Path) -> tuple[x509.Name, Any]:
    """An institution's authority: its certificate in `path`, its name and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Institution")])
    certificate = certificate_for(key.public_key(), name, name, key, -1, 30, True, "ca")
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return name, key


def plain_tls(site: Site | None, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """The standard library's TLS client, which accepts any server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = maximum
    if site is not None:
        context.load_cert_chain(site.identity.certificate_file, site.identity.key_file)
    return context


def knock(context: ssl.SSLContext, listener: Listener) -> bytes:
    """Greet the listener with the standard library's TLS; returns what it says first."""
    with socket.create_connection(("127.0.0.1", listener.port), timeout=5) as sock, context.wrap_socket(sock) as tls:
        return tls.recv(1000)


# ------------------------------------------------------------------------------------------- those who get in


def test_two_sites_talk(sites: tuple[Site, Site, Site]) -> None:
    a, b, _ = sites
    with joined(a, b) as (one, two):
        assert (one.peer_name, two.peer_name) == ("B", "A")
        assert (one.peer_fingerprint, two.peer_fingerprint) == (b.identity.fingerprint, a.identity.fingerprint)
        assert one.claimed_name == "B"
        assert one.still_trusted() and two.still_trusted()
        content = os.urandom(3_000_001)
        one.send("ask", {"n": 1}, content)
        message = two.receive(10)
        assert (message.kind, message.data, message.payload) == ("ask", {"n": 1}, content)
        two.send("answer", {}, message.payload)
        assert one.receive(10).payload == content
        one.close()
        assert two.receive(5).kind == "bye"
    assert one.bytes_sent == two.bytes_received > len(content)
    assert one.bytes_received == two.bytes_sent > len(content)
    assert b.refused == []


def test_both_directions_at_once(sites: tuple[Site, Site, Site]) -> None:
    a, b, _ = sites
    content = os.urandom(4_000_000)
    with joined(a, b) as ends:

        def pump(end: Channel) -> None:
            for _ in range(6):
                end.send("k", {}, content)

        threads = [threading.Thread(target=pump, args=(end,)) for end in ends]
        for thread in threads:
            thread.start()
        for _ in range(6):
            for end in ends:
                assert end.receive(10).payload == content
        for thread in threads:
            thread.join(5)


def test_the_expected_fingerprint_lets_in(sites: tuple[Site, Site, Site]) -> None:
    a, b, _ = sites
    with b.listen() as listener, a.call(listener.address, expected_fingerprint=b.identity.fingerprint.lower()) as one:
        assert one.peer_name == "B"


def test_revocation_is_visible_during_a_run(sites: tuple[Site, Site, Site]) -> None:
    a, b, _ = sites
    with b.listen() as listener:
        with a.call(listener.address) as one:
            TrustStore(a.home).remove("B")
            assert not a.trust.is_trusted(one.peer_fingerprint)
            assert not one.still_trusted()
            one.check()
        with pytest.raises(TrustError, match="ppir trust add"):
            a.call(listener.address)


def test_a_renewed_certificate_is_the_same_peer(sites: tuple[Site, Site, Site]) -> None:
    a, b, _ = sites
    reissue(b, start=-1, end=5)
    with joined(a, b) as (one, _two):
        assert one.peer_name == "B"


def test_an_authority_lets_in_whom_it_certified(sites: tuple[Site, Site, Site], tmp_path: Path) -> None:
    a, b, stranger = sites
    issuer = authority(tmp_path / "ca.pem")
    (a.home / "trust.json").unlink()  # nobody was removed by name: that would stay, whoever vouches
    a.trust.add_authority(tmp_path / "ca.pem", "Institution")
    with b.listen() as listener:
        with pytest.raises(TrustError, match=b.identity.fingerprint):
            a.call(listener.address)
        reissue(b, start=-1, end=30, issuer=issuer, dns="b.hospital.example")
        with a.call(listener.address, expected_name="B.hospital.example") as one:
            assert (one.peer_name, one.peer_fingerprint) == ("B", b.identity.fingerprint)
            assert one.still_trusted()
            assert not a.trust.is_trusted(one.peer_fingerprint)
            with pytest.raises(TrustError, match="expected name"):
                a.call(listener.address, expected_name="c.hospital.example")
            TrustStore(a.home).remove_authority("Institution")
            assert not one.still_trusted()
        with pytest.raises(TrustError, match="not trusted here"):
            a.call(listener.address)
        # Another authority of the same name does not count.
        a.trust.add_authority(tmp_path / "ca.pem", "Institution")
        reissue(b, start=-1, end=30, issuer=authority(tmp_path / "other.pem"))
        with pytest.raises(TrustError, match="not trusted here"):
            a.call(listener.address)
    # ... nor does an authority on the listening side let in a caller whom it did not certify.
    with a.listen() as listener:
        with pytest.raises(TrustError):
            stranger.call(listener.address)
        b.trust.remove("A")
        b.trusts(a)
        reissue(b, start=-1, end=30, issuer=issuer)
        b.call(listener.address).close()


# ------------------------------------------------------------------------------------------- those who do not


def test_a_stranger_that_listens(sites: tuple[Site, Site, Site]) -> None:
    a, _, stranger = sites
    with stranger.listen() as listener:
        with pytest.raises(TrustError) as caught:
            a.call(listener.address)
        assert f"ppir trust add {stranger.identity.fingerprint}" in str(caught.value)
        assert listener.address in str(caught.value)
        assert wait_for(lambda: stranger.refused)
        assert "does not trust this site" in stranger.refused[0]


def test_a_stranger_that_calls(sites: tuple[Site, Site, Site]) -> None:
    _, b, stranger = sites
    with b.listen() as listener:
        with pytest.raises(TrustError) as caught:
            stranger.call(listener.address)
        assert f"ppir trust add {stranger.identity.fingerprint}" in str(caught.value)
        assert "does not trust this site" in str(caught.value)
        assert wait_for(lambda: b.refused)
        assert stranger.identity.fingerprint in b.refused[0]
        assert listener.accept(0.05) is None


def test_another_fingerprint_than_expected(sites: tuple[Site, Site, Site]) -> None:
    a, b, stranger = sites
    a.trusts(stranger)
    with b.listen() as listener, pytest.raises(TrustError) as caught:
        a.call(listener.address, expected_fingerprint=stranger.identity.fingerprint)
    assert b.identity.fingerprint in str(caught.value)
    assert stranger.identity.fingerprint in str(caught.value)
    with pytest.raises(InputError, match="not a fingerprint"):
        a.call("127.0.0.1:1", expected_fingerprint="abc")


def test_an_expected_fingerprint_alone_is_not_trust(sites: tuple[Site, Site, Site]) -> None:
    a, _, stranger = sites
    with stranger.listen() as listener, pytest.raises(TrustError, match="not trusted here"):
        a.call(listener.address, expected_fingerprint=stranger.identity.fingerprint)


@pytest.mark.parametrize(("start", "end", "message"), [(-9, -1, "expired on"), (1, 9, "clocks")])
def test_certificates_outside_their_time(sites: tuple[Site, Site, Site], start: int, end: int, message: str) -> None:
    a, b, _ = sites
    with b.listen() as listener:
        # The caller's own check is passed by because only the standard library's client would send such a one.
        reissue(a, start=start, end=end)
        with pytest.raises(ssl.SSLError, match="alert"):
            knock(plain_tls(a), listener)
        assert wait_for(lambda: b.refused)
        assert message in b.refused[0]


def test_the_own_expired_certificate_is_noticed_first(sites: tuple[Site, Site, Site]) -> None:
    a, _, _ = sites
    reissue(a, start=-9, end=-1)
    with pytest.raises(IdentityError, match="--renew"):
        a.call("127.0.0.1:1")


def test_an_expired_certificate_of_a_server(sites: tuple[Site, Site, Site]) -> None:
    a, b, _ = sites
    reissue(b, start=-9, end=-1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(b.identity.certificate_file, b.identity.key_file)

    def behaviour(caller: socket.socket) -> None:
        with contextlib.suppress(OSError):
            context.wrap_socket(caller, server_side=True).close()

    with plain_server(behaviour) as address, pytest.raises(TrustError, match="expired on"):
        a.call(address)


def test_old_tls_is_refused(sites: tuple[Site, Site, Site]) -> None:
    a, b, _ = sites
    with b.listen() as listener:
        with pytest.raises(ssl.SSLError):
            knock(plain_tls(a, ssl.TLSVersion.TLSv1_2), listener)
        assert wait_for(lambda: b.refused)
        assert "TLS 1.3" in b.refused[0]


def test_no_certificate_is_refused(sites: tuple[Site, Site, Site]) -> None:
    _, b, _ = sites
    with b.listen() as listener:
        with pytest.raises(ssl.SSLError, match="certificate"):
            knock(plain_tls(None), listener)
        assert wait_for(lambda: b.refused)
        assert b.refused == ["it showed no certificate"]


def test_sessions_are_not_resumed(sites: tuple[Site, Site, Site]) -> None:
    a, b, _ = sites
    context = plain_tls(a)
    with b.listen() as listener:
        with socket.create_connection(("127.0.0.1", listener.port)) as sock, context.wrap_socket(sock) as tls:
            assert tls.recv(4) == b"PPIR"
            session = tls.session
        with (
            socket.create_connection(("127.0.0.1", listener.port)) as sock,
            context.wrap_socket(sock, session=session) as tls,
        ):
            assert tls.recv(4) == b"PPIR"
            assert not tls.session_reused


def test_plain_bytes_to_the_tls_port(sites: tuple[Site, Site, Site]) -> None:
    a, b, _ = sites
    with b.listen() as listener:
        for content in (b"GET / HTTP/1.1\r\n\r\n", b"\x16", b"\x16\x03\x01" + bytes(300), bytes(100_000)):
            with socket.create_connection(("127.0.0.1", listener.port)) as sock, contextlib.suppress(OSError):
                sock.sendall(content)
                sock.shutdown(socket.SHUT_WR)
                sock.settimeout(5)
                sock.recv(1000)
        assert wait_for(lambda: len(b.refused) == 4)
        assert "it does not speak TLS" in b.refused
        with a.call(listener.address) as one:
            one.check()


# ------------------------------------------------------------------------------------------- nobody proper there


def test_a_server_without_tls(sites: tuple[Site, Site, Site]) -> None:
    greeting = b"220 mail ready\r\n"
    with (
        plain_server(lambda caller: caller.sendall(greeting)) as address,
        pytest.raises(PeerError, match="not with TLS"),
    ):
        sites[0].call(address)


def test_a_server_that_hangs_up(sites: tuple[Site, Site, Site]) -> None:
    with plain_server(lambda caller: caller.close()) as address, pytest.raises(PeerError, match="hung up"):
        sites[0].call(address)


def test_a_server_that_never_answers(sites: tuple[Site, Site, Site]) -> None:
    release = threading.Event()
    with plain_server(lambda caller: release.wait(5)) as address:  # type: ignore[arg-type, return-value]
        with pytest.raises(PeerError, match=r"does not answer within 0\.5 seconds"):
            sites[0].call(address, timeout=0.5)
        release.set()


def test_nobody_there(sites: tuple[Site, Site, Site]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(PeerError, match=r"nothing listens.*ppir serve"):
        sites[0].call(f"127.0.0.1:{port}")
    with pytest.raises(PeerError, match="is not known"):
        sites[0].call("no-such-host.invalid")


def test_a_port_in_use_and_a_foreign_address(sites: tuple[Site, Site, Site]) -> None:
    a, b, _ = sites
    with b.listen() as listener, pytest.raises(InputError, match="cannot listen"):
        Listener(listener.address, a.identity, a.trust)
    with pytest.raises(InputError, match="cannot listen"):
        Listener("192.0.2.1:0", a.identity, a.trust)
    with Listener(listener.address, b.identity, b.trust) as again:
        assert again.address == listener.address


# ------------------------------------------------------------------------------------------- service under attack


def test_slow_and_unwelcome_callers_do_not_stop_the_service(sites: tuple[Site, Site, Site]) -> None:
    a, b, stranger = sites
    with b.listen(handshake_timeout=1.5) as listener, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", listener.port))) for _ in range(4)]
        for sock in slow:
            sock.sendall(b"\x16\x03")
        with a.call(listener.address) as one:
            with pytest.raises(TrustError):
                stranger.call(listener.address)
            two = listener.accept(5)
            assert two is not None
            with two:
                one.send("still-here")
                assert two.receive(5).kind == "still-here"
        assert wait_for(lambda: len(b.refused) == 5)
        assert sum("within 1.5 seconds" in reason for reason in b.refused) == 4


def test_handshakes_and_connections_are_limited(sites: tuple[Site, Site, Site]) -> None:
    a, b, _ = sites
    with b.listen(max_pending=2, max_connections=3) as listener:
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", listener.port)))
                sock.sendall(b"\x16")  # it has begun to speak
            assert wait_for(lambda: [w.received for w in listener._pending.values()] == [1, 1])
            with pytest.raises(PeerError, match="hung up"):
                a.call(listener.address)
        assert wait_for(lambda: not listener._pending)
        channels = [a.call(listener.address) for _ in range(3)]
        with pytest.raises(PeerError, match="hung up"):
            a.call(listener.address)
        assert listener.turned_away == 2
        for channel in channels:
            channel.close()
        assert wait_for(lambda: listener._open == 0)
        a.call(listener.address).close()


def test_places_held_in_silence_go_to_those_who_speak(sites: tuple[Site, Site, Site]) -> None:
    a, b, _ = sites
    with b.listen(max_pending=2) as listener, contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(socket.create_connection(("127.0.0.1", listener.port)))
        assert wait_for(lambda: len(listener._pending) == 2)
        a.call(listener.address).close()
        assert listener.turned_away == 1
        assert wait_for(lambda: b.refused == ["it held a place without using it while others waited"])
    assert wait_for(lambda: listener._open == 0)


def test_a_crowd_does_not_fill_the_log(sites: tuple[Site, Site, Site]) -> None:
    _, b, _ = sites
    with b.listen(max_pending=2, handshake_timeout=1.0) as listener:
        for _ in range(100):
            socket.create_connection(("127.0.0.1", listener.port)).close()
        assert wait_for(lambda: listener._reported == 100, 20.0)
        assert len(b.refused) == 30
        listener._window -= 11  # seconds later
        socket.create_connection(("127.0.0.1", listener.port)).close()
        assert wait_for(lambda: len(b.refused) == 31)
        assert "and 70 more callers" in b.refused[30]


def test_closing_the_listener_keeps_accepted_channels(sites: tuple[Site, Site, Site]) -> None:
    a, b, _ = sites
    listener = b.listen()
    idle = socket.create_connection(("127.0.0.1", listener.port))
    one = a.call(listener.address)
    two = listener.accept(5)
    waiting = a.call(listener.address)
    assert wait_for(lambda: listener._ready)
    assert two is not None
    listener.close()
    listener.close()
    assert listener.accept(0.05) is None
    two.send("k")
    assert one.receive(5).kind == "k"
    assert waiting.receive(5).kind == "bye"
    for thing in (one, two, waiting, idle):
        thing.close()


# ------------------------------------------------------------------------------------------- frames of a traitor


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PPIR\x01" + (20).to_bytes(4, "big") + (MAX_PAYLOAD + 1).to_bytes(4, "big"), "payload has"),
        (encode_head("k", 0, {}, 0), "out of order"),
        (encode_head("k", 2, {}, 0), "out of order"),
        (encode_head("k", 1, {}, 0) * 2, "out of order"),
        (b"\x80\x04\x95cos\nsystem\n", "not a frame"),
    ],
)
def test_a_trusted_peer_that_breaks_the_rules(sites: tuple[Site, Site, Site], content: bytes, message: str) -> None:
    a, b, _ = sites
    with (
        b.listen() as listener,
        socket.create_connection(("127.0.0.1", listener.port)) as sock,
        plain_tls(a).wrap_socket(sock) as tls,
    ):
        tls.sendall(encode_head("hello", 0, {"frame": 1, "name": "A"}, 0))
        two = listener.accept(5)
        assert two is not None
        tls.sendall(content)
        with pytest.raises(ProtocolError, match=message):
            while True:
                two.receive(5)
        two.close()


@pytest.mark.parametrize(
    "hello",
    [
        encode_head("other", 0, {"frame": 1, "name": "A"}, 0),
        encode_head("hello", 0, {"frame": 2, "name": "A"}, 0),
        encode_head("hello", 0, {"frame": 1, "name": 5}, 0),
        encode_head("hello", 0, {"frame": 1, "name": "A"}, 1) + b"x",
        b"hello",
    ],
)
def test_a_wrong_greeting_does_not_get_in(sites: tuple[Site, Site, Site], hello: bytes) -> None:
    a, b, _ = sites
    with b.listen() as listener:
        with socket.create_connection(("127.0.0.1", listener.port)) as sock, plain_tls(a).wrap_socket(sock) as tls:
            tls.sendall(hello)
            if hello == b"hello":
                sock.close()
            assert listener.accept(0.2) is None
        assert wait_for(lambda: b.refused)


# ------------------------------------------------------------------------------------------- life and death


def test_signs_of_life_keep_an_idle_channel(sites: tuple[Site, Site, Site]) -> None:
    a, b, _ = sites
    with joined(a, b, heartbeat=0.1, dead_after=0.8) as (one, two):
        time.sleep(1.6)
        one.check()
        two.check()
        one.send("k")
        assert two.receive(5).kind == "k"


def test_a_frozen_peer_is_noticed(sites: tuple[Site, Site, Site]) -> None:
    a, b, _ = sites
    with b.listen(heartbeat=60) as listener, a.call(listener.address, dead_after=0.6) as one:
        with pytest.raises(PeerError, match=r"nothing came for 0\.6 seconds"):
            one.receive(10)
        assert one.interrupted
        with pytest.raises(PeerError, match="was lost"):
            one.check()


PEER = """
import sys, time
from pathlib import Path
from PPIRLogic.network.channel import connect
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.trust import TrustStore
home = Path(sys.argv[2])
channel = connect(sys.argv[1], load_or_create_identity(home), TrustStore(home))
channel.send("ready")
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_a_killed_or_frozen_process_ends_the_other_side(sites: tuple[Site, Site, Site], how: str) -> None:
    if how == "freeze" and not hasattr(signal, "SIGSTOP"):
        pytest.skip("this system cannot stop a process")
    a, b, _ = sites
    with b.listen(dead_after=2.0) as listener:
        root = str(Path(__file__).resolve().parents[2])
        process = subprocess.Popen([sys.executable, "-c", PEER, listener.address, str(a.home)], cwd=root)
        try:
            two = listener.accept(20)
            assert two is not None
            assert two.receive(5).kind == "ready"
            if how == "kill":
                process.kill()
            else:
                os.kill(process.pid, signal.SIGSTOP)
            with pytest.raises(PeerError, match="was lost"):
                two.receive(10)
            two.close()
        finally:
            process.kill()
            process.wait(10)


def test_a_damaged_trust_list_lets_nobody_in(sites: tuple[Site, Site, Site]) -> None:
    a, b, _ = sites
    with b.listen() as listener:
        (b.home / "trust.json").write_text("{")
        with pytest.raises(PeerError):
            a.call(listener.address)
        assert wait_for(lambda: b.refused)
        assert "damaged" in b.refused[0]


def test_a_foreign_key_is_noticed_before_anything_is_sent(sites: tuple[Site, Site, Site]) -> None:
    a, b, _ = sites
    mixed = dataclasses.replace(a.identity, key_file=b.identity.key_file)
    with pytest.raises(IdentityError, match="fit together"):
        connect("127.0.0.1:1", mixed, a.trust)
