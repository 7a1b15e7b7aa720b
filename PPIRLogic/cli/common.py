"""What the work of all commands shares: this site's folder, what is said of an image, the parent process, signals."""

from __future__ import annotations

import _thread
import atexit
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from PPIRLogic.cli.output import Arguments, note
from PPIRLogic.errors import InputError, TrustError
from PPIRLogic.files import name_problem, shown_path
from PPIRLogic.network.identity import default_home, load_or_create_identity, normalise_fingerprint
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.progress import CancelToken, Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from PPIRLogic.images.volume import Volume
    from PPIRLogic.registration.party1.session import ClientSession

PICTURES = (".png", ".tif", ".tiff")  # that seldom say how wide a pixel is
FEW_SLICES = 5


def home_of(a: Arguments) -> Path:
    home: Path = a.home if a.home is not None else default_home()
    if problem := name_problem(home):
        raise InputError(f"The folder of this site '{shown_path(home)}' cannot be used: {problem}")
    return home


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


def note_nobody_trusted(a: Arguments) -> None:
    """Said by a service that nobody can call yet."""
    if not TrustStore(home_of(a)).peers() and not TrustStore(home_of(a)).authorities():
        note(a, "No peer is trusted yet, so nobody can connect: ppir trust add FINGERPRINT --name 'Hospital A'.")


def peer_fingerprint(a: Arguments, name: str, option: str = "--allow") -> str:
    """Of a trusted peer by its name, or of any by its fingerprint, as --allow takes it. TrustError: neither."""
    for peer in TrustStore(home_of(a)).peers():
        if peer.name == name:
            return peer.fingerprint
    try:
        return normalise_fingerprint(name)
    except InputError:
        raise TrustError(
            f"{option} {name}: no trusted peer has this name, and it is no fingerprint (ppir trust)."
        ) from None


def peer_address(a: Arguments) -> str:
    """What is called: the address of the peer, or the peer by name or fingerprint at the relay."""
    use_proxy(a)
    return f"{peer_fingerprint(a, a.peer, '--peer')}@{a.relay}" if a.relay else str(a.peer)


def own_address(a: Arguments) -> str:
    """Where a service waits for callers: at an address of this computer, or at the relay."""
    use_proxy(a)
    return f"@{a.relay}" if a.relay else str(a.listen)


def use_proxy(a: Arguments) -> None:
    """The proxy that was typed comes before that of the environment, for this process."""
    if a.proxy:
        os.environ["HTTPS_PROXY"] = os.environ["https_proxy"] = a.proxy


@contextmanager
def called(home: Path, peer: str) -> Iterator[ClientSession]:
    """A session with a peer that is asked what it offers, and nothing else."""
    from PPIRLogic.disclosure.ledger import SessionLedger
    from PPIRLogic.registration.party1.session import ClientSession

    identity = load_or_create_identity(home)
    with ClientSession(peer, identity, TrustStore(home), lambda: None, 1, SessionLedger(None, {})) as session:
        yield session


def warn_of_protocols(a: Arguments, names: Iterable[str]) -> None:
    """What protocols say of themselves before a run or a service."""
    from PPIRLogic.registration.protocols import protocol_named

    for name in names:
        if warning := protocol_named(name).warning:
            note(a, f"WARNING: {warning}")


class Interruptible:
    """The first Ctrl-C, SIGTERM or hangup cancels the run, in whatever stage: threads see the token, the main thread
    the interrupt. Later ones are passed over, and so are all once there is a result: it is written whole.

    So does the end of the parent, where the command that is given has one. It is watched from here on, not before: an
    interrupt that comes while files are loaded can be lost in what loads them, and then there is no token that tells.
    """

    def __init__(self, a: Arguments | None = None) -> None:
        self._command = a

    def __enter__(self) -> Interruptible:
        self.token, self._over = CancelToken(), False

        def stop(number: int, frame: FrameType | None) -> None:
            if not (self.token.cancelled or self._over):
                self.token.cancel()
                raise KeyboardInterrupt

        self._former = {number: signal.signal(number, stop) for number in _ending_signals()}
        if self._command is not None and self._command.with_parent:
            watch_parent(self._command.scratch)
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
