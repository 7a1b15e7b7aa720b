"""What the sessions of a service have in common that stand alone: one connection, nothing that outlives it."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from PPIRLogic.errors import PeerError, RefusedError, TrustError
from PPIRLogic.network.channel import Channel
from PPIRLogic.network.messages import error_from
from PPIRLogic.network.service import Method

MAX_SESSION_SECONDS = 3600.0


class Tidied(Protocol):
    """What a method writes to: its audit log, or more."""

    def tidy(self) -> None: ...

    def close(self) -> None: ...


class SiteMethod(Method):
    """A method of a service over a site of its own, which ends with it. `stopping` is set when the service stops."""

    def __init__(self, site: Tidied) -> None:
        self._of_method, self.stopping = site, threading.Event()

    def tidy(self) -> None:
        self._of_method.tidy()

    def stop(self) -> None:
        self.stopping.set()

    def close(self) -> None:
        self._of_method.close()


class ServedSession:
    """One connection of a peer (a `Session` of the service, without `begin` and `run`).

    opens: the method's. stopping: set when the service stops; stopped: what a peer hears then.
    """

    returns = False

    def __init__(self, channel: Channel, opens: str, stopping: threading.Event, stopped: str) -> None:
        self.channel, self._stopping, self._stopped = channel, stopping, stopped
        self.peer = channel.peer_fingerprint
        self.key = f"{opens} {id(self)} {self.peer}"
        self._until = time.monotonic() + MAX_SESSION_SECONDS

    def wait(self, before: int) -> None:
        """So many are before this one."""
        self.channel.send("waiting", {"before": before})

    def check(self) -> None:
        """Raises if the peer left or is trusted no more, the service stops, or the session took too long."""
        if self.channel.closing_message is not None:
            raise error_from(self.channel.closing_message)
        self.channel.check()
        if not self.channel.still_trusted():
            raise TrustError("The owner no longer trusts this site.")
        if self._stopping.is_set():
            raise PeerError(self._stopped)
        if time.monotonic() > self._until:
            raise RefusedError(f"A session lasts at most {MAX_SESSION_SECONDS:g} seconds here; connect again to go on.")

    def check_again(self) -> None:
        """Nothing outlives a connection."""

    def close(self) -> None:
        """Nothing is held."""

    def end(self) -> None:
        """Nothing follows."""
