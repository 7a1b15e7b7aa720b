"""Party 2: serves fixed images under their owners' policies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PPIRLogic.network.channel import Channel, Message, Quotas
from PPIRLogic.network.identity import Identity
from PPIRLogic.network.messages import Fields
from PPIRLogic.network.service import Method, Service
from PPIRLogic.registration.losses.point_sums import POINT_LOSSES
from PPIRLogic.registration.party2.session import ServerSession
from PPIRLogic.registration.party2.site import Event, ServingSite, Shared
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.session import NONCE_BYTES


class RegistrationMethod(Method):
    """Registration as one method of a service: what a site offers, and its sessions."""

    opens = "open"
    stopped = "The owner of the fixed image stopped sharing it."

    def __init__(self, site: ServingSite) -> None:
        self.site = site

    def offers(self, peer: str) -> dict[str, list[dict[str, Any]]]:
        offers: dict[str, list[dict[str, Any]]] = {"images": [], "points": []}
        for name, shared in self.site.shared.items():
            if not shared.policy.peers or peer in shared.policy.peers:
                offers[shared.image.kind].append(self._offer(name, shared, peer))
        return offers

    def _offer(self, name: str, shared: Shared, peer: str) -> dict[str, Any]:
        policy = shared.policy
        account = self.site.account(peer, name)
        return {
            "name": name,
            "geometry": shared.image.geometry.to_dict(),
            "has_mask": shared.image.mask is not None,
            "protocols": sorted(policy.protocols),
            "losses": sorted({*policy.losses, *POINT_LOSSES} & set(shared.image.losses)),
            "transforms": sorted(policy.transforms),
            "masks": sorted(policy.masks) if shared.image.mask is not None else ["none"],
            "budget": {
                "percent_per_level": policy.budget.percent_per_level,
                "numbers_per_session": policy.budget.numbers_per_session,
                "numbers_per_image": policy.budget.numbers_per_image,
                "bits_percent_per_level": policy.budget.bits_percent_per_level,
                "histograms_per_level": policy.budget.histograms_per_level,
            },
            "numbers_opened": account.total,
            "opened": account.to_rows(),
        }

    def open_session(self, channel: Channel, message: Message) -> ServerSession:
        request, f = Request.from_dict(message.data), Fields(message.data, self.opens)
        resumes = f.raw("resumes", NONCE_BYTES) if "resumes" in message.data else b""
        return ServerSession(self.site, channel, request, f.raw("nonce", NONCE_BYTES), resumes)

    def tidy(self) -> None:
        self.site.tidy()

    def close(self) -> None:
        self.site.close()


class Server(Service):
    """A service of registration, and of the `methods` given besides. Listens until `stop`.

    `on_event` gets one map per thing that happens, without any content.
    Errors: OutputError (ledger not writable, or in use by another process), PeerError (port in use).
    """

    def __init__(
        self,
        address: str,
        identity: Identity,
        home: Path,
        shared: Sequence[Shared],
        *,
        max_sessions: int = 3,
        queue: int = 8,
        sessions_of_peer: int = 0,
        threads: int = 2,
        on_event: Event = lambda event: None,
        fixed_pools: int | None = None,
        syslog: str = "",
        methods: Sequence[Method] = (),
        quotas: Quotas | None = None,
    ) -> None:
        self.site = site = ServingSite(identity, home, shared, threads, on_event, fixed_pools, syslog)
        super().__init__(
            address,
            identity,
            site.trust,
            [RegistrationMethod(site), *methods],
            site,
            max_sessions=max_sessions,
            queue=queue,
            sessions_of_peer=sessions_of_peer,
            details={"images": sorted(site.shared)},
            quotas=quotas,
        )
