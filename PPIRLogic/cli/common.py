"""What all commands share: output, the parent process, signals, the options that every command has."""

from __future__ import annotations

import _thread
import argparse
import atexit
import contextlib
import io
import json
import os
import shutil
import signal
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from PPIRLogic.errors import InputError
from PPIRLogic.files import name_problem, shown_path
from PPIRLogic.network.channel import DEFAULT_PORT
from PPIRLogic.network.identity import default_home, load_or_create_identity
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.progress import CancelToken, Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from PPIRLogic.images.volume import Volume
    from PPIRLogic.registration.party1.session import ClientSession

Arguments = argparse.Namespace
_PRINTING = threading.Lock()
PICTURES = (".png", ".tif", ".tiff")  # that seldom say how wide a pixel is
FEW_SLICES = 5


def file_path(text: str) -> Path:
    """A path that was typed. An empty one, such as of a variable that is not set, would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty")
    return Path(text)


class HelpFormat(argparse.RawDescriptionHelpFormatter):
    """Help that says of every value what it is: a file, a count, a number."""

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        known: dict[Any, str] = {file_path: "FILE", int: "N", float: "X"}
        return known.get(action.type, super()._get_default_metavar_for_optional(action))


def add_command(commands: Any, name: str, run: Callable[[Arguments], None], text: str, example: str) -> Any:
    parser = commands.add_parser(
        name, help=text, description=textwrap.fill(text, 100), epilog=f"example:\n  {example}",
        formatter_class=HelpFormat, allow_abbrev=False,
    )  # fmt: skip
    parser.set_defaults(run=run)
    parser.add_argument(
        "--home", type=file_path, metavar="FOLDER", help="where this site's identity, trust and ledger lie (PPIR_HOME)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    return parser


def add_service_options(p: Any) -> None:
    p.add_argument(
        "--listen",
        default=f"0.0.0.0:{DEFAULT_PORT}",
        metavar="HOST:PORT",
        help=f"where to listen (every address of this machine, port {DEFAULT_PORT})",
    )
    add_parent_options(p)


def add_parent_options(p: Any) -> None:
    """For a process that starts `ppir` and must leave nothing behind, however it ends itself."""
    p.add_argument("--with-parent", action="store_true", help="for programs: end when standard input is closed")
    p.add_argument("--scratch", action="append", default=[], type=file_path, help=argparse.SUPPRESS)


def home_of(a: Arguments) -> Path:
    home: Path = a.home if a.home is not None else default_home()
    if problem := name_problem(home):
        raise InputError(f"The folder of this site '{shown_path(home)}' cannot be used: {problem}")
    return home


def say(a: Arguments, event: str, text: str, **details: Any) -> None:
    """One line for a person, or one JSON object for a program."""
    print_line(json.dumps({"event": event, **details}) if a.json else text)


def print_line(text: str) -> None:
    """One whole line, also when several threads have something to say. A standard output that takes no more (a full
    disk, a pipe that was closed) is said once and left: the run and its files are worth more."""
    with _PRINTING:
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        except OSError as error:
            full, sys.stdout = sys.stdout, open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for good
            with contextlib.suppress(OSError, ValueError):
                os.dup2(sys.stdout.fileno(), full.fileno())  # what still waits to be written is no error at the end
            print(f"note: standard output cannot be written ({error.strerror}).", file=sys.stderr, flush=True)


class Patient:
    """A text stream that takes what it can. Words for a person are not worth the exit code of a run."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def show_what_can_be_shown() -> None:
    """Where a terminal or file cannot hold a letter, another is shown in its place, and a standard error that is closed
    or full is left: no output is worth a failure."""
    nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if not isinstance(sys.stderr, Patient):
        sys.stderr = Patient(sys.stderr)  # type: ignore[assignment]


def _ending_signals() -> tuple[int, ...]:
    """Those that end a run in good order. A hangup is one, unless nohup had it passed over."""
    known = [number for name in ("SIGHUP",) if (number := getattr(signal, name, None)) is not None]
    return (signal.SIGINT, signal.SIGTERM, *(n for n in known if signal.getsignal(n) != signal.SIG_IGN))


def service_cancel(a: Arguments, hear: Callable[[bytes], bool] = lambda data: False) -> CancelToken:
    """Ends the service on Ctrl-C, on SIGTERM, on a hangup, or with its parent. `hear`: see `watch_parent`."""
    token = CancelToken()

    def stop(number: int, frame: FrameType | None) -> None:
        token.cancel()

    for number in _ending_signals():
        signal.signal(number, stop)
    if a.with_parent:
        watch_parent(a.scratch, hear)
    return token


def watch_parent(scratch: Sequence[Path], hear: Callable[[bytes], bool] = lambda data: False) -> None:
    """Cancel when standard input is closed. A parent that lives says a word before; one that was killed cannot, so the
    folders it made for this process are removed here: they may hold a copy of an image. `hear` gets what a parent says
    and returns whether all of that was for it, and no word of an end."""

    def remove() -> None:
        for folder in scratch:
            shutil.rmtree(folder, ignore_errors=True)

    def watch() -> None:
        said = b""
        while data := os.read(sys.stdin.fileno(), 4096):
            said = b"" if hear(data) else data
        if not said:
            remove()
            atexit.register(remove)  # what was open, or is written on the way out
        _thread.interrupt_main()  # as Ctrl-C: whatever the main thread waits for, such as a connection

    threading.Thread(target=watch, daemon=True).start()


def show_event(a: Arguments, event: dict[str, Any]) -> None:
    details = "  ".join(f"{k}={v}" for k, v in event.items() if k not in ("time", "event"))
    print_line(json.dumps(event) if a.json else f"{event['event']}  {details}")


def note(a: Arguments, text: str) -> None:
    if not a.json:
        print(f"note: {text}", file=sys.stderr, flush=True)


def note_image(a: Arguments, volume: Volume, mask: NDArray[np.bool_] | None, role: str) -> None:
    """What a person should know of an image before it is used."""
    note_padding(a, volume, mask, role)
    if mask is not None:
        note_mask(a, mask, role)
    thinnest = min(volume.geometry.size)
    if thinnest < FEW_SLICES:
        few = f"The {role} image '{volume.name}' has {thinnest} slices along one axis, too few slices"
        note(a, f"{few} to tell well how it moves or turns across them.")
    if volume.name.lower().endswith(PICTURES) and set(volume.geometry.spacing) == {1.0}:
        picture = f"The {role} image '{volume.name}' is a picture; its pixels are taken as 1 mm wide."
        note(a, f"{picture} If they are not, save it as .nrrd or .nii.gz with its spacing.")


def note_mask(a: Arguments, mask: NDArray[np.bool_], role: str) -> None:
    """How much a mask covers, so that one that is upside down is seen before it is used."""
    share = 100 * float(mask.mean())
    hint = "" if share < 100 else " It leaves nothing out. Inside is every value other than zero."
    note(a, f"The mask of the {role} image covers {share:.3g} % of it.{hint}")


def note_padding(a: Arguments, volume: Volume, mask: NDArray[np.bool_] | None, role: str) -> None:
    """Say what in an image looks as if it had never been measured."""
    from PPIRLogic.images.intensities import padding_of

    found = padding_of(volume.array if mask is None else volume.array[mask])
    if found is not None:
        note(a, found.describe(f"The {role} image '{volume.name}'"))


@contextmanager
def called(home: Path, peer: str) -> Iterator[ClientSession]:
    """A session with a peer that is asked what it offers, and nothing else."""
    from PPIRLogic.disclosure.ledger import SessionLedger
    from PPIRLogic.registration.party1.session import ClientSession

    identity = load_or_create_identity(home)
    with ClientSession(peer, identity, TrustStore(home), lambda: None, 1, SessionLedger(None, {})) as session:
        yield session


def current_name(protocol: str) -> str:
    """The name on the wire of a protocol that a person named; a former name is taken, with a note."""
    from PPIRLogic.registration.catalogue import warn_of_former, wire_name

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn_of_former(protocol)
    for warning in told:
        print(f"note: {warning.message}", file=sys.stderr, flush=True)
    return wire_name(protocol)


def warn_of_protocols(a: Arguments, names: Iterable[str]) -> None:
    """What protocols say of themselves before a run or a service."""
    from PPIRLogic.registration.protocols import protocol_named

    for name in names:
        if warning := protocol_named(name).warning:
            note(a, f"WARNING: {warning}")


def counts_of(option: str, text: str, what: str) -> tuple[int, ...] | None:
    """Whole numbers with commas between them; None for nothing."""
    try:
        return tuple(int(v) for v in text.split(",")) if text else None
    except ValueError:
        raise InputError(f"{option} {text}: give {what}.") from None


class Interruptible:
    """The first Ctrl-C, SIGTERM or hangup cancels the run, in whatever stage: threads see the token, the main thread
    the interrupt. Later ones are passed over, and so are all once there is a result: it is written whole."""

    def __enter__(self) -> Interruptible:
        self.token, self._over = CancelToken(), False

        def stop(number: int, frame: FrameType | None) -> None:
            if not (self.token.cancelled or self._over):
                self.token.cancel()
                raise KeyboardInterrupt

        self._former = {number: signal.signal(number, stop) for number in _ending_signals()}
        return self

    def follow(self, display: Callable[[Progress], None]) -> Callable[[Progress], None]:
        """The display itself, heard on its way: it is told of the end of a session, and of another one's begin."""

        def tell(step: Progress) -> None:
            self._over = step.stage == "finished"
            display(step)

        return tell

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
