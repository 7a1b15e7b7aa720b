"""Both sites of a proxy on one machine, as real processes over TLS on loopback: to try, to compare, to test.

The site that segments (`ppir proxy serve`) is a child process with an identity of its own in a temporary folder; the
hospital is the calling process. The child ends when this process does.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PPIRLogic.images.volume import Volume
from PPIRLogic.local_processes import Child, make_sites, start
from PPIRLogic.progress import CancelToken
from PPIRLogic.proxy.party1 import Consent, segment
from PPIRLogic.proxy.segmentation_result import Segmentation


@dataclass(frozen=True)
class RunningServer:
    """A running service: where each of the two lives, where the service is called, and its process."""

    hospital: Path
    server: Path
    address: str
    child: Child


@contextlib.contextmanager
def segmenting(model: Path | None = None) -> Iterator[RunningServer]:
    """A site that segments (default: with the model that comes with the program), while the context lasts."""
    with tempfile.TemporaryDirectory(prefix="ppir-") as name:
        folder = Path(name)
        sites = make_sites(folder, ("hospital", "server"))
        chosen = ["--model", str(model)] if model is not None else []
        arguments = ["--listen", "127.0.0.1:0", *chosen, "--scratch", str(folder)]
        child = start("server", sites["server"].home, "proxy", "serve", *arguments)
        try:
            address = child.wait_for("listening")["address"]
            yield RunningServer(sites["hospital"].home, sites["server"].home, address, child)
        finally:
            child.stop()


def simulate(
    scan: Volume | str | Path,
    strength: str | float = "medium",
    *,
    model: Path | None = None,
    consent: Callable[[Consent], bool] = lambda asked: True,
    cancel: CancelToken | None = None,
    **options: Any,
) -> Segmentation:
    """What comes of a scan that is segmented at another site: prepared, deformed, sent, segmented and brought back.

    Nothing leaves this machine. options: as of `segment` (mask, strip, spectrum). Errors: as `segment`.

    >>> found = simulate("t1.nii.gz", "high")  # doctest: +SKIP
    >>> found.volumes_ml()  # doctest: +SKIP
    """
    token = cancel or CancelToken()
    wanted = "any" if model is not None else ""
    with segmenting(model) as world:
        return segment(
            scan, world.address, consent=consent, strength=strength, model=wanted, home=world.hospital,
            check=token.check, **options,
        )  # fmt: skip
