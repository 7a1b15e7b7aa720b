"""What is recorded, damaged and played back: one way to use the product each, with party 1's whole call.

The images are small, so that a case is cheap; mutual information needs a larger one.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from system_support import Phantom, grid, motion_of, owner, shared

from PPIRLogic.disclosure.accounts import Budget
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.local_processes import Site
from PPIRLogic.network.channel import Channel, Message
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.points.pointset import PointSet
from PPIRLogic.registration.catalogue import protocol_names
from PPIRLogic.registration.dealer.dealer import Dealer
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.party2.policy import Policy
from PPIRLogic.registration.party2.site import Shared
from PPIRLogic.registration.points.fixed_points import FixedPoints
from PPIRLogic.registration.points.register import register_points
from PPIRLogic.registration.protocols import PROTOCOLS, TWO_SIDED, Protocol
from PPIRLogic.registration.request import Peer

Conversations = dict[tuple[str, str], list[list[Message]]]  # (subject, who to whom) → what was said, per session
GEOMETRY = grid((28, 24), (1.0, 1.2), (-10.0, 5.0))
WIDE = grid((56, 48), (1.0, 1.2), (-10.0, 5.0))  # as many voxels as a joint histogram needs
POINTS = np.random.default_rng(5).uniform(-50, 50, (40, 3))
ENDLESS = Budget(1e9, 1e12, 10**12, 10**12, 10**12)
_COMMON = Parameters(transform="translation", loss="ssd", levels=(2, 1), evaluations=4, threads=1)
_MI = replace(_COMMON, loss="mi", levels=(1,), bins=8, evaluations=2)
_BLOCKS = replace(
    _COMMON, loss="ncc", levels=(1,), sampling="gms", percent=40.0, disclose_sampling=True, fixed_mask="disclosed"
)
_SPLINE = replace(
    _COMMON, transform="bspline", grid_spacing=14.0, iterations=(1, 1), evaluations=2, initial=sitk.AffineTransform(2)
)
_MI_SPLINE = replace(_MI, transform="bspline", grid_spacing=20.0, iterations=(1,), initial=sitk.AffineTransform(2))
_MI_DIFFEO = replace(_MI_SPLINE, transform="diffeo", stride=8)
_CC = replace(
    _COMMON, transform="diffeo", loss="cc", stride=5, iterations=(1, 1), evaluations=3, initial=sitk.AffineTransform(2)
)


def _pair(geometry: Geometry) -> tuple[Any, Any]:
    phantom = Phantom.make(geometry)
    return phantom.on(geometry), phantom.on(geometry, motion_of("translation", geometry))


def _masked(geometry: Geometry) -> NDArray[np.bool_]:
    mask = np.zeros(geometry.array_shape, bool)
    mask[4:-4, 4:-4] = True
    return mask


IMAGES = {"fixed": _pair(GEOMETRY), "wide": _pair(WIDE), "masked": _pair(WIDE)}


@dataclass(frozen=True)
class Subject:
    """`parameters` is None for a set of points. shares: of all cases, with party 2 and with party 1 under attack."""

    name: str
    protocol: str
    shares: tuple[float, float]
    parameters: Parameters | None = _COMMON
    image: str = "fixed"

    @property
    def engine(self) -> Protocol:
        two_sided = self.parameters is not None and LOSSES[self.parameters.loss].two_sided
        return (TWO_SIDED if two_sided else PROTOCOLS)[self.protocol]

    def call(self, peer: Peer, site: Site, seed: int = 1, reconnect: float = 0.0) -> str:
        """Party 1's run; how it ended. AssertionError if it gives a transform that is none."""
        peer = replace(peer, image=self.image)
        if self.parameters is None:
            found = register_points(POINTS + 1.0, peer, protocol=self.protocol, home=site.home, reconnect=reconnect)
            assert np.isfinite(found.transform.GetParameters()).all()
            return "accepted"
        parameters = replace(self.parameters, protocol=self.protocol, seed=seed)
        moving = IMAGES[self.image][1]
        result = register(moving, peer, home=site.home, parameters=parameters, reconnect=reconnect)
        assert np.isfinite(result.linear.matrix).all() and np.isfinite(result.linear.translation).all()
        assert result.spline is None or np.isfinite(result.spline.coefficients).all()
        assert result.diffeo is None or np.isfinite(result.diffeo.field).all()
        return "accepted" if result.complete else type(result.error).__name__


SUBJECTS = (
    Subject("clear", "clear", (0.006, 0.003)),
    Subject("fhe", "fhe", (0.0015, 0.001)),
    Subject("mpc", "mpc", (0.004, 0.002)),
    Subject("fhe_v1", "fhe_v1", (0.001, 0.0005)),
    Subject("fhe_v2", "fhe_v2", (0.0005, 0.0003)),
    Subject("mi, clear", "clear", (0.003, 0.002), _MI, "wide"),
    Subject("mi, fhe", "fhe", (0.001, 0.0005), _MI, "wide"),
    Subject("bspline, clear", "clear", (0.0015, 0.001), _SPLINE),
    Subject("bspline, fhe", "fhe", (0.0006, 0.0004), _SPLINE),
    Subject("bspline, mpc", "mpc", (0.0015, 0.001), _SPLINE),
    Subject("gms blocks and a disclosed mask, mpc", "mpc", (0.002, 0.001), _BLOCKS, "masked"),
    Subject("mi, mpc", "mpc", (0.003, 0.002), _MI, "wide"),
    Subject("mi with bspline, mpc", "mpc", (0.001, 0.0007), _MI_SPLINE, "wide"),
    Subject("mi with bspline, fhe", "fhe", (0.0003, 0.0002), _MI_SPLINE, "wide"),
    Subject("mi with diffeo, mpc", "mpc", (0.001, 0.0007), _MI_DIFFEO, "wide"),
    Subject("cc, clear", "clear", (0.0015, 0.001), _CC, "wide"),
    Subject("cc, mpc", "mpc", (0.003, 0.002), _CC, "wide"),
    Subject("cc, published", "published", (0.0015, 0.001), _CC, "wide"),
    Subject("points, fhe", "fhe", (0.001, 0.0005), None, "points"),
    Subject("points, mpc", "mpc", (0.003, 0.002), None, "points"),
)


def offered(dealer: str, fingerprint: str) -> list[Shared]:
    """Everything that the subjects ask for."""
    rules: dict[str, Any] = {"protocols": frozenset(protocol_names()), "budget": ENDLESS, "disclosed_sampling": True}
    rules["masks"] = frozenset({"none", "fill", "private", "disclosed"})
    out = [
        shared(pair[0], name=name, mask=_masked(pair[0].geometry) if name == "masked" else None, **rules)
        for name, pair in IMAGES.items()
    ]
    policy = Policy(protocols=frozenset(PROTOCOLS), budget=ENDLESS)
    out.append(Shared(FixedPoints("points", PointSet(POINTS, "points")), policy))
    return [replace(v, dealer=dealer, dealer_fingerprint=fingerprint) for v in out]


# ------------------------------------------------------------------------------------------------- recording


@contextlib.contextmanager
def heard() -> Iterator[list[tuple[Channel, Message]]]:
    """Everything that any channel of this process sends."""
    log: list[tuple[Channel, Message]] = []
    send = Channel.send

    def recorded(self: Channel, kind: str, data: dict[str, Any] | None = None, payload: Any = b"") -> None:
        log.append((self, Message(kind, dict(data or {}), bytes(payload))))
        send(self, kind, data, payload)

    with mock.patch.object(Channel, "send", recorded):
        yield log


def kept_apart(log: list[tuple[Channel, Message]], recorded: Conversations, subject: str, answer: str) -> None:
    """Add to `recorded` what each side said; party 2 is who first says something with the field `answer`."""
    for channel in {id(c): c for c, _ in log}.values():
        said = [message for c, message in log if c is channel]
        way = "2 to 1" if answer in said[0].data else "1 to 2"
        recorded.setdefault((subject, way), []).append([*said, Message("bye")])


def forget_records(site: Site) -> None:
    """So that long runs do not grow."""
    shutil.rmtree(site.home / "ledger", ignore_errors=True)
    (site.home / "audit.jsonl").unlink(missing_ok=True)


def of_others(recorded: Conversations) -> list[list[Message]]:
    """Sessions of every subject, of which parts are put into others."""
    return [c for (_, way), cs in recorded.items() for c in cs if way in ("1 to 2", "2 to 1")]


def record(sites: dict[str, Site], repeats: int = 2) -> Conversations:
    """Valid sessions of every subject over real sockets, as said by each to each."""
    import threading

    out: Conversations = {}
    third = Dealer("127.0.0.1:0", load_or_create_identity(sites["third"].home), sites["third"].home)
    threading.Thread(target=third.run, daemon=True).start()
    address, fingerprint = third.listener.address, sites["third"].fingerprint
    try:
        with owner(sites["B"], *offered(address, fingerprint), threads=1) as one:
            for subject in SUBJECTS:
                for seed in range(1, repeats + 1):
                    dealer = (address, fingerprint) if subject.engine.dealer else ("", "")
                    with heard() as log:
                        assert subject.call(Peer(one.address, "", *dealer), sites["A"], seed) == "accepted"
                        time.sleep(0.2)  # the last words of the others
                    for way, said in _by_way(log).items():
                        out.setdefault((subject.name, way), []).append(said)
    finally:
        third.stop()
    return out


def _by_way(log: list[tuple[Channel, Message]]) -> dict[str, list[Message]]:
    by_channel: dict[int, list[Message]] = {}
    for channel, message in log:
        by_channel.setdefault(id(channel), []).append(message)
    out = {}
    for said in by_channel.values():
        first, kinds = said[0], {m.kind for m in said}
        if first.kind == "info":
            way = "2 to 1" if "images" in first.data else "1 to 2"
        elif first.kind == "join":
            way = f"{first.data['role']} to dealer"
        else:
            way = "dealer to 2" if "correlation" in kinds else "dealer to 1"
        out[way] = [*said, Message("bye")]
    return out


def more_of(subject: str, way: str, recorded: Conversations) -> list[list[Message]]:
    """The recorded conversations, and the same as a queue and a resumed session would have them."""
    out = list(recorded[subject, way])
    for said in recorded[subject, way]:
        at = next(i for i, m in enumerate(said) if m.kind in ("open", "opened"))
        if said[at].kind == "opened":
            out.append([*said[:at], Message("waiting", {"before": 2}), Message("waiting", {"before": 0}), *said[at:]])
        else:
            out.append([*said[:at], Message("open", {**said[at].data, "resumes": bytes(32)}), *said[at + 1 :]])
    return out
