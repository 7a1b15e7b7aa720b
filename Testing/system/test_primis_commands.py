"""`ppir primis serve`, `catalogue`, `ask`, `show` and `demo` as people and programs call them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from system_support import Program, events_of, here

from PPIRLogic.cli.primis_demo import show_sharing
from PPIRLogic.local_processes import Site, make_sites
from PPIRLogic.primis import own_card, seal, unseal
from PPIRLogic.primis.levels import LEVELS
from PPIRLogic.primis.simulate import simulate

PIXELS = (np.add.outer(np.arange(90), np.arange(70)) * 11).astype(np.uint16)


@dataclass
class Shared:
    """Hospital B as a process that asks its parent before each grant."""

    a: Site
    b: Site
    program: Program
    address: str

    def answer(self, word: str) -> dict[str, object]:
        """Answer the next question in another thread, as a person does who sits there; the question."""
        found: dict[str, object] = {}

        def run() -> None:
            found.update(self.program.wait_for("question"))
            assert self.program.process.stdin is not None
            self.program.process.stdin.write(f"nonsense\n{word} {found['number']}\n")
            self.program.process.stdin.flush()

        self.thread = threading.Thread(target=run)
        self.thread.start()
        return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("commands")
    sites = make_sites(folder, ("A", "B"))
    seal(PIXELS, folder / "patient_name.ppis", home=sites["B"].home)
    options = ("--level", "texture", "--allow", "A", "--ask", "--listen", "127.0.0.1:0", "--days", "3")
    arguments = ("primis", "serve", folder / "patient_name.ppis", *options)
    with Program(sites["B"].home, *arguments, with_parent=True) as program:
        address = program.wait_for("listening")["address"]
        yield Shared(sites["A"], sites["B"], program, str(address))
        program.process.stdin.write("end\n")  # type: ignore[union-attr]
        program.process.stdin.close()  # type: ignore[union-attr]
        assert program.ends() == 0 and program.event("stopped")


def test_the_catalogue_has_no_name_of_a_file(shared: Shared) -> None:
    done = here(shared.a.home, "primis", "catalogue", "--peer", shared.address, "--json")
    (image,) = [e for e in events_of(done) if e["event"] == "sealed image"]
    assert (image["name"], image["level"], image["asks"], image["shape"]) == ("image-1", "texture", True, [90, 70])
    told = here(shared.a.home, "primis", "catalogue", "--peer", shared.address).stdout
    assert "70 × 90 pixels, uint16" in told and "each decided by a person" in told and "patient" not in told


def test_a_parent_is_asked_and_says_yes(shared: Shared, tmp_path: Path) -> None:
    question = shared.answer("yes")
    done = here(shared.a.home, "primis", "ask", "image-1", "--peer", shared.address, "--level", "segmentation",
                "--purpose", "a study", "-o", tmp_path, "--json")  # fmt: skip
    shared.thread.join()
    got = events_of(done)[-1]
    assert got["event"] == "granted" and question["purpose"] == "a study" and question["image"] == "image-1"
    assert question["who"] == f"'A' (fingerprint {shared.a.fingerprint})"
    assert unseal(Path(got["file"]), grant=Path(got["grant"]), home=shared.a.home).level == "segmentation"


def test_a_parent_says_no(shared: Shared, tmp_path: Path) -> None:
    shared.answer("no")
    done = here(shared.a.home, "primis", "ask", "image-1", "--peer", shared.address, "--purpose", "x", "-o", tmp_path)
    shared.thread.join()
    assert done.returncode == 10 and "The owner of 'image-1' declined" in done.stderr
    assert not list(tmp_path.glob("*.ppig"))


def test_what_the_rules_refuse_is_not_asked(shared: Shared, tmp_path: Path) -> None:
    wanted = ("--level", "exact", "--purpose", "x", "-o", tmp_path)
    done = here(shared.a.home, "primis", "ask", "image-1", "--peer", shared.address, *wanted)
    assert done.returncode == 10 and "at most the level 'texture'" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--level", "everything"), "invalid choice"), (("--allow", "Nobody"), "no trusted peer has this name"),
        (("--allow", "A=everything"), "is no level"), (("--grants", "0"), "grants is 0"), (("--days", "0"), "days is"),
        (("--name", "a", "--name", "b"), "once for every file"), (("--name", " "), "printable characters"),
        (("--max-sessions", "0"), "at least 1"),
    ],
)  # fmt: skip
def test_rules_that_make_no_sense(options: tuple[str, ...], words: str, shared: Shared, tmp_path: Path) -> None:
    done = here(shared.b.home, "primis", "serve", tmp_path / "none.ppis", "--listen", "127.0.0.1:0", *options)
    assert done.returncode in (2, 7) and words in done.stderr


def test_a_person_at_the_terminal(tmp_path: Path) -> None:
    """Nobody there means no; 'y' means yes."""
    sites = make_sites(tmp_path, ("A", "B"))
    seal(PIXELS, tmp_path / "x.ppis", home=sites["B"].home)
    arguments = ("primis", "serve", tmp_path / "x.ppis", "--ask", "--listen", "127.0.0.1:0")
    with Program(sites["B"].home, *arguments) as program:
        address = program.wait_for("listening")["address"]
        wanted = ("primis", "ask", "image-1", "--peer", address, "--purpose", "a study", "-o", tmp_path / "in")
        assert program.process.stdin is not None
        program.process.stdin.write("y\n")
        program.process.stdin.close()
        assert here(sites["A"].home, *wanted).returncode == 0
        declined = here(sites["A"].home, *wanted, "--level", "overview", "--purpose", "another")
        assert declined.returncode == 10 and "declined" in declined.stderr
        asked = program.log.read_text()
        assert "asks for 'image-1' up to the level 'overview'.\nPurpose: a study" in asked


def test_pictures_of_what_one_may_open(tmp_path: Path) -> None:
    (home := tmp_path / "home").mkdir()
    seal(PIXELS, tmp_path / "x.ppis", home=home)
    done = here(home, "primis", "show", tmp_path / "x.ppis", "--output", tmp_path / "o", "--json")
    rows = [e for e in events_of(done) if e["event"] == "level"]
    assert [r["level"] for r in rows] == list(LEVELS) and [r["exact"] for r in rows] == [False] * 4 + [True]
    quality = [r["psnr"] for r in rows[:4]]
    assert quality == sorted(quality) and rows[-1]["psnr"] is None and rows[-1]["so_far"] > rows[0]["bytes"]
    shown = sitk.GetArrayFromImage(sitk.ReadImage(rows[-1]["picture"]))
    assert shown.shape == PIXELS.shape and shown.dtype == np.uint8 and shown.min() == 0 and shown.max() == 255
    page = (tmp_path / "o" / "levels.html").read_text()
    assert page.count("<img") == 5 and "not for diagnosis" in page


def test_both_sites_here(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    sitk.WriteImage(sitk.GetImageFromArray(PIXELS), str(path))
    assert np.array_equal(simulate(path, "exact").pixels, PIXELS)


def test_the_demonstration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "image.png"
    sitk.WriteImage(sitk.GetImageFromArray(PIXELS), str(path))
    show_sharing(path, tmp_path / "demo")
    told = capsys.readouterr().out
    assert "With that grant it cannot open more: " in told and "levels.html" in told
    assert {f"{level}.png" for level in LEVELS} <= {p.name for p in (tmp_path / "demo").iterdir()}
    assert len(list((tmp_path / "demo" / "hospital_a").glob("*.ppig"))) == len(LEVELS)


def test_a_grant_by_hand_counts(tmp_path: Path) -> None:
    """What `ppir primis grant` gave is on the same record as what the service gives."""
    sites = make_sites(tmp_path, ("A", "B"))
    seal(PIXELS, tmp_path / "x.ppis", home=sites["B"].home)
    (tmp_path / "a.ppic").write_bytes(own_card(sites["A"].home))
    wanted = (
        "--to",
        tmp_path / "a.ppic",
        "--level",
        "overview",
        "--purpose",
        "by hand",
        "--output",
        tmp_path / "a.ppig",
    )
    done = here(sites["B"].home, "primis", "grant", tmp_path / "x.ppis", *wanted)
    assert done.returncode == 0, done.stderr
    rules = ("--grants", "1", "--listen", "127.0.0.1:0")
    with Program(sites["B"].home, "primis", "serve", tmp_path / "x.ppis", *rules) as one:
        peer = ("--peer", one.wait_for("listening")["address"])
        done = here(sites["A"].home, "primis", "ask", "image-1", *peer, "--purpose", "x", "-o", tmp_path, "--json")
        assert (
            done.returncode == 10 and "as many as its owner gives" in json.loads(done.stdout.splitlines()[-1])["text"]
        )
