"""The command `ppir doctor`: what a bug report needs of this machine, and nothing private."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from PPIRLogic.cli.common import home_of
from PPIRLogic.cli.demo import PROTOCOLS, lacking
from PPIRLogic.cli.output import Arguments, say
from PPIRLogic.errors import InputError, PPIRError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.names import DEFAULT_PORT
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.registration.catalogue import LOSSES, TRANSFORMS
from PPIRLogic.registration.catalogue import PROTOCOLS as PLUGGED_PROTOCOLS
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.simulate import simulate
from PPIRLogic.registry import Registry
from PPIRLogic.version import SOFTWARE

PACKAGES = ("numpy", "scipy", "SimpleITK", "numba", "cryptography", "pyOpenSSL", "tenseal", "torch", "crypten")
OPTIONAL = ("tenseal", "torch", "crypten")  # of single protocols
WARNING_DAYS = 30  # of a certificate that ends
MIN_FREE = 2**30  # bytes for temporary files
MIN_YEAR = 2025  # a clock before the first release is wrong
TRIP_PIXELS = 64
TRIP_SHIFT_MM = (3.0, -2.0)
TRIP_TOLERANCE_MM = 0.1


@dataclass(frozen=True)
class CheckedItem:
    """One thing that was looked at. `advice`: what to do; empty where nothing is wrong."""

    name: str
    text: str
    advice: str = ""

    @property
    def ok(self) -> bool:
        return not self.advice


def run_doctor(a: Arguments) -> None:
    problems = 0
    for finding in findings(home_of(a), round_trip=not a.no_round_trip):
        problems += not finding.ok
        text = f"{'ok     ' if finding.ok else 'PROBLEM'}  {finding.name:<14} {finding.text}"
        text += "" if finding.ok else f"\n{'':<24}{finding.advice}"
        say(a, "finding", text, name=finding.name, found=finding.text, advice=finding.advice, ok=finding.ok)
    if problems:
        raise InputError(f"{problems} thing{'s' if problems > 1 else ''} to mend; each says how.")


def findings(home: Path, *, round_trip: bool = True) -> Iterator[CheckedItem]:
    """All that is looked at, one after the other."""
    yield _versions()
    yield _machine()
    yield from map(_package, PACKAGES)
    for kinds in (LOSSES, TRANSFORMS, PLUGGED_PROTOCOLS):
        yield from _plugins(kinds)
    yield _folder(home)
    yield _certificate(home)
    yield _clock()
    yield _port()
    yield _room()
    if round_trip:
        yield from map(_round_trip, PROTOCOLS)


def _versions() -> CheckedItem:
    return CheckedItem("ppir", f"{SOFTWARE}, Python {platform.python_version()} ({sys.implementation.name})")


def _machine() -> CheckedItem:
    text = f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count() or 1} processors"
    with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows does not say it so
        text += f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GB of memory"
    return CheckedItem("machine", text)


def _package(name: str) -> CheckedItem:
    try:
        return CheckedItem(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        pass
    if name in OPTIONAL:
        return CheckedItem(name, "not installed")
    return CheckedItem(name, "not installed", "Install ppir again: it needs this package.")


def _plugins(kinds: Registry[Any]) -> Iterator[CheckedItem]:
    """What other packages add, loaded."""
    for name, problem in kinds.passed_over().items():
        yield CheckedItem("plugin", f"'{name}' is passed over: {problem}", "Tell its author, or remove the package.")
    for name in kinds:
        if name in kinds.builtin:
            continue
        try:
            yield CheckedItem("plugin", f"'{name}', a {type(kinds[name]).__name__}")
        except PPIRError as error:
            yield CheckedItem("plugin", f"'{name}' cannot be used", str(error))


def _folder(home: Path) -> CheckedItem:
    """Whether this site's folder can be used; said without its path, which may hold a person's name."""
    there = next(p for p in (home, *home.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return CheckedItem(
            "folder",
            f"cannot be {'written' if there == home else 'made'}: {error.strerror}",
            "Give this user the right to write there, or another folder with --home or PPIR_HOME.",
        )
    if there != home:
        return CheckedItem("folder", "this site has none yet; ppir identity makes it")
    mode = stat.S_IMODE(home.stat().st_mode)
    if os.name == "posix" and mode & 0o022:
        return CheckedItem("folder", f"other users may write to it (mode {mode:o})", "Run chmod 700 on it.")
    return CheckedItem("folder", f"can be written; trusted peers: {len(TrustStore(home).peers())}")


def _certificate(home: Path) -> CheckedItem:
    if not (home / "identity").is_dir():
        return CheckedItem("certificate", "none yet; ppir identity makes one")
    try:
        identity = load_or_create_identity(home)
    except PPIRError as error:
        return CheckedItem("certificate", type(error).__name__, str(error))
    days = (identity.not_after - datetime.now(UTC)).days
    advice = "" if days > WARNING_DAYS else "ppir identity --renew makes a new one; the fingerprint stays."
    return CheckedItem("certificate", f"valid for {days} days", advice)


def _clock() -> CheckedItem:
    now = datetime.now(UTC)
    advice = "" if now.year >= MIN_YEAR else "Set the clock: certificates look as if they were not valid yet."
    return CheckedItem("clock", f"{now:%Y-%m-%d %H:%M} UTC", advice)


def _port() -> CheckedItem:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", DEFAULT_PORT))
        except OSError as error:
            text = f"{DEFAULT_PORT} is taken or not permitted ({error.strerror}); ppir serve --listen takes another"
            return CheckedItem("port", text)
    return CheckedItem("port", f"{DEFAULT_PORT} is free")


def _room() -> CheckedItem:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    advice = "" if free >= MIN_FREE else "Make room where temporary files go, or point TMPDIR to another disk."
    return CheckedItem("disk", f"{free / 2**30:.1f} GB free for temporary files", advice)


def _round_trip(protocol: str) -> CheckedItem:
    """Register two made images, with every party a process of its own: keys, TLS, encryption and answers."""
    name, begin = f"run {protocol}", time.perf_counter()
    if missing := lacking(protocol):
        return CheckedItem(name, f"left out without {', '.join(missing)}: {PROTOCOLS[protocol][1]}")
    try:
        error_mm = _registration_error(protocol)
    except PPIRError as error:
        return CheckedItem(name, f"{type(error).__name__} on loopback", str(error))
    text = f"{error_mm:.3f} mm from the truth in {time.perf_counter() - begin:.1f} s"
    advice = "" if error_mm <= TRIP_TOLERANCE_MM else "A result is wrong: please report it with all of this."
    return CheckedItem(name, text, advice)


def _registration_error(protocol: str) -> float:
    """How far a translation of known length was missed, in mm."""
    settings = Parameters(protocol=protocol, transform="translation", loss="ssd", levels=(2, 1))
    result = simulate(_made_image((0.0, 0.0)), _made_image(TRIP_SHIFT_MM), parameters=settings)
    return float(np.linalg.norm(np.subtract(result.transform.TransformPoint((0.0, 0.0)), TRIP_SHIFT_MM)))


def _made_image(shift: tuple[float, float]) -> Volume:
    """Blobs on a grid of 1 mm, moved by `shift` (x, y)."""
    y, x = np.mgrid[:TRIP_PIXELS, :TRIP_PIXELS].astype(np.float32)
    values = np.zeros_like(x)
    for height, cx, cy, sigma in ((100, 28, 30, 8), (60, 42, 24, 5), (40, 24, 44, 4)):
        values += height * np.exp(-((x - cx - shift[0]) ** 2 + (y - cy - shift[1]) ** 2) / (2 * sigma**2))
    geometry = Geometry((TRIP_PIXELS, TRIP_PIXELS), (1.0, 1.0), (0.0, 0.0), (1, 0, 0, 1))
    return Volume(values, geometry, "made")
