"""How much of what there is one caller may have: at once (`Quota`), over time (`RateLimit`), on record (`Repeats`).

All three count by a key that is any text: a caller's network, a room of a relay, a peer's fingerprint. They know
nothing of connections, and keep no more keys than `KEYS`.
"""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import Counter, OrderedDict

KEYS = 4096  # of a `RateLimit`; who has been away for longest is forgotten first


def network_of(host: str) -> str:
    """What the callers of an address count as: the address, or of IPv6 its /64, all of which one computer may use.

    >>> network_of("192.0.2.7"), network_of("2001:db8::1:7"), network_of("::ffff:192.0.2.7")
    ('192.0.2.7', '2001:db8::/64', '192.0.2.7')
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address) or address.ipv4_mapped is not None:
        return str(getattr(address, "ipv4_mapped", address))
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


class Quota:
    """At most `each` at once for one key. Thread-safe.

    >>> places = Quota(1)
    >>> places.take("A"), places.take("A"), places.take("B")
    (True, False, True)
    """

    def __init__(self, each: int) -> None:
        self.each = each
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, key: str) -> bool:
        """Whether there was one left."""
        with self._lock:
            if self._taken[key] >= self.each:
                return False
            self._taken[key] += 1
            return True

    def give_back(self, key: str) -> None:
        with self._lock:
            self._taken[key] -= 1
            if self._taken[key] <= 0:
                del self._taken[key]

    def taken(self, key: str) -> int:
        with self._lock:
            return self._taken[key]


class RateLimit:
    """`burst` times at once for one key, then once every `seconds`. Thread-safe."""

    def __init__(self, burst: int, seconds: float) -> None:
        self._burst, self._seconds = burst, seconds
        self._full: OrderedDict[str, float] = OrderedDict()  # when a key has all of its burst again
        self._lock = threading.Lock()

    def take(self, key: str) -> float:
        """Count one more, and 0; or the seconds after which to try again."""
        with self._lock:
            wait, now = self._wait(key), time.monotonic()
            if wait <= 0:
                self._full[key] = max(self._full.get(key, 0.0), now) + self._seconds
                self._full.move_to_end(key)
                if len(self._full) > KEYS:
                    self._full.popitem(last=False)
            return wait

    def wait(self, key: str) -> float:
        """The seconds until one more may be counted."""
        with self._lock:
            return self._wait(key)

    def _wait(self, key: str) -> float:
        return max(0.0, self._full.get(key, 0.0) - time.monotonic() - (self._burst - 1) * self._seconds)

    def give_back(self, key: str) -> None:
        """One that was counted does not count after all."""
        with self._lock:
            if key in self._full:
                self._full[key] -= self._seconds


class Repeats:
    """Keeps a record short: the first entries of a key pass, then one every `seconds` that says how many it stands for.

    Nothing is lost but the times of those left out. Thread-safe.
    """

    def __init__(self, burst: int, seconds: float) -> None:
        self._rate = RateLimit(burst, seconds)
        self._left_out: Counter[str] = Counter()
        self._lock = threading.Lock()

    def passes(self, key: str) -> int | None:
        """How many of the key were left out since its last entry; None: this one is left out, too."""
        with self._lock:
            if self._rate.take(key) > 0:
                self._left_out[key if len(self._left_out) < KEYS else ""] += 1
                return None
            return self._left_out.pop(key, 0)

    def give_back(self, key: str) -> None:
        """An entry of the key does not count after all."""
        self._rate.give_back(key)

    def due(self, everything: bool = False) -> list[tuple[str, int]]:
        """Keys whose last ones were left out and for which there is room for an entry now, and how many they were."""
        with self._lock:
            ready = [key for key in self._left_out if everything or self._rate.wait(key) <= 0]
            for key in ready:
                self._rate.take(key)
            return [(key, self._left_out.pop(key)) for key in ready]


def in_seconds(wait: float) -> str:
    """For a message: when to try again.

    >>> in_seconds(0.2), in_seconds(90.5)
    ('in 1 second', 'in 91 seconds')
    """
    seconds = max(1, math.ceil(wait))
    return f"in {seconds} second{'s' if seconds > 1 else ''}"
