"""Both parties on one machine, as real processes over TLS on loopback: to try, to compare, to test.

Party 2 (`ppir serve`) and, under mpc, the dealer (`ppir dealer`) are child processes with identities of their
own in a temporary folder; party 1 is the calling process. The children end when this process does.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from PPIRLogic.disclosure.accounts import Budget
from PPIRLogic.errors import InputError
from PPIRLogic.images.door import as_mask, check_volume
from PPIRLogic.images.reading import read_mask, read_volume
from PPIRLogic.images.volume import Volume
from PPIRLogic.images.writing import write_volume
from PPIRLogic.local_processes import Child, make_sites, start
from PPIRLogic.points.pointset import PointSet, as_points
from PPIRLogic.progress import CancelToken, Progress
from PPIRLogic.registration.catalogue import LOSSES, TRANSFORMS
from PPIRLogic.registration.names import FIXED_MASK_USES
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.points.register import PointsResult, register_points
from PPIRLogic.registration.protocols import protocol_named
from PPIRLogic.registration.request import Peer
from PPIRLogic.registration.result import RegistrationResult

Image = Volume | str | Path
OPEN_BUDGET = Budget(1e6, 1e7, 10**9, 10**9, 10**9)


@dataclass(frozen=True)
class RunningPeers:
    """Running peers: where party 1 lives and whom it calls."""

    home: Path
    peer: Peer
    children: tuple[Child, ...]


@contextlib.contextmanager
def peers(
    fixed: Path,
    *,
    mask: Path | None = None,
    protocol: str = "fhe",
    budget: Budget = OPEN_BUDGET,
    threads: int = 2,
    scratch: Path | None = None,
    points: bool = False,
    seed: int = 1,
) -> Iterator[RunningPeers]:
    """Party 2 serving `fixed`, an image or `points` (and a dealer under mpc), as processes, while the context lasts.

    The disclosure budget is open by default: whoever simulates holds both images. seed: of random pools, which are the
    owner's to draw. Should the calling process be killed,
    party 2 removes the sites' folder and `scratch`.
    """
    children: list[Child] = []
    with tempfile.TemporaryDirectory(prefix="ppir-") as folder:
        left = [option for path in (folder, scratch) if path for option in ("--scratch", str(path))]
        try:
            sites = make_sites(Path(folder), ("party-1", "party-2", "dealer"))
            dealer = ""
            if protocol_named(protocol).dealer:
                children.append(start("dealer", sites["dealer"].home, "dealer", "--listen", "127.0.0.1:0"))
                dealer = children[0].wait_for("listening")["address"]
            options = [*_serve_options(mask, protocol, budget, threads), "--fixed-pools", str(seed)]
            what = ["--points", str(fixed)] if points else [str(fixed)]
            if dealer:
                options += ["--dealer", dealer, "--dealer-fingerprint", sites["dealer"].fingerprint]
            options += ["--name", "fixed", *left]
            children.append(start("party 2", sites["party-2"].home, "serve", *what, *options))
            address = children[-1].wait_for("listening")["address"]
            fingerprint = sites["dealer"].fingerprint if dealer else ""
            peer = Peer(address, "fixed", dealer, fingerprint)
            yield RunningPeers(sites["party-1"].home, peer, tuple(children))
        finally:
            for child in children:
                child.stop()


def _serve_options(mask: Path | None, protocol: str, budget: Budget, threads: int) -> list[str]:
    options = [
        "--listen",
        "127.0.0.1:0",
        "--protocols",
        ",".join(filter(None, (protocol_named(protocol).affine_protocol, protocol))),
        "--threads",
        str(threads),
    ]
    options += ["--masks", ",".join(FIXED_MASK_USES), "--allow-disclosed-sampling"]
    options += ["--losses", ",".join(LOSSES), "--transforms", ",".join(TRANSFORMS)]  # plugins, too
    options += ["--budget-percent", str(budget.percent_per_level), "--budget-bits", str(budget.bits_percent_per_level)]
    options += ["--budget-session", str(budget.numbers_per_session), "--budget-image", str(budget.numbers_per_image)]
    options += ["--budget-subject", str(budget.times_per_subject)]
    options += ["--budget-histograms", str(budget.histograms_per_level)]
    return options + (["--mask", str(mask)] if mask is not None else [])


def simulate(
    fixed: Image,
    moving: Image,
    *,
    fixed_mask: NDArray[np.bool_] | str | Path | None = None,
    moving_mask: NDArray[np.bool_] | str | Path | None = None,
    parameters: Parameters | None = None,
    budget: Budget = OPEN_BUDGET,
    progress: Callable[[Progress], None] = lambda p: None,
    cancel: CancelToken | None = None,
) -> RegistrationResult:
    """Register `moving` to `fixed` with both parties (and the dealer) as real processes on this machine.

    fixed, moving: volumes or paths of ITK-readable files. Masks: arrays in array order (z, y, x), inside
    where they are not 0, or paths.
    Otherwise as `register`, with its errors. A volume given in memory is written to a private temporary folder for
    party 2 to read (OutputError: it cannot be).

    >>> result = simulate("fixed.nrrd", "moving.nrrd", parameters=Parameters(loss="ssd"))  # doctest: +SKIP
    >>> result.complete  # doctest: +SKIP
    True
    """
    p = Parameters() if parameters is None else parameters
    if not isinstance(p, Parameters) or not isinstance(budget, Budget):
        raise InputError("simulate needs parameters made by Parameters(…) and a budget made by Budget(…).")
    own = _as_volume(moving, "moving")
    mask = _as_mask(moving_mask, own, "moving")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ppir-images-")))
        fixed_file = _as_file(fixed, folder / "fixed.mha")
        mask_file = None if fixed_mask is None else _mask_file(fixed_mask, fixed, folder / "mask.mha")
        world = stack.enter_context(
            peers(
                fixed_file,
                mask=mask_file,
                protocol=p.protocol,
                budget=budget,
                threads=p.threads,
                scratch=folder,
                seed=p.seed,
            )
        )
        return register(own, world.peer, mask=mask, parameters=p, home=world.home, progress=progress, cancel=cancel)


def simulate_points(
    fixed: PointSet | ArrayLike,
    moving: PointSet | ArrayLike,
    *,
    budget: Budget = OPEN_BUDGET,
    protocol: str = "fhe",
    threads: int = 2,
    **options: Any,
) -> PointsResult:
    """As `register_points`, with both parties (and the dealer) as real processes on this machine.

    fixed, moving: PointSet, or arrays (n, 2) or (n, 3) of corresponding points, LPS mm. Errors: those of
    `register_points`, and InputError for fixed points that are none.

    >>> square = np.array([[0.0, 0.0], [40.0, 0.0], [40.0, 30.0], [0.0, 30.0]])
    >>> result = simulate_points(square, square + [3.0, -2.0], protocol="clear")
    >>> np.round(result.transform.TransformPoint((0.0, 0.0)), 3).tolist()
    [3.0, -2.0]
    """
    with tempfile.TemporaryDirectory(prefix="ppir-points-") as folder:
        file = Path(folder) / "fixed.txt"
        np.savetxt(file, as_points(fixed, "fixed").points, fmt="%.17g")
        with peers(file, protocol=protocol, budget=budget, threads=threads, points=True) as world:
            return register_points(moving, world.peer, protocol=protocol, home=world.home, threads=threads, **options)


def _as_volume(image: Image, role: str) -> Volume:
    if isinstance(image, (str, Path)):
        return read_volume(image, role=role)
    return check_volume(image, f"The {role} image '{getattr(image, 'name', '')}'")


def _as_mask(mask: NDArray[Any] | str | Path | None, image: Volume, role: str) -> NDArray[np.bool_] | None:
    if mask is None:
        return None
    return read_mask(mask, image) if isinstance(mask, (str, Path)) else as_mask(mask, image, f"The {role} mask")


def _as_file(image: Image, path: Path) -> Path:
    if isinstance(image, (str, Path)):
        return Path(image)
    write_volume(_as_volume(image, "fixed"), path)
    return path


def _mask_file(mask: NDArray[Any] | str | Path, fixed: Image, path: Path) -> Path:
    if isinstance(mask, (str, Path)):
        return Path(mask)
    image = _as_volume(fixed, "fixed")
    inside = as_mask(mask, image, "The fixed mask")
    write_volume(Volume(inside.astype(np.float32), image.geometry, "mask"), path)
    return path
