"""`ppir primis …` as two hospitals type it: card, seal, grant, unseal, reseal, escrow, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from system_support import PATIENCE, command, environment, events_of, here, ppir

from PPIRLogic.network.trust import TrustStore
from PPIRLogic.primis.levels import LEVELS

GRANT = ("grant", "chest.ppis", "--level", "exact")


def picture(shape: tuple[int, ...] = (48, 64)) -> np.ndarray:
    rows, columns = np.indices(shape)[-2:]
    noise = np.random.default_rng(2).normal(0, 9, shape)
    return np.clip(700 + 300 * np.sin(rows / 9) + 250 * np.cos(columns / 7) + noise, 0, 4095).astype(np.uint16)


class Hospitals:
    """A (the owner) and B (the recipient), each with a home, and a folder that both see."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.a, self.b = folder, folder / "a", folder / "b"
        self.prints = [events_of(here(home, "identity", "--json"))[0]["fingerprint"] for home in (self.a, self.b)]
        for home, other in ((self.a, self.prints[1]), (self.b, self.prints[0])):
            assert here(home, "trust", "add", other, "--name", "the other").returncode == 0
        self.image = folder / "chest.nrrd"
        made = sitk.GetImageFromArray(picture())
        made.SetSpacing((0.2, 0.3))
        sitk.WriteImage(made, str(self.image))

    def run(self, home: Path, *words: object, code: int = 0) -> list[dict[str, Any]]:
        done = here(home, "primis", *words, "--json")
        assert done.returncode == code, done.stdout + done.stderr
        return [event for event in events_of(done) if event["event"] not in ("progress", "note")]

    def at(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospitals]:
    h = Hospitals(tmp_path_factory.mktemp("hospitals"))
    h.run(h.b, "card", "--output", h.at("b.ppic"))
    h.run(h.a, "seal", h.image, "--output", h.at("chest.ppis"))
    yield h


def grant(h: Hospitals, level: str, name: str, *more: object) -> Path:
    words = ["--to", h.at("b.ppic"), "--level", level, "--purpose", "lung study", "--output", h.at(name)]
    h.run(h.a, "grant", h.at("chest.ppis"), *words, *more)
    return h.at(name)


def test_two_hospitals_share_an_image_as_real_processes(tmp_path: Path) -> None:
    """The whole way, in words and in processes, as the how-to has it."""
    h = Hospitals(tmp_path)
    card, sealed, given, opened = (tmp_path / n for n in ("b.ppic", "chest.ppis", "b.ppig", "opened.nrrd"))

    def site(home: Path, *words: object, run: Any = ppir) -> str:
        done = run(home, "primis", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert h.prints[1] in site(h.b, "card", "--output", card, run=here)
    assert "overview" in site(h.a, "seal", h.image, "--output", sealed)
    words = "--level", "segmentation", "--purpose", "lung study"
    said = site(h.a, "grant", sealed, "--to", card, *words, "--output", given, run=here)
    assert h.prints[1] in said and "on record" in said and given.stat().st_size <= 400
    said = site(h.b, "unseal", sealed, "--grant", given, "--output", opened)
    assert "segmentation" in said and "not for diagnosis" in said
    assert sitk.ReadImage(str(opened)).GetSpacing() == (0.2, 0.3)
    assert json.loads((tmp_path / "opened.nrrd.json").read_text())["note"].startswith("not for diagnosis")
    ledger = here(h.a, "ledger").stdout
    assert (
        h.prints[1].replace("-", "") in ledger
        and "segmentation" in ledger
        and "in 1 grant\n" in ledger
        and "lung study" in ledger
    )
    assert here(h.a, "ledger", "--verify").returncode == 0


def test_the_owner_gets_the_exact_image_back(hospitals: Hospitals) -> None:
    h = hospitals
    (done,) = h.run(h.a, "unseal", h.at("chest.ppis"), "--output", h.at("own.nrrd"))
    assert (done["level"], done["exact"], done["note"]) == ("exact", True, "")
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(h.at("own.nrrd")))), picture())


def test_inspect_says_what_a_file_is_without_keys(hospitals: Hospitals, tmp_path: Path) -> None:
    h, stranger = hospitals, tmp_path / "stranger"
    (header,) = h.run(stranger, "inspect", h.at("chest.ppis"))
    assert header["shape"] == [48, 64] and [c["level"] for c in header["codes"]] == list(LEVELS)
    assert header["bytes"] == h.at("chest.ppis").stat().st_size
    given = grant(h, "overview", "inspected.ppig", "--days", 3)
    (said,) = h.run(stranger, "inspect", given)
    assert (said["issuer"], said["recipient"], said["purpose"]) == (*h.prints, "lung study")
    (card,) = h.run(stranger, "inspect", h.at("b.ppic"))
    assert card["fingerprint"] == h.prints[1]
    assert not stranger.exists(), "it needs no identity"


def test_a_grant_opens_one_level_at_one_site(hospitals: Hospitals) -> None:
    h = hospitals
    given = grant(h, "overview", "one.ppig")
    (done,) = h.run(h.b, "unseal", h.at("chest.ppis"), "--grant", given, "--output", h.at("one.nrrd"))
    assert done["level"] == "overview" and not done["exact"]
    for home, words, part in (
        (h.b, ["--grant", given, "--level", "exact"], "opens it up to overview"),
        (h.b, [], "was not sealed by this site"),
        (h.a, ["--grant", given], "for another recipient"),
    ):  # fmt: skip
        (error,) = h.run(home, "unseal", h.at("chest.ppis"), *words, "--output", h.at("no.nrrd"), code=2)
        assert part in error["text"] and not h.at("no.nrrd").exists() and not h.at("no.nrrd.json").exists()


def test_sealing_anew_ends_former_grants(hospitals: Hospitals) -> None:
    h = hospitals
    given = grant(h, "exact", "former.ppig")
    h.run(h.a, "reseal", h.at("chest.ppis"), "--output", h.at("new.ppis"))
    (error,) = h.run(h.b, "unseal", h.at("new.ppis"), "--grant", given, "--output", h.at("no.nrrd"), code=2)
    assert "for another image" in error["text"]
    (done,) = h.run(h.a, "unseal", h.at("new.ppis"), "--output", h.at("again.nrrd"))
    assert done["exact"]


def test_an_escrow_brings_the_keys_back_after_a_loss(hospitals: Hospitals, tmp_path: Path) -> None:
    h, rescued = hospitals, tmp_path / "rescued"
    words = tmp_path / "words"
    words.write_text("six random words in a row\n")
    h.run(h.a, "escrow", "--output", h.at("keys.ppie"), "--passphrase-file", words)
    assert os.name != "posix" or stat.S_IMODE(h.at("keys.ppie").stat().st_mode) == 0o600
    h.run(rescued, "unseal", h.at("chest.ppis"), "--output", h.at("no.nrrd"), code=2)
    h.run(rescued, "escrow", "--restore", h.at("keys.ppie"), "--passphrase-file", words)
    (done,) = h.run(rescued, "unseal", h.at("chest.ppis"), "--output", h.at("rescued.nrrd"))
    assert done["exact"]
    h.run(h.a, "escrow", "--to", h.at("b.ppic"), "--output", h.at("for_b.ppie"))
    (done,) = h.run(h.b, "escrow", "--restore", h.at("for_b.ppie"))
    assert done["masters"] == 2


@pytest.mark.skipif(os.name != "posix", reason="modes of files are of POSIX")
def test_without_a_terminal_the_passphrase_needs_a_file(hospitals: Hospitals) -> None:
    words = command("primis", "escrow", "--output", hospitals.at("never.ppie"))
    done = subprocess.run(
        words, env=environment(hospitals.a), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        start_new_session=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "Give --passphrase-file" in done.stderr and "Warning" not in done.stderr
    assert not hospitals.at("never.ppie").exists()


def test_the_ledger_says_what_for_and_until_when(hospitals: Hospitals) -> None:
    given = grant(hospitals, "overview", "ledger.ppig", "--days", 7)
    said = here(hospitals.a, "ledger").stdout
    assert "overview, for 'lung study'; 7 days, until 20" in said
    (row,) = [e for e in events_of(here(hospitals.a, "ledger", "--json")) if e["event"] == "granted"]
    assert row["given"][-1]["purpose"] == "lung study" and len(row["given"]) == row["grants"] and given.exists()


def test_keys_are_for_their_owner_alone(hospitals: Hospitals) -> None:
    for home in (hospitals.a, hospitals.b):
        files = [p for p in (home / "primis").rglob("*") if p.is_file()]
        assert files and all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in files)


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["seal", "none.nrrd", "--output", "x.ppis"], 2, "does not exist"),
        (["seal", "chest.nrrd", "--output", "x.png"], 3, "must end in one of .ppis"),
        (["seal", "chest.nrrd", "--output", "chest.ppis"], 2, "exists"),
        (["seal", "chest.nrrd", "--output", "x.ppis", "--keep-tag", "Modality"], 2, "is no DICOM image"),
        (["seal", "chest.nrrd", "--output", "x.ppis", "--quality", "1e9"], 2, "quality"),
        (["unseal", "chest.nrrd", "--output", "x.nrrd"], 2, "is no .ppis file"),
        (["unseal", "chest.ppis", "--output", "x.jpg"], 3, "must end in one of"),
        (["unseal", "chest.ppis", "--output", "chest.nrrd"], 2, "exists"),
        (["unseal", "chest.ppis", "--grant", "b.ppic", "--output", "x.nrrd"], 2, "is no grant"),
        (["inspect", "none.ppis"], 2, "does not exist"),
        ([*GRANT, "--to", "chest.ppis", "--purpose", "p", "--output", "x.ppig"], 2, "bytes"),
        ([*GRANT, "--to", "b.ppic", "--purpose", "", "--output", "x.ppig"], 2, "purpose"),
        ([*GRANT, "--to", "b.ppic", "--purpose", "p", "--output", "no/x.ppig"], 3, "does not exist"),
        (["card", "--output", "x.ppic", "--days", "0"], 2, "from 1 to 3650"),
        (["reseal", "chest.ppis", "--output", "chest.ppis"], 2, "exists"),
        (["escrow"], 2, "Give --output"),
        (["escrow", "--restore", "chest.ppis"], 2, "no escrow file"),
    ],
    ids=lambda v: "-".join(map(str, v[:2])) if isinstance(v, list) else "",
)  # fmt: skip
def test_bad_input_is_said_and_nothing_is_written(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, part: str
) -> None:
    monkeypatch.chdir(hospitals.folder)
    before = {p: p.stat().st_mtime_ns for p in hospitals.folder.iterdir() if p.is_file()}
    (error,) = hospitals.run(hospitals.a, *words, code=code)
    assert error["event"] == "error" and part in error["text"]
    assert {p: p.stat().st_mtime_ns for p in hospitals.folder.iterdir() if p.is_file()} == before


def test_a_grant_for_a_site_that_is_not_trusted_is_refused(hospitals: Hospitals, tmp_path: Path) -> None:
    h = hospitals
    h.run(tmp_path / "c", "card", "--output", tmp_path / "c.ppic")
    words = ["--to", tmp_path / "c.ppic", "--level", "overview", "--purpose", "p", "--output", tmp_path / "c.ppig"]
    (error,) = h.run(h.a, "grant", h.at("chest.ppis"), *words, code=7)
    assert "ppir trust add" in error["text"] and not (tmp_path / "c.ppig").exists()


def test_a_program_is_told_how_far_it_is(hospitals: Hospitals, tmp_path: Path) -> None:
    done = here(hospitals.a, "primis", "seal", hospitals.image, "--output", tmp_path / "x.ppis", "--json")
    events = events_of(done)
    assert [e["part"] for e in events if e["event"] == "progress"][-1] == 1.0
    assert any("burned into" in e["note"] for e in events if e["event"] == "note")
    assert events[-1]["event"] == "sealed" and events[-1]["output"] == str(tmp_path / "x.ppis")


def test_a_person_is_told_of_text_in_the_picture(hospitals: Hospitals, tmp_path: Path) -> None:
    done = here(hospitals.a, "primis", "seal", hospitals.image, "--output", tmp_path / "x.ppis")
    assert "burned into the picture" in done.stderr and "not authenticated" not in done.stdout.lower()


def test_an_interrupted_seal_leaves_nothing(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(picture((24, 384, 384)).astype(np.uint16))
    sitk.WriteImage(image, str(tmp_path / "large.nrrd"))
    words = command("primis", "seal", tmp_path / "large.nrrd", "--output", tmp_path / "large.ppis")
    process = subprocess.Popen(words, env=environment(tmp_path / "home"), stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + PATIENCE
    while not (tmp_path / "home" / "primis" / "keys").exists():  # made right before the image is coded
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "Cancelled" in said and "Traceback" not in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home", "large.nrrd"]


def test_help_teaches_every_command() -> None:
    for name in ("seal", "unseal", "inspect", "card", "grant", "reseal", "escrow"):
        done = here(Path("unused"), "primis", name, "--help")
        assert done.returncode == 0 and f"example:\n  ppir primis {name}" in done.stdout
    done = here(Path("unused"), "primis", "--help")
    assert all(name in done.stdout for name in ("seal", "grant", "escrow")) and "example:" in done.stdout
    assert here(Path("unused"), "primis").returncode == 2


def test_a_home_of_before_is_read_as_it_is(tmp_path: Path) -> None:
    """A home without any key of sealed images gets them beside what is there."""
    here(tmp_path, "identity")
    TrustStore(tmp_path).add("7QHX" * 8, "Hospital B")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert here(tmp_path, "primis", "card", "--output", tmp_path / "own.ppic").returncode == 0
    assert all(p.read_bytes() == data for p, data in before.items())
