"""The command `ppir`: argument parsing, and how events and errors are shown. The work is done elsewhere."""

from __future__ import annotations

import _thread
import argparse
import atexit
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from PPIRLogic.errors import Cancelled, InputError, OutputError, PPIRError, TrustError
from PPIRLogic.images import WRITABLE_IMAGES
from PPIRLogic.losses import LOSSES
from PPIRLogic.losses.cc import PUBLISHED
from PPIRLogic.peer.channel import DEFAULT_PORT
from PPIRLogic.peer.failures import Failures
from PPIRLogic.peer.identity import default_home, load_or_create_identity, normalise_fingerprint, renew_identity
from PPIRLogic.peer.ledger import UNLIMITED, Accounts, Budget
from PPIRLogic.peer.trust import TrustStore
from PPIRLogic.registration import RECONNECT, CancelToken, Parameters, Peer
from PPIRLogic.sampling import METHODS
from PPIRLogic.transforms import BSPLINE, DIFFEO, FIELD_FILES, TRANSFORM_FILES, TRANSFORMS
from PPIRLogic.version import SOFTWARE

if TYPE_CHECKING:
    from PPIRLogic.session import ClientSession

Arguments = argparse.Namespace
_ASKING = threading.Lock()
_PRINTING = threading.Lock()


# ------------------------------------------------------------------------------------------- the parser


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ppir",
        description="Privacy-preserving image registration: two sites align their images without showing them.",
        epilog="site B:  ppir serve fixed.nrrd --name atlas\nsite A:  ppir register moving.nrrd --peer B --output T.h5",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=SOFTWARE)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    from PPIRLogic.cli_estimate import add_estimate  # these build on what is here
    from PPIRLogic.cli_points import add_register_points, add_simulate_points

    points = (add_register_points, add_simulate_points)
    for add in (
        _identity, _trust, _serve, _dealer, _check, add_estimate, _register, _simulate, *points, _demo, _ledger
    ):  # fmt: skip
        add(commands)
    return parser


def _command(commands: Any, name: str, run: Callable[[Arguments], None], text: str, example: str) -> Any:
    parser = commands.add_parser(
        name, help=text, description=text, epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=run)
    parser.add_argument("--home", type=Path, default=None, help="folder of this site's identity, trust and ledger")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    return parser


def _identity(commands: Any) -> None:
    text = "Show this site's fingerprint, to be read out to the other site; makes a key on first use."
    p = _command(commands, "identity", _run_identity, text, "ppir identity --name 'Hospital A'")
    p.add_argument("--name", help="name of this site (on first use, or with --renew)")
    p.add_argument("--renew", action="store_true", help="new certificate for the same key; the fingerprint stays")
    p.add_argument("--new-key", action="store_true", help="new key; every peer must trust the new fingerprint")


def _trust(commands: Any) -> None:
    text = "List, add or remove the peers this site trusts. Compare fingerprints by telephone, not by mail."
    text += " lift: serve a peer again whose evaluations failed their checks (fhe_verified)."
    p = _command(commands, "trust", _run_trust, text, "ppir trust add 7QHX-2B3M-… --name 'Hospital B'")
    p.add_argument("action", nargs="?", choices=("list", "add", "remove", "add-authority", "lift"), default="list")
    p.add_argument("what", nargs="?", default="", help="fingerprint, name, or PEM file of an institution's CA")
    p.add_argument("--name", default="", help="what to call this peer")


def _serve(commands: Any) -> None:
    text = "Serve fixed images to trusted peers (party 2). Nothing but protected data and counted numbers leaves."
    example = "ppir serve atlas.nrrd --name atlas --listen 0.0.0.0:7443 --allow 'Hospital A' --budget-percent 5"
    p = _command(commands, "serve", _run_serve, text, example)
    p.add_argument("fixed", nargs="*", type=Path, help="image file or folder of one DICOM series; several may be given")
    p.add_argument(
        "--points", action="append", default=[], type=Path, help="point set file; may be given several times"
    )
    p.add_argument("--name", action="append", default=[], help="name to offer it under; once per image, then per set")
    p.add_argument("--mask", action="append", default=[], type=Path, help="mask file; once per image")
    p.add_argument("--allow", action="append", default=[], help="peer (name or fingerprint) that may use the images")
    p.add_argument(
        "--protocols", default="fhe,fhe_verified,mpc", help="permitted protocols; 'clear' discloses the image itself"
    )
    p.add_argument("--losses", default=",".join(LOSSES), help="permitted losses")
    p.add_argument("--transforms", default=",".join(TRANSFORMS), help="permitted transforms")
    p.add_argument("--masks", default="none,fill,private", help="permitted uses of the mask; also: disclosed")
    p.add_argument("--allow-disclosed-sampling", action="store_true", help="accept gms under mpc, fhe_v1, fhe_v2")
    p.add_argument("--budget-percent", type=float, default=5.0, help="most numbers per level, %% of its voxels (5)")
    p.add_argument("--budget-bits", type=float, default=20.0, help="the same in bits, %% of 12 bits per voxel (20)")
    p.add_argument("--budget-session", type=int, default=20_000, help="most numbers per session (20000)")
    p.add_argument("--budget-image", type=int, default=200_000, help="most numbers per peer and image (200000)")
    p.add_argument("--budget-histograms", type=int, default=200, help="most joint histograms per level, for mi (200)")
    p.add_argument("--dealer", default="", help="HOST:PORT of the dealer for mpc")
    p.add_argument("--dealer-fingerprint", default="", help="accept this dealer only")
    p.add_argument("--ask", action="store_true", help="ask on the terminal before each session")
    p.add_argument("--fixed-pools", action="store_true", help=argparse.SUPPRESS)  # simulations must compare
    p.add_argument("--max-sessions", type=int, default=2, help="sessions at once (2)")
    p.add_argument("--queue", type=int, default=8, help="peers that may wait for a session to end (8)")
    _service_options(p)


def _dealer(commands: Any) -> None:
    text = "Be the dealer of the mpc protocol. Run it at a third site: a dealer that colludes with a party opens all."
    _service_options(_command(commands, "dealer", _run_dealer, text, "ppir dealer --listen 0.0.0.0:7444"))


def _service_options(p: Any) -> None:
    p.add_argument("--listen", default=f"0.0.0.0:{DEFAULT_PORT}", help=f"HOST:PORT to listen on (port {DEFAULT_PORT})")
    p.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads to compute with")
    _parent_options(p)


def _parent_options(p: Any) -> None:
    """For a process that starts `ppir` and must leave nothing behind, however it ends itself."""
    p.add_argument("--with-parent", action="store_true", help="end when standard input is closed")
    p.add_argument("--scratch", action="append", default=[], type=Path, help=argparse.SUPPRESS)  # see _watch_parent


def _check(commands: Any) -> None:
    text = "Call a peer: is it there, does it trust us, which images does it offer, on what terms?"
    p = _command(commands, "check", _run_check, text, "ppir check hospital-b.example:7443")
    p.add_argument("peer", help="HOST:PORT")
    _parent_options(p)


def _register(commands: Any) -> None:
    text = "Align my moving image to the fixed image of a peer (party 1). Writes a transform from fixed to moving."
    example = "ppir register moving.nrrd --peer hospital-b.example --output T.h5 --warped W.nrrd --report R.json"
    p = _command(commands, "register", _run_register, text, example)
    p.add_argument("moving", type=Path, help="image file or folder of one DICOM series")
    p.add_argument("--peer", required=True, help="HOST:PORT that serves the fixed image")
    p.add_argument("--image", default="", help="name of the fixed image, where the peer offers several")
    p.add_argument("--mask", type=Path, help="mask of the moving image")
    p.add_argument("--dealer", default="", help="HOST:PORT of the dealer, for mpc")
    p.add_argument("--dealer-fingerprint", default="", help="accept this dealer only")
    p.add_argument(
        "--reconnect", type=float, default=RECONNECT,
        help=f"seconds to try to reach a lost peer again and go on ({RECONNECT:g}; 0: never)",
    )  # fmt: skip
    p.add_argument("--show-fixed", type=Path, help=argparse.SUPPRESS)  # the demonstration's pictures show both images
    _registration_options(p)


def _simulate(commands: Any) -> None:
    text = "Both parties (and the dealer) as real processes on this machine, for one who holds both images."
    example = "ppir simulate --fixed F.nrrd --moving M.nrrd --loss ncc --protocol fhe --output T.h5 --report R.json"
    p = _command(commands, "simulate", _run_simulate, text, example)
    p.add_argument("--fixed", type=Path, required=True)
    p.add_argument("--moving", type=Path, required=True)
    p.add_argument("--fixed-mask-file", type=Path, help="mask of the fixed image")
    p.add_argument("--mask", type=Path, help="mask of the moving image")
    p.add_argument("--budget-percent", type=float, default=1e6, help="party 2's budget per level (default: open)")
    _registration_options(p)


def _registration_options(p: Any) -> None:
    _run_options(p)
    p.add_argument("--output", type=Path, required=True, help=f"transform file ({', '.join(TRANSFORM_FILES)})")
    p.add_argument("--inverse", type=Path, help="transform file for the inverse (moving to fixed); not of bspline")
    p.add_argument("--warped", type=Path, help="moving image resampled on the fixed grid")
    p.add_argument("--report", type=Path, help="report as JSON; a readable .html is written beside it")
    p.add_argument("--pictures", type=Path, help="existing folder for the report's pictures as PNG files")


def _run_options(p: Any) -> None:
    """Everything that decides how a run goes, and so what it discloses."""
    d = Parameters()
    _parent_options(p)
    p.add_argument("--transform", choices=tuple(TRANSFORMS), default=d.transform)
    p.add_argument("--loss", choices=tuple(LOSSES), default=d.loss)
    p.add_argument(
        "--protocol",
        choices=("fhe", "fhe_verified", "mpc", "clear", "fhe_v1", "fhe_v2", PUBLISHED),
        default=d.protocol,
        help="clear protects nothing; fhe_v1, fhe_v2, published (of cc): as published, to compare",
    )
    p.add_argument("--sampling", choices=METHODS, default=d.sampling, help="gms: ∝ gradient magnitude; urs: random")
    p.add_argument("--percent", type=float, default=None, help="of the voxels (urs) or blocks (gms) of each level")
    p.add_argument("--disclose-sampling", action="store_true", help="gms under mpc: let party 2 see the chosen blocks")
    p.add_argument("--levels", default="", help="shrink factors coarse to fine, such as 4,2,1 (default: by size)")
    p.add_argument("--evaluations", type=int, default=d.evaluations, help="most per level")
    p.add_argument("--grid-spacing", type=float, default=d.grid_spacing, help="bspline: mm at the finest level (10)")
    p.add_argument("--iterations", default="", help="bspline, diffeo: most per level, coarse to fine, such as 6,4,1")
    p.add_argument(
        "--bending", type=float, default=d.bending, help="bspline, diffeo: weight of the bending energy, mm²"
    )
    p.add_argument("--stride", type=int, default=d.stride, help="diffeo: voxels between control points of a step (5)")
    p.add_argument(
        "--elastic", type=float, default=d.elastic, help="diffeo: Gaussian over the field (cc: each velocity), mm (0)"
    )
    p.add_argument("--radius", type=float, default=d.radius_mm, help="lncc: window in mm, times the shrink factor")
    p.add_argument("--step-tolerance", type=float, default=d.step_tolerance, help="mm per mm of voxel size")
    p.add_argument("--loss-tolerance", type=float, default=d.loss_tolerance, help="relative")
    p.add_argument("--initial", default="centres", help="identity, centres, or a transform file (fixed to moving)")
    p.add_argument(
        "--bins", type=int, default=d.bins, help="of the joint histogram, for mi: 8, 16, 32, 64 (16 in 2D, 32 in 3D)"
    )
    p.add_argument(
        "--pool",
        type=int,
        default=d.pool,
        help="most samples per level, for mi (65536 in 2D; 32768 in 3D, 131072 with bspline and diffeo)",
    )
    p.add_argument("--mask-use", choices=("fill", "rows"), default=d.mask, help="use of the moving mask")
    p.add_argument("--fixed-mask", choices=("none", "fill", "private", "disclosed"), default=None)
    p.add_argument("--seed", type=int, default=d.seed)
    p.add_argument("--threads", type=int, default=os.cpu_count() or 1)


def _demo(commands: Any) -> None:
    text = "See it work: two published image pairs, clear, fhe and mpc side by side, as real processes."
    p = _command(commands, "demo", _run_demo, text, "ppir demo --output demo-output")
    p.add_argument("--output", type=Path, default=Path("demo-output"))
    p.add_argument("--quick", action="store_true", help="the 2D pair only")


def _ledger(commands: Any) -> None:
    text = "What peers have learned of the images shared here: numbers and bits per peer, image and level."
    _command(commands, "ledger", _run_ledger, text, "ppir ledger")


# ------------------------------------------------------------------------------------------ the commands


def _home(a: Arguments) -> Path:
    return a.home if a.home is not None else default_home()


def say(a: Arguments, event: str, text: str, **details: Any) -> None:
    """One line for a person, or one JSON object for a program."""
    print_line(json.dumps({"event": event, **details}) if a.json else text)


def print_line(text: str) -> None:
    """One whole line, also when several threads have something to say."""
    with _PRINTING:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def _run_identity(a: Arguments) -> None:
    home = _home(a)
    if a.renew or a.new_key:
        identity = renew_identity(home, name=a.name, new_key=a.new_key)
    else:
        identity = load_or_create_identity(home, a.name)
    text = (
        f"site         {identity.name}\nfingerprint  {identity.fingerprint}\n"
        f"valid until  {identity.not_after:%Y-%m-%d}\n"
        f"Read the fingerprint to the other site, which runs:  ppir trust add {identity.fingerprint}"
    )
    say(a, "identity", text, name=identity.name, fingerprint=identity.fingerprint)


def _run_trust(a: Arguments) -> None:
    store, failures = TrustStore(_home(a)), Failures(_home(a))
    if a.action != "list" and not a.what:
        raise InputError(f"ppir trust {a.action}: give a fingerprint, a name or a file.")
    if a.action == "add":
        fingerprint = normalise_fingerprint(a.what)
        peer = store.add(fingerprint, a.name or fingerprint[:9])
        say(a, "trusted", f"trusted: {peer.name}  {peer.fingerprint}", name=peer.name, fingerprint=peer.fingerprint)
    elif a.action == "remove":
        removed = store.remove(a.what)
        say(a, "removed", f"no longer trusted: {removed.name}  {removed.fingerprint}", fingerprint=removed.fingerprint)
    elif a.action == "lift":
        known = {peer.name: peer.fingerprint for peer in store.peers()}
        fingerprint = known.get(a.what) or normalise_fingerprint(a.what)
        count = failures.lift(fingerprint)
        say(a, "lifted", f"{count} failed checks of {fingerprint} lifted", fingerprint=fingerprint, failures=count)
    elif a.action == "add-authority":
        authority = store.add_authority(a.what, a.name or Path(a.what).stem)
        say(a, "trusted", f"trusted authority: {authority.name}", name=authority.name)
    else:
        for peer in store.peers():
            count = failures.count(peer.fingerprint)
            note = f"  ({count} failed checks; `ppir trust lift` forgives them)" if count else ""
            text = f"{peer.fingerprint}  {peer.name}{note}"
            say(a, "peer", text, fingerprint=peer.fingerprint, name=peer.name, failures=count)
        for authority in store.authorities():
            say(a, "authority", f"authority: {authority.name}", name=authority.name)


def _run_serve(a: Arguments) -> None:
    from PPIRLogic.api import serve

    if a.threads < 1 or a.max_sessions < 1 or a.queue < 0:
        raise InputError("--threads and --max-sessions must be at least 1, --queue at least 0.")
    if a.ask and a.with_parent:
        raise InputError("--ask reads answers from standard input; it does not go with --with-parent.")
    shared = _shared_images(a)
    if not TrustStore(_home(a)).peers() and not TrustStore(_home(a)).authorities():
        _note(a, "No peer is trusted yet, so nobody can connect: ppir trust add FINGERPRINT --name 'Hospital A'.")
    cancel = _service_cancel(a)
    serve(shared, a.listen, home=_home(a), max_sessions=a.max_sessions, queue=a.queue, threads=a.threads,
          on_event=lambda e: _show_event(a, e), cancel=cancel, fixed_pools=a.fixed_pools)  # fmt: skip


def _shared_images(a: Arguments) -> list[Any]:
    from PPIRLogic.fixed import FixedImage
    from PPIRLogic.images import read_mask, read_volume
    from PPIRLogic.points.files import read_points
    from PPIRLogic.points.fixed import FixedPoints
    from PPIRLogic.server import Shared

    if not a.fixed and not a.points:
        raise InputError("Nothing to serve: give an image, or a point set with --points.")
    if len(a.name) not in (0, len(a.fixed) + len(a.points)) or len(a.mask) not in (0, len(a.fixed)):
        raise InputError("Give --name (and --mask) once for every image (--name then for every set), or not at all.")
    policy, out = _policy(a), []
    if PUBLISHED in policy.protocols:
        _warn_published(a)
    dealer = a.dealer, normalise_fingerprint(a.dealer_fingerprint) if a.dealer_fingerprint else ""
    for i, path in enumerate(a.fixed):
        volume = read_volume(path, role="fixed")
        mask = read_mask(a.mask[i], volume) if a.mask else None
        name = a.name[i] if a.name else path.name.split(".")[0]
        out.append(Shared(FixedImage(name, volume, mask), policy, *dealer))
    for i, path in enumerate(a.points, len(a.fixed)):
        name = a.name[i] if a.name else path.name.split(".")[0]
        out.append(Shared(FixedPoints(name, read_points(path, role="fixed")), policy, *dealer))
    if len({s.image.name for s in out}) < len(out):
        raise InputError("Two images or point sets have the same name; give each its own with --name.")
    return out


def _policy(a: Arguments) -> Any:
    from PPIRLogic.policy import MASK_MODES, Policy
    from PPIRLogic.protocols import NAMES

    def names(option: str, known: Sequence[str]) -> frozenset[str]:
        given = frozenset(v.strip() for v in str(getattr(a, option)).split(",") if v.strip())
        if unknown := given - set(known):
            raise InputError(f"--{option}: unknown {', '.join(sorted(unknown))}; known: {', '.join(known)}.")
        return given

    budgets = (a.budget_percent, a.budget_bits, a.budget_session, a.budget_image, a.budget_histograms)
    if not all(0 <= v < UNLIMITED for v in budgets):  # also refuses NaN
        raise InputError("The limits of a disclosure budget must be numbers of at least 0.")
    return Policy(
        protocols=names("protocols", NAMES),
        losses=names("losses", tuple(LOSSES)),
        transforms=names("transforms", tuple(TRANSFORMS)),
        masks=names("masks", MASK_MODES),
        peers=frozenset(_peer_fingerprint(a, p) for p in a.allow),
        disclosed_sampling=a.allow_disclosed_sampling,
        budget=Budget(*budgets),
        ask=_ask if a.ask else None,
    )


def _peer_fingerprint(a: Arguments, name: str) -> str:
    for peer in TrustStore(_home(a)).peers():
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
    from PPIRLogic.server import grant_rows

    rows = "\n  ".join(grant_rows(levels))
    with _ASKING:
        print(
            f"\n{peer} asks to register to '{request.image}': {request.transform}, {request.loss},"
            f" protocol {request.protocol}.\nAt most it learns:\n  {rows}",
            file=sys.stderr,
            flush=True,
        )
        try:
            print("Allow this session? [y/N] ", end="", file=sys.stderr, flush=True)
            return input().strip().lower() in ("y", "yes")
        except EOFError:
            return False


def _run_dealer(a: Arguments) -> None:
    from PPIRLogic.api import deal

    deal(a.listen, home=_home(a), on_event=lambda e: _show_event(a, e), cancel=_service_cancel(a))


def _service_cancel(a: Arguments) -> CancelToken:
    """Ends the service on Ctrl-C, on SIGTERM, or with its parent."""
    token = CancelToken()

    def stop(number: int, frame: FrameType | None) -> None:
        token.cancel()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    if a.with_parent:
        _watch_parent(a.scratch)
    return token


def _watch_parent(scratch: Sequence[Path]) -> None:
    """Cancel when standard input is closed. A parent that lives says a word before; one that was killed cannot, so the
    folders it made for this process are removed here: they may hold a copy of an image."""

    def remove() -> None:
        for folder in scratch:
            shutil.rmtree(folder, ignore_errors=True)

    def watch() -> None:
        said = b""
        while data := os.read(sys.stdin.fileno(), 4096):
            said = data
        if not said:
            remove()
            atexit.register(remove)  # what was open, or is written on the way out
        _thread.interrupt_main()  # as Ctrl-C: whatever the main thread waits for, such as a connection

    threading.Thread(target=watch, daemon=True).start()


def _show_event(a: Arguments, event: dict[str, Any]) -> None:
    details = "  ".join(f"{k}={v}" for k, v in event.items() if k not in ("time", "event"))
    print_line(json.dumps(event) if a.json else f"{event['event']}  {details}")


def _note(a: Arguments, text: str) -> None:
    if not a.json:
        print(f"note: {text}", file=sys.stderr, flush=True)


@contextmanager
def called(home: Path, peer: str) -> Iterator[ClientSession]:
    """A session with a peer that is asked what it offers, and nothing else."""
    from PPIRLogic.peer.ledger import SessionLedger
    from PPIRLogic.session import ClientSession

    identity = load_or_create_identity(home)
    with ClientSession(peer, identity, TrustStore(home), lambda: None, 1, SessionLedger(None, {})) as session:
        yield session


def _run_check(a: Arguments) -> None:
    if a.with_parent:
        _watch_parent(a.scratch)
    with called(_home(a), a.peer) as session:
        say_offers(a, session)


def say_offers(a: Arguments, session: ClientSession) -> None:
    """Who answers, and what it offers on what terms."""
    channel = session.channel
    say(a, "peer", f"{channel.peer_name} at {channel.address}, fingerprint {channel.peer_fingerprint}: trusted",
        name=channel.peer_name, fingerprint=channel.peer_fingerprint)  # fmt: skip
    for offer in [*session.offers(), *session.points()]:
        left = offer.budget["numbers_per_image"] - offer.numbers_opened
        text = (
            f"  {offer.what} '{offer.name}': {offer.geometry.describe()}"
            f"{', with a mask' if offer.has_mask else ''}\n"
            f"    protocols {', '.join(offer.protocols)}; losses {', '.join(offer.losses)}; transforms"
            f" {', '.join(offer.transforms)}; mask use {', '.join(offer.masks)}\n"
            f"    budget {offer.budget['percent_per_level']:g} % of each level,"
            f" {offer.budget['numbers_per_session']:,.0f} numbers per session, {left:,.0f} left in all"
        )
        details = {k: v for k, v in offer.__dict__.items() if k != "geometry"}
        say(a, offer.what, text, geometry=offer.geometry.to_dict(), **details)


def _parameters(a: Arguments, has_fixed_mask: bool) -> Parameters:
    from PPIRLogic.transforms import read_transform

    initial: Any = a.initial if a.initial in ("identity", "centres") else read_transform(a.initial)
    levels = _counts("--levels", a.levels, "shrink factors such as 4,2,1")
    iterations = _counts("--iterations", a.iterations, "one count per level, such as 6,6,2")
    if a.protocol == PUBLISHED:
        _warn_published(a)
    if a.sampling != "full" and a.percent is None:
        raise InputError(f"--sampling {a.sampling} needs --percent, such as --percent 20.")
    return Parameters(
        transform=a.transform, loss=a.loss, protocol=a.protocol, sampling=a.sampling,
        percent=a.percent if a.sampling != "full" else 100.0, disclose_sampling=a.disclose_sampling, levels=levels,
        evaluations=a.evaluations, step_tolerance=a.step_tolerance, loss_tolerance=a.loss_tolerance, initial=initial,
        bins=a.bins, pool=a.pool, mask=a.mask_use, fixed_mask=a.fixed_mask or ("fill" if has_fixed_mask else "none"),
        seed=a.seed, threads=a.threads, grid_spacing=a.grid_spacing, iterations=iterations, bending=a.bending,
        radius_mm=a.radius, stride=a.stride, elastic=a.elastic,
    )  # fmt: skip


def _warn_published(a: Arguments) -> None:
    _note(
        a,
        "WARNING: the protocol 'published' opens three numbers per voxel to both sides in every step. Both images can"
        " be computed from them (Docs/privacy.md). It is there to compare; use mpc.",
    )


def _counts(option: str, text: str, what: str) -> tuple[int, ...] | None:
    """Whole numbers with commas between them; None for nothing."""
    try:
        return tuple(int(v) for v in text.split(",")) if text else None
    except ValueError:
        raise InputError(f"{option} {text}: give {what}.") from None


def _run_register(a: Arguments) -> None:
    from PPIRLogic.images import read_mask, read_volume
    from PPIRLogic.registration import register
    from PPIRLogic.show import RunDisplay, write_results

    _check_outputs(a)
    moving = read_volume(a.moving, role="moving")
    fixed = read_volume(a.show_fixed, role="fixed") if a.show_fixed else None
    mask = read_mask(a.mask, moving) if a.mask else None
    fingerprint = normalise_fingerprint(a.dealer_fingerprint) if a.dealer_fingerprint else ""
    peer = Peer(a.peer, a.image, a.dealer, fingerprint)
    if not 0 <= a.reconnect < float("inf"):
        raise InputError("--reconnect must be a number of seconds of at least 0.")
    parameters = _parameters(a, False)
    with _interruptible() as token:
        if a.with_parent:
            _watch_parent(a.scratch)
        with RunDisplay(a.json) as display:
            result = register(
                moving,
                peer,
                mask=mask,
                parameters=parameters,
                home=_home(a),
                progress=display,
                cancel=token,
                reconnect=a.reconnect,
            )
        write_results(a, result, moving, fixed)


def _run_simulate(a: Arguments) -> None:
    from PPIRLogic.images import read_volume
    from PPIRLogic.show import RunDisplay, write_results
    from PPIRLogic.simulate import OPEN_BUDGET, simulate

    _check_outputs(a)
    parameters = _parameters(a, a.fixed_mask_file is not None)
    fixed, moving = read_volume(a.fixed, role="fixed"), read_volume(a.moving, role="moving")
    budget = replace(OPEN_BUDGET, percent_per_level=a.budget_percent, bits_percent_per_level=6 * a.budget_percent)
    with _interruptible() as token:
        if a.with_parent:
            _watch_parent(a.scratch)
        with RunDisplay(a.json) as display:
            result = simulate(
                a.fixed, moving, fixed_mask=a.fixed_mask_file, moving_mask=a.mask, parameters=parameters,
                budget=budget, progress=display, cancel=token,
            )  # fmt: skip
        write_results(a, result, moving, fixed)


class _interruptible:
    """The first Ctrl-C or SIGTERM cancels the run, in whatever stage: threads see the token, the main thread the
    interrupt. Later ones are passed over, so that what was reached so far is written whole."""

    def __enter__(self) -> CancelToken:
        token = CancelToken()

        def stop(number: int, frame: FrameType | None) -> None:
            if not token.cancelled:
                token.cancel()
                raise KeyboardInterrupt

        self._former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return token

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)


def _check_outputs(a: Arguments) -> None:
    """Say before a long run, not after it, that a result could not be written."""
    if a.inverse is not None and a.transform == BSPLINE:
        raise InputError("--inverse: a B-spline has no inverse here; --transform diffeo has one.")
    transforms = FIELD_FILES if a.transform == DIFFEO else TRANSFORM_FILES
    files = ((a.output, transforms), (a.inverse, transforms), (a.warped, WRITABLE_IMAGES), (a.report, (".json",)))
    for path, endings in files:
        if path is None:
            continue
        if not path.name.lower().endswith(endings):
            why = " A displacement field needs a binary file." if path.name.lower().endswith(TRANSFORM_FILES) else ""
            raise OutputError(f"{path}: the name must end in one of {', '.join(endings)}.{why}")
        folder = path.resolve().parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise OutputError(f"{path}: the folder {folder} does not exist or cannot be written to.")
        if path.is_dir():
            raise OutputError(f"{path} is a folder; give a file name.")
    if a.pictures is not None and not a.pictures.is_dir():
        raise OutputError(f"{a.pictures}: this folder does not exist. Make it, or give another with --pictures.")


def _run_demo(a: Arguments) -> None:
    from PPIRLogic.demo import run_demo

    run_demo(a.output, quick=a.quick)


def _run_ledger(a: Arguments) -> None:
    rows = Accounts(_home(a) / "ledger" / "accounts").rows()
    if not rows and not a.json:
        print("Nothing has been disclosed.")
    for r in rows:
        image = f"'{r['name']}' ({r['image'][:12]}…)" if r["name"] else r["image"]
        text = f"{r['peer']}  image {image}  shrink factor {r['level']}: {r['numbers']} numbers, {r['bits']} bits"
        say(a, "account", text, **r)


def no_core_files() -> None:
    """A crash must not put images and keys on disk. Windows and piped dumps: see Docs/it.md."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    except (ImportError, OSError, ValueError):
        pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. Exit codes: 0 done, 2 bad input or usage, 130 cancelled, else the error's own (errors.py)."""
    a = build_parser().parse_args(arguments)
    no_core_files()
    try:
        a.run(a)
    except PPIRError as error:
        sys.exit(fail(a, error))
    except KeyboardInterrupt:
        sys.exit(fail(a, Cancelled("Cancelled; nothing was written.")))
    except BrokenPipeError:
        sys.exit(141)
    except MemoryError:
        sys.exit(
            fail(a, InputError("There is not enough memory for this image. Use sampling, or a coarser finest level."))
        )
    except Exception as error:
        if os.environ.get("PPIR_DEBUG"):
            raise
        sys.exit(fail(a, _internal(error)))


def _internal(error: Exception) -> PPIRError:
    """A bug, said without a traceback and without the error's own text, which could quote data."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = f"{Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}" if frame is not None else "unknown"
    return PPIRError(
        f"Internal error ({type(error).__name__} at {where}). This is a bug in PPIRExtension; please report it with the"
        " command you ran. PPIR_DEBUG=1 shows the details on this machine."
    )


def fail(a: Arguments, error: PPIRError) -> int:
    """Show an error without a traceback; returns the exit code."""
    if a.json:
        print_line(json.dumps({"event": "error", "error": type(error).__name__, "text": str(error)}))
    else:
        print(f"ppir: {error}", file=sys.stderr, flush=True)
    return error.exit_code
