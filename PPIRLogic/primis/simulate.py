"""Both sites of sharing on one machine, as real processes over TLS on loopback: to try, to compare, to test.

The owner (`ppir primis serve`) is a child process with an identity of its own in a temporary folder; who asks is the
calling process. The child ends when this process does.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PPIRLogic.images.volume import Volume
from PPIRLogic.local_processes import Child, make_sites, start
from PPIRLogic.primis.levels import LEVELS
from PPIRLogic.primis.party1 import ask
from PPIRLogic.primis.sealing import seal, unseal
from PPIRLogic.primis.unsealed import Unsealed
from PPIRLogic.progress import CancelToken

NAME = "image"  # what the image is offered as


@dataclass(frozen=True)
class RunningOwner:
    """A running owner: where each of the two lives, where the owner is called, and its process."""

    asker: Path
    owner: Path
    address: str
    child: Child


@contextlib.contextmanager
def sharing(
    image: Volume | str | Path, *, level: str = LEVELS[-1], scratch: Path | None = None
) -> Iterator[RunningOwner]:
    """An owner that sealed `image` and grants it up to `level`, while the context lasts.

    Should the calling process be killed, the owner removes the sites' folder and `scratch`. Errors: as `seal`.
    """
    with tempfile.TemporaryDirectory(prefix="ppir-") as name:
        folder = Path(name)
        sites = make_sites(folder, ("asker", "owner"))
        file = folder / f"{NAME}.ppis"
        seal(image, file, home=sites["owner"].home)
        left = [option for path in (folder, scratch) if path for option in ("--scratch", str(path))]
        arguments = [str(file), "--name", NAME, "--level", level, "--listen", "127.0.0.1:0", *left]
        child = start("owner", sites["owner"].home, "primis", "serve", *arguments)
        try:
            address = child.wait_for("listening")["address"]
            yield RunningOwner(sites["asker"].home, sites["owner"].home, address, child)
        finally:
            child.stop()


def simulate(
    image: Volume | str | Path,
    level: str = LEVELS[0],
    *,
    purpose: str = "a simulation",
    cancel: CancelToken | None = None,
) -> Unsealed:
    """What another site gets that is granted `image` up to `level`: sealed, served, fetched, granted and opened.

    Errors: as `seal`, `ask` and `unseal`.

    >>> opened = simulate("chest.dcm", "segmentation")  # doctest: +SKIP
    >>> opened.level, opened.exact  # doctest: +SKIP
    ('segmentation', False)
    """
    token = cancel or CancelToken()
    with sharing(image, level=level) as world, tempfile.TemporaryDirectory(prefix="ppir-") as folder:
        got = ask(NAME, world.address, level, purpose, Path(folder), home=world.asker, check=token.check)
        return unseal(got.file, home=world.asker, grant=got.grant, cancel=token)
