"""What can be typed after `ppir serve` and `ppir dealer`."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from typing import Any

from PPIRLogic.cli.output import Arguments, current_name
from PPIRLogic.cli.parsers.common import add_command, add_service_options, file_path
from PPIRLogic.errors import InputError
from PPIRLogic.registration.catalogue import LOSSES, TRANSFORMS, protocol_names, shown_name
from PPIRLogic.registration.names import FIXED_MASK_USES

_BUDGET_OPTIONS = (  # in the order of a Budget's fields
    "--budget-percent", "--budget-bits", "--budget-session", "--budget-image", "--budget-histograms",
    "--budget-subject",
)  # fmt: skip


def add_serve(commands: Any) -> None:
    text = "Serve fixed images to trusted peers (party 2). Nothing but protected data and counted numbers leaves."
    example = "ppir serve atlas.nrrd --name atlas --listen 0.0.0.0:7443 --allow 'Hospital A' --budget-percent 5"
    p = add_command(commands, "serve", "serve:run_serve", text, example, check_serve)
    _add_files(p)
    _add_policy(p)
    _add_budget(p)
    _add_service(p)


def _add_files(p: argparse.ArgumentParser) -> None:
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


def _add_policy(p: argparse.ArgumentParser) -> None:
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
        help="permitted protocols (those that protect the image and open what is counted: fhe,mpc); 'clear' discloses"
        " the image itself",
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
    p.add_argument(
        "--disclose-frame",
        action="store_true",
        help="tell peers the UID of the image's DICOM frame of reference, so that their DICOM results name it",
    )


def _add_budget(p: argparse.ArgumentParser) -> None:
    p.add_argument("--budget-percent", type=float, default=5.0, help="most numbers per level, %% of its voxels (5)")
    p.add_argument("--budget-bits", type=float, default=20.0, help="the same in bits, %% of 12 bits per voxel (20)")
    p.add_argument("--budget-session", type=int, default=20_000, help="most numbers per session (20000)")
    p.add_argument("--budget-image", type=int, default=200_000, help="most numbers per peer and subject (200000)")
    p.add_argument("--budget-subject", type=float, default=2.0, help="all peers together: times what one may learn (2)")
    p.add_argument("--budget-histograms", type=int, default=200, help="most joint histograms per level, for mi (200)")


def _add_service(p: argparse.ArgumentParser) -> None:
    p.add_argument("--config", type=file_path, help="file of these options, as TOML; what is typed beats it")
    p.add_argument(
        "--health", action="store_true", help="serve nothing: say whether the service of this site answers at --listen"
    )
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
    p.add_argument(
        "--syslog-events", action="store_true", help="send there also what is told here, but for single evaluations"
    )
    p.add_argument("--max-sessions", type=int, default=3, help="sessions at once (3)")
    p.add_argument(
        "--sessions-of-peer", type=int, default=0, metavar="N", help="of these of one peer (all but one, one at least)"
    )
    p.add_argument("--queue", type=int, default=8, help="peers that may wait for a session to end (8)")
    add_service_options(p)
    p.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads to compute with")


def add_dealer(commands: Any) -> None:
    text = "Be the dealer of the mpc protocol. Run it at a third site: a dealer that colludes with a party opens all."
    add_service_options(add_command(commands, "dealer", "dealer:run_dealer", text, "ppir dealer --listen 0.0.0.0:7444"))


def check_serve(a: Arguments) -> None:
    """InputError for what does not go together or is out of its range; lists of names become sets of them, and
    `a.budget` holds the fields of a Budget."""
    if a.threads < 1 or a.max_sessions < 1 or a.queue < 0 or not 0 <= a.sessions_of_peer <= a.max_sessions:
        raise InputError(
            "--threads and --max-sessions must be at least 1, --queue at least 0, --sessions-of-peer at most"
            " --max-sessions."
        )
    if a.ask and a.with_parent:
        raise InputError("--ask reads answers from standard input; it does not go with --with-parent.")
    if a.health:
        a.run = "health:run_health"
        return
    if a.syslog_events and not a.syslog:
        raise InputError("--syslog-events needs to know where to: give --syslog HOST:PORT or its socket, too.")
    files = len(a.fixed) + len(a.points)
    if not files:
        raise InputError("Nothing to serve: give an image, or a point set with --points.")
    if len(a.name) not in (0, files) or len(a.mask) not in (0, len(a.fixed)):
        raise InputError("Give --name (and --mask) once for every image (--name then for every set), or not at all.")
    a.subject = a.subject * files if len(a.subject) == 1 else a.subject
    if len(a.subject) not in (0, files):
        raise InputError("Give --subject once, or once for every image and set, or not at all.")
    a.budget = [getattr(a, option[2:].replace("-", "_")) for option in _BUDGET_OPTIONS]
    for option, limit in zip(_BUDGET_OPTIONS, a.budget, strict=True):
        if not 0 <= limit < math.inf:  # also refuses NaN
            raise InputError(f"{option} {limit}: it must be a finite number of at least 0.")
    if a.protocols is not None:
        a.protocols = _names("--protocols", a.protocols, protocol_names())
        if not a.protocols:
            raise InputError("--protocols: name at least one, or leave the option out.")
    a.losses = _names("--losses", a.losses, tuple(LOSSES))
    a.transforms = _names("--transforms", a.transforms, tuple(TRANSFORMS))
    a.masks = _names("--masks", a.masks, FIXED_MASK_USES)


def _names(option: str, text: str, known: Sequence[str]) -> frozenset[str]:
    """Names with commas between them, as on the wire; InputError for an unknown one."""
    given = frozenset(current_name(v.strip()) for v in text.split(",") if v.strip())
    if unknown := given - set(known):
        raise InputError(f"{option}: unknown {', '.join(sorted(unknown))}; known: {', '.join(map(shown_name, known))}.")
    return given
