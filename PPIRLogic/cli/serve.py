"""The command `ppir serve`: party 2."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numba  # noqa: F401 (loaded where it is first used: one that does not load is said before anything is sent)

from PPIRLogic.cli.common import (
    home_of,
    note_image,
    note_nobody_trusted,
    own_address,
    peer_fingerprint,
    service_cancel,
    warn_of_protocols,
)
from PPIRLogic.cli.output import Arguments, note, show_event
from PPIRLogic.disclosure.accounts import Budget
from PPIRLogic.disclosure.heads import SyslogHeads
from PPIRLogic.errors import InputError
from PPIRLogic.files import shown_path
from PPIRLogic.images.reading import read_mask, read_volume
from PPIRLogic.network.identity import normalise_fingerprint
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.points.files import read_points
from PPIRLogic.registration.catalogue import shown_name
from PPIRLogic.registration.dealer.joining import pinned_dealer
from PPIRLogic.registration.disclosure_estimate import grant_rows
from PPIRLogic.registration.party2.fixed_image import FixedImage
from PPIRLogic.registration.party2.policy import Policy
from PPIRLogic.registration.party2.site import Shared
from PPIRLogic.registration.points.fixed_points import FixedPoints
from PPIRLogic.registration.protocols import permitted_by_default
from PPIRLogic.serving import serve

_ASKING = threading.Lock()


def run_serve(a: Arguments) -> None:
    shared = _shared_images(a)
    note_nobody_trusted(a)
    cancel = service_cancel(a)
    serve(shared, own_address(a), home=home_of(a), max_sessions=a.max_sessions, queue=a.queue,
          sessions_of_peer=a.sessions_of_peer, threads=a.threads,
          on_event=teller(a), cancel=cancel, fixed_pools=a.fixed_pools, syslog=a.syslog)  # fmt: skip


def teller(a: Arguments) -> Callable[[dict[str, Any]], None]:
    """Shows every event here, and sends it to the syslog where that is wanted."""
    syslog = SyslogHeads(a.syslog) if a.syslog_events else None

    def tell(event: dict[str, Any]) -> None:
        show_event(a, event)
        if syslog is not None and event["event"] != "evaluation":
            syslog.send_text(f"event {json.dumps(event)}")

    return tell


def _shared_images(a: Arguments) -> list[Any]:
    policy, out = _policy(a), []
    warn_of_protocols(a, sorted(policy.protocols))
    dealer = a.dealer, _pinned_dealer(a)
    for i, path in enumerate(a.fixed):
        volume = read_volume(path, role="fixed")
        mask = read_mask(a.mask[i], volume) if a.mask else None
        note_image(a, volume, mask, "fixed")
        name = a.name[i] if a.name else _neutral_name(a, "image", i, path)
        out.append(Shared(FixedImage(name, volume, mask), policy, *dealer))
    for i, path in enumerate(a.points, len(a.fixed)):
        name = a.name[i] if a.name else _neutral_name(a, "points", i - len(a.fixed), path)
        points = read_points(path, role="fixed")
        if points.note:
            note(a, points.note)
        out.append(Shared(FixedPoints(name, points), policy, *dealer))
    if len({s.image.name for s in out}) < len(out):
        raise InputError("Two images or point sets have the same name; give each its own with --name.")
    return [replace(one, subject=subject) for one, subject in zip(out, a.subject, strict=True)] if a.subject else out


def _pinned_dealer(a: Arguments) -> str:
    """The fingerprint of the dealer; refused now, not at the first session, where it cannot be used."""
    given = normalise_fingerprint(a.dealer_fingerprint) if a.dealer_fingerprint else ""
    return pinned_dealer(TrustStore(home_of(a)), given) if a.dealer else given


def _neutral_name(a: Arguments, kind: str, number: int, path: Path) -> str:
    """What is offered where its owner gave no name. File names hold names of patients, so peers never see them."""
    name = f"{kind}-{number + 1}"
    note(a, f"'{shown_path(path)}' is offered to peers as '{name}' (--name gives it another name).")
    return name


def _policy(a: Arguments) -> Policy:
    return Policy(
        protocols=permitted_by_default() if a.protocols is None else a.protocols,
        losses=a.losses,
        transforms=a.transforms,
        masks=a.masks,
        peers=frozenset(peer_fingerprint(a, p) for p in a.allow),
        disclosed_sampling=a.allow_disclosed_sampling,
        budget=Budget(*a.budget),
        disclose_frame=a.disclose_frame,
        ask=partial(ask_person, a.disclose_frame) if a.ask else None,
    )


def ask_person(frame: bool, peer: str, request: Any, levels: list[Any]) -> bool:
    """Ask the person at the terminal, one session at a time; nobody there means no."""
    told = ["the UID of the image's DICOM frame of reference, if it has one (--disclose-frame)"] if frame else []
    rows = "\n  ".join([*grant_rows(levels), *told])
    with _ASKING:
        print(
            f"\n{peer} asks to register to '{request.image}': {request.transform}, {request.loss},"
            f" protocol {shown_name(request.protocol)}.\nAt most it learns:\n  {rows}\n"
            "The session is held to this, also after a lost connection, for a day.",
            file=sys.stderr,
            flush=True,
        )
        try:
            print("Allow this session? [y/N] ", end="", file=sys.stderr, flush=True)
            return input().strip().lower() in ("y", "yes")
        except EOFError:
            return False
