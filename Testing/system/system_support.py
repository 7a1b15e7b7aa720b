"""What the system tests share: phantoms with a known answer, `ppir` processes, and a server in this process."""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from PPIRLogic.cli.main import main
from PPIRLogic.disclosure.accounts import Budget
from PPIRLogic.errors import PPIRError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.local_processes import Site, make_sites
from PPIRLogic.network.channel import Channel, Message, connect
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.messages import error_from
from PPIRLogic.network.names import PEER
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.registration.party2.fixed_image import FixedImage
from PPIRLogic.registration.party2.policy import Policy
from PPIRLogic.registration.party2.server import Server
from PPIRLogic.registration.party2.site import Shared

PATIENCE = 60.0  # seconds for anything that must happen at all
SOON = 15.0  # seconds for what must happen "at once": generous, for a busy machine
OPEN = Budget(100.0, 600.0, 10**9, 10**9)
ENDLESS = ("--step-tolerance", "1e-9", "--loss-tolerance", "0", "--evaluations", "10000")
Array = NDArray[Any]


# ----------------------------------------------------------------------------------------------- phantoms


@dataclass(frozen=True)
class Phantom:
    """A sum of Gaussian blobs, known at every point in space, so that any grid and any motion is exact."""

    centres: Array
    widths: Array
    heights: Array

    @classmethod
    def make(cls, geometry: Geometry, seed: int = 5, blobs: int = 14) -> Phantom:
        draw = np.random.default_rng(seed)
        unit = draw.uniform(0.16, 0.84, (blobs, geometry.dimension)) * (np.array(geometry.size) - 1)
        affine = geometry.index_to_physical()
        smallest = min(n * s for n, s in zip(geometry.size, geometry.spacing, strict=True))
        widths, heights = draw.uniform(0.06, 0.16, blobs) * smallest, draw.uniform(0.4, 1.0, blobs)
        return cls(unit @ affine[:, :-1].T + affine[:, -1], widths, heights)

    def at(self, points: Array) -> Array:
        total = np.zeros(len(points))
        for centre, width, height in zip(self.centres, self.widths, self.heights, strict=True):
            total += height * np.exp(-np.square(points - centre).sum(axis=1) / (2 * width**2))
        return total

    def on(self, geometry: Geometry, motion: sitk.Transform | None = None, name: str = "phantom") -> Volume:
        """The phantom on a grid; with a `motion` (fixed to moving), the moving image whose true answer it is."""
        points = grid_points(geometry)
        if motion is not None:
            points = apply(motion.GetInverse(), points)
        values = self.at(points).reshape(geometry.array_shape)
        return Volume((1000 * values).astype(np.float32), geometry, name)


def grid_points(geometry: Geometry, step: int = 1) -> Array:
    """Physical points of all (or every `step`-th) voxels, in array order."""
    axes = [np.arange(0, n, step) for n in geometry.array_shape]
    index = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)[:, ::-1]
    affine = geometry.index_to_physical()
    return np.asarray(index @ affine[:, :-1].T + affine[:, -1])


def apply(transform: sitk.Transform, points: Array) -> Array:
    return np.array([transform.TransformPoint(p) for p in points.tolist()])


def plain_grid(dimension: int) -> Geometry:
    if dimension == 2:
        return grid((96, 80), (1.0, 1.2), (-10.0, 5.0))
    return grid((40, 36, 32), (1.5, 1.5, 2.0), (3.0, -8.0, 20.0))


def grid(
    size: Sequence[int], spacing: Sequence[float], origin: Sequence[float], direction: Array | None = None
) -> Geometry:
    matrix = np.eye(len(size)) if direction is None else direction
    return Geometry(tuple(size), tuple(spacing), tuple(origin), tuple(float(v) for v in np.ravel(matrix)))


def turned(dimension: int, degrees: float, scale: float = 1.0, shear: float = 0.0) -> Array:
    """A matrix: rotation (about an oblique axis in 3D), uniform scale and shear."""
    angle = np.deg2rad(degrees)
    c, s = np.cos(angle), np.sin(angle)
    if dimension == 2:
        rotation = np.array([[c, -s], [s, c]])
    else:
        x, y, z = np.array([1.0, 2.0, 3.0]) / np.sqrt(14.0)
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        rotation = np.eye(3) + s * cross + (1 - c) * cross @ cross
    skew = np.eye(dimension)
    skew[0, 1] = shear
    return scale * rotation @ skew


def motion_of(kind: str, geometry: Geometry) -> sitk.Transform:
    """A motion that this kind of transform can describe, a few voxels large."""
    d = geometry.dimension
    matrix = {
        "translation": np.eye(d),
        "rigid": turned(d, 6.0),
        "similarity": turned(d, 5.0, 1.05),
        "affine": turned(d, 4.0, 1.03, 0.05),
    }[kind]
    out = sitk.AffineTransform(d)
    out.SetMatrix([float(v) for v in matrix.ravel()])
    out.SetCenter([float(v) for v in geometry.centre()])
    out.SetTranslation([2.3, -1.7, 1.1][:d])
    return out


def distance(one: sitk.Transform, two: sitk.Transform, geometry: Geometry) -> float:
    """Largest distance in mm between two transforms over the grid."""
    points = grid_points(geometry, 5)
    return float(np.linalg.norm(apply(one, points) - apply(two, points), axis=1).max())


def ball(geometry: Geometry, share: float = 0.42, motion: sitk.Transform | None = None) -> NDArray[np.bool_]:
    """A mask: a ball about the grid's centre, its radius a share of the shortest side; moved like the phantom."""
    shortest = min(n * s for n, s in zip(geometry.size, geometry.spacing, strict=True))
    points = grid_points(geometry)
    if motion is not None:
        points = apply(motion.GetInverse(), points)
    near = np.linalg.norm(points - geometry.centre(), axis=1) < share * shortest
    return near.reshape(geometry.array_shape)


def save(volume: Volume, path: Path) -> Path:
    sitk.WriteImage(volume.to_sitk(), str(path))
    return path


def save_mask(mask: NDArray[np.bool_], geometry: Geometry, path: Path) -> Path:
    return save(Volume(mask.astype(np.float32), geometry, "mask"), path)


# ---------------------------------------------------------------------------------------------- processes


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-u", "-m", "PPIRLogic", *map(str, arguments)]


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "PPIR_HOME": str(home)}


def ppir(home: Path, *arguments: object, given: str | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a `ppir` command to its end; no command may ever show a traceback."""
    done = subprocess.run(
        command(*arguments), env=environment(home), capture_output=True, text=True, input=given, timeout=PATIENCE,
        check=False, **options,
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done


def here(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The same as `ppir`, in this process, for what is quick: any unplanned exception fails the test."""
    out, err, code, former = io.StringIO(), io.StringIO(), 0, os.environ.get("PPIR_HOME")
    os.environ["PPIR_HOME"] = str(home)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main([str(a) for a in arguments])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os.environ.pop("PPIR_HOME")
        if former is not None:
            os.environ["PPIR_HOME"] = former
    return subprocess.CompletedProcess([str(a) for a in arguments], code, out.getvalue(), err.getvalue())


def events_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """All lines of a --json command; every one of them must be an object with an event."""
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(isinstance(e, dict) and isinstance(e["event"], str) for e in events)
    return events


class Program:
    """A `ppir … --json` process that goes on: its events as they come, its standard error in a file."""

    def __init__(
        self, home: Path, *arguments: object, with_parent: bool = False, within: Sequence[str] = (), **options: Any
    ) -> None:
        """`within`: words before the command, such as those that put it into another network."""
        home.mkdir(parents=True, exist_ok=True)
        self.log = home / f"stderr-{time.monotonic_ns()}.txt"
        words = [*within, *command(*arguments, "--json", *(["--with-parent"] if with_parent else []))]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                words, env=environment(home), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                **options,
            )  # fmt: skip
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.seen: list[dict[str, Any]] = []
        self.broken: list[str] = []  # lines that are no JSON: there must be none
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                self.events.put(json.loads(line))
            except ValueError:
                self.broken.append(line)
        self.events.put({"event": "ended"})

    def wait_for(
        self, event: str, suits: Callable[[dict[str, Any]], bool] = lambda e: True, seconds: float = PATIENCE
    ) -> dict[str, Any]:
        """The next event of this name that suits; fails if the process ends or nothing comes in time."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                found = self.events.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no '{event}' in {seconds:g} s; seen: {self.seen[-5:]}") from None
            self.seen.append(found)
            if found["event"] == event and suits(found):
                return found
            assert found["event"] != "ended", f"ended before '{event}'; seen: {self.seen[-5:]}\n{self.log.read_text()}"

    def ends(self, seconds: float = SOON) -> int:
        """Its exit code, in time and without a traceback; `seen` then has every event."""
        code = self.process.wait(seconds)
        deadline = time.monotonic() + seconds
        while not self.seen or self.seen[-1]["event"] != "ended":
            self.seen.append(self.events.get(timeout=max(0.01, deadline - time.monotonic())))
        assert "Traceback" not in self.log.read_text(), self.log.read_text()
        assert self.broken == []
        return code

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def event(self, name: str) -> dict[str, Any]:
        """The last event seen under this name."""
        return next(e for e in reversed(self.seen) if e["event"] == name)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def wait_until(condition: Callable[[], Any], seconds: float = SOON) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())


def rows_of(file: Path) -> list[dict[str, Any]]:
    """All records of a JSON-lines file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def session_files(home: Path) -> list[Path]:
    """The session ledgers of a site, oldest first."""
    return sorted((home / "ledger" / "sessions").glob("*.jsonl"), key=lambda p: p.stat().st_mtime_ns)


def ledger_rows(file: Path) -> list[tuple[Any, ...]]:
    """The entries of a session ledger, without what belongs to one side only."""
    keys = ("kind", "to", "numbers", "bits", "level", "evaluation")
    return sorted(tuple(r[k] for k in keys) for r in rows_of(file)[1:])


def opened_numbers(file: Path) -> int:
    return sum(r["numbers"] for r in rows_of(file)[1:] if r["kind"] != "geometry")


def account_numbers(home: Path) -> int:
    """Numbers on record in a site's accounts, over all peers and images."""
    files = (home / "ledger" / "accounts").glob("*.jsonl")
    return sum(int(r["numbers"]) for f in files for r in rows_of(f) if "numbers" in r)


# ------------------------------------------------------------------------------- a server in this process


@dataclass
class Owner:
    """Party 2 in this process, over real sockets; `events` are what its owner was told."""

    server: Server
    events: list[dict[str, Any]]
    home: Path

    @property
    def address(self) -> str:
        return str(self.server.listener.address)

    def told(self, event: str) -> list[dict[str, Any]]:
        return [e for e in list(self.events) if e["event"] == event]


@contextlib.contextmanager
def owner(site: Site, *images: Shared, address: str = "127.0.0.1:0", **options: Any) -> Iterator[Owner]:
    events: list[dict[str, Any]] = []
    identity = load_or_create_identity(site.home)
    server = Server(address, identity, site.home, list(images), on_event=events.append, **options)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield Owner(server, events, site.home)
    finally:
        server.stop()
        thread.join(SOON)
        assert not thread.is_alive()


def shared(volume: Volume, *, name: str = "fixed", mask: Any = None, budget: Budget = OPEN, **policy: Any) -> Shared:
    rules = {"protocols": frozenset({"fhe", "clear"}), "budget": budget, **policy}
    return Shared(FixedImage(name, volume, mask), Policy(**rules))


def two_sites(folder: Path) -> tuple[Site, Site]:
    sites = make_sites(folder, ("A", "B"))
    return sites["A"], sites["B"]


def call(site: Site, address: str, role: str = PEER) -> Channel:
    """A raw channel of a client that may say whatever it likes; `role`: of whom it calls."""
    return connect(address, load_or_create_identity(site.home), TrustStore(site.home), role=role)


def last_words(channel: Channel, seconds: float = SOON) -> PPIRError:
    """What the other side says last: the error behind its 'error' or 'bye'. Other messages are passed over."""
    deadline = time.monotonic() + seconds
    while channel.closing_message is None:
        assert time.monotonic() < deadline, "the other side said nothing"
        with contextlib.suppress(PPIRError):
            channel.receive(0.2)
    return error_from(channel.closing_message)


def try_to_send(channel: Channel, kind: str, data: dict[str, Any], payload: bytes = b"") -> None:
    """Send what the other side may have refused already."""
    with contextlib.suppress(PPIRError):
        channel.send(kind, data, payload)


def answer(channel: Channel, kind: str) -> Message:
    """The next message, which must be of this kind; 'opened' comes after any news of the queue.

    The place of a client that left is free as soon as party 2 has noticed it, which is not at once.
    """
    message = channel.receive(SOON)
    while kind == "opened" and message.kind == "waiting":
        message = channel.receive(SOON)
    assert message.kind == kind, (message.kind, message.data)
    return message
