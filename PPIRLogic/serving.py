"""The calls that serve: thin wrappers that own a server for as long as they run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from PPIRLogic.arguments import as_path, check_callable, check_kinds
from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.errors import InputError
from PPIRLogic.network.identity import default_home, load_or_create_identity
from PPIRLogic.network.relay import Relay, RelayLimits
from PPIRLogic.network.service import UnrecordedAudit, run_until
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.progress import CancelToken
from PPIRLogic.registration.dealer.dealer import Dealer
from PPIRLogic.registration.party2.server import Server
from PPIRLogic.registration.party2.site import Shared

Event = Callable[[dict[str, Any]], None]


def serve(
    images: Sequence[Shared],
    address: str = "0.0.0.0:7443",
    *,
    home: Path | None = None,
    max_sessions: int = 3,
    queue: int = 8,
    sessions_of_peer: int = 0,
    threads: int = 2,
    on_event: Event = lambda event: None,
    cancel: CancelToken | None = None,
    fixed_pools: int | None = None,
    syslog: str = "",
) -> None:
    """Serve fixed images until `cancel` is set; blocks.

    images: each a `FixedImage` with its owner's `Policy`. address: 'host:port' to listen on (port 0: any free one; the
    first event, 'listening', has it), or '@host:port': wait at the relay there.
    max_sessions: at once; sessions_of_peer: of these of one peer (0: all but one,
    one at least); queue: how many more may wait for a place. fixed_pools: a number from which random pools follow
    instead of the owner's secret, so that runs with different owners compare.
    home: identity, trust, ledger and audit log (default: the user's). syslog: where signed heads of the ledger are
    sent, 'host:port' or the path of a socket.
    Errors: InputError, IdentityError, TrustError, PeerError (port in use), OutputError (ledger not writable),
    RecordError (what is on record was changed, cut or rolled back).

    >>> from PPIRLogic import FixedImage, Policy, read_volume
    >>> image = FixedImage("atlas", read_volume("fixed.nrrd", role="fixed"))  # doctest: +SKIP
    >>> serve([Shared(image, Policy())], "0.0.0.0:7443", on_event=print)  # doctest: +SKIP
    """
    if isinstance(images, Shared) or not images or not all(isinstance(one, Shared) for one in images):
        raise InputError("serve needs one or more of Shared(FixedImage(…), Policy(…)), in a list.")
    counts = {"max_sessions": max_sessions, "queue": queue, "threads": threads}
    check_kinds("serve", counts, dict.fromkeys(counts, (int,)))
    home_folder = _checked("serve", address, home, on_event, cancel)
    identity = load_or_create_identity(home_folder)
    server = Server(
        address, identity, home_folder, list(images), max_sessions=max_sessions, queue=queue,
        sessions_of_peer=sessions_of_peer, threads=threads, on_event=on_event, fixed_pools=fixed_pools, syslog=syslog,
    )  # fmt: skip
    run_until(server, cancel or CancelToken())


def deal(
    address: str = "0.0.0.0:7443",
    *,
    home: Path | None = None,
    on_event: Event = lambda event: None,
    cancel: CancelToken | None = None,
) -> None:
    """Be the dealer of the mpc protocol until `cancel` is set; blocks. Run it at neither hospital.

    address, home, on_event as in `serve`. Errors: IdentityError, TrustError, PeerError (port in use), OutputError.

    >>> deal("0.0.0.0:7444", on_event=print)  # doctest: +SKIP
    """
    home_folder = _checked("deal", address, home, on_event, cancel)
    dealer = Dealer(address, load_or_create_identity(home_folder), home_folder, on_event)
    run_until(dealer, cancel or CancelToken())


class RecordedAudit(UnrecordedAudit):
    """An audit that keeps its record in the home's chain (`ppir ledger verify`)."""

    def __init__(self, home: Path, on_event: Event) -> None:
        super().__init__(on_event)
        self._records = Chain(home)
        self._records.open()

    def log(self, event: str, **details: Any) -> None:
        self._on_event(self._records.log(event, **details))


def relay(
    address: str = "0.0.0.0:7443",
    *,
    allowed: Collection[str] = (),
    limits: RelayLimits | None = None,
    home: Path | None = None,
    on_event: Event = lambda event: None,
    cancel: CancelToken | None = None,
) -> None:
    """Be the relay that sites behind closed firewalls call, until `cancel` is set; blocks. Run it at neither hospital.

    allowed: fingerprints that may use it (default: every peer that `home` trusts; each must be trusted in any case).
    address, home, on_event as in `serve`. Errors: InputError (limits, port in use), IdentityError, TrustError,
    OutputError, RecordError.

    >>> relay("0.0.0.0:443", on_event=print)  # doctest: +SKIP
    """
    home_folder = _checked("relay", address, home, on_event, cancel)
    identity = load_or_create_identity(home_folder)
    audit = RecordedAudit(home_folder, on_event)
    run_until(
        Relay(address, identity, TrustStore(home_folder), audit, allowed=allowed, limits=limits),
        cancel or CancelToken(),
    )


def _checked(function: str, address: Any, home: Any, on_event: Any, cancel: Any) -> Path:
    """The home of a service; InputError for arguments of other kinds."""
    check_callable(function, on_event=on_event)
    values = {"address": address, "cancel": cancel}
    check_kinds(function, values, {"address": (str,), "cancel": (CancelToken, type(None))})
    return default_home() if home is None else as_path(home, "The home of this site")
