"""PRIMIS: what the public part of an image gives away, as codes with decoys and sealed.

The battery that `ppir primis attack` ships, on phantoms of 20 patients with two images each. `make bench-primis` runs
it on chest X-rays. Only where the extra `train` is installed.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from chests import chests
from recording import Record

from PPIRLogic.cli.main import main
from PPIRLogic.errors import Cancelled, InputError
from PPIRLogic.primis.attacks import tampering
from PPIRLogic.primis.attacks.battery import Finding, attack, grants_stretched
from PPIRLogic.primis.attacks.public_views import new_key, publish, seal_again
from PPIRLogic.primis.codec import encode
from PPIRLogic.primis.study import Study, kept_apart
from PPIRLogic.progress import CancelToken

CHANGES = 700


def study_of(train: int = 10, test: int = 10) -> Study:
    """Two images of each patient: one anatomy, two breaths."""
    names = [f"patient {k}" for k in range(400)]
    chosen = [n for n in names if not kept_apart(n)][:train] + [n for n in names if kept_apart(n)][:test]
    images, masks, ill = chests(len(chosen), 5)
    draw = np.random.default_rng(6)
    breaths = [np.clip(images + draw.normal(0, 4, images.shape), 0, 255).astype(np.uint8) for _ in range(2)]
    labels = tuple("ill" if i else "well" for i in ill)
    both = tuple(f"{n} {k}.png" for k in (1, 2) for n in chosen)
    return Study(np.concatenate(breaths), both, (*chosen, *chosen), labels * 2, np.concatenate([masks, masks]))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Path]:
    """What the command says and writes."""
    place = tmp_path_factory.mktemp("primis")
    folder, out = folder_of(place, study_of()), place / "out"
    options = ["--size", "80", "--quick", "--changes", str(CHANGES), "--output", str(out), "--json"]
    with redirect_stdout(io.StringIO()) as said:
        main(["primis", "attack", "--data", str(folder), *options])
    return [json.loads(line) for line in said.getvalue().splitlines()], out


@pytest.fixture(scope="module")
def found(told: tuple[list[dict[str, Any]], Path]) -> dict[str, Finding]:
    findings = json.loads((told[1] / "attacks.json").read_text())
    return {f["attack"]: Finding(**f) for f in findings}


def folder_of(place: Path, study: Study) -> Path:
    folder = place / "data"
    folder.mkdir()
    rows = zip(study.names, study.patients, study.labels, strict=True)
    (folder / "labels.csv").write_text("image,patient,label\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows))
    for name, image in zip(study.names, study.images, strict=True):
        sitk.WriteImage(sitk.GetImageFromArray(image), str(folder / name))
    return folder


def test_the_command_says_and_writes_what_it_found(
    told: tuple[list[dict[str, Any]], Path], found: dict[str, Finding]
) -> None:
    said, out = told
    assert said[0] == {"event": "data", "images": 40, "patients": 20}
    findings = [s["attack"] for s in said if s["event"] == "attack"]
    assert {"progress", "written", "done"} <= {s["event"] for s in said} and len(findings) >= 12
    assert findings == list(found) and said[-1]["event"] == "done"
    assert (out / "attacks.md").read_text().count("\n|") == len(findings) + 2
    assert (out / "attacks.png").read_bytes().startswith(b"\x89PNG")


def of(found: dict[str, Finding], part: str) -> Finding:
    return next(f for name, f in found.items() if part in name)


def noted(record: Record, finding: Finding) -> dict[str, Any]:
    record(f"PRIMIS: {finding.attack}", f"decoys: {finding.ambiguated}", f"sealed: {finding.sealed}")
    return finding.data


def test_the_public_part_with_decoys_shows_the_image_as_it_is(found: dict[str, Finding], record: Record) -> None:
    data = noted(record, of(found, "as it is"))
    assert data["key"] > 40 and data["psnr"] > of(found, "wrong key").data["psnr"] + 5


def test_decoys_are_told_from_true_entries(found: dict[str, Finding], record: Record) -> None:
    plain = of(found, "as it is").data
    learned, projected = (noted(record, of(found, n)) for n in ("decoy classifier", "projection"))
    assert learned["auc"] > 0.6 and learned["psnr"] > plain["psnr"] + 3
    assert projected["auc"] > 0.505 and projected["psnr"] > plain["psnr"] + 1


def test_a_supervised_decoder_reads_decoys_and_nothing_that_is_sealed(
    found: dict[str, Finding], record: Record
) -> None:
    finding = of(found, "supervised decoder on")
    data = noted(record, finding)
    assert data["gain"] > 3 and data["psnr"] > data["sealed_psnr"] + 3
    assert finding.holds and data["sealed_gain"] < 0.3
    label = of(found, "classified on")
    data = noted(record, label)
    assert data["auc"] > 0.65 and label.holds


def test_a_wrong_key_opens_nothing_and_forced_gives_nothing(found: dict[str, Finding], record: Record) -> None:
    finding = of(found, "wrong key")
    data = noted(record, finding)
    assert finding.holds and data["opened"] == 0 and data["sealed_gain"] <= 0


def test_two_files_of_one_patient(found: dict[str, Finding], record: Record) -> None:
    finding = of(found, "linked, by what")
    data = noted(record, finding)
    assert data["auc"] > 0.6 and finding.holds


def test_lengths_tell_and_filling_hides_them(found: dict[str, Finding], record: Record) -> None:
    for part in ("alone: the image", "alone: two files", "alone: ill"):
        noted(record, of(found, part))
    image, label = of(found, "alone: the image").data, of(found, "alone: ill").data
    assert image["filled_gain"] < 0.5 * max(image["loose_gain"], 0.2) and 1 <= image["cost"] < 4
    assert abs(label["filled"] - 0.5) <= max(abs(label["loose"] - 0.5), 0.15)


def test_one_image_shared_twice(found: dict[str, Finding], record: Record) -> None:
    finding = of(found, "shared twice")
    data = noted(record, finding)
    assert data["psnr"] > of(found, "as it is").data["psnr"] + 3 and finding.holds


def test_changes_keys_nonces_and_grants(found: dict[str, Finding], record: Record) -> None:
    for part in ("changed files", "one nonce", "stretched"):
        finding = of(found, part)
        noted(record, finding)
        assert finding.holds, finding
    assert of(found, "changed files").data["tried"] == CHANGES
    assert of(found, "one nonce").data["read"] == 1.0
    assert of(found, "stretched").data["gained"] > 0.5


@pytest.mark.long
def test_a_hundred_thousand_changed_files_are_refused(record: Record) -> None:
    one, other = (publish(image) for image in chests(2, 7)[0])
    tried, opened = tampering.opened_anyway(one.sealed, other.sealed, one.key, 100_000)
    assert sum(tried.values()) == 100_000 and not opened
    record("PRIMIS: 10^5 changed sealed files", "decoys: decoded, whatever they are", "sealed: all refused")


def test_the_grant_attack_notices_a_grant_that_opens_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    coded = encode(chests(1, 3)[0][0])
    assert grants_stretched(coded, 40) == (0, 47)
    monkeypatch.setattr(tampering, "open_codes", lambda sealed, key: [b""] * 5)
    monkeypatch.setattr("PPIRLogic.primis.keys.LevelKey.down_to", lambda key, level: key)
    assert grants_stretched(coded, 0)[0] >= 3


def test_a_cipher_with_one_key_for_all_would_be_noticed() -> None:
    """Two sealings of one image under one key and id share what does not follow from the nonce: here nothing."""
    coded = encode(chests(1, 3)[0][0])
    key = new_key()
    one, two = seal_again(coded, key), seal_again(coded, key)
    assert one.codes != two.codes and not {c.nonce for c in one.header.codes} & {c.nonce for c in two.header.codes}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--data", "nowhere"], "The folder 'nowhere' of images does not exist"),
        (["--data", ".", "--size", "9"], "--size 9 cannot be used"),
        (["--data", ".", "--changes", "0"], "--changes 0 cannot be used"),
        (["--data", "."], "holds no image"),
    ],
)
def test_the_command_says_what_is_wrong(
    options: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["primis", "attack", *options])
    assert end.value.code == 2 and text in capsys.readouterr().err


def test_too_few_patients_and_a_person_who_stops_it() -> None:
    with pytest.raises(InputError, match=r"4 images to train an attacker and 4 to judge him"):
        attack(study_of(2, 2))
    token = CancelToken()
    with pytest.raises(Cancelled):
        attack(study_of(7, 7), progress=lambda *step: token.cancel(), cancel=token)


def test_a_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    from PPIRLogic.errors import MissingDependencyError

    with pytest.raises(MissingDependencyError, match="scikit-learn"):
        attack(study_of(6, 6))
