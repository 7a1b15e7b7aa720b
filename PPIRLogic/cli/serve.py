"""The commands that serve: `ppir serve` (party 2) and `ppir dealer`."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PPIRLogic.cli.common import (
    Arguments,
    add_command,
    add_service_options,
    current_name,
    file_path,
    home_of,
    note,
    note_image,
    service_cancel,
    show_event,
    warn_of_protocols,
)
from PPIRLogic.disclosure.accounts import UNLIMITED, Budget
from PPIRLogic.errors import InputError, TrustError
from PPIRLogic.files import shown_path
from PPIRLogic.network.identity import normalise_fingerprint
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.registration.catalogue import protocol_names, shown_name
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.names import FIXED_MASK_USES
from PPIRLogic.registration.protocols import permitted_by_default
from PPIRLogic.registration.transform_kinds import TRANSFORMS

_ASKING = threading.Lock()


_BUDGET_OPTIONS = (  # in the order of a Budget's fields
    "--budget-percent", "--budget-bits", "--budget-session", "--budget-image", "--budget-histograms",
    "--budget-subject",
)  # fmt: skip


def add_serve(commands: Any) -> None:
    text = "Serve fixed images to trusted peers (party 2). Nothing but protected data and counted numbers leaves."
    example = "ppir serve atlas.nrrd --name atlas --listen 0.0.0.0:7443 --allow 'Hospital A' --budget-percent 5"
    p = add_command(commands, "serve", _run_serve, text, example)
    p.add_argument(
        "fixed", nargs="*", type=file_path, help="image file or folder of one DICOM series; several may be given"
    )
    p.add_argument(
        "--points", action="append", default=[], type=file_path, help="point set file; may be given several times"
    )
    p.add_argument(
        "--name", action="append", default=[],
        help="name to offer it under (image-1, image-2, …, points-1, …; never the file's); once per image, then set",
    )  # fmt: skip
    p.add_argument(
        "--subject", action="append", default=[],
        help="patient or series that it shows (what DICOM says): images of one share a budget; once, or per file",
    )  # fmt: skip
    p.add_argument("--mask", action="append", default=[], type=file_path, help="mask file; once per image")
    p.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="PEER",
        help="trusted peer (name or fingerprint) that may use the"
        " images; may be given several times (every trusted peer)",
    )
    p.add_argument(
        "--protocols",
        metavar="NAME,NAME,…",
        default=",".join(sorted(permitted_by_default())),
        help="permitted protocols; 'clear' discloses the image itself",
    )
    p.add_argument(
        "--losses",
        metavar="NAME,NAME,…",
        default=",".join(LOSSES.builtin),
        help="permitted losses; of plugins only those that are named",
    )
    p.add_argument(
        "--transforms", metavar="NAME,NAME,…", default=",".join(TRANSFORMS.builtin), help="permitted transforms"
    )
    p.add_argument(
        "--masks",
        metavar="NAME,NAME,…",
        default="fill,private",
        help="permitted uses of the mask; also: disclosed (peers see it), none (voxels outside it are used, too)",
    )
    p.add_argument("--allow-disclosed-sampling", action="store_true", help="accept gms under mpc, fhe_v1, fhe_v2")
    p.add_argument("--budget-percent", type=float, default=5.0, help="most numbers per level, %% of its voxels (5)")
    p.add_argument("--budget-bits", type=float, default=20.0, help="the same in bits, %% of 12 bits per voxel (20)")
    p.add_argument("--budget-session", type=int, default=20_000, help="most numbers per session (20000)")
    p.add_argument("--budget-image", type=int, default=200_000, help="most numbers per peer and subject (200000)")
    p.add_argument("--budget-subject", type=float, default=2.0, help="all peers together: times what one may learn (2)")
    p.add_argument("--budget-histograms", type=int, default=200, help="most joint histograms per level, for mi (200)")
    p.add_argument("--dealer", default="", metavar="HOST:PORT", help="the dealer, for mpc")
    p.add_argument(
        "--dealer-fingerprint", default="", metavar="FINGERPRINT", help="which dealer, if several are trusted"
    )
    p.add_argument("--ask", action="store_true", help="ask on the terminal before each session")
    p.add_argument("--fixed-pools", type=int, default=None, help=argparse.SUPPRESS)  # simulations must compare
    p.add_argument(
        "--syslog", default="", metavar="HOST:PORT|PATH", help="send signed heads of the ledger there, which a rollback"
        " of this site's whole folder cannot take back",
    )  # fmt: skip
    p.add_argument("--max-sessions", type=int, default=3, help="sessions at once (3)")
    p.add_argument(
        "--sessions-of-peer", type=int, default=0, metavar="N", help="of these of one peer (all but one, one at least)"
    )
    p.add_argument("--queue", type=int, default=8, help="peers that may wait for a session to end (8)")
    add_service_options(p)
    p.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads to compute with")


def add_dealer(commands: Any) -> None:
    text = "Be the dealer of the mpc protocol. Run it at a third site: a dealer that colludes with a party opens all."
    add_service_options(add_command(commands, "dealer", _run_dealer, text, "ppir dealer --listen 0.0.0.0:7444"))


def _run_serve(a: Arguments) -> None:
    from PPIRLogic.serving import serve

    if a.threads < 1 or a.max_sessions < 1 or a.queue < 0 or not 0 <= a.sessions_of_peer <= a.max_sessions:
        raise InputError(
            "--threads and --max-sessions must be at least 1, --queue at least 0, --sessions-of-peer at most"
            " --max-sessions."
        )
    if a.ask and a.with_parent:
        raise InputError("--ask reads answers from standard input; it does not go with --with-parent.")
    shared = _shared_images(a)
    if not TrustStore(home_of(a)).peers() and not TrustStore(home_of(a)).authorities():
        note(a, "No peer is trusted yet, so nobody can connect: ppir trust add FINGERPRINT --name 'Hospital A'.")
    cancel = service_cancel(a)
    serve(shared, a.listen, home=home_of(a), max_sessions=a.max_sessions, queue=a.queue,
          sessions_of_peer=a.sessions_of_peer, threads=a.threads,
          on_event=lambda e: show_event(a, e), cancel=cancel, fixed_pools=a.fixed_pools, syslog=a.syslog)  # fmt: skip


def _shared_images(a: Arguments) -> list[Any]:
    from PPIRLogic.images.reading import read_mask, read_volume
    from PPIRLogic.points.files import read_points
    from PPIRLogic.registration.party2.fixed_image import FixedImage
    from PPIRLogic.registration.party2.site import Shared
    from PPIRLogic.registration.points.fixed_points import FixedPoints

    if not a.fixed and not a.points:
        raise InputError("Nothing to serve: give an image, or a point set with --points.")
    if len(a.name) not in (0, len(a.fixed) + len(a.points)) or len(a.mask) not in (0, len(a.fixed)):
        raise InputError("Give --name (and --mask) once for every image (--name then for every set), or not at all.")
    subjects = a.subject * (len(a.fixed) + len(a.points)) if len(a.subject) == 1 else a.subject
    if len(subjects) not in (0, len(a.fixed) + len(a.points)):
        raise InputError("Give --subject once, or once for every image and set, or not at all.")
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
    return [replace(one, subject=subject) for one, subject in zip(out, subjects, strict=True)] if subjects else out


def _pinned_dealer(a: Arguments) -> str:
    """The fingerprint of the dealer; refused now, not at the first session, where it cannot be used."""
    from PPIRLogic.registration.dealer.joining import pinned_dealer

    given = normalise_fingerprint(a.dealer_fingerprint) if a.dealer_fingerprint else ""
    return pinned_dealer(TrustStore(home_of(a)), given) if a.dealer else given


def _neutral_name(a: Arguments, kind: str, number: int, path: Path) -> str:
    """What is offered where its owner gave no name. File names hold names of patients, so peers never see them."""
    name = f"{kind}-{number + 1}"
    note(a, f"'{shown_path(path)}' is offered to peers as '{name}' (--name gives it another name).")
    return name


def _policy(a: Arguments) -> Any:
    from PPIRLogic.registration.party2.policy import Policy

    def names(option: str, known: Sequence[str]) -> frozenset[str]:
        given = frozenset(current_name(v.strip()) for v in str(getattr(a, option)).split(",") if v.strip())
        if unknown := given - set(known):
            shown = ", ".join(map(shown_name, known))
            raise InputError(f"--{option}: unknown {', '.join(sorted(unknown))}; known: {shown}.")
        if not given and option == "protocols":
            raise InputError("--protocols: name at least one, or leave the option out.")
        return given

    budgets = [getattr(a, option[2:].replace("-", "_")) for option in _BUDGET_OPTIONS]
    for option, limit in zip(_BUDGET_OPTIONS, budgets, strict=True):
        if not 0 <= limit < UNLIMITED:  # also refuses NaN
            raise InputError(f"{option} {limit}: it must be a finite number of at least 0.")
    return Policy(
        protocols=names("protocols", protocol_names()),
        losses=names("losses", tuple(LOSSES)),
        transforms=names("transforms", tuple(TRANSFORMS)),
        masks=names("masks", FIXED_MASK_USES),
        peers=frozenset(_peer_fingerprint(a, p) for p in a.allow),
        disclosed_sampling=a.allow_disclosed_sampling,
        budget=Budget(*budgets),
        ask=_ask if a.ask else None,
    )


def _peer_fingerprint(a: Arguments, name: str) -> str:
    for peer in TrustStore(home_of(a)).peers():
        if peer.name == name:
            return peer.fingerprint
    try:
        return normalise_fingerprint(name)
    except InputError:
        raise TrustError(
            f"--allow {name}: no trusted peer has this name, and it is no fingerprint (ppir trust)."
        ) from None


def _ask(peer: str, request: Any, levels: list[Any]) -> bool:
    """Ask the person at the terminal, one session at a time; nobody there means no."""
    from PPIRLogic.registration.disclosure_estimate import grant_rows

    rows = "\n  ".join(grant_rows(levels))
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


def _run_dealer(a: Arguments) -> None:
    from PPIRLogic.serving import deal

    deal(a.listen, home=home_of(a), on_event=lambda e: show_event(a, e), cancel=service_cancel(a))
