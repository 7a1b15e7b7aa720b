"""`train` on a few images: the same bytes twice, after an interruption too; what it says; what it cannot use.

Only where the extra `train` is installed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from PPIRLogic.errors import Cancelled, InputError
from PPIRLogic.primis import filter_training, fitting, training
from PPIRLogic.primis.model import FILTER, MANIFEST, TABLES, Model
from PPIRLogic.primis.study import kept_apart
from PPIRLogic.primis.training import Trained, train
from PPIRLogic.progress import CancelToken

ROUNDS = 4


@pytest.fixture(scope="module", autouse=True)
def little() -> Iterator[None]:
    """Less of everything, so that a training takes a second or two."""
    for package in ("torch", "onnx"):  # not as the file is read: other tests have no use for them
        pytest.importorskip(package)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_ENLARGED", 1)
        patch.setattr(training, "_SWEEPS", 1)
        patch.setattr(fitting, "_SAMPLES", 300)
        patch.setattr(fitting, "_ROUNDS", 3)
        patch.setattr(filter_training, "_BATCH", 4)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures of eight patients, some of whom are kept apart."""
    out, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    y, x = np.mgrid[:160, :160]
    for n in range(8):
        wave = 120 + 60 * np.sin(x / (5 + n)) * np.cos(y / 11) + rng.normal(0, 3, x.shape)
        Image.fromarray(wave.clip(0, 255).astype(np.uint8)).save(out / f"image{n}.png")
    assert 0 < sum(kept_apart(f"image{n}.png") for n in range(8)) < 7
    return out


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train([folder], tmp_path_factory.mktemp("weights"), rounds=ROUNDS, judged=1)


def files(of: Path) -> dict[str, str]:
    return {name: hashlib.sha256((of / name).read_bytes()).hexdigest() for name in (TABLES, FILTER)}


def test_the_files_are_a_model_and_its_report(trained: Trained) -> None:
    manifest = json.loads((trained.folder / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["sha256"] == files(trained.folder) and manifest["model"] == trained.digest
    model = Model.of(*((trained.folder / name).read_bytes() for name in (TABLES, FILTER)))
    assert model.digest == trained.digest
    report = json.loads((trained.folder / "report.json").read_text(encoding="utf-8"))
    sizes = [row["bytes"] for row in report["held out"]]
    assert sizes == sorted(sizes) and len(sizes) == 5 and report["held out"][-1]["ssim"] == 1
    assert (trained.folder / "report.png").read_bytes()[:4] == b"\x89PNG"


def test_a_stopped_training_goes_on_to_the_same_bytes(
    folder: Path, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter_training, "_KEEP_EVERY", 1)
    token, told = CancelToken(), []

    def stop_in_the_filter(what: str, part: float) -> None:
        told.append(part)
        if what.startswith("filter") and len([p for p in told if p > 0.4]) == 2:
            token.cancel()

    with pytest.raises(Cancelled):
        train([folder], tmp_path, rounds=ROUNDS, judged=1, progress=stop_in_the_filter, cancel=token)
    assert not (tmp_path / MANIFEST).exists()
    again = train([folder], tmp_path, rounds=ROUNDS, judged=1, progress=lambda what, part: told.append(part))
    assert files(again.folder) == files(trained.folder) and again.digest == trained.digest
    with pytest.raises(InputError, match="other images, seed or rounds"):
        train([folder], tmp_path, seed=1, rounds=ROUNDS)


def test_what_cannot_be_trained_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one folder of X-rays"):
        train([], tmp_path / "out")
    with pytest.raises(InputError, match="does not exist"):
        train([tmp_path / "nowhere"], tmp_path / "out")
    for n in range(2):
        Image.fromarray(np.indices((160, 160)).sum(0).astype(np.uint8)).save(tmp_path / f"image{n}.png")
    with pytest.raises(InputError, match="Too few patients"):
        train([tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert training.ROUNDS > ROUNDS
