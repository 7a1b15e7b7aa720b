"""Where a listener's callers come from: a socket that listens here, or a room at a relay."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from typing import Protocol

from PPIRLogic.errors import InputError
from PPIRLogic.network.channel.addresses import parse_address, spell_address
from PPIRLogic.network.channel.relayed import RelayRoom
from PPIRLogic.network.channel.timed_socket import TICK, Wire
from PPIRLogic.network.identity import Identity
from PPIRLogic.network.trust import TrustStore

AT_RELAY = "@"  # before a relay's address: wait there, and listen nowhere


class CallerSource(Protocol):
    """Callers that have shown nothing yet. `address`: what other sites call."""

    address: str

    def accept(self) -> tuple[Wire, str, str] | None:
        """The next caller's wire, where it comes from, and by what quotas count it; None if none comes in a tick."""

    def close(self) -> None: ...


def open_source(address: str, identity: Identity, trust: TrustStore, tell: Callable[[str], None]) -> CallerSource:
    """A socket at 'host:port', or this site's room at the relay of '@host:port', of whose line `tell` hears."""
    if address.strip().startswith(AT_RELAY):
        return RelayRoom(address.strip().removeprefix(AT_RELAY), identity, trust, tell)
    return ListeningSocket(address)


class ListeningSocket:
    """Callers that dial this computer."""

    def __init__(self, address: str) -> None:
        self._socket = _bind(*parse_address(address))
        self._socket.settimeout(TICK)
        self.address = spell_address(*self._socket.getsockname()[:2])

    def accept(self) -> tuple[Wire, str, str] | None:
        try:
            sock, remote = self._socket.accept()
        except TimeoutError:
            return None
        except OSError:
            # Out of descriptors, or the caller is gone already: neither ends the service.
            time.sleep(TICK)
            return None
        return Wire(sock, TICK), spell_address(*remote[:2]), remote[0]

    def close(self) -> None:
        self._socket.close()


def _bind(host: str, port: int) -> socket.socket:
    where = spell_address(host, port)
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise InputError(f"cannot listen at {where}: {host!r} is not an address of this computer") from None
    sock = socket.socket(family, kind, protocol)
    try:
        if sys.platform == "win32":
            # There SO_REUSEADDR would let another program take over the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(target)
        sock.listen(256)
    except OSError as error:
        sock.close()
        raise InputError(
            f"cannot listen at {where}: {error.strerror or 'network error'}; is another service running there? "
            "Choose another port, or an address of this computer"
        ) from None
    return sock
