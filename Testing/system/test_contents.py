"""What is on disk after runs that ended well or were refused: no image, mask, key or opened number, no core file.

Two sites as real processes; every file that they leave is searched for the other side's image (and for party 2's
own), in every form in which it exists in memory, for private keys outside the one file for them, and for opened sums.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from system_support import Phantom, Program, motion_of, plain_grid, ppir, save

from PPIRLogic.images.intensities import normalise, robust_range
from PPIRLogic.images.volume import Volume
from PPIRLogic.local_processes import make_sites
from PPIRLogic.registration.levels import make_levels
from PPIRLogic.registration.party2.fixed_image import FixedImage
from PPIRLogic.registration.request import Request

RUN = 6  # consecutive values that are no accident
GEOMETRY = plain_grid(2)


def noisy(volume: Volume, seed: int) -> Volume:
    """Values that occur nowhere by accident."""
    noise = np.random.default_rng(seed).normal(0, 40, volume.array.shape)
    return Volume((volume.array + noise).astype(np.float32), GEOMETRY, volume.name)


def forms(volume: Volume) -> list[bytes]:
    """Runs of values from the middle of an image, raw, normalised and quantised, in every width that is used."""
    scaled = normalise(volume, robust_range(volume, None)).array
    request = Request("x", "fhe", "affine", "ssd", (2, 1))
    fixed = FixedImage("x", volume)
    arrays: list[NDArray[Any]] = [volume.array, scaled]
    arrays += [
        fixed.operands(level, ("J", "J2"), request)[n] for level in make_levels(GEOMETRY, request) for n in ("J", "J2")
    ]
    found = []
    for array in arrays:
        flat = array.reshape(-1)
        for at in range(flat.size // 4, 3 * flat.size // 4, 97):
            part = flat[at : at + RUN]
            widths = ("<f4", "<f8") if array.dtype.kind == "f" else ("<i2", "<i4", "<i8")
            if np.unique(part).size == RUN:
                found += [part.astype(w).tobytes() for w in widths if w != "<i2" or np.abs(part).max() < 2**15]
            if array is volume.array:
                found += [f"{float(v):.4f}"[:-1].encode() for v in part[:1] if v > 100]
    return found


def files_below(*folders: Path) -> list[Path]:
    return [p for folder in folders for p in folder.rglob("*") if p.is_file()]


def holds(path: Path, wanted: list[bytes]) -> bool:
    data = path.read_bytes()
    return any(w in data for w in wanted)


class Scene:
    """Party 2 serves, party 1 registers; each has a home, a temporary folder and a working folder."""

    def __init__(self, folder: Path) -> None:
        phantom = Phantom.make(GEOMETRY)
        self.fixed = noisy(phantom.on(GEOMETRY), 1)
        self.moving = noisy(phantom.on(GEOMETRY, motion_of("rigid", GEOMETRY)), 2)
        self.sites = make_sites(folder / "sites", ("one", "two"))
        self.images = folder / "images"
        self.images.mkdir()
        self.temporary, self.work = folder / "tmp", folder / "work"
        for place in (self.temporary, self.work):
            place.mkdir()
        self.fixed_file = save(self.fixed, self.images / "fixed.mha")
        self.moving_file = save(self.moving, self.images / "moving.mha")

    def homes(self) -> list[Path]:
        return [self.sites["one"].home, self.sites["two"].home, self.temporary, self.work]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """After three runs: two that end well, one that is refused."""
    one = Scene(tmp_path_factory.mktemp("contents"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(one.temporary))
        patch.chdir(one.work)
        options = ["--listen", "127.0.0.1:0", "--name", "fixed", "--budget-session", 400, "--budget-bits", 1e6]
        options += ["--budget-percent", 1e4]
        with Program(one.sites["two"].home, "serve", one.fixed_file, *options) as serve:
            address = serve.wait_for("listening")["address"]
            if sys.platform.startswith("linux"):
                limits = Path(f"/proc/{serve.process.pid}/limits").read_text()
                assert [line.split()[4] for line in limits.splitlines() if line.startswith("Max core")] == ["0"]
            for number, extra in enumerate((["--loss", "ssd"], ["--protocol", "fhe"], ["--protocol", "clear"])):
                done = ppir(
                    one.sites["one"].home, "register", one.moving_file, "--peer", address, "--transform", "rigid",
                    "--output", one.work / f"{number}.h5", "--report", one.work / f"{number}.json", "--json", *extra,
                )  # fmt: skip
                (one.work / f"{number}.log").write_text(done.stdout + done.stderr)
                assert done.returncode == (0, 0, 10)[number], done.stderr
        (one.work / "serve.log").write_text(json.dumps(serve.seen) + serve.log.read_text())
    yield one


def test_the_search_finds_an_image_that_is_there(scene: Scene) -> None:
    """Positive control: the files of the images themselves, and a dump of what a level holds."""
    for volume, path in ((scene.fixed, scene.fixed_file), (scene.moving, scene.moving_file)):
        assert holds(path, forms(volume))
    request = Request("x", "fhe", "affine", "ssd", (2, 1))
    dump = scene.images / "dump"
    dump.write_bytes(
        FixedImage("x", scene.fixed).operands(make_levels(GEOMETRY, request)[0], ("J",), request)["J"].tobytes()
    )
    assert holds(dump, forms(scene.fixed)) and not holds(dump, forms(scene.moving))


def test_no_file_of_either_side_holds_the_fixed_image(scene: Scene) -> None:
    wanted, found = forms(scene.fixed), files_below(*scene.homes())
    assert len(wanted) > 100 and len(found) > 12
    assert [p for p in found if holds(p, wanted)] == []


def test_no_file_of_party_2_holds_the_moving_image(scene: Scene) -> None:
    wanted = forms(scene.moving)
    assert [p for p in files_below(scene.sites["two"].home, scene.temporary) if holds(p, wanted)] == []


def test_private_keys_are_in_one_file_that_only_their_owner_reads(scene: Scene) -> None:
    for name in ("one", "two"):
        home = scene.sites[name].home
        with_key = [p for p in files_below(home) if b"PRIVATE KEY" in p.read_bytes()]
        assert len(with_key) == 1
        if os.name == "posix":
            assert stat.S_IMODE(with_key[0].stat().st_mode) == 0o600
            assert stat.S_IMODE((home / "ledger" / "key").stat().st_mode) == 0o600 if name == "two" else True
    assert [p for p in files_below(scene.work, scene.temporary) if b"PRIVATE KEY" in p.read_bytes()] == []


def test_nothing_stays_in_temporary_folders_and_no_core_file_anywhere(scene: Scene) -> None:
    assert files_below(scene.temporary) == []
    assert [p for p in files_below(*scene.homes()) if p.name.startswith("core")] == []


def test_party_2_keeps_only_files_that_are_accounted_for(scene: Scene) -> None:
    """A new kind of file must be looked at before it is added here, and to Docs/how-to/run_as_a_service.md."""
    home = scene.sites["two"].home
    known = (
        "audit.jsonl",
        "identity",
        "trust",
        "ledger/key",
        "ledger/head",  # and heads.jsonl
        "ledger/lock",
        "ledger/chain.lock",
        "ledger/grants.jsonl",
        "ledger/seals.jsonl",
        "ledger/accounts/",
        "ledger/sessions/",
        "ledger/tests/",
        "ledger/subjects.jsonl",
        "stderr-",
    )
    names = [p.relative_to(home).as_posix() for p in files_below(home)]
    assert [n for n in names if not n.startswith(known)] == []


def numbers_in(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in ("time",):
                yield from numbers_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers_in(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)


def test_ledgers_and_logs_hold_counts_and_no_opened_sum(scene: Scene) -> None:
    """All numbers in party 2's records are small: counts, bits, levels, budgets. Opened sums are far larger."""
    for path in files_below(scene.sites["two"].home / "ledger", scene.sites["two"].home / "audit.jsonl"):
        if path.suffix == ".jsonl":
            for line in path.read_text().splitlines():
                assert all(abs(v) < 2**33 for v in numbers_in(json.loads(line))), line
