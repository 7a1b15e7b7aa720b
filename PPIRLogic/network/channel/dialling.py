"""A TCP connection to an address: directly, or through the HTTP proxy that the environment names.

HTTPS_PROXY, and NO_PROXY for hosts that are called without it, as other programs read them. This computer itself is
never called through a proxy. What goes through one is encrypted for the site at the other end.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import socket
import time
import urllib.request
from urllib.parse import unquote, urlsplit

from PPIRLogic.errors import InputError, PeerError
from PPIRLogic.network.channel.addresses import spell_address

_MAX_ANSWER = 16 * 1024  # bytes of a proxy's answer


def dial(host: str, port: int, deadline: float, timeout: float, service: str) -> socket.socket:
    """A connected socket, by `deadline`; `timeout` (the seconds that this is) and `service` are for messages.

    Errors: PeerError, or InputError for a proxy that is none.
    """
    proxy = proxy_for(host)
    if proxy is None:
        question = f"is `{service}` running there, and does a firewall allow TCP port {port}"
        return _reach(host, port, deadline, timeout, question)
    at = spell_address(*proxy[:2])
    help_ = "is that the HTTP proxy of this network (HTTPS_PROXY, --proxy)"
    sock = _reach(*proxy[:2], deadline, timeout, help_)
    try:
        _ask_proxy(sock, host, port, proxy[2], deadline, at)
    except (OSError, PeerError) as error:
        sock.close()
        if isinstance(error, PeerError):
            raise
        raise PeerError(
            f"the proxy {at} did not answer within {timeout:g} seconds or hung up: {help_}, and may it be used for"
            f" {spell_address(host, port)}?"
        ) from None
    return sock


def proxy_for(host: str) -> tuple[str, int, str] | None:
    """Host, port and credentials ('user:password' or '') of the proxy through which this host is called, if any.

    InputError, without the credentials, for a setting that is no HTTP proxy.
    """
    settings = urllib.request.getproxies_environment()
    text = settings.get("https", "").strip()
    if not text or is_this_computer(host) or _is_exempt(host.lower(), settings.get("no", "")):
        return None
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
        raise InputError(
            "HTTPS_PROXY (or --proxy) is no address of an HTTP proxy: write HOST:PORT or http://HOST:PORT, or leave it"
            " out"
        )
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if parts.username else ""
    return parts.hostname, port or 8080, login


def is_this_computer(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _is_exempt(host: str, exempt: str) -> bool:
    """Whether NO_PROXY names this host, a domain that it is of, or everything ('*')."""
    names = (name.strip().lower().lstrip(".") for name in exempt.split(","))
    return any(name and (name in ("*", host) or host.endswith(f".{name}")) for name in names)


def _ask_proxy(sock: socket.socket, host: str, port: int, login: str, deadline: float, at: str) -> None:
    where = spell_address(host if host.isascii() else host.encode("idna").decode("ascii"), port)
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
    if login:
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode('ascii')}")
    sock.settimeout(max(0.01, deadline - time.monotonic()))
    sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
    answer = bytearray()
    while not answer.endswith(b"\r\n\r\n"):  # byte by byte: what follows belongs to the other end
        sock.settimeout(max(0.01, deadline - time.monotonic()))
        byte = sock.recv(1)
        if not byte or len(answer) >= _MAX_ANSWER:
            raise OSError("no answer of a proxy")
        answer += byte
    status = re.match(rb"HTTP/1\.[01] ([0-9]{3})", answer)
    if status is None:
        raise PeerError(f"{at} does not answer as an HTTP proxy: check HTTPS_PROXY or --proxy")
    code = int(status[1])
    if 200 <= code < 300:
        return
    why = {
        407: "it asks for a login: write http://USER:PASSWORD@HOST:PORT into HTTPS_PROXY",
        403: "it does not allow that address or port: ask its operator, or use port 443",
        502: "it cannot reach that address",
        503: "it cannot reach that address",
        504: "it cannot reach that address",
    }.get(code, "ask its operator")
    raise PeerError(f"the proxy {at} refused the way to {where} (HTTP {code}): {why}")


def _reach(host: str, port: int, deadline: float, timeout: float, question: str) -> socket.socket:
    where = spell_address(host, port)
    try:
        candidates = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise PeerError(f"the computer {host!r} is not known: check the spelling of {where} and the network") from None
    silence = f"does not answer within {timeout:g} seconds"
    problem = silence
    for family, kind, protocol, _, target in candidates:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(remaining)
            sock.connect(target)
        except TimeoutError:
            sock.close()
            problem = silence
        except OSError as error:
            sock.close()
            refused = isinstance(error, ConnectionRefusedError)
            reason = "nothing listens on that port" if refused else error.strerror or "network error"
            problem = f"cannot be reached: {reason}"
        else:
            return sock
    raise PeerError(f"{where} {problem}; {question}?")
