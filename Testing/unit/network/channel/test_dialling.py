"""Calls through an HTTP proxy: which calls, what is asked, and what a person reads where the proxy says no."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from PPIRLogic.errors import InputError, PeerError
from PPIRLogic.network.channel.dialling import dial, proxy_for

SETTINGS = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy")


@pytest.fixture(autouse=True)
def no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


class HttpProxy:
    """Answers one request with these bytes, then sends what comes back."""

    def __init__(self, answer: bytes) -> None:
        self._answer, self.request = answer, b""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        sock, _ = self._server.accept()
        with sock:
            while b"\r\n\r\n" not in self.request:
                self.request += sock.recv(4096)
            sock.sendall(self._answer)
            if b" 200 " in self._answer:
                sock.sendall(sock.recv(100))

    def close(self) -> None:
        self._thread.join(5)
        self._server.close()


@pytest.fixture
def answering(request: pytest.FixtureRequest) -> Iterator[HttpProxy]:
    one = HttpProxy(request.param)
    yield one
    one.close()


def call(host: str = "hospital-b.example", port: int = 443) -> socket.socket:
    return dial(host, port, time.monotonic() + 5, 5, "ppir serve")


@pytest.mark.parametrize(
    "answering", [b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"], indirect=True, ids=["yes"]
)
def test_a_way_through_a_proxy(answering: HttpProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is looked up by the proxy; after its answer every byte is the other end's."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss@127.0.0.1:{answering.port}")
    with call() as sock:
        sock.settimeout(5)
        sock.sendall(b"hello")
        assert sock.recv(100) == b"hello"
    lines = answering.request.decode().split("\r\n")
    login = base64.b64encode(b"me:p@ss").decode()
    assert lines[:3] == [
        "CONNECT hospital-b.example:443 HTTP/1.1", "Host: hospital-b.example:443",
        f"Proxy-Authorization: Basic {login}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answering", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "asks for a login"),
        (b"HTTP/1.0 403 Forbidden\r\n\r\n", "does not allow that address or port"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "cannot reach that address"),
        (b"HTTP/1.1 418 I am a teapot\r\n\r\n", "HTTP 418"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not answer as an HTTP proxy"),
        (b"x" * 20_000, "hung up"),
        (b"HTTP/1.1 200", "hung up"),
    ],
    indirect=["answering"],
    ids=["407", "403", "502", "418", "ssh", "flood", "cut"],
)
def test_what_a_proxy_refuses_is_said(answering: HttpProxy, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"me:secret@127.0.0.1:{answering.port}")
    with pytest.raises(PeerError, match=said) as refused:
        call()
    assert "secret" not in str(refused.value)


def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{port}")
    with pytest.raises(PeerError, match="is that the HTTP proxy of this network"):
        call()


@pytest.mark.parametrize(
    "setting", ["socks5://h:1", "https://h:1", "http://h:99999", "http://", "http://h:1/path", "::"]
)
def test_a_setting_that_is_no_proxy(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", setting)
    with pytest.raises(InputError, match="no address of an HTTP proxy"):
        proxy_for("hospital-b.example")


def test_whom_a_proxy_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """This computer itself, and what NO_PROXY names."""
    assert proxy_for("hospital-b.example") is None
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", ".inside.example, 10.0.0.7")
    direct = ("localhost", "127.0.0.1", "127.9.9.9", "::1", "a.inside.example", "inside.example", "10.0.0.7")
    assert [proxy_for(host) for host in direct] == [None] * len(direct)
    for host in ("hospital-b.example", "notinside.example", "10.0.0.70"):
        assert proxy_for(host) == ("proxy.example", 3128, "")
    monkeypatch.setenv("NO_PROXY", "*")
    assert proxy_for("hospital-b.example") is None
